package detect

import (
	"fmt"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/stack"
)

// Race finds data races that the race detector reported.
var Race = &harness.Detector{
	Name:    "race",
	Doc:     "two goroutines access one variable without synchronization, and one of them writes",
	Needs:   harness.CapRace,
	Minimum: 50,
	Proof:   true,
	Detect:  race,
}

// unwritten is what the race detector's runtime prints where it can open no file for its first
// report, under proc/files say, before it ends the process.
const unwritten = "ERROR: Can't open file: "

func race(rec *harness.Record) harness.Judgement {
	j := harness.Judgement{Checked: returned(rec)}
	for _, s := range streams(rec) {
		for _, line := range s.lines {
			if strings.Contains(line, unwritten) {
				j.Unsure = append(j.Unsure, "a report of the race detector is lost: it could not open a file for it")
				break
			}
		}
		for _, r := range stack.Races(s.lines) {
			a, b := side(rec, r.Accesses[0]), side(rec, r.Accesses[1])
			if b.fn < a.fn {
				a, b = b, a
			}
			add(&j, harness.Finding{
				Detector:  "race",
				Signature: fmt.Sprintf("race: %s | %s", a.fn, b.fn),
				Title:     fmt.Sprintf("data race%s: %s races with %s", of(s.proc), a, b),
				Detail:    s.text(r.First, r.Last),
				Evidence:  s.evidence(r.First, r.Last),
			})
		}
	}
	return j
}

// access is one side of a race.
type access struct{ op, fn string }

func side(rec *harness.Record, a stack.Access) access {
	return access{a.Op, stack.Culprit(rec.Build.Module, a.Frames)}
}

func (a access) String() string {
	article := "a"
	if strings.HasPrefix(a.op, "a") {
		article = "an"
	}
	return fmt.Sprintf("%s %s in %s", article, a.op, stack.Short(a.fn))
}
