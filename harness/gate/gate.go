// Package gate turns what a campaign came to into a verdict. A pass must be earned:
// detectors that have looked at too little or could not decide, faults that never took
// effect, and epochs that ended for no known cause make a campaign inconclusive.
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

// Check judges a campaign, and says why it is not a pass, or what else is in doubt beside
// its bugs. A failure of the harness comes before everything else.
func Check(r *campaign.Result, failure error) (Verdict, []string) {
	why := doubts(r)
	switch {
	case failure != nil:
		return Failed, append([]string{failure.Error()}, why...)
	case len(r.Bugs) > 0:
		return Findings, why
	case len(why) > 0:
		return Inconclusive, why
	}
	return Pass, nil
}

// doubts lists what keeps a campaign without bugs from being a pass.
func doubts(r *campaign.Result) []string {
	var why []string
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	switch {
	case r.Aborted != "":
		say("it was %s", r.Aborted)
	case r.Stopped:
		say("it was interrupted")
	}
	if ok := r.Calls[harness.OK]; ok < minOK {
		say("only %d calls were answered well, of %d wanted", ok, minOK)
	}
	for _, op := range slices.Sorted(maps.Keys(r.Answers)) {
		if a := r.Answers[op]; a.OK == 0 {
			say("%s was never answered well: %s", op, answers(a))
		}
	}
	if r.Cut > 0 {
		say("%d of %d records are not whole: more was printed than could be kept", r.Cut, r.Records)
	}
	for _, reason := range slices.Sorted(maps.Keys(r.Worn)) {
		if reason != campaign.Ended && reason != harness.Spent {
			say("%d of %d epochs ended early: %s", r.Worn[reason], r.Epochs, reason)
		}
	}
	for _, aim := range r.Aims() {
		if doubt := r.Faults[aim].Doubt(); doubt != "" {
			say("%s %s", aim, doubt)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Checks)) {
		c := r.Checks[name]
		switch {
		case c.Blind:
			say("%s was not checked: the target cannot show what it needs", name)
		case c.Undeclared: // nothing was promised
		case c.Checked < c.Minimum:
			say("%s looked at %d of %d wanted", name, c.Checked, c.Minimum)
		}
		for _, reason := range slices.Sorted(maps.Keys(c.Unsure)) {
			say("%s: %d of %d records unsure: %s", name, c.Unsure[reason], r.Records, reason)
		}
	}
	for _, b := range r.Suspects {
		say("%s", suspicion(b))
	}
	for _, e := range r.Errors {
		say("the harness failed on the way: %s", e)
	}
	return why
}

// answers says how calls ended that were not ok.
func answers(a campaign.Answers) string {
	n, most := 0, ""
	for _, x := range slices.Sorted(maps.Keys(a.Others)) {
		n += a.Others[x]
		if a.Others[x] > a.Others[most] {
			most = x
		}
	}
	if n == 0 {
		return "it was never called"
	}
	return fmt.Sprintf("0 of %d, mostly %s", n, most)
}

// suspicion says how a finding was seen that could not be shown again.
func suspicion(b *harness.Bug) string {
	seen, nor := "seen", ""
	if b.Disturbed {
		seen = "seen after faults of earlier cases"
	}
	if b.Others > 0 {
		nor = fmt.Sprintf(", nor in %d of harder cases", b.Others)
	}
	return fmt.Sprintf("%s, but not shown again in %d replays%s: %s", seen, b.Replays, nor, b.Signature)
}
