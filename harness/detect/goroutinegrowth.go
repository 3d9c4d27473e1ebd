package detect

import (
	"fmt"
	"slices"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/census"
	"github.com/shakedown-go/shakedown/harness/stack"
)

// GoroutineGrowth finds goroutines that come with calls and stay, where the runtime cannot
// say that they stay for good: what they wait for can still be reached.
//
// After one case that proves nothing: pools fill, workers are started at the first use of
// something, and a handler may leave behind what ends in a moment. So the same case is
// played again in one process. What is bounded by the number of callers, or started
// once, does not grow in four equal rounds in a row; workers of shards and tenants may, but
// have a bound. More than that must have stayed, and still stand where they stood when the
// links were long healed and the callers gone.
//
// How long that must be depends on what they wait for. A lock, a channel that nobody
// receives from or a condition has no timeout: two seconds. A channel to receive from may be
// that of a timer or of a context, and a connection may have a deadline: eight. A select
// may hold a timer of any length, and who sleeps wakes up: of those nothing is concluded,
// and where the service's own code started them, that is said. What a library reads from a
// connection is left to the detectors of connections and files.
var GoroutineGrowth = &harness.Detector{
	Name:    "goroutine-growth",
	Doc:     "goroutines stay behind, more with every round of the same calls",
	Needs:   harness.CapAgent,
	Minimum: 20,
	Repeats: census.Goroutine,
	Detect:  goroutineGrowth,
}

func goroutineGrowth(rec *harness.Record) harness.Judgement {
	var j harness.Judgement
	t := trailOf(rec)
	if t == nil {
		return j
	}
	j.Checked = t.calls
	if t.late.lines == nil {
		return j
	}
	apart := t.late.at - t.end.at
	for _, k := range t.growing(census.Goroutine, fullRounds) {
		for _, s := range t.sorts(t.stood(t.start.Stayed(t.late.text)[k])) {
			own := stack.Own(t.module, s.site)
			switch patience, known := census.Patience(s.state); {
			case len(s.gs) < t.least(k) || !own && s.state == "IO wait":
			case !known:
				if own {
					j.Unsure = append(j.Unsure, fmt.Sprintf("goroutines that came from %s stay, more with every round of the same calls; but they wait in %s (%s), which may end by itself",
						stack.Short(s.site), t.where(s.gs[0]), s.state))
				}
			case apart >= patience:
				add(&j, harness.Finding{
					Detector:  "goroutine-growth",
					Signature: "goroutines grow: " + s.site,
					Title: fmt.Sprintf("%d calls have left %d goroutines behind that came from %s, more with every round: they wait in %s for %s",
						t.calls, len(s.gs), stack.Short(s.site), t.where(s.gs[0]), waitsFor(s.state)),
					Detail:   t.quote(k, t.late, s.gs[0]),
					Evidence: t.evidence(),
				})
			}
		}
	}
	return j
}

// stood returns those goroutines that stood at the same place when the last round had
// ended, but for those that are leaked beyond doubt.
func (t *trail) stood(gs []stack.Goroutine) []stack.Goroutine {
	before := byID(stack.Goroutines(t.end.lines))
	return slices.DeleteFunc(slices.Clone(gs), func(g stack.Goroutine) bool {
		b, was := before[g.ID]
		return g.Leaked || !was || b.State != g.State || !slices.EqualFunc(b.Frames, g.Frames, samePlace)
	})
}
