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
// do will show the same.
func traits(c harness.Case) trait {
	var t trait
	for _, s := range c.Steps {
		switch s.Verb {
		case harness.VerbCall:
			t.ops = append(t.ops, s.Name)
		case harness.VerbInject:
			t.aims = append(t.aims, at(s))
		}
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
