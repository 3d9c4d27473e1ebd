package gate

import (
	"errors"
	"strings"
	"testing"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
)

// earned is a campaign that passes.
func earned() *campaign.Result {
	return &campaign.Result{
		Cases:  100,
		Epochs: 9, Records: 109,
		Worn:    map[string]int{campaign.Ended: 2, harness.Spent: 4},
		Calls:   map[harness.Kind]int{harness.OK: 500},
		Answers: map[string]campaign.Answers{"pay": {OK: 20, Others: map[string]int{"503": 80}}},
		Faults:  map[string]campaign.Tally{"net/rst link=db": {Injected: 9, Acted: 3}},
		Checks:  map[string]*campaign.Checks{"race": {Checked: 500, Minimum: 50}},
	}
}

func TestVerdictsHaveAnOrder(t *testing.T) {
	t.Parallel()
	bug := []*harness.Bug{{Finding: harness.Finding{Signature: "race: a | b"}}}
	broken := errors.New("no process could be started")
	for _, tt := range []struct {
		name    string
		change  func(*campaign.Result)
		failure error
		want    Verdict
		why     string
	}{
		{"earned", func(*campaign.Result) {}, nil, Pass, ""},
		{"findings", func(r *campaign.Result) { r.Bugs = bug }, nil, Findings, ""},
		{"findings before doubts", func(r *campaign.Result) { r.Bugs, r.Stopped = bug, true }, nil, Findings, "it was interrupted"},
		{"failure and doubts", func(r *campaign.Result) { r.Stopped = true }, broken, Failed, "no process could be started\nit was interrupted"},
		{"failure before findings", func(r *campaign.Result) { r.Bugs = bug }, broken, Failed, "no process could be started"},
		{"aborted", func(r *campaign.Result) { r.Stopped, r.Aborted = true, "aborted: memory: 2 GiB" }, nil, Inconclusive, "it was aborted: memory: 2 GiB"},
		{"interrupted", func(r *campaign.Result) { r.Stopped = true }, nil, Inconclusive, "it was interrupted"},
		{"few calls", func(r *campaign.Result) { r.Calls[harness.OK] = 29 }, nil, Inconclusive, "only 29 calls were answered well, of 30 wanted"},
		{"op never answered well", func(r *campaign.Result) {
			r.Answers["pay"] = campaign.Answers{Others: map[string]int{"401": 80, "404": 3, "no reply": 1}}
		}, nil, Inconclusive, "pay was never answered well: 0 of 84, mostly 401"},
		{"op never called", func(r *campaign.Result) { r.Answers["pay"] = campaign.Answers{} }, nil, Inconclusive, "pay was never answered well: it was never called"},
		{"idle fault that waits for chance", func(r *campaign.Result) {
			r.Faults["net/slow_close link=db"] = campaign.Tally{Injected: 4, Chance: true}
		}, nil, Pass, ""},
		{"chance never tried", func(r *campaign.Result) { r.Faults["net/slow_close link=db"] = campaign.Tally{Chance: true} }, nil, Inconclusive, "net/slow_close link=db was never tried"},
		{"idle fault", func(r *campaign.Result) { r.Faults["net/cut link=db"] = campaign.Tally{Injected: 4} }, nil, Inconclusive, "net/cut link=db never took effect: 0 of 4"},
		{"untried fault", func(r *campaign.Result) { r.Faults["net/cut link=db"] = campaign.Tally{} }, nil, Inconclusive, "net/cut link=db was never tried"},
		{"failing fault", func(r *campaign.Result) {
			r.Faults["net/cut link=db"] = campaign.Tally{Injected: 4, Failed: 4, Why: "no db"}
		}, nil, Inconclusive, "net/cut link=db could not be injected: 0 of 4: no db"},
		{"fault that failed and was idle", func(r *campaign.Result) {
			r.Faults["net/cut link=db"] = campaign.Tally{Injected: 4, Failed: 3, Why: "no db"}
		}, nil, Inconclusive, "net/cut link=db never took effect: 0 of 4"},
		{"fault that failed and acted", func(r *campaign.Result) {
			r.Faults["net/cut link=db"] = campaign.Tally{Injected: 4, Failed: 3, Acted: 1}
		}, nil, Pass, ""},
		{"worn epochs", func(r *campaign.Result) { r.Worn["not ready 5s after the case"] = 3 }, nil, Inconclusive, "3 of 9 epochs ended early: not ready 5s after the case"},
		{"unsure", func(r *campaign.Result) { r.Checks["race"].Unsure = map[string]int{"z": 1, "it was dark": 2} }, nil, Inconclusive, "race: 2 of 109 records unsure: it was dark\nrace: 1 of 109 records unsure: z"},
		{"short look", func(r *campaign.Result) { r.Checks["race"].Checked = 49 }, nil, Inconclusive, "race looked at 49 of 50 wanted"},
		{"no look", func(r *campaign.Result) { r.Checks["hang"] = &campaign.Checks{Blind: true} }, nil, Inconclusive, "hang was not checked"},
		{"not declared", func(r *campaign.Result) { r.Checks["identity"] = &campaign.Checks{Minimum: 20, Undeclared: true} }, nil, Pass, ""},
		{"cut record", func(r *campaign.Result) { r.Cut = 1 }, nil, Inconclusive, "1 of 109 records are not whole"},
		{"suspect", func(r *campaign.Result) { r.Suspects = bug }, nil, Inconclusive, "seen, but not shown again in 0 replays: race: a | b"},
		{"disturbed suspect", func(r *campaign.Result) { r.Suspects = []*harness.Bug{{Replays: 3, Others: 9, Disturbed: true}} }, nil, Inconclusive, "seen after faults of earlier cases, but not shown again in 3 replays, nor in 9 of harder cases"},
		{"error on the way", func(r *campaign.Result) { r.Errors = []string{"reset: timeout"} }, nil, Inconclusive, "reset: timeout"},
	} {
		r := earned()
		tt.change(r)
		got, why := Check(r, tt.failure)
		if got != tt.want || !strings.Contains(strings.Join(why, "\n"), tt.why) || (tt.why == "") != (len(why) == 0) {
			t.Errorf("%s: got %v %q, want %v %q", tt.name, got, why, tt.want, tt.why)
		}
	}
}
