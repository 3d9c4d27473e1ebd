// Package minimize makes a case smaller while something about it stays true.
//
// It is delta debugging (Zeller and Hildebrandt, 2002) over the steps, then over
// everything else that a case is made of: lanes, groups, repeats, faults and arguments,
// until no single change makes the case smaller: a fixed point.
package minimize

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Test reports whether a case still shows what it must show. Rarer says that the case does
// the same as the one before, only less often: chance decides then, and wants a closer
// look. An error ends the search.
type Test func(ctx context.Context, c harness.Case, rarer bool) (bool, error)

// Simpler yields simpler values for an argument of a step, the simplest first.
type Simpler func(step harness.Step, arg harness.Arg) iter.Seq[harness.Value]

// maxValues bounds how many simpler values are tried in one round for an argument.
const maxValues = 12

// Minimize returns the smallest case found for which test holds, given that it holds for
// c. Minimal is true where that case is a fixed point, and false where the context or an
// error ended the search before. Simpler may be nil.
func Minimize(ctx context.Context, c harness.Case, test Test, simpler Simpler) (least harness.Case, minimal bool, err error) {
	m := &minimizer{ctx: ctx, best: c.Normalize(), test: test, seen: map[string]bool{}}
	passes := []func(harness.Case) iter.Seq[harness.Case]{
		oneLane, lanes, groups, schedules, calm, arguments, values(simpler), alike, labels,
	}
	m.rarer = true
	m.try(once(m.best)) // a case that needs no repeats is played so much faster
	m.rarer = false
	// A round that changes nothing is the last: it has tried everything anew, because chance
	// may have hidden that something is not needed.
	for before := ""; before != m.best.String() && !m.done(); clear(m.seen) {
		before = m.best.String()
		// Repeats come last: what is done often shows surely what else is needed.
		for m.changed = true; m.changed && !m.done(); {
			m.changed = false
			m.steps()
			for _, pass := range passes {
				for m.first(pass(m.best)) {
				}
			}
		}
		m.rarer = true
		for m.first(repeats(m.best)) {
		}
		m.rarer = false
	}
	return m.best, !m.done(), m.err
}

type minimizer struct {
	ctx     context.Context
	best    harness.Case
	test    Test
	seen    map[string]bool // cases that were tried in this round
	changed bool
	rarer   bool // candidates are less frequent, not simpler
	err     error
}

func (m *minimizer) done() bool { return m.err != nil || m.ctx.Err() != nil }

// try makes c the best case if it shows what it must.
func (m *minimizer) try(c harness.Case) bool {
	c = c.Normalize()
	text := c.String()
	if m.done() || m.seen[text] || text == m.best.String() {
		return false
	}
	m.seen[text] = true
	ok, err := m.test(m.ctx, c, m.rarer)
	if err != nil {
		m.err = err
		return false
	}
	if ok {
		m.best, m.changed = c, true
	}
	return ok
}

// first tries candidates until one holds.
func (m *minimizer) first(candidates iter.Seq[harness.Case]) bool {
	for c := range candidates {
		if m.try(c) {
			return true
		}
	}
	return false
}

// steps takes away runs of steps: halves, quarters, down to single ones.
func (m *minimizer) steps() {
	for size := (len(m.best.Steps) + 1) / 2; size > 0 && !m.done(); size /= 2 {
		for from := 0; from < len(m.best.Steps) && !m.done(); {
			if !m.try(without(m.best, from, min(from+size, len(m.best.Steps)))) {
				from += size
			}
		}
	}
}

// without returns c less the steps [from, to) and what refers to them.
func without(c harness.Case, from, to int) harness.Case {
	gone := map[string]bool{}
	drop := func(i int, s harness.Step) bool {
		if i >= from && i < to {
			return true
		}
		return slices.ContainsFunc(s.Args, func(a harness.Arg) bool {
			return slices.ContainsFunc(a.Value.References(), func(l string) bool { return gone[l] })
		})
	}
	return filter(c, func(i int, s harness.Step) bool {
		d := drop(i, s)
		if d && s.Label != "" {
			gone[s.Label] = true
		}
		return !d
	})
}

// filter returns c with the steps that keep wants.
func filter(c harness.Case, keep func(int, harness.Step) bool) harness.Case {
	c = c.Clone()
	var kept []harness.Step
	for i, s := range c.Steps {
		if keep(i, s) {
			kept = append(kept, s)
		}
	}
	c.Steps = kept
	return c
}

// edit returns c with f applied to the step i.
func edit(c harness.Case, i int, f func(*harness.Step)) harness.Case {
	c = c.Clone()
	f(&c.Steps[i])
	return c
}

// oneLane does everything in one lane, one thing after another.
func oneLane(c harness.Case) iter.Seq[harness.Case] {
	return func(yield func(harness.Case) bool) {
		lanes := c.Lanes()
		if len(lanes) < 2 {
			return
		}
		one := c.Clone()
		for i := range one.Steps {
			one.Steps[i].Group = 0
			if one.Steps[i].Verb == harness.VerbCall {
				one.Steps[i].Lane = lanes[0]
			}
		}
		yield(one)
	}
}

// lanes takes a lane away, or lets another lane do what it did.
func lanes(c harness.Case) iter.Seq[harness.Case] {
	return func(yield func(harness.Case) bool) {
		all := c.Lanes()
		for _, l := range slices.Backward(all) {
			if len(all) > 1 && !yield(filter(c, func(_ int, s harness.Step) bool { return s.Verb != harness.VerbCall || s.Lane != l })) {
				return
			}
			for _, other := range all[:slices.Index(all, l)] {
				merged := c.Clone()
				for i := range merged.Steps {
					if merged.Steps[i].Lane == l {
						merged.Steps[i].Lane = other
					}
				}
				if !yield(merged) {
					return
				}
			}
		}
	}
}

// groups dissolves a group, or lets one step of it come first.
func groups(c harness.Case) iter.Seq[harness.Case] {
	return func(yield func(harness.Case) bool) {
		for _, t := range c.Turns() {
			if t[1]-t[0] < 2 {
				continue
			}
			apart := c.Clone()
			for i := t[0]; i < t[1]; i++ {
				apart.Steps[i].Group = 0
			}
			if !yield(apart) {
				return
			}
			for i := t[0]; i < t[1] && t[1]-t[0] > 2; i++ {
				one := c.Clone()
				s := one.Steps[i]
				s.Group = 0
				one.Steps = slices.Insert(slices.Delete(one.Steps, i, i+1), t[0], s)
				if !yield(one) {
					return
				}
			}
		}
	}
}

// once does everything once.
func once(c harness.Case) harness.Case {
	c = c.Clone()
	for i := range c.Steps {
		c.Steps[i].Repeat = 0
		if c.Steps[i].Verb == harness.VerbCall {
			c.Steps[i].For = 0
		}
	}
	return c
}

// usual is how often a call is made at most instead of for a while.
const usual = 64

// repeats asks less often: once, half as often, once less; and so many times, or for half as
// long, instead of for a while.
func repeats(c harness.Case) iter.Seq[harness.Case] {
	return func(yield func(harness.Case) bool) {
		for i, s := range c.Steps {
			if s.Verb == harness.VerbCall && s.For > 0 {
				for n := 1; n <= usual; n *= 4 {
					if !yield(edit(c, i, func(s *harness.Step) { s.Repeat, s.For = n, 0 })) {
						return
					}
				}
				if half := (s.For / 2).Round(time.Millisecond); half > shortest && !yield(edit(c, i, func(s *harness.Step) { s.For = half })) {
					return
				}
			}
			for _, n := range []int{1, s.Repeat / 2, s.Repeat - 1} {
				if n >= 1 && n < s.Repeat && !yield(edit(c, i, func(s *harness.Step) { s.Repeat = n })) {
					return
				}
			}
		}
	}
}

// shortest is the wait that is not made shorter.
const shortest = 10 * time.Millisecond

// schedules lets faults begin at once and last to the end, and waits be shorter.
func schedules(c harness.Case) iter.Seq[harness.Case] {
	return func(yield func(harness.Case) bool) {
		for i, s := range c.Steps {
			if s.Verb == harness.VerbWait && s.For > shortest {
				half := (s.For / 2).Round(time.Millisecond)
				if !yield(edit(c, i, func(s *harness.Step) { s.For = half })) {
					return
				}
			}
			if s.Verb != harness.VerbInject {
				continue
			}
			if s.When != (harness.Trigger{}) && !yield(edit(c, i, func(s *harness.Step) { s.When = harness.Trigger{} })) {
				return
			}
			if s.When.Least > 1 && !yield(edit(c, i, func(s *harness.Step) { s.When.Least /= 2 })) {
				return
			}
			if s.At != 0 && !yield(edit(c, i, func(s *harness.Step) { s.At = 0 })) {
				return
			}
			if s.For != 0 && !yield(edit(c, i, func(s *harness.Step) { s.For = 0 })) {
				return
			}
		}
	}
}

// calm waits in the place of a fault that is healed: all that it gave may have been time.
func calm(c harness.Case) iter.Seq[harness.Case] {
	return func(yield func(harness.Case) bool) {
		for i, s := range c.Steps {
			heal := slices.IndexFunc(c.Steps, func(h harness.Step) bool { return h.Verb == harness.VerbHeal && h.Name == s.Label })
			if s.Verb != harness.VerbInject || heal < i {
				continue
			}
			for _, span := range []time.Duration{shortest, 10 * shortest} {
				waits := edit(c, heal, func(h *harness.Step) { *h = harness.Step{Verb: harness.VerbWait, For: span, Group: h.Group} })
				if !yield(filter(waits, func(k int, _ harness.Step) bool { return k != i })) {
					return
				}
			}
		}
	}
}

// alike lets a call do what another does at the same time, where that makes the text shorter,
// without what only the call has referred to: who presses on a service need not do so in several
// ways.
func alike(c harness.Case) iter.Seq[harness.Case] {
	return func(yield func(harness.Case) bool) {
		length := len(c.String())
		for _, t := range c.Turns() {
			for i := t[0]; i < t[1]; i++ {
				for j := t[0]; j < t[1]; j++ {
					was, other := c.Steps[i], c.Steps[j]
					if i == j || was.Verb != harness.VerbCall || other.Verb != harness.VerbCall {
						continue
					}
					same := edit(c, i, func(s *harness.Step) { s.Name, s.Args = other.Name, slices.Clone(other.Args) })
					used := references(same)
					same = filter(same, func(_ int, s harness.Step) bool {
						return s.Verb != harness.VerbCall || used[s.Label] || !refers(was, s.Label)
					})
					if len(same.String()) < length && !yield(same) {
						return
					}
				}
			}
		}
	}
}

// refers reports whether a step refers to what has a label.
func refers(s harness.Step, label string) bool {
	return slices.ContainsFunc(s.Args, func(a harness.Arg) bool { return slices.Contains(a.Value.References(), label) })
}

// references returns the labels that are referred to.
func references(c harness.Case) map[string]bool {
	used := map[string]bool{}
	for _, s := range c.Steps {
		if s.Verb == harness.VerbHeal {
			used[s.Name] = true
		}
		for _, a := range s.Args {
			for _, l := range a.Value.References() {
				used[l] = true
			}
		}
	}
	return used
}

// arguments takes arguments away.
func arguments(c harness.Case) iter.Seq[harness.Case] {
	return func(yield func(harness.Case) bool) {
		for i, s := range c.Steps {
			for _, a := range s.Args {
				if !yield(edit(c, i, func(s *harness.Step) { s.Args = s.Args.Without(a.Key) })) {
					return
				}
			}
		}
	}
}

// values puts simpler values in the place of others.
func values(simpler Simpler) func(harness.Case) iter.Seq[harness.Case] {
	return func(c harness.Case) iter.Seq[harness.Case] {
		return func(yield func(harness.Case) bool) {
			if simpler == nil {
				return
			}
			for i, s := range c.Steps {
				for _, a := range s.Args {
					n := 0
					for v := range simpler(s, a) {
						if n++; n > maxValues {
							break
						}
						if !yield(edit(c, i, func(s *harness.Step) { s.Args = s.Args.Set(a.Key, v) })) {
							return
						}
					}
				}
			}
		}
	}
}

// labels takes away a label that nothing refers to.
func labels(c harness.Case) iter.Seq[harness.Case] {
	return func(yield func(harness.Case) bool) {
		used, idle := references(c), c.Clone()
		for i, s := range idle.Steps {
			if !used[s.Label] {
				idle.Steps[i].Label = ""
			}
		}
		yield(idle)
	}
}
