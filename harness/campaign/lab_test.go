package campaign_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
)

// The bug shows at the second call until a case of two calls has passed all tests of the
// minimizer, and at the tenth alone when that case is measured.
func TestPressedCaseIsMadeMinimalAgain(t *testing.T) {
	t.Parallel()
	var passed atomic.Int64
	s := &harnesstest.Service{Ops: ops(), Handle: func(_ context.Context, l *harnesstest.Life, _ harnesstest.Call) harness.Reply {
		if n := l.Count("n"); n == 10 || n == 2 && passed.Load() < 5 {
			l.Print("bug: often")
		}
		return harnesstest.OK("")
	}}
	lab := lab(s.Target(), words)
	lab.Saw = func(rec *harness.Record, _ []harness.Finding) {
		if rec.Case.Calls() == 2 {
			passed.Add(1)
		}
	}
	bug := harness.Bug{Finding: harness.Finding{Signature: "bug: often"}, Case: parse(t, "a get *6\n")[0]}
	got, rec, err := lab.Prove(t.Context(), bug, nil)
	if err != nil || !got.Minimal || got.Shown < 9 {
		t.Errorf("error %v, minimal %v, shown %d of %d times", err, got.Minimal, got.Shown, got.Replays)
	}
	if diff := cmp.Diff("target test\nseed 0\na get *10\n", got.Case.String()); diff != "" {
		t.Errorf("minimal case (-want +got):\n%s", diff)
	}
	if rec == nil || rec.Case.String() != got.Case.String() {
		t.Error("the record is that of another case")
	}
}

// As above, but what the second reduction comes to does not hold either.
func TestPressedCaseThatCannotBeMadeMinimalIsNotCalledSo(t *testing.T) {
	t.Parallel()
	var two, sixteen atomic.Int64
	s := &harnesstest.Service{Ops: ops(), Handle: func(_ context.Context, l *harnesstest.Life, _ harnesstest.Call) harness.Reply {
		switch n := l.Count("n"); {
		case n == 30, n == 2 && two.Load() < 5, n == 16 && two.Load() >= 5 && sixteen.Load() < 5:
			l.Print("bug: often")
		}
		return harnesstest.OK("")
	}}
	lab := lab(s.Target(), words)
	lab.Saw = func(rec *harness.Record, _ []harness.Finding) {
		switch rec.Case.Calls() {
		case 2:
			two.Add(1)
		case 16:
			sixteen.Add(1)
		}
	}
	bug := harness.Bug{Finding: harness.Finding{Signature: "bug: often"}, Case: parse(t, "a get *6\n")[0]}
	got, _, err := lab.Prove(t.Context(), bug, nil)
	if err != nil || got.Minimal || got.Shown < 9 || got.Case.Calls() != 32 {
		t.Errorf("error %v, minimal %v, shown %d of %d times\n%s", err, got.Minimal, got.Shown, got.Replays, got.Case)
	}
}

// What takes long and mostly shows its finding is made small before it is made harder: that
// alone may make it sure, and harder variants would take all the time there is.
func TestSlowCaseIsMadeSmallBeforeItIsMadeHarder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var replays atomic.Int64
		s := &harnesstest.Service{Ops: ops(), Handle: func(ctx context.Context, l *harnesstest.Life, c harnesstest.Call) harness.Reply {
			if c.Op == "get" {
				l.Count("get")
				return harnesstest.OK("")
			}
			select {
			case <-time.After(1500 * time.Millisecond):
			case <-ctx.Done():
			}
			if l.Counted("get") == 0 || replays.Load()%4 != 1 {
				l.Print("bug: slow")
			}
			return harnesstest.OK("")
		}}
		l := lab(s.Target(), words)
		l.Triage = time.Minute
		l.Saw = func(*harness.Record, []harness.Finding) { replays.Add(1) }
		bug := harness.Bug{Finding: harness.Finding{Signature: "bug: slow"}, Case: parse(t, "b get\na put body.x=1 &\nb get &\nc get\n")[0]}
		got, _, err := l.Prove(t.Context(), bug, nil)
		if err != nil || !got.Minimal || got.Shown < 9 || got.Case.Calls() != 1 {
			t.Errorf("error %v, minimal %v, shown %d of %d times\n%s", err, got.Minimal, got.Shown, got.Replays, got.Case)
		}
	})
}

func TestErrorLosesNothingOfAProof(t *testing.T) {
	t.Parallel()
	s := &harnesstest.Service{Ops: ops(), Handle: func(_ context.Context, l *harnesstest.Life, c harnesstest.Call) harness.Reply {
		if c.Op == "put" {
			l.Print("bug: put")
		}
		return harnesstest.OK("")
	}}
	target := s.Target()
	start := target.Start
	broken := errors.New("resource temporarily unavailable")
	target.Start = func(ctx context.Context, setup harness.Setup) (harness.Instance, error) {
		if s.Starts.Load() == 11 {
			s.Starts.Add(1)
			return nil, broken
		}
		return start(ctx, setup)
	}
	bug := harness.Bug{Finding: harness.Finding{Signature: "bug: put"}, Case: parse(t, strings.Repeat("a get\n", 20)+"a put body.x=1\n")[0]}
	l := lab(target, words)
	got, rec, err := l.Prove(t.Context(), bug, nil)
	if !errors.Is(err, broken) || got.Minimal || !got.Proven || got.Shown < 9 {
		t.Errorf("error %v, minimal %v, proven %v, shown %d of %d times", err, got.Minimal, got.Proven, got.Shown, got.Replays)
	}
	if n := got.Case.Calls(); n > 11 || rec == nil || rec.Case.Calls() != n {
		t.Errorf("of the reduction %d calls are left", n)
	}
}

// The time for a proof is over at each of its starts in turn. A bug that shows every other
// time goes through every part of a proof.
func TestProofThatRunsOutOfTimeIsNoFailure(t *testing.T) {
	t.Parallel()
	for at := int64(1); at < 200; at++ {
		over := false
		synctest.Test(t, func(t *testing.T) {
			s := &harnesstest.Service{Ops: ops()}
			s.Handle = func(_ context.Context, l *harnesstest.Life, c harnesstest.Call) harness.Reply {
				if c.Op == "put" && s.Starts.Load()%2 == 0 {
					l.Print("bug: put")
				}
				return harnesstest.OK("")
			}
			target := s.Target()
			start := target.Start
			n := int64(0)
			target.Start = func(ctx context.Context, setup harness.Setup) (harness.Instance, error) {
				if n++; n == at {
					<-ctx.Done()
					return nil, fmt.Errorf("interrupted while starting: %w", ctx.Err())
				}
				return start(ctx, setup)
			}
			bug := harness.Bug{Finding: harness.Finding{Signature: "bug: put"}, Case: parse(t, "a get\nb get\na put body.x=1\n")[0]}
			l := lab(target, words)
			if _, _, err := l.Prove(t.Context(), bug, nil); err != nil {
				t.Errorf("start %d: %v", at, err)
			}
			over = n < at
		})
		if over {
			return
		}
	}
}
