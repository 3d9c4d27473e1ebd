package detect

import (
	"fmt"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/steady"
)

// Recovery finds services that do not come back to their steady state when all faults are
// healed. A service that has ended, or in which a call stands still, is what other detectors
// speak of; and where nothing was injected there is nothing to recover from.
var Recovery = &harness.Detector{
	Name:    "recovery",
	Doc:     "the steady state does not come back when all faults are healed",
	Needs:   harness.CapSteady,
	Minimum: 20,
	Detect:  recovers,
}

func recovers(rec *harness.Record) harness.Judgement {
	var j harness.Judgement
	var disturbed, elsewhere bool
	for _, e := range rec.Events {
		switch e.Kind {
		case harness.Reset:
			disturbed, elsewhere = false, false
		case harness.Heal:
			disturbed = true
			elsewhere = elsewhere || e.Text != "" // it is not as it was before
		case harness.Stuck, harness.Exit:
			elsewhere = elsewhere || e.Args.Text("expected") != "true"
		}
		s, is := steady.Parse(e)
		if !is || s.Moment != steady.After || !disturbed || elsewhere {
			continue
		}
		j.Checked++
		if s.Held {
			continue
		}
		add(&j, harness.Finding{
			Detector:  "recovery",
			Signature: "no recovery: " + s.Check,
			Title:     fmt.Sprintf("%s does not hold again %s after the last fault was healed", s.Check, s.Took.Round(100*time.Millisecond)),
			Detail:    s.Why,
			Evidence:  []uint64{e.Seq},
		})
	}
	return j
}
