package runner_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
	"github.com/shakedown-go/shakedown/harness/runner"
	"github.com/shakedown-go/shakedown/harness/steady"
)

var errUnwell = errors.New("it answered 503")

func TestSteadyStateIsLookedAtBeforeAndAfter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		text  string
		unfit [2]time.Duration // from when until when the check does not hold, since the start
		want  string           // when, held, seconds
		calls int
		worn  string

		hangs, cancelled bool
	}{
		{name: "always", text: "+ net/break link=db\na get\n", want: "before true 0, after true 0", calls: 1},
		{name: "only later", text: "a get\n", unfit: [2]time.Duration{0, 2 * time.Second}, want: "before true 2", calls: 1},
		{name: "too late", text: "+ net/break link=db\na get\n", unfit: [2]time.Duration{0, time.Hour}, want: "before false 5", worn: "not in the steady state before a case: health: it answered 503"},
		{name: "it comes back", text: "+ net/break link=db\na get\n", unfit: [2]time.Duration{time.Millisecond, 3 * time.Second}, want: "before true 0, after true 3", calls: 1},
		{name: "it does not come back", text: "+ net/break link=db\na get\n", unfit: [2]time.Duration{time.Millisecond, time.Hour}, want: "before true 0, after false 5, anew false 1", calls: 1},
		{name: "the case has taken it away", text: "+ net/break link=db\na get\n", unfit: [2]time.Duration{time.Millisecond, 5500 * time.Millisecond}, want: "before true 0, after false 5, anew true 0", calls: 1},
		{name: "nothing is injected", text: "a get\nreset\na get\n", want: "before true 0, before true 0", calls: 2},
		{name: "reset", text: "+ net/break link=db\na get\nreset\na get\n", want: "before true 0, after true 0, before true 0", calls: 2},
		{name: "a look that hangs", text: "+ net/break link=db\na get\n", hangs: true, want: "before true 1, after true 0", calls: 1},
		{name: "cut short", text: "+ net/break link=db\na cancel\n", unfit: [2]time.Duration{time.Millisecond, time.Hour}, want: "before true 0", calls: 1, cancelled: true},
		{name: "it has ended", text: "a crash\n", want: "before true 0", calls: 1, worn: "a process ended by itself"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				start, looks := time.Now(), 0
				s := &harnesstest.Service{
					Handle: func(_ context.Context, l *harnesstest.Life, call harnesstest.Call) harness.Reply {
						time.Sleep(10 * time.Millisecond)
						switch call.Op {
						case "crash":
							l.Crash()
						case "cancel":
							time.AfterFunc(time.Second, cancel)
						}
						return harnesstest.OK("")
					},
					Steady: []harness.Steady{{Within: 5 * time.Second, Check: harness.Check{Name: "health", Look: func(ctx context.Context, _ harness.World) error {
						if looks++; tt.hangs && looks == 1 {
							<-ctx.Done()
							return ctx.Err()
						}
						if now := time.Since(start); now >= tt.unfit[0] && now < tt.unfit[1] {
							return errUnwell
						}
						return nil
					}}}},
				}
				rec, worn, err := play(t, ctx, s, runner.Options{}, tt.text)
				if (err != nil) != tt.cancelled || worn != tt.worn {
					t.Errorf("worn %q, want %q, %v", worn, tt.worn, err)
				}
				var got []string
				for _, e := range rec.Events {
					if seen, is := steady.Parse(e); is {
						held := map[bool]string{true: "true", false: "false"}[seen.Held]
						got = append(got, strings.Join([]string{string(seen.Moment), held, seen.Took.Round(time.Second).String()[:1]}, " "))
						if seen.Check != "health" || seen.Held != (seen.Why == "") {
							t.Errorf("%+v", seen)
						}
					}
				}
				if got := strings.Join(got, ", "); got != tt.want {
					t.Errorf("seen: %s\nwant: %s", got, tt.want)
				}
				if n := rec.Count(harness.Invoke); n != tt.calls {
					t.Errorf("%d calls, want %d", n, tt.calls)
				}
			})
		})
	}
}

func TestLimitAborts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		limit harness.Limit
		takes time.Duration // every call
		want  string
		after time.Duration // that it is aborted
	}{
		{
			name:  "at the first look",
			limit: harness.Limit{Every: 100 * time.Millisecond, Check: harness.Check{Name: "memory", Look: func(context.Context, harness.World) error { return errUnwell }}},
			takes: 10 * time.Millisecond, want: "aborted: memory: it answered 503", after: 100 * time.Millisecond,
		},
		{
			name:  "three in a row",
			limit: harness.Limit{Every: 100 * time.Millisecond, Times: 3, Check: harness.Check{Name: "memory", Look: wavering(2, 1, 3)}},
			takes: 10 * time.Millisecond, want: "aborted: memory: it answered 503", after: 600 * time.Millisecond,
		},
		{
			name:  "never in a row",
			limit: harness.Limit{Every: 100 * time.Millisecond, Times: 3, Check: harness.Check{Name: "memory", Look: wavering(2, 1, 2, 1, 2, 1000)}},
			takes: 10 * time.Millisecond,
		},
		{
			name:  "slow calls",
			limit: harness.Limit{Every: 100 * time.Millisecond, Median: 40 * time.Millisecond, Check: harness.Check{Name: "latency"}},
			takes: 50 * time.Millisecond, want: "aborted: latency: the median of the last 20 calls is 50ms", after: time.Second,
		},
		{
			name:  "quick calls",
			limit: harness.Limit{Every: 100 * time.Millisecond, Median: 60 * time.Millisecond, Check: harness.Check{Name: "latency"}},
			takes: 50 * time.Millisecond,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				var life *harnesstest.Life
				s := &harnesstest.Service{Limits: []harness.Limit{tt.limit}, Handle: func(ctx context.Context, l *harnesstest.Life, _ harnesstest.Call) harness.Reply {
					life = l
					if ctx.Err() == nil {
						time.Sleep(tt.takes)
					}
					return harnesstest.OK("")
				}}
				start := time.Now()
				aborts := 0
				rec, _, _ := play(t, ctx, s, runner.Options{Abort: func(why error) { aborts++; cancel(why) }}, "+ net/break link=db\na get *2s\n")
				took := time.Since(start)
				if tt.want == "" {
					if aborts > 0 || took < 2*time.Second {
						t.Errorf("aborted after %s: %v", took, context.Cause(ctx))
					}
					return
				}
				cause := context.Cause(ctx)
				if !errors.Is(cause, harness.ErrAborted) || cause.Error() != tt.want || aborts != 1 {
					t.Errorf("aborted %d times: %v", aborts, cause)
				}
				if took < tt.after || took > tt.after+250*time.Millisecond {
					t.Errorf("over after %s, want soon after %s", took, tt.after)
				}
				if life.Disturbed("db") || rec.Count(harness.Heal) != 1 {
					t.Error("not healed")
				}
			})
		})
	}
}

// wavering is a check that by turns fails and holds, so often each.
func wavering(runs ...int) func(context.Context, harness.World) error {
	i, n := 0, 0
	return func(context.Context, harness.World) error {
		for i < len(runs) && n == runs[i] {
			i, n = i+1, 0
		}
		if n++; i >= len(runs) || i%2 == 1 {
			return nil
		}
		return errUnwell
	}
}
