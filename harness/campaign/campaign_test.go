package campaign_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/gate"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
	"github.com/shakedown-go/shakedown/harness/runner"
)

// list is a source that proposes given cases.
type list struct {
	cases   []harness.Case
	learned []string // signatures of what was proven
}

func (l *list) Next() (harness.Case, bool) {
	if len(l.cases) == 0 {
		return harness.Case{}, false
	}
	c := l.cases[0]
	l.cases = l.cases[1:]
	return c, true
}

func (l *list) Learn(_ *harness.Record, proven []harness.Finding) {
	for _, f := range proven {
		l.learned = append(l.learned, f.Signature)
	}
}

// sink keeps what it is given.
type sink struct{ bugs []harness.Bug }

func (s *sink) Put(b harness.Bug, _ *harness.Record) error {
	s.bugs = append(s.bugs, b)
	return nil
}

// words is a detector that finds every line a service prints with "bug:" in it.
var words = &harness.Detector{
	Name: "words", Minimum: 1,
	Detect: func(r *harness.Record) (j harness.Judgement) {
		for _, e := range r.Events {
			if e.Kind == harness.Output && strings.HasPrefix(e.Text, "bug:") {
				j.Findings = append(j.Findings, harness.Finding{Detector: "words", Signature: e.Text, Title: e.Text, Evidence: []uint64{e.Seq}})
			}
			if e.Returned() {
				j.Checked++
			}
		}
		return j
	},
}

func ops() (out []harness.Op) {
	for _, name := range []string{"get", "put", "arm", "crash"} {
		out = append(out, harness.Op{Name: name, Takes: []string{"body"}})
	}
	return out
}

func parse(t *testing.T, texts ...string) (out []harness.Case) {
	t.Helper()
	for _, text := range texts {
		c, err := harness.ParseCase([]byte("target test\n" + text))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func lab(target *harness.Target, d *harness.Detector) campaign.Lab {
	return campaign.Lab{Target: target, Detectors: []*harness.Detector{d}, Runner: runner.Options{Fault: harnesstest.Fault}, Triage: 20 * time.Second}
}

// quiet answers every call well.
func quiet(context.Context, *harnesstest.Life, harnesstest.Call) harness.Reply {
	return harnesstest.OK("")
}

// shake runs a campaign over cases on a service.
func shake(t *testing.T, s *harnesstest.Service, d *harness.Detector, texts ...string) (*campaign.Result, *list, *sink) {
	t.Helper()
	s.Ops = ops()
	l, k := &list{cases: parse(t, texts...)}, &sink{}
	res, err := campaign.Run(t.Context(), campaign.Options{Lab: lab(s.Target(), d), Source: l, Sinks: []harness.Sink{k}})
	if err != nil {
		t.Fatal(err)
	}
	if s.Starts.Load() != s.Stops.Load() {
		t.Errorf("%d instances started, %d stopped", s.Starts.Load(), s.Stops.Load())
	}
	return res, l, k
}

func TestBugIsSavedFirstThenProvenAndMinimal(t *testing.T) {
	t.Parallel()
	s := &harnesstest.Service{Handle: func(_ context.Context, l *harnesstest.Life, c harnesstest.Call) harness.Reply {
		if l.Disturbed("db") && c.Op == "put" {
			l.Print("bug: put without db")
		}
		return harnesstest.OK("")
	}}
	res, l, k := shake(t, s, words, "a get *3\n", "a get\n+ net/break link=cache\nf: b put\n+ net/break link=db\na put body.x=1 *5 &\nb get\n", "a put\n")
	if len(res.Bugs) != 1 || !res.Bugs[0].Minimal || res.Bugs[0].Shown < 9 {
		t.Fatalf("bugs: %+v", res.Bugs)
	}
	if diff := cmp.Diff("target test\nseed 0\n+ net/break link=db\na put\n", res.Bugs[0].Case.String()); diff != "" {
		t.Errorf("minimal case (-want +got):\n%s", diff)
	}
	if len(k.bugs) != 2 || k.bugs[0].Minimal || !k.bugs[1].Minimal || k.bugs[0].Settled || !k.bugs[1].Settled {
		t.Errorf("saved %d times: %+v", len(k.bugs), k.bugs)
	}
	if !slices.Equal(l.learned, []string{"bug: put without db"}) {
		t.Errorf("learned %q", l.learned)
	}
	if res.Cases != 3 {
		t.Errorf("%d cases were played, want 3", res.Cases)
	}
	if v, _ := gate.Check(res, nil); v != gate.Findings {
		t.Errorf("verdict %v", v)
	}
}

// Where bytes were changed on their way, what depends on stored data is not judged, and no later
// case is played in the same process.
func TestWhereBytesWereChangedDataIsNotJudged(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		effect                 harness.Effect
		data                   bool
		bugs, apart, processes int
	}{
		{harness.EffectMaybe, true, 1, 0, 1},
		{harness.EffectCorrupt, true, 0, 1, 2},
		{harness.EffectCorrupt, false, 1, 0, 2},
	} {
		s := &harnesstest.Service{Ops: ops(), Handle: func(_ context.Context, l *harnesstest.Life, c harnesstest.Call) harness.Reply {
			if l.Disturbed("db") {
				l.Print("bug: wrong")
			}
			return harnesstest.OK("")
		}}
		d, fault := *words, *harnesstest.Break
		d.Data, fault.Effect = tt.data, tt.effect
		lab := lab(s.Target(), &d)
		lab.Triage = -1
		lab.Runner.Fault = func(string) *harness.Fault { return &fault }
		res, err := campaign.Run(t.Context(), campaign.Options{
			Lab: lab, Source: &list{cases: parse(t, "a get\n", "+ net/break link=db\na get\n", "a get\n")},
		})
		if err != nil {
			t.Fatal(err)
		}
		seen, checks := len(res.Bugs)+len(res.Suspects), res.Checks["words"]
		if seen != tt.bugs || checks.Apart != tt.apart || checks.Checked != 3-tt.apart {
			t.Errorf("effect %s, data %v: %d findings, %+v", tt.effect, tt.data, seen, checks)
		}
		if n := int(s.Starts.Load()); tt.bugs == 0 && n != tt.processes || n < tt.processes {
			t.Errorf("effect %s, data %v: %d processes, want %d", tt.effect, tt.data, n, tt.processes)
		}
		if len(res.Worn) > 0 {
			t.Errorf("worn: %v", res.Worn)
		}
	}
}

// What an earlier case left in the process is part of the proof.
func TestBugThatNeedsTheEpochIsProvenWithItsPrefix(t *testing.T) {
	t.Parallel()
	s := &harnesstest.Service{Handle: func(_ context.Context, l *harnesstest.Life, c harnesstest.Call) harness.Reply {
		switch {
		case c.Op == "arm":
			l.Count("armed")
		case c.Op == "put" && l.Counted("armed") > 1:
			l.Print("bug: armed")
		}
		return harnesstest.OK("")
	}}
	res, _, _ := shake(t, s, words, "a get\n", "a arm\na get\n", "b get\n", "a get\nb arm\n", "a put\n")
	if len(res.Bugs) != 1 {
		t.Fatalf("bugs %+v, suspects %+v", res.Bugs, res.Suspects)
	}
	if diff := cmp.Diff("target test\nseed 0\na arm *2\na put\n", strings.Replace(res.Bugs[0].Case.String(), "a arm\na arm\n", "a arm *2\n", 1)); diff != "" {
		t.Errorf("minimal case (-want +got):\n%s", diff)
	}
}

func TestSightingThatCannotBeShownAgainIsNoBug(t *testing.T) {
	t.Parallel()
	for _, proof := range []bool{false, true} {
		var seen atomic.Bool
		s := &harnesstest.Service{Handle: func(_ context.Context, l *harnesstest.Life, _ harnesstest.Call) harness.Reply {
			if !seen.Swap(true) {
				l.Print("bug: once")
			}
			return harnesstest.OK("")
		}}
		d := *words
		d.Proof = proof
		res, _, _ := shake(t, s, &d, "a get *40\n", "a get\n")
		v, why := gate.Check(res, nil)
		switch {
		case proof && (len(res.Bugs) != 1 || res.Bugs[0].Shown != 0 || v != gate.Findings):
			t.Errorf("a sighting that is proof: %v %v %+v", v, why, res.Bugs)
		case !proof && (len(res.Bugs) != 0 || len(res.Suspects) != 1 || v != gate.Inconclusive):
			t.Errorf("a sighting that is none: %v %v %+v", v, why, res.Suspects)
		}
		for _, b := range slices.Concat(res.Bugs, res.Suspects) {
			if b.Replays != 3 || b.Others == 0 || b.Replays+b.Others != res.Replays {
				t.Errorf("%d replays of the case, %d of others, %d in all", b.Replays, b.Others, res.Replays)
			}
		}
	}
}

func TestCrashBeginsANewEpoch(t *testing.T) {
	t.Parallel()
	s := &harnesstest.Service{Handle: func(_ context.Context, l *harnesstest.Life, c harnesstest.Call) harness.Reply {
		if c.Op == "crash" {
			l.Print("bug: crash")
			l.Crash()
		}
		return harnesstest.OK("")
	}}
	res, _, _ := shake(t, s, words, "a get\n", "a crash\n", "a get\n")
	if res.Epochs != 2 || len(res.Bugs) != 1 {
		t.Errorf("%d epochs, bugs %+v", res.Epochs, res.Bugs)
	}
}

func TestPassMustBeEarned(t *testing.T) {
	t.Parallel()
	eager := *detect.ByName("status")
	eager.Minimum = 1_000_000
	for _, tt := range []struct {
		name string
		d    *harness.Detector
		text string
		want gate.Verdict
		why  string
	}{
		{"enough was seen", words, "a get *50\na put\na arm\na crash\n+ net/break link=db\na get\n", gate.Pass, ""},
		{"too few calls", words, "a get\n", gate.Inconclusive, "only 1 calls"},
		{"a detector saw too little", &eager, "a get *50\n", gate.Inconclusive, "status looked at 50"},
	} {
		res, _, _ := shake(t, &harnesstest.Service{Handle: quiet}, tt.d, tt.text)
		v, why := gate.Check(res, nil)
		if v != tt.want || !strings.Contains(strings.Join(why, "\n"), tt.why) {
			t.Errorf("%s: got %v %q, want %v %q", tt.name, v, why, tt.want, tt.why)
		}
	}
}

// What was seen first by chance is proven by a later sighting that can be shown again.
func TestLaterSightingIsProven(t *testing.T) {
	t.Parallel()
	var seen atomic.Bool
	s := &harnesstest.Service{Handle: func(_ context.Context, l *harnesstest.Life, c harnesstest.Call) harness.Reply {
		if !seen.Swap(true) || c.Op == "put" {
			l.Print("bug: at first by chance")
		}
		return harnesstest.OK("")
	}}
	for _, proof := range []bool{false, true} {
		seen.Store(false)
		d := *words
		d.Proof = proof
		res, _, _ := shake(t, s, &d, "a get\n", "a get\n", "a get\nb put\n")
		if len(res.Bugs) != 1 || len(res.Suspects) != 0 || res.Bugs[0].Shown < 9 || !res.Bugs[0].Minimal {
			t.Errorf("proof %v: bugs %+v, suspects %+v", proof, res.Bugs, res.Suspects)
		}
	}
}
