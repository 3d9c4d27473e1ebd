package detect

import (
	"fmt"

	"github.com/shakedown-go/shakedown/harness"
)

// Exit finds a service that ended by itself without a reason that another detector names.
//
// After a fault it may be meant to: that is neither a finding nor a pass. Where a fault
// ended the service itself, what it does from then on is that fault's work.
var Exit = &harness.Detector{
	Name:    "exit",
	Doc:     "the service ends by itself while nothing is injected",
	Needs:   harness.CapOutput,
	Minimum: 20,
	Detect:  exit,
}

func exit(rec *harness.Record) harness.Judgement {
	j := harness.Judgement{Checked: undisturbed(rec)}
	disturbed := false
	for _, e := range rec.Events {
		if e.Kind == harness.Inject {
			if e.Args.Text("proc") == harness.Service {
				return j
			}
			disturbed = true
		}
		if !unexpected(e) || e.Name != harness.Service {
			continue
		}
		if rec.Truncated {
			j.Unsure = append(j.Unsure, "the service ended by itself, and its last words may be among the events that were dropped")
			return j
		}
		if explained(rec) {
			return j
		}
		if disturbed {
			j.Unsure = append(j.Unsure, "the service ended after a fault")
			return j
		}
		add(&j, harness.Finding{
			Detector:  "exit",
			Signature: fmt.Sprintf("exit: code %d", int(e.Value)),
			Title:     fmt.Sprintf("the service ended by itself with code %d while nothing was injected", int(e.Value)),
			Detail:    tail(rec, e.Seq),
			Evidence:  []uint64{e.Seq},
		})
	}
	return j
}

// explained reports whether another detector says why the service ended.
func explained(rec *harness.Record) bool {
	for _, c := range crashes(rec) {
		if c.proc == harness.Service {
			return true
		}
	}
	return false
}

// tail returns the last lines that the service printed before seq.
func tail(rec *harness.Record, seq uint64) string {
	const lines = 20
	out := ""
	for _, s := range streams(rec) {
		if s.proc != harness.Service {
			continue
		}
		n := 0
		for n < len(s.seqs) && s.seqs[n] < seq {
			n++
		}
		if n > 0 {
			out += s.lane + ":\n" + s.text(max(0, n-lines), n-1)
		}
	}
	return out
}
