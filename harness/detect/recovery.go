package detect

import (
	"fmt"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/steady"
)

// Recovery finds services that do not come back to their steady state when all faults are
// healed. It asks for a fault that took effect, and that the check does not hold even when the
// stores are as they were at the start: otherwise it is what the calls or a lost store have
// taken away that is missing, and nothing is claimed. A service that has ended, or in which a
// call stands still, is what other detectors speak of.
var Recovery = &harness.Detector{
	Name:    "recovery",
	Doc:     "the steady state does not come back when all faults are healed",
	Needs:   harness.CapSteady,
	Minimum: 20,
	Faults:  true,
	Data:    true,
	Detect:  recovers,
}

func recovers(rec *harness.Record) harness.Judgement {
	var j harness.Judgement
	var disturbed, elsewhere bool
	missing := map[string]steady.Seen{}
	for _, e := range rec.Events {
		switch e.Kind {
		case harness.Reset:
			disturbed, elsewhere = false, false
		case harness.Acted:
			disturbed = disturbed || e.Value > 0
		case harness.Heal:
			elsewhere = elsewhere || e.Text != "" && e.Args.Text("unready") == "" && e.Args.Text("expired") == ""
		case harness.Stuck, harness.Exit:
			elsewhere = elsewhere || e.Args.Text("expected") != "true"
		}
		s, is := steady.Parse(e)
		switch {
		case !is || !disturbed || elsewhere || s.Moment == steady.Before:
		case s.Moment == steady.After && s.Held:
			j.Checked++
		case s.Moment == steady.After:
			missing[s.Check] = s
		case s.Held:
			j.Unsure = append(j.Unsure, fmt.Sprintf("%s holds again only when the stores are reset: it depends on what is in them", s.Check))
		default:
			j.Checked++
			was := missing[s.Check]
			add(&j, harness.Finding{
				Detector:  "recovery",
				Signature: "no recovery: " + s.Check,
				Title:     fmt.Sprintf("%s does not hold again %s after what was in force was healed", s.Check, was.Took.Round(100*time.Millisecond)),
				Detail:    was.Why,
				Evidence:  []uint64{e.Seq},
			})
		}
	}
	return j
}
