package generate

import (
	"slices"

	"github.com/shakedown-go/shakedown/harness"
)

// trait is what a case must have to show a known bug: the ops and what is disturbed.
type trait struct {
	ops, aims []string
}

// traits returns those of a case. Which fault disturbs a link does not matter: most that
// do will show the same. Nor do calls that others refer to, which may have been made for
// these only, unless there is nothing else.
func traits(c harness.Case) trait {
	var t trait
	var made []string
	for _, s := range c.Steps {
		switch {
		case s.Verb == harness.VerbInject:
			t.aims = append(t.aims, at(s))
		case s.Verb == harness.VerbCall && s.Label != "":
			made = append(made, s.Name)
		case s.Verb == harness.VerbCall:
			t.ops = append(t.ops, s.Name)
		}
	}
	if len(t.ops) == 0 {
		t.ops = made
	}
	return t
}

// shunned reports whether a case has all the traits of a known bug.
func (s *Source) shunned(c harness.Case) bool {
	has := traits(c)
	within := func(all, some []string) bool {
		return !slices.ContainsFunc(some, func(x string) bool { return !slices.Contains(all, x) })
	}
	return slices.ContainsFunc(s.known, func(t trait) bool {
		return within(has.ops, t.ops) && within(has.aims, t.aims)
	})
}
