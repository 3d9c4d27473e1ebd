package runner_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
	if o.Fault == nil {
		o.Fault = harnesstest.Fault
	}
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

// TestStuckCallIsProbedAgainWhereThatCanTell holds that the second look costs nothing where a
// fault may be what keeps the call, or the call was slow and no more.
func TestStuckCallIsProbedAgainWhereThatCanTell(t *testing.T) {
	t.Parallel()
	look := &harness.Probe{Name: "look", When: harness.AtStuck, Sample: func(context.Context, harness.World) ([]harness.Event, error) {
		return []harness.Event{{Kind: harness.Sample, Name: "look"}}, nil
	}}
	for _, tt := range []struct {
		name, text string
		looks      int
		end        harness.Kind
	}{
		{"nothing injected", "a hang\n", 2, harness.Unknown},
		{"two calls", "a hang &\nb hang\n", 2, harness.Unknown},
		{"a fault in force", "+ net/break link=db\na hang\n", 1, harness.Unknown},
		{"a fault healed", "+ f = net/break link=db\n- f\na hang\n", 1, harness.Unknown},
		{"slow", "a slow\n", 1, harness.OK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &harnesstest.Service{Handle: func(ctx context.Context, _ *harnesstest.Life, call harnesstest.Call) harness.Reply {
				if call.Op == "slow" {
					time.Sleep(300 * time.Millisecond)
					return harnesstest.OK("")
				}
				<-ctx.Done()
				return harness.Reply{Outcome: harness.Unknown, Error: "cancelled"}
			}}
			rec, worn, err := play(t, t.Context(), s, runner.Options{Timeout: 200 * time.Millisecond, Probes: []*harness.Probe{look}}, tt.text)
			if err != nil || worn != "" || rec.Count(harness.Sample) != tt.looks || rec.Count(tt.end) == 0 {
				t.Errorf("error %v, worn %q; want %d samples and %s\n%s", err, worn, tt.looks, tt.end, story(rec))
			}
		})
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

func TestReusedConnectionIsTold(t *testing.T) {
	t.Parallel()
	s := &harnesstest.Service{Handle: func(context.Context, *harnesstest.Life, harnesstest.Call) harness.Reply {
		return harness.Reply{Outcome: harness.Unknown, Error: "EOF", Reused: true}
	}}
	rec, _, _ := play(t, t.Context(), s, runner.Options{}, "a get\n")
	if got, want := story(rec), "unknown a get error=\"EOF\" reused=true\n"; !strings.HasSuffix(got, want) {
		t.Errorf("got\n%swant at its end %s", got, want)
	}
}

// TestPrivateReplyIsKeptLonger: one that is looked through is cut late, and said to be.
func TestPrivateReplyIsKeptLonger(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		size, kept int
		private    bool
		args       string
	}{
		{3 << 10, 2 << 10, false, ""},
		{16 << 10, 16 << 10, true, " private=true"},
		{16<<10 + 1, 16 << 10, true, " private=true cut=true"},
	} {
		s := &harnesstest.Service{Handle: func(context.Context, *harnesstest.Life, harnesstest.Call) harness.Reply {
			return harness.Reply{Outcome: harness.OK, Private: tc.private, Body: []byte(strings.Repeat("x", tc.size))}
		}}
		rec, _, _ := play(t, t.Context(), s, runner.Options{}, "a get\n")
		want := fmt.Sprintf("ok a get%s %q\n", tc.args, strings.Repeat("x", tc.kept))
		if got := story(rec); !strings.HasSuffix(got, want) {
			t.Errorf("%d bytes, private %v: got %.80s", tc.size, tc.private, got[strings.LastIndex(got, "ok a"):])
		}
	}
}

// faults returns what finds a fault by its name, aimed at proc= and healed by the function.
func faults(heal func(name string) error) func(string) *harness.Fault {
	return func(name string) *harness.Fault {
		return &harness.Fault{
			Name: name, Params: []harness.Param{{Name: "proc", Of: harness.OfProc}, {Name: "link", Of: harness.OfLink}},
			Inject: func(context.Context, harness.World, harness.Args, *rand.Rand) (harness.Injection, error) {
				return harness.Injection{Heal: func(context.Context) error { return heal(name) }, Acted: func() int64 { return 1 }, Unit: "processes"}, nil
			},
		}
	}
}

func TestFaultThatIsNotHealedIsTheHarnesssFailure(t *testing.T) {
	t.Parallel()
	lame := errors.New("the port is taken")
	for _, tt := range []struct {
		name, text  string
		cancel      bool
		err         error
		fails, worn bool
	}{
		{"at the end", "+ kill\na get\n", false, lame, true, true},
		{"by a step", "+ k = kill\n- k\na get\n", false, lame, true, true},
		{"before a reset", "+ kill\nreset\n", false, lame, true, true},
		{"on cancellation", "+ kill\na cancel\n", true, lame, true, true},
		{"the service is not ready", "+ kill\na get\n", false, fmt.Errorf("%w after 10s", harness.ErrNotReady), false, false},
		{"it has ended by itself", "+ kill\na get\n", false, fmt.Errorf("link db: %w", harness.ErrExpired), false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := &harnesstest.Service{Handle: func(context.Context, *harnesstest.Life, harnesstest.Call) harness.Reply {
				if tt.cancel {
					cancel()
				}
				return harnesstest.OK("")
			}}
			o := runner.Options{Fault: faults(func(string) error { return tt.err })}
			rec, worn, err := play(t, ctx, s, o, tt.text)
			if errors.Is(err, tt.err) != tt.fails || (worn != "") != tt.worn {
				t.Errorf("error %v, worn %q\n%s", err, worn, story(rec))
			}
			want := fmt.Sprintf(" kill %q\n", tt.err)
			if !tt.fails {
				flag := map[bool]string{true: "unready", false: "expired"}[errors.Is(tt.err, harness.ErrNotReady)]
				want = fmt.Sprintf(" kill %s=true %q\n", flag, tt.err)
			}
			if !strings.Contains(story(rec), want) {
				t.Errorf("the record does not say %s\n%s", want, story(rec))
			}
		})
	}
}

func TestServiceIsHealedWhenItsDependenciesAre(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"a get\n", "reset\n"} {
		var healed []string
		o := runner.Options{Fault: faults(func(name string) error {
			healed = append(healed, name)
			return nil
		})}
		s := &harnesstest.Service{Handle: answer("")}
		_, _, err := play(t, t.Context(), s, o, "+ hole link=db\n+ kill proc=service\n+ stop proc=db\n+ pause proc=service\n+ slow link=db\n"+end)
		if want := []string{"slow", "stop", "hole", "pause", "kill"}; err != nil || !slices.Equal(healed, want) {
			t.Errorf("%q: healed %v, want %v; error %v", end, healed, want, err)
		}
	}
}

// odd is an instance that differs in what is not nil.
type odd struct {
	harness.Instance
	reset, quiesce func()
	stop           func()
}

func (o odd) Reset(ctx context.Context) error {
	if o.reset != nil {
		o.reset()
	}
	return o.Instance.Reset(ctx)
}

func (o odd) Quiesce(ctx context.Context) (string, error) {
	if o.quiesce != nil {
		o.quiesce()
	}
	return o.Instance.Quiesce(ctx)
}

func (o odd) Stop(ctx context.Context) error {
	if o.stop != nil {
		o.stop()
	}
	return o.Instance.Stop(ctx)
}

// session opens a session of an odd instance.
func session(t *testing.T, s *harnesstest.Service, o runner.Options, build func(emit func(harness.Event)) odd) *runner.Session {
	t.Helper()
	target := s.Target()
	start := target.Start
	target.Start = func(ctx context.Context, setup harness.Setup) (harness.Instance, error) {
		in, err := start(ctx, setup)
		x := build(setup.Emit)
		x.Instance = in
		return x, err
	}
	session, err := runner.Open(t.Context(), target, nil, o)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func parse(t *testing.T, text string) harness.Case {
	t.Helper()
	c, err := harness.ParseCase([]byte("target test\n" + text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLastWordsAreNotLost(t *testing.T) {
	t.Parallel()
	const lines = 20_000
	words := func(emit func(harness.Event)) {
		for range lines {
			emit(harness.Event{Kind: harness.Output, Step: -1, Text: "bye"})
		}
		emit(harness.Event{Kind: harness.Exit, Step: -1, Value: 2})
	}
	s := session(t, &harnesstest.Service{}, runner.Options{}, func(emit func(harness.Event)) odd {
		return odd{stop: func() { words(emit) }}
	})
	after, err := s.Close(t.Context())
	if got := after.Count(harness.Output); err != nil || got != lines || after.Count(harness.Exit) != 1 || after.Truncated {
		t.Errorf("while it stops: %d lines of %d, %d exits, truncated %t, error %v", got, lines, after.Count(harness.Exit), after.Truncated, err)
	}

	var emit func(harness.Event)
	s = session(t, &harnesstest.Service{Handle: answer("")}, runner.Options{}, func(e func(harness.Event)) odd {
		emit = e
		return odd{}
	})
	if rec, err := s.Play(t.Context(), parse(t, "a get\n")); err != nil || rec.Truncated {
		t.Fatalf("truncated %t, error %v", rec.Truncated, err)
	}
	words(emit)
	rec, _ := s.Play(t.Context(), parse(t, "a get\n"))
	if rec.Count(harness.Exit) != 1 || !rec.Truncated || rec.Count(harness.Invoke) != 0 {
		t.Errorf("between two cases: %d exits, truncated %t, %d calls of a dead service", rec.Count(harness.Exit), rec.Truncated, rec.Count(harness.Invoke))
	}
	if after, err = s.Close(t.Context()); err != nil || after.Truncated {
		t.Errorf("what was lost is told twice: truncated %t, error %v", after.Truncated, err)
	}
}

func TestRecordIsBoundedByItsArgumentsToo(t *testing.T) {
	t.Parallel()
	long := harness.Text(strings.Repeat("x", 1<<20))
	probe := &harness.Probe{Name: "wide", When: harness.AtStart, Sample: func(context.Context, harness.World) ([]harness.Event, error) {
		return slices.Repeat([]harness.Event{{Kind: harness.Sample, Args: harness.Args{{Key: "x", Value: long}}}}, harness.MaxRecord>>20), nil
	}}
	rec, _, err := play(t, t.Context(), &harnesstest.Service{}, runner.Options{Probes: []*harness.Probe{probe}}, "wait 0s\n")
	if got := rec.Count(harness.Sample); err != nil || !rec.Truncated || got != harness.MaxRecord>>20-1 {
		t.Errorf("%d samples, truncated %t, error %v", got, rec.Truncated, err)
	}
}

func TestResetWithinACaseIsNoPlay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		svc := &harnesstest.Service{Handle: func(context.Context, *harnesstest.Life, harnesstest.Call) harness.Reply {
			time.Sleep(100 * time.Millisecond)
			return harnesstest.OK("")
		}}
		s := session(t, svc, runner.Options{}, func(func(harness.Event)) odd {
			return odd{reset: func() { time.Sleep(time.Second) }, quiesce: func() { time.Sleep(3 * time.Second) }}
		})
		if _, err := s.Play(t.Context(), parse(t, "a get\nreset\na get\n")); err != nil {
			t.Fatal(err)
		}
		want := runner.Cost{Reset: 2 * time.Second, Play: 200 * time.Millisecond, Quiesce: 6 * time.Second}
		if got := s.Cost(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if _, err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
