package report

import (
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
	"github.com/shakedown-go/shakedown/harness/gate"
)

func bug(t *testing.T, text string) harness.Bug {
	t.Helper()
	c, err := harness.ParseCase([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return harness.Bug{
		Finding: harness.Finding{Detector: "race", Signature: "race: a.F | a.G", Title: "data race: \x1b[31ma.F"},
		Case:    c, Minimal: true, Proven: true, Shown: 9, Replays: 10, FirstSeen: 12345 * time.Millisecond,
	}
}

func TestBugIsToldInFewLines(t *testing.T) {
	t.Parallel()
	var w strings.Builder
	b := bug(t, "target x\nseed 1\n+ net/stall link=db\na get *2 &\nb get\n")
	Seen(&w, b)
	Proof(&w, b, "shakedown replay x.case -n 10")
	b.Minimal = false
	Proof(&w, b, "shakedown replay x.case -n 10")
	b.Proven, b.Shown = false, 0
	Proof(&w, b, "shakedown replay x.case -n 10")
	b.Others, b.Disturbed = 7, true
	Proof(&w, b, "shakedown replay x.case -n 10")
	want := `seen   race: a.F | a.G (after 12s)
BUG    race: a.F | a.G
       data race: .[31ma.F
       | target x
       | seed 1
       | + net/stall link=db
       | a get *2 &
       | b get
       minimal, 5 lines; shown 9 of 10 times; needs 2 lanes, 3 calls at once, net/stall
       replay: shakedown replay x.case -n 10
BUG    race: a.F | a.G
       data race: .[31ma.F
       | target x
       | seed 1
       | + net/stall link=db
       | a get *2 &
       | b get
       5 lines, not known to be minimal; shown 9 of 10 times; has 2 lanes, 3 calls at once, net/stall
       replay: shakedown replay x.case -n 10
unsure race: a.F | a.G: shown 0 of 10 times; replay: shakedown replay x.case -n 10
unsure race: a.F | a.G: seen after faults of earlier cases, shown 0 of 10 times, nor in 7 replays of harder cases; replay: shakedown replay x.case -n 10
`
	if diff := cmp.Diff(want, w.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSummaryCountsEverything(t *testing.T) {
	t.Parallel()
	b := bug(t, "target x\na get\n")
	r := &campaign.Result{
		Seed: 7, Built: 1500 * time.Millisecond, Env: map[string]string{"db": "local@15", "cache": "embedded@2"}, Search: 10 * time.Second, Triage: 3 * time.Second,
		Cases: 50, Records: 51, Epochs: 1, Replays: 20,
		Calls:  map[harness.Kind]int{harness.OK: 100, harness.Fail: 20, harness.Unknown: 3, harness.Skip: 40, harness.Stuck: 1},
		Worn:   map[string]int{"not ready": 1},
		Faults: map[string]campaign.Tally{"net/stall link=db": {Injected: 3, Acted: 2, Failed: 1, Why: "no\x1b db"}, "net/rst link=db": {Injected: 1}},
		Steady: map[string]campaign.Steady{
			"GET /a": {Held: 3, Of: 4, Total: 60 * time.Millisecond, Most: 50 * time.Millisecond}, "GET /b": {Of: 1},
		},
		LeftOut: map[string][]string{"the target has no processes": {"proc/kill", "proc/pause"}},
		Checks:  map[string]*campaign.Checks{"race": {Checked: 123, Minimum: 50, Unsure: map[string]int{"x": 2}}, "hang": {Blind: true}, "identity": {Minimum: 20, Undeclared: true}, "status": {Checked: 40, Apart: 3}},
		Bugs:    []*harness.Bug{&b},
	}
	var w strings.Builder
	v, why := gate.Check(r, nil)
	Summary(&w, r, v, why)
	want := `
seed         7
environment  cache=embedded@2 db=local@15
cases        50 in 10s (5.0/s), 1 epoch; 20 replays in 3s
calls        100 ok, 20 fail, 3 unknown (12/s); 40 skip, 1 stuck
time         build 1.5s before; start 0%, reset 0%, calls 0%, quiesce 0%, looking for leaks 0%, judging 0%
ended early  1 of 1 epochs: not ready
faults       net/rst link=db: took effect 0 of 1 times
             net/stall link=db: took effect 2 of 3 times, could not be injected 1 times: no. db
steady       GET /a: held again 3 of 4 times, after 20ms on average, 50ms at most
             GET /b: held again 0 of 1 times
left out     proc/kill proc/pause, the target has no processes
detectors    hang: not checked
             identity: not checked, not declared
             race: checked 123, 2 unsure
             status: checked 40, 0 unsure, 3 records not judged: bytes were changed on their way
bugs         1
             race: a.F | a.G: seen after 12s, shown 9 of 10 times, minimal, 3 lines
verdict      findings
             1 of 1 epochs ended early: not ready
             net/rst link=db never took effect: 0 of 1
             hang was not checked: the target cannot show what it needs
             race: 2 of 51 records unsure: x
`
	if diff := cmp.Diff(want, w.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.Bugs = nil
	w.Reset()
	v, why = gate.Check(r, nil)
	Summary(&w, r, v, why)
	for _, line := range []string{
		"verdict      inconclusive\n",
		"net/rst link=db never took effect: 0 of 1\n",
		"hang was not checked: the target cannot show what it needs\n",
	} {
		if !strings.Contains(w.String(), line) {
			t.Errorf("no %q in\n%s", line, w.String())
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b[2J\r\u202e\x00\xff")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range Clean(s) {
			if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.In(r, unicode.Cf) {
				t.Errorf("%q is let through", r)
			}
		}
	})
}
