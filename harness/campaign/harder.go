package campaign

import (
	"iter"
	"slices"
	"strconv"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// The bounds of harder cases.
const (
	maxRepeat = 256 // of one call
	maxCrowd  = 8   // lanes
	maxWait   = 5 * time.Second
	pause     = 20 * time.Millisecond // between two turns
	rounds    = 3                     // of a case in one process life
)

// harder yields variants of a case in which what it shows by chance is more likely: what
// is done at once is done more often and by more lanes, and faults last from the start of
// their turn to the end of the case. A case that is slow to play is made little slower: no
// call is repeated once it has passed its deadline.
func harder(c harness.Case, slow bool) iter.Seq[harness.Case] {
	return func(yield func(harness.Case) bool) {
		tried := map[string]bool{c.Normalize().String(): true}
		variants := []harness.Case{
			often(c, 4),
			often(c, 16),
			spaced(c),
			harness.Join(slices.Repeat([]harness.Case{c}, rounds)...),
			often(crowded(c), 4),
			lasting(c),
			often(lasting(c), 16),
			often(lasting(crowded(c)), 4),
		}
		if slow {
			variants = []harness.Case{often(c, 3), crowded(c), lasting(c), often(lasting(crowded(c)), 3)}
		}
		for _, v := range variants {
			v = v.Normalize()
			if tried[v.String()] {
				continue
			}
			tried[v.String()] = true
			if !yield(v) {
				return
			}
		}
	}
}

// often repeats what is done at once, or again and again, so many times, and waits so much
// longer.
func often(c harness.Case, times int) harness.Case {
	c = c.Clone()
	for i, s := range c.Steps {
		if s.Verb == harness.VerbWait || s.Verb == harness.VerbCall {
			c.Steps[i].For = max(s.For, min(s.For*time.Duration(times), maxWait))
		}
		if s.Verb == harness.VerbCall && s.For == 0 && (s.Group != 0 || s.Repeat > 1) {
			c.Steps[i].Repeat = max(s.Repeat, min(s.Times()*times, maxRepeat))
		}
	}
	return c
}

// spaced waits a little after every turn.
func spaced(c harness.Case) harness.Case {
	var steps []harness.Step
	for _, t := range c.Turns() {
		steps = append(steps, c.Steps[t[0]:t[1]]...)
		if c.Steps[t[0]].Verb == harness.VerbCall || t[1]-t[0] > 1 {
			steps = append(steps, harness.Step{Verb: harness.VerbWait, For: pause})
		}
	}
	c.Steps = steps
	return c.Clone()
}

// lasting lets faults begin at once and last to the end.
func lasting(c harness.Case) harness.Case {
	c = c.Clone()
	for i, s := range c.Steps {
		if s.Verb == harness.VerbInject {
			c.Steps[i].When, c.Steps[i].At, c.Steps[i].For = harness.Trigger{}, 0, 0
		}
	}
	return c
}

// crowded has the calls of each group made by as many lanes again. A call that is alone
// is made by two lanes at once, unless a later step refers to it.
func crowded(c harness.Case) harness.Case {
	c = c.Clone()
	lanes := c.Lanes()
	if len(lanes)*2 > maxCrowd {
		return c
	}
	twin := map[string]string{}
	for i, n := 0, 1; i < len(lanes); n++ {
		if name := "t" + strconv.Itoa(n); !slices.Contains(lanes, name) {
			twin[lanes[i]] = name
			i++
		}
	}
	var steps []harness.Step
	group := len(c.Steps)
	for _, t := range c.Turns() {
		turn := c.Steps[t[0]:t[1]]
		group++
		var more []harness.Step
		for _, s := range turn {
			if s.Verb == harness.VerbCall && s.Label == "" {
				s.Lane, s.Group = twin[s.Lane], group
				more = append(more, s)
			}
		}
		for _, s := range turn {
			if len(more) > 0 {
				s.Group = group
			}
			steps = append(steps, s)
		}
		steps = append(steps, more...)
	}
	c.Steps = steps
	return c
}
