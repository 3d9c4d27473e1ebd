package campaign_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/gate"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
	"github.com/shakedown-go/shakedown/harness/runner"
)

// troubled is an instance that is ill in one way.
type troubled struct {
	harness.Instance
	emit func(harness.Event)
	worn string // after each case
	last string // printed while it is stopped; "dropped" says that more was
	stop error
}

func (in troubled) Quiesce(ctx context.Context) (string, error) {
	_, err := in.Instance.Quiesce(ctx)
	return in.worn, err
}

func (in troubled) Stop(ctx context.Context) error {
	if in.last != "" {
		in.emit(harness.Event{Kind: harness.Output, Step: -1, Name: harness.Service, Lane: "stderr", Args: harness.Args{{Key: in.last, Value: harness.Text("true")}}})
	}
	return errors.Join(in.stop, in.Instance.Stop(ctx))
}

// ill returns a target whose instances are ill.
func ill(s *harnesstest.Service, how troubled) *harness.Target {
	s.Ops = ops()
	t := s.Target()
	start := t.Start
	t.Start = func(ctx context.Context, setup harness.Setup) (_ harness.Instance, err error) {
		how := how
		how.emit = setup.Emit
		how.Instance, err = start(ctx, setup)
		return how, err
	}
	return t
}

// What a service does not get over is not shown by a case that injects the fault itself:
// that detector does not speak then.
func TestServiceThatNeverRecoversIsNoPass(t *testing.T) {
	t.Parallel()
	s := &harnesstest.Service{Handle: func(_ context.Context, l *harnesstest.Life, _ harnesstest.Call) harness.Reply {
		if l.Disturbed("db") {
			l.Count("hurt")
		}
		if l.Counted("hurt") > 0 {
			return harnesstest.Error(500)
		}
		return harnesstest.OK("")
	}}
	res, _, _ := shake(t, s, detect.Status, "a get *50\n", "a get\n+ net/break link=db\na get\n", "a get\n")
	if len(res.Bugs) != 0 || len(res.Suspects) != 1 || !res.Suspects[0].Disturbed {
		t.Fatalf("bugs %+v, suspects %+v", res.Bugs, res.Suspects)
	}
	v, why := gate.Check(res, nil)
	if want := "seen after faults of earlier cases, but not shown again"; v != gate.Inconclusive || !strings.Contains(strings.Join(why, "\n"), want) {
		t.Errorf("got %v %q, want %v %q", v, why, gate.Inconclusive, want)
	}
}

func TestWhatEndsAnEpochEarlyIsCounted(t *testing.T) {
	t.Parallel()
	s := &harnesstest.Service{Handle: func(_ context.Context, l *harnesstest.Life, c harnesstest.Call) harness.Reply {
		if c.Op == "crash" {
			l.Crash()
		}
		return harnesstest.OK("")
	}}
	target := ill(s, troubled{worn: "not ready 5s after the case"})
	res, err := campaign.Run(t.Context(), campaign.Options{Lab: lab(target, words), Source: &list{cases: parse(t, "a get\n", "a crash\n", "a get\n")}})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"not ready 5s after the case": 2, campaign.Ended: 1}
	if diff := cmp.Diff(want, res.Worn); diff != "" {
		t.Errorf("worn (-want +got):\n%s", diff)
	}
}

func TestFaultsAreExpectedAndTheirFailuresCounted(t *testing.T) {
	t.Parallel()
	broken, procs := *harnesstest.Break, &harness.Fault{Name: "proc/break", Needs: harness.CapProcs, Params: []harness.Param{{Name: "proc", Of: harness.OfProc}}}
	stores := &harness.Fault{Name: "dep/break", Needs: harness.CapStores, Params: []harness.Param{{Name: "store", Of: harness.OfStore, Engine: "redis"}}}
	broken.Inject = func(ctx context.Context, w harness.World, args harness.Args, rng *rand.Rand) (harness.Injection, error) {
		if args.Text("link") == "db" {
			return harness.Injection{}, errors.New("no such device")
		}
		return harnesstest.Break.Inject(ctx, w, args, rng)
	}
	third := broken
	third.Name = "net/third"
	own := broken
	own.Name, own.Needs = "net/own", harness.CapLinks|harness.CapNative
	s := &harnesstest.Service{Handle: quiet, Ops: ops()}
	l := lab(s.Target(), words)
	l.Runner = runner.Options{Fault: func(string) *harness.Fault { return &broken }}
	res, err := campaign.Run(t.Context(), campaign.Options{
		Lab: l, Faults: []*harness.Fault{&broken, &third, procs, stores, &own},
		Source: &list{cases: parse(t, "a get *50\n+ net/break link=db\na get\n", "+ net/break link=db\n+ net/break link=cache\na get\n+ net/third link=cache\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]campaign.Tally{
		"net/break link=cache": {Injected: 1, Acted: 1},
		"net/break link=db":    {Injected: 2, Failed: 2, Why: "no such device"},
		"net/third link=cache": {Injected: 1, Acted: 1},
		"net/third link=db":    {},
	}
	if diff := cmp.Diff(want, res.Faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string][]string{
		"the target has no processes":                      {"proc/break"},
		"the target has no redis server":                   {"dep/break"},
		"the engine of the links cannot do it: native can": {"net/own"},
	}, res.LeftOut); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
}

func TestErrorOfStoppingIsKeptOnInterrupt(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, printed string
		last          int // call
	}{{"while looking", "", 3}, {"while proving", "bug: often", 2}} {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		s := &harnesstest.Service{Handle: func(_ context.Context, l *harnesstest.Life, _ harnesstest.Call) harness.Reply {
			l.Print(tt.printed)
			if calls++; calls == tt.last {
				cancel()
			}
			return harnesstest.OK("")
		}}
		left := errors.New("processes [77] are still there")
		target := ill(s, troubled{})
		start := target.Start
		target.Start = func(ctx context.Context, setup harness.Setup) (harness.Instance, error) {
			in, err := start(ctx, setup)
			if tt.printed == "" || s.Starts.Load() > 1 {
				in = troubled{Instance: in, emit: setup.Emit, stop: left}
			}
			return in, err
		}
		_, err := campaign.Run(ctx, campaign.Options{Lab: lab(target, words), Source: &list{cases: parse(t, "a get\n", "a get\n", "a get *9\n", "a get\n")}})
		if !errors.Is(err, left) {
			t.Errorf("%s: got %v, want %v", tt.name, err, left)
		}
		cancel()
	}
}

func TestLastWordsThatAreNotWholeAreCounted(t *testing.T) {
	t.Parallel()
	target := ill(&harnesstest.Service{Handle: quiet}, troubled{last: "dropped"})
	res, err := campaign.Run(t.Context(), campaign.Options{Lab: lab(target, words), Source: &list{cases: parse(t, "a get\n", "a get\n")}})
	if err != nil || res.Cases != 2 || res.Records != 3 || res.Cut != 1 {
		t.Errorf("error %v, %d of %d records of %d cases are not whole", err, res.Cut, res.Records, res.Cases)
	}
}

func TestCaseIsPlayedInItsEnvironment(t *testing.T) {
	t.Parallel()
	s := &harnesstest.Service{Handle: quiet, Ops: ops()}
	target := s.Target()
	start := target.Start
	var got []string
	target.Start = func(ctx context.Context, setup harness.Setup) (harness.Instance, error) {
		got = append(got, setup.Env["bugs"])
		return start(ctx, setup)
	}
	_, err := campaign.Run(t.Context(), campaign.Options{Lab: lab(target, words), Source: &list{cases: parse(t, "env bugs=a\na get\n", "env bugs=a\na get\n", "env bugs=b\na get\n", "a get\n")}})
	if diff := cmp.Diff([]string{"a", "b", ""}, got); err != nil || diff != "" {
		t.Errorf("error %v, environments (-want +got):\n%s", err, diff)
	}
}

func TestUndecidedRecordsAreCounted(t *testing.T) {
	t.Parallel()
	unsure := &harness.Detector{Name: "unsure", Detect: func(r *harness.Record) harness.Judgement {
		return harness.Judgement{Checked: 50, Unsure: []string{"it was dark", "it was dark"}[:2*min(r.Count(harness.OK), 1)]}
	}}
	res, _, _ := shake(t, &harnesstest.Service{Handle: quiet}, unsure, "a get *50\n", "a put\na arm\na crash\n")
	v, why := gate.Check(res, nil)
	if want := []string{"unsure: 2 of 3 records unsure: it was dark"}; v != gate.Inconclusive || !cmp.Equal(why, want) {
		t.Errorf("got %v %q, want %v %q", v, why, gate.Inconclusive, want)
	}
}

func TestFaultThatCannotBeHadIsNoDoubt(t *testing.T) {
	t.Parallel()
	no := fmt.Errorf("limit the files of db: no process: %w", harness.ErrNotHere)
	unheard := &harness.Fault{Name: "proc/unheard", Inject: func(context.Context, harness.World, harness.Args, *rand.Rand) (harness.Injection, error) {
		return harness.Injection{}, no
	}}
	l := campaign.Lab{Target: (&harnesstest.Service{Handle: quiet, Ops: ops()}).Target(), Runner: runner.Options{Fault: func(string) *harness.Fault { return unheard }}, Triage: -1}
	res, err := campaign.Run(t.Context(), campaign.Options{Lab: l, Source: &list{cases: parse(t, "+ proc/unheard\na get\n", "+ proc/unheard\na get\n")}, Faults: []*harness.Fault{unheard}})
	if err != nil {
		t.Fatal(err)
	}
	got := res.Faults["proc/unheard"]
	if got.Injected != 2 || got.Refused != 2 || got.Doubt() != "" || got.String() != "cannot be had: "+no.Error() {
		t.Errorf("%+v: %q, doubt %q", got, got, got.Doubt())
	}
	if got.Refused = 1; got.Doubt() == "" {
		t.Error("one that could not be injected for another reason is no doubt")
	}
}
