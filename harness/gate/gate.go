// Package gate turns what a campaign came to into a verdict. A pass must be earned:
// detectors that have looked at too little, and faults that never took effect, make a
// campaign inconclusive.
package gate

import (
	"fmt"
	"maps"
	"slices"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
)

// Verdict is the answer of a gate.
type Verdict int

// The verdicts. Their values are the exit codes of the command.
const (
	Pass         Verdict = 0
	Findings     Verdict = 1
	Failed       Verdict = 3 // the harness could not do its work
	Inconclusive Verdict = 4
)

func (v Verdict) String() string {
	return map[Verdict]string{Pass: "pass", Findings: "findings", Failed: "the harness failed", Inconclusive: "inconclusive"}[v]
}

// minOK is how many calls must have been answered before anything can pass.
const minOK = 30

// Check judges a campaign, and says why it is not a pass. A failure of the harness comes
// before everything else.
func Check(r *campaign.Result, failure error) (Verdict, []string) {
	why := doubts(r)
	switch {
	case failure != nil:
		return Failed, []string{failure.Error()}
	case len(r.Bugs) > 0:
		return Findings, nil
	case len(why) > 0:
		return Inconclusive, why
	}
	return Pass, nil
}

// doubts lists what keeps a campaign without bugs from being a pass.
func doubts(r *campaign.Result) []string {
	var why []string
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	if r.Stopped {
		say("it was interrupted")
	}
	if ok := r.Calls[harness.OK]; ok < minOK {
		say("only %d calls were answered well, of %d wanted", ok, minOK)
	}
	if r.Cut > 0 {
		say("%d of %d records are not whole: more was printed than could be kept", r.Cut, r.Cases)
	}
	for _, aim := range r.Aims() {
		if t := r.Faults[aim]; t.Acted == 0 {
			say("%s never took effect: 0 of %d", aim, t.Injected)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Checks)) {
		c := r.Checks[name]
		if c.Blind {
			say("%s was not checked: the target cannot show what it needs", name)
		} else if c.Checked < c.Minimum {
			say("%s looked at %d of %d wanted", name, c.Checked, c.Minimum)
		}
	}
	for _, b := range r.Suspects {
		say("seen, but not shown again in %d replays: %s", b.Replays, b.Signature)
	}
	for _, e := range r.Errors {
		say("the harness failed on the way: %s", e)
	}
	return why
}
