package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/fuzz/nemesis"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/gate"
	"github.com/shakedown-go/shakedown/targets/function"
	"github.com/shakedown-go/shakedown/targets/process"
)

// TestFaultsOfFunctionsAreJudgedAsThoseOfServices: one that waits for what a function never
// does is said to have found nothing, and is in the way of no pass.
func TestFaultsOfFunctionsAreJudgedAsThoseOfServices(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		chance bool
		tally  nemesis.Tally
		want   gate.Verdict
		line   string
		why    []string
	}{
		{false, nemesis.Tally{Injected: 3, Acted: 1}, gate.Pass, "net/x: took effect 1 of 3 times", nil},
		{false, nemesis.Tally{Injected: 3}, gate.Inconclusive, "net/x: took effect 0 of 3 times", []string{"net/x never took effect: 0 of 3"}},
		{true, nemesis.Tally{Injected: 3}, gate.Pass, "net/x: found nothing to act on, 3 times", nil},
		{true, nemesis.Tally{}, gate.Inconclusive, "net/x: took effect 0 of 0 times", []string{"net/x was never tried"}},
		{true, nemesis.Tally{Injected: 2, Failed: 2, Why: "no"}, gate.Inconclusive, "net/x: took effect 0 of 2 times, could not be injected 2 times: no", []string{"net/x could not be injected: 0 of 2: no"}},
		{false, nemesis.Tally{Injected: 2, Failed: 2, Refused: 2, Why: "no"}, gate.Pass, "net/x: cannot be had: no", nil},
	} {
		var out strings.Builder
		l := &fuzzLab{
			pkg: &function.Package{}, funcs: []function.Func{{Name: "FuzzX"}},
			rows:    []*fuzzRow{{Func: "FuzzX", Execs: 1, Seeds: 1, Time: time.Second}},
			aims:    []nemesis.Aim{{Fault: &harness.Fault{Name: "net/x", Chance: tt.chance}}},
			tallies: map[string]nemesis.Tally{"net/x": tt.tally},
			around:  &process.Surroundings{Target: &harness.Target{}}, stdout: &out,
		}
		v, why := l.judge(false, nil)
		l.table(v, why)
		if v != tt.want || !slices.Equal(why, tt.why) || !strings.Contains(out.String(), tt.line+"\n") {
			t.Errorf("%+v, chance %v: %s: %q, want %s: %q, and %q in\n%s", tt.tally, tt.chance, v, why, tt.want, tt.why, tt.line, &out)
		}
	}
}
