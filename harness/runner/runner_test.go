package runner_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
	"github.com/shakedown-go/shakedown/harness/runner"
)

// play plays a case on a service and returns its record and what the session has to say.
func play(t *testing.T, ctx context.Context, s *harnesstest.Service, o runner.Options, text string) (rec *harness.Record, worn string, err error) {
	t.Helper()
	c, err := harness.ParseCase([]byte("target test\n" + text))
	if err != nil {
		t.Fatal(err)
	}
	o.Fault = harnesstest.Fault
	session, err := runner.Open(context.Background(), s.Target(), nil, o)
	if err != nil {
		t.Fatal(err)
	}
	rec, err = session.Play(ctx, c)
	worn = session.Worn()
	if _, err := session.Close(ctx); err != nil {
		t.Error(err)
	}
	return rec, worn, err
}

// story writes the events of a record, one a line, without what varies.
func story(rec *harness.Record) string {
	var b strings.Builder
	for _, e := range rec.Events {
		fmt.Fprintf(&b, "%s %s %s", e.Kind, e.Lane, e.Name)
		for _, a := range e.Args {
			fmt.Fprintf(&b, " %s=%s", a.Key, a.Value)
		}
		if e.Text != "" {
			fmt.Fprintf(&b, " %q", e.Text)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func answer(body string) func(context.Context, *harnesstest.Life, harnesstest.Call) harness.Reply {
	return func(context.Context, *harnesstest.Life, harnesstest.Call) harness.Reply { return harnesstest.OK(body) }
}

func TestStepsAreDoneInOrderAndReferencesResolved(t *testing.T) {
	t.Parallel()
	s := &harnesstest.Service{Handle: answer(`{"id":7}`)}
	rec, _, err := play(t, t.Context(), s, runner.Options{}, "o: a new\nb get id={{o.id}} q=\"n{{o.id}}\"\nb get id={{o.name}}\n")
	if err != nil {
		t.Fatal(err)
	}
	want := `invoke a new
forwarded a new
ok a new status=200 expect=true "{\"id\":7}"
invoke b get id=7 q="n7"
forwarded b get
ok b get status=200 expect=true "{\"id\":7}"
skip b get "cannot resolve id={{o.name}}"
`
	if diff := cmp.Diff(want, story(rec)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestGroupIsReleasedTogether(t *testing.T) {
	t.Parallel()
	var in atomic.Int64
	both := make(chan struct{})
	s := &harnesstest.Service{Handle: func(ctx context.Context, _ *harnesstest.Life, _ harnesstest.Call) harness.Reply {
		if in.Add(1) == 2 {
			close(both)
		}
		select {
		case <-both:
			return harnesstest.OK("")
		case <-ctx.Done():
			return harness.Reply{Outcome: harness.Unknown, Error: "alone"}
		}
	}}
	rec, _, err := play(t, t.Context(), s, runner.Options{}, "a get &\nb get\n")
	if err != nil || rec.Count(harness.OK) != 2 {
		t.Errorf("calls did not meet: %v\n%s", err, story(rec))
	}
}

func TestLaneHasOneCallAtATime(t *testing.T) {
	t.Parallel()
	var in atomic.Int64
	s := &harnesstest.Service{Handle: func(context.Context, *harnesstest.Life, harnesstest.Call) harness.Reply {
		defer in.Add(-1)
		if in.Add(1) > 1 {
			return harnesstest.Error(500)
		}
		time.Sleep(time.Millisecond)
		return harnesstest.OK("")
	}}
	rec, _, err := play(t, t.Context(), s, runner.Options{}, "a get *3 &\na put *3\n")
	if err != nil || rec.Count(harness.OK) != 6 {
		t.Errorf("%v\n%s", err, story(rec))
	}
}

func TestStuckCallIsProbedThenCancelled(t *testing.T) {
	t.Parallel()
	looked := &harness.Probe{Name: "look", When: harness.AtStuck, Times: 2, Sample: func(context.Context, harness.World) ([]harness.Event, error) {
		return []harness.Event{{Kind: harness.Sample, Name: "look"}}, nil
	}}
	blind := &harness.Probe{Name: "blind", When: harness.AtStuck, Sample: func(context.Context, harness.World) ([]harness.Event, error) {
		return nil, errors.New("cannot see")
	}}
	s := &harnesstest.Service{Handle: func(ctx context.Context, _ *harnesstest.Life, _ harnesstest.Call) harness.Reply {
		<-ctx.Done()
		return harness.Reply{Outcome: harness.Unknown, Error: "cancelled"}
	}}
	rec, worn, err := play(t, t.Context(), s, runner.Options{Timeout: 20 * time.Millisecond, Probes: []*harness.Probe{looked, blind}}, "a get\na get\n")
	if err != nil {
		t.Fatal(err)
	}
	want := `invoke a get
forwarded a get
stuck a get after="20ms"
sample  look
sample  look
sample  blind error="cannot see"
unknown a get error="cancelled" timeout=true
`
	if diff := cmp.Diff(want, story(rec)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if worn != "" {
		t.Errorf("a call that heeds its context wears the session: %s", worn)
	}
}

func TestCallThatIgnoresItsContextIsLeftBehind(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	defer close(free)
	s := &harnesstest.Service{Handle: func(context.Context, *harnesstest.Life, harnesstest.Call) harness.Reply {
		<-free
		return harnesstest.OK("")
	}}
	rec, worn, err := play(t, t.Context(), s, runner.Options{Timeout: 10 * time.Millisecond, Grace: 10 * time.Millisecond}, "a get\n")
	if err != nil || rec.Count(harness.Stuck) != 2 || worn == "" {
		t.Errorf("error %v, worn %q\n%s", err, worn, story(rec))
	}
}

func TestFaultIsHealedWhateverHappens(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		cancel     bool
	}{
		{"at the end", "+ net/break link=db\na get\n", false},
		{"by a step", "+ f = net/break link=db\na get\n- f\n", false},
		{"when its time is up", "+ net/break link=db for=1ms\na wait\n", false},
		{"on cancellation", "+ net/break link=db for=1h\na cancel\na get\n", true},
		{"on a crash", "+ net/break link=db\na crash\na get\n", false},
		{"within a group", "+ net/break link=db at=1ms &\na wait\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var life *harnesstest.Life
			s := &harnesstest.Service{Handle: func(_ context.Context, l *harnesstest.Life, call harnesstest.Call) harness.Reply {
				life = l
				switch call.Op {
				case "cancel":
					cancel()
				case "crash":
					l.Crash()
				case "wait":
					time.Sleep(20 * time.Millisecond)
				}
				return harnesstest.OK("")
			}}
			rec, _, err := play(t, ctx, s, runner.Options{}, tt.text)
			if (err != nil) != tt.cancel {
				t.Errorf("error: %v", err)
			}
			if life.Disturbed("db") || rec.Count(harness.Inject) != 1 || rec.Count(harness.Heal) != 1 || rec.Count(harness.Acted) != 1 {
				t.Errorf("not healed exactly once:\n%s", story(rec))
			}
		})
	}
}

func TestCrashEndsTheCase(t *testing.T) {
	t.Parallel()
	s := &harnesstest.Service{Handle: func(_ context.Context, l *harnesstest.Life, _ harnesstest.Call) harness.Reply {
		l.Crash()
		return harness.Reply{Outcome: harness.Unknown, Error: "EOF"}
	}}
	rec, _, _ := play(t, t.Context(), s, runner.Options{}, "a get *5\nb get\n")
	if got := rec.Count(harness.Invoke); got != 1 {
		t.Errorf("%d calls were made, want 1\n%s", got, story(rec))
	}
}

func TestFaultThatCannotBeInjectedHasNoEffect(t *testing.T) {
	t.Parallel()
	s := &harnesstest.Service{Handle: answer("")}
	rec, _, err := play(t, t.Context(), s, runner.Options{}, "+ net/unheard link=db\na get\n")
	if err == nil || rec.Count(harness.Acted) != 0 {
		t.Errorf("an unknown fault: got %v\n%s", err, story(rec))
	}
}

func TestResetStartsAnew(t *testing.T) {
	t.Parallel()
	s := &harnesstest.Service{Handle: answer(`{"id":1}`)}
	rec, _, err := play(t, t.Context(), s, runner.Options{}, "+ f = net/break link=db\no: a new\nreset\na get id={{o.id}}\n")
	if err != nil || s.Resets.Load() != 2 || rec.Count(harness.Heal) != 1 || rec.Count(harness.Reset) != 1 || rec.Count(harness.Skip) != 1 {
		t.Errorf("error %v, %d resets\n%s", err, s.Resets.Load(), story(rec))
	}
}
