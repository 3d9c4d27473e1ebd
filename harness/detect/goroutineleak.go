package detect

import (
	"fmt"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/census"
	"github.com/shakedown-go/shakedown/harness/stack"
)

// GoroutineLeak finds goroutines of which the runtime itself says that nobody can wake them
// any more: nothing that still runs can reach what they wait for. That is beyond doubt,
// but the runtime sees only a part of all leaks; GoroutineGrowth looks at the others.
//
// One such goroutine, or a few that are started at the first use of something, cost little
// and stay few. So it is a finding only where the same case, played again in one process,
// left more of them each time, two rounds in a row.
var GoroutineLeak = &harness.Detector{
	Name:    "goroutine-leak",
	Doc:     "calls leave goroutines behind that nobody can wake any more, more of them each time",
	Needs:   harness.CapAgent,
	Minimum: 20,
	Proof:   true,
	Repeats: census.Leaked,
	Detect:  goroutineLeak,
}

func goroutineLeak(rec *harness.Record) harness.Judgement {
	var j harness.Judgement
	t := trailOf(rec)
	if t == nil {
		return j
	}
	j.Checked = t.calls
	for _, k := range t.growing(census.Goroutine, 2) {
		d := t.lastDump()
		for _, s := range t.sorts(leaked(t.start.Stayed(d.text)[k])) {
			if len(s.gs) < t.streak(k) {
				continue
			}
			add(&j, harness.Finding{
				Detector:  "goroutine-leak",
				Signature: "goroutine leak: " + s.site,
				Title: fmt.Sprintf("%d calls have left %d goroutines behind that came from %s: they wait in %s for %s, and nobody can wake them any more",
					t.calls, len(s.gs), stack.Short(s.site), t.where(s.gs[0]), waitsFor(s.state)),
				Detail:   t.quote(k, d, s.gs[0]),
				Evidence: t.evidence(),
			})
		}
	}
	return j
}

// lastDump is the latest that there is.
func (t *trail) lastDump() stacks {
	if t.late.lines != nil {
		return t.late
	}
	return t.end
}

// leaked returns those that the runtime has marked.
func leaked(gs []stack.Goroutine) []stack.Goroutine {
	var out []stack.Goroutine
	for _, g := range gs {
		if g.Leaked {
			out = append(out, g)
		}
	}
	return out
}
