package generate

import (
	"math/rand/v2"
	"slices"

	"github.com/shakedown-go/shakedown/harness"
)

// sweep tries what can be enumerated, so that nothing of it is left to chance: every
// parameter at its bounds while nothing is wrong, and every op while a fault is in force at
// every place, with each valid bound of each of its parameters where that is quick.
type sweep struct {
	bounds []bound
	meets  map[place][]trial // what is left of the current round
}

// bound is a parameter of an op that is to be tried at its bounds.
type bound struct {
	op    *harness.Op
	param int
}

// place is what a fault is aimed at, and whether calls then take long.
type place struct {
	at   string
	slow bool
}

// trial is a call of an op, one argument of which may be given.
type trial struct {
	op  *harness.Op
	arg harness.Arg // its zero value gives none
}

// boundsOf returns what a parameter's domain knows of its bounds.
func boundsOf(p harness.Param) []harness.Value {
	if d, ok := p.Domain.(harness.Bounded); ok {
		return d.Bounds()
	}
	return nil
}

// bounds returns the parameters whose domains know their bounds.
func bounds(t *harness.Target) []bound {
	var out []bound
	for i := range t.Ops {
		for j, p := range t.Ops[i].Params {
			if len(boundsOf(p)) > 0 {
				out = append(out, bound{&t.Ops[i], j})
			}
		}
	}
	return out
}

// atBounds returns the case that makes one call for each bound of a parameter, with
// everything else as it should be.
func (s *Source) atBounds(x bound) harness.Case {
	b := s.builder()
	p := x.op.Params[x.param]
	for _, v := range boundsOf(p) {
		call := b.call(x.op, laneName(0), 0)
		call.Args = call.Args.Set(p.Name, v)
		b.c.Steps = append(b.c.Steps, call)
	}
	return b.c.Normalize()
}

// mostTrials is how many trials an op has at most.
const mostTrials = 16

// trials returns those of all ops, in a random order. Where calls take long there is one of
// each op.
func (s *Source) trials(slow bool) []trial {
	var out []trial
	for i := range s.Target.Ops {
		op := &s.Target.Ops[i]
		some := []trial{{op: op}}
		for _, p := range op.Params {
			check, ok := p.Domain.(harness.Checker)
			for _, v := range boundsOf(p) {
				if ok && check.Check(v.Text) == nil {
					some = append(some, trial{op, harness.Arg{Key: p.Name, Value: v}})
				}
			}
		}
		shuffle(s.rng, some)
		n := mostTrials
		if slow {
			n = 1
		}
		out = append(out, some[:min(len(some), n)]...)
	}
	shuffle(s.rng, out)
	return out
}

func shuffle[T any](rng *rand.Rand, all []T) {
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
}

// meet returns a case in which the next ops of the round meet a fault, those first that
// felt others there, and are called once more when it is healed: two lanes make the same
// call where calls take long, since what hangs shows only where two callers meet.
func (s *Source) meet(fault harness.Step) harness.Case {
	b := s.builder()
	for i := range s.Lanes {
		b.lanes = append(b.lanes, laneName(i))
	}
	least := s.pace.under([]harness.Step{fault})
	where := place{at(fault), least > mostLaneTime}
	each, alike := min(max(int(mostLaneTime/max(least, leastLaneTime)), 1), 8), 1
	if where.slow {
		alike = min(2, s.Lanes)
	}
	if len(s.sweep.meets[where]) == 0 {
		s.sweep.meets[where] = s.trials(where.slow)
	}
	var group, after []harness.Step
	for i := 0; i+alike <= each*s.Lanes && len(s.sweep.meets[where]) > 0; {
		x := s.sweep.next(where, s.felt)
		steps, made := len(b.c.Steps), len(b.made)
		call := b.call(x.op, b.lanes[i%s.Lanes], 0)
		if x.arg.Key != "" {
			call.Args = call.Args.Set(x.arg.Key, x.arg.Value)
		}
		if s.shunned(harness.Case{Steps: append(b.c.Steps[:len(b.c.Steps):len(b.c.Steps)], call, fault)}) && s.rng.IntN(rarely) > 0 {
			b.c.Steps, b.made = b.c.Steps[:steps], b.made[:made]
			continue
		}
		for range alike {
			call.Lane = b.lanes[i%s.Lanes]
			group = append(group, call)
			i++
		}
		after = append(after, call)
	}
	b.add(group)
	c := join(b, []harness.Step{fault})
	c.Steps = append(c.Steps, after...)
	return c.Normalize()
}

// next takes the trial out of a round whose op felt most faults at that place.
func (s *sweep) next(where place, felt affinity) trial {
	left := s.meets[where]
	best := 0
	for i := range left {
		if felt.share(left[i].op.Name, where.at) > felt.share(left[best].op.Name, where.at) {
			best = i
		}
	}
	x := left[best]
	s.meets[where] = slices.Delete(left, best, best+1)
	return x
}

// sweeping is of how many cases with faults one is drawn; the others are of the sweep.
const sweeping = 3
