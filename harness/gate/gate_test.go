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
		Calls:  map[harness.Kind]int{harness.OK: 500},
		Faults: map[string]campaign.Tally{"net/rst link=db": {Injected: 9, Acted: 3}},
		Checks: map[string]*campaign.Checks{"race": {Checked: 500, Minimum: 50}},
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
		{"findings before doubts", func(r *campaign.Result) { r.Bugs, r.Stopped = bug, true }, nil, Findings, ""},
		{"failure before findings", func(r *campaign.Result) { r.Bugs = bug }, broken, Failed, "no process could be started"},
		{"interrupted", func(r *campaign.Result) { r.Stopped = true }, nil, Inconclusive, "it was interrupted"},
		{"few calls", func(r *campaign.Result) { r.Calls[harness.OK] = 29 }, nil, Inconclusive, "only 29 calls were answered well, of 30 wanted"},
		{"idle fault", func(r *campaign.Result) { r.Faults["net/cut link=db"] = campaign.Tally{Injected: 4} }, nil, Inconclusive, "net/cut link=db never took effect: 0 of 4"},
		{"short look", func(r *campaign.Result) { r.Checks["race"].Checked = 49 }, nil, Inconclusive, "race looked at 49 of 50 wanted"},
		{"no look", func(r *campaign.Result) { r.Checks["hang"] = &campaign.Checks{Blind: true} }, nil, Inconclusive, "hang was not checked"},
		{"cut record", func(r *campaign.Result) { r.Cut = 1 }, nil, Inconclusive, "1 of 100 records are not whole"},
		{"suspect", func(r *campaign.Result) { r.Suspects = bug }, nil, Inconclusive, "not shown again in 0 replays: race: a | b"},
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
