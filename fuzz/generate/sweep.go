package generate

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// sweep tries what can be enumerated, so that nothing of it is left to chance: every
// parameter at its bounds while nothing is wrong, and every op while a fault is in force at
// every place, with the valid bounds of its parameters in turn. What is enumerated is ops and
// places, not faults: many of these look alike to a caller, and take turns, those more often
// that calls feel more often. Variants of others are left to chance.
type sweep struct {
	bounds []bound
	places cycle[place]
	turns  []turn
	rounds map[place]*round
	late   []lingering   // to be made by two lanes
	paired map[pair]bool // they were, in the round of that place
}

// turn is an aim, and how much of its turns it has had: one that calls hardly feel has had
// much of them with few.
type turn struct {
	aim
	taken float64
}

// round is one pass over all ops at a place.
type round struct {
	trials map[string]*cycle[trial] // by op
	left   []trial
	amidst bool // faults begin while calls are under way, and not before them
}

// bound is a parameter of an op that is to be tried at its bounds. No parameter says that the
// op is to be called a few times, alone: what it leaves behind each time shows best then.
type bound struct {
	op      *harness.Op
	param   *harness.Param
	foreign bool // what it refers to is asked for by a stranger and by its owner in turn: what the one is refused must not show in what the other gets
}

// place is what faults are aimed at, and how calls meet them there.
type place struct {
	at  string
	how meeting
}

// meeting is how calls meet a fault, as far as is known.
type meeting uint8

const (
	lagging meeting = iota // nothing is lost, late at most
	failing                // what is asked for is refused or lost at once
	waiting                // calls take long, until they give up
)

// trial is a call of an op, one argument of which may be given.
type trial struct {
	op  *harness.Op
	arg harness.Arg // its zero value gives none
}

// lingering is a call that took long under a fault.
type lingering struct {
	op    *harness.Op
	args  harness.Args // but for references
	fault harness.Step
	due   bool // to be made again at once: it passed its deadline, or has waited for a round
}

// boundsOf returns what a parameter's domain knows of its bounds.
func boundsOf(p harness.Param) []harness.Value {
	if d, ok := p.Domain.(harness.Bounded); ok {
		return d.Bounds()
	}
	return nil
}

// bounds returns all ops, the parameters that refer to other ops, and those whose domains
// know their bounds.
func bounds(t *harness.Target) []bound {
	var alone, strange, out []bound
	for i := range t.Ops {
		op := &t.Ops[i]
		alone = append(alone, bound{op: op})
		for j := range op.Params {
			p := &op.Params[j]
			if len(p.From) > 0 {
				strange = append(strange, bound{op, p, true})
			}
			if len(boundsOf(*p)) > 0 {
				out = append(out, bound{op, p, false})
			}
		}
	}
	return slices.Concat(alone, strange, out)
}

// fewCalls is how often an op is called alone, and by a stranger.
const fewCalls = 3

// atBounds returns the case that makes one call for each bound of a parameter, or a few calls
// of an op, by its owner alone or by a stranger too, with everything else as it should be.
func (s *Source) atBounds(x bound) harness.Case {
	b := s.builder()
	if x.param == nil {
		for range fewCalls {
			b.c.Steps = append(b.c.Steps, b.call(x.op, laneName(0), 0))
		}
		return b.c.Normalize()
	}
	if x.foreign {
		owner, stranger := laneName(0), laneName(min(1, s.Lanes-1))
		call := b.call(x.op, owner, 0)
		if v, ok := b.refer(x.param.From[0], owner, 0); ok {
			call.Args = call.Args.Set(x.param.Name, v)
		}
		for range fewCalls {
			for _, call.Lane = range []string{stranger, owner} {
				b.c.Steps = append(b.c.Steps, call)
			}
		}
		return b.c.Normalize()
	}
	for _, v := range boundsOf(*x.param) {
		call := b.call(x.op, laneName(0), 0)
		call.Args = call.Args.Set(x.param.Name, b.bind(v, laneName(0), 0))
		b.c.Steps = append(b.c.Steps, call)
	}
	return b.c.Normalize()
}

// The bounds of a round and of one case of it, which is to be made minimal one day.
const (
	mostTrials  = 16 // of one op
	mostCalls   = 3  // of one lane that meet the fault
	mostRepeats = 64 // of one call in whose midst it begins
)

// trials returns all those of an op.
func trials(op *harness.Op) []trial {
	out := []trial{{op: op}}
	for _, p := range op.Params {
		check, ok := p.Domain.(harness.Checker)
		for _, v := range boundsOf(p) {
			if ok && check.Check(v.Text) == nil {
				out = append(out, trial{op, harness.Arg{Key: p.Name, Value: v}})
			}
		}
	}
	return out
}

// begin begins another pass: some trials of each op, one where calls take long, and those
// next time that are left out now.
func (r *round) begin(s *Source, where place) {
	if r.trials == nil {
		r.trials = map[string]*cycle[trial]{}
	}
	r.amidst = !r.amidst && where.how != waiting
	for i := range s.Target.Ops {
		op := &s.Target.Ops[i]
		c := r.trials[op.Name]
		if c == nil {
			c = &cycle[trial]{all: trials(op)}
			r.trials[op.Name] = c
		}
		n := min(len(c.all), mostTrials)
		if where.how == waiting {
			n = 1
		}
		for range n {
			r.left = append(r.left, c.next(s.rng))
		}
	}
	shuffle(s.rng, r.left)
	if where.how == waiting {
		maps.DeleteFunc(s.sweep.paired, func(p pair, _ bool) bool { return p.at == where.at })
		for i := range s.sweep.late {
			if x := &s.sweep.late[i]; at(x.fault) == where.at {
				x.due = true
			}
		}
	}
}

func shuffle[T any](rng *rand.Rand, all []T) {
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
}

// meet returns a case in which the next ops of a round meet a fault, those first that felt
// others there, and are called once more when it is healed: what they left behind shows then.
// The fault is in force before them in one round, and begins in their midst in the next, where
// that is quick. Where none of them is likely to feel it, one that does is called, too: a fault
// that nothing meets proves nothing.
func (s *Source) meet() harness.Case {
	where, fault := s.somewhere()
	b := s.builder()
	for i := range s.Lanes {
		b.lanes = append(b.lanes, laneName(i))
	}
	b.least = s.tolls.of(fault)
	r := s.sweep.rounds[where]
	if r == nil {
		r = &round{amidst: true}
		s.sweep.rounds[where] = r
	}
	if len(r.left) == 0 {
		r.begin(s, where)
	}
	each := min(max(int(mostLaneTime/max(b.least, leastLaneTime)), 1), mostCalls)
	if r.amidst {
		each = 1
	}
	var group, after []harness.Step
	var again []trial       // what would only show a known bug together with the others
	var lasts time.Duration // what is under way, while nothing is wrong
	most, led := each*s.Lanes, false
	for len(group) < most && len(r.left) > 0 {
		x := r.next(where, s.felt)
		if !led && len(group) == 0 && !s.felt.likely(x.op.Name, where.at) {
			if op := s.felt.op(s.rng, fault, s.ops.all); op != nil {
				r.left = append(r.left, x)
				x, led, most = trial{op: op}, true, most+1 // beside those of the round
			}
		}
		steps, made := len(b.c.Steps), len(b.made)
		call := b.call(x.op, b.lanes[len(group)%s.Lanes], 0)
		if x.arg.Key != "" {
			call.Args = call.Args.Set(x.arg.Key, b.bind(x.arg.Value, call.Lane, 0))
		}
		if s.shunned(harness.Case{Steps: append(slices.Clone(group), call, fault)}) && s.rng.IntN(rarely) > 0 {
			b.c.Steps, b.made = b.c.Steps[:steps], b.made[:made]
			if !s.shunned(harness.Case{Steps: []harness.Step{call, fault}}) {
				again = append(again, x)
			}
			continue
		}
		after = append(after, call)
		if r.amidst {
			call.Repeat = min(max(int(mostLaneTime/b.takes(x.op.Name)), 1), mostRepeats)
			lasts = max(lasts, time.Duration(call.Repeat)*s.pace[x.op.Name])
		}
		group = append(group, call)
	}
	r.left = append(r.left, again...)
	if r.amidst && lasts >= leastLaneTime { // else it would be over before the fault begins
		fault.At = between(s.rng, time.Millisecond, lasts)
	}
	b.add(group)
	c := join(b, []harness.Step{fault})
	c.Steps = append(c.Steps, after...)
	return c.Normalize()
}

// linger takes note of a call that took long under a fault.
func (s *Source) linger(call, fault harness.Step, stuck bool) {
	op, p := s.Target.Op(call.Name), pair{call.Name, at(fault)}
	if op == nil || s.sweep.paired[p] || s.Lanes < 2 {
		return
	}
	s.sweep.paired[p] = true
	fault.Label, fault.At, fault.Group = "f1", 0, 0
	args := slices.DeleteFunc(slices.Clone(call.Args), func(a harness.Arg) bool { return len(a.Value.References()) > 0 })
	i := len(s.sweep.late)
	if stuck {
		i = 0
	}
	s.sweep.late = slices.Insert(s.sweep.late, i, lingering{op, args, fault, stuck})
}

// together returns a case in which calls that took long under a fault are made under it by
// two lanes at the same time: what hangs shows only where two callers meet. Those that are
// due come at once, others when there are two of them. It has no calls where there are none.
func (s *Source) together() harness.Case {
	late, most := s.sweep.late, min(s.Lanes/2, 2)
	for _, first := range late {
		alike := func(x lingering) bool { return key(x.fault) == key(first.fault) }
		var now, rest []lingering
		for _, x := range late {
			if alike(x) && len(now) < most {
				now = append(now, x)
			} else {
				rest = append(rest, x)
			}
		}
		if !first.due && len(now) < most {
			continue
		}
		s.sweep.late = rest
		b := s.builder()
		var group []harness.Step
		for _, x := range now {
			call := b.call(x.op, laneName(len(group)), 0)
			for _, a := range x.args {
				call.Args = call.Args.Set(a.Key, a.Value)
			}
			group = append(group, call)
			call.Lane = laneName(len(group))
			group = append(group, call)
		}
		b.add(group)
		return join(b, []harness.Step{first.fault})
	}
	return harness.Case{}
}

// somewhere returns the next place that there is, and a fault that has had as little of its
// turns there as any: in a random order, or the same ops would meet the same faults in each
// round.
func (s *Source) somewhere() (place, harness.Step) {
	for {
		where := s.sweep.places.next(s.rng)
		var next []*turn
		for i := range s.sweep.turns {
			t := &s.sweep.turns[i]
			switch {
			case s.place(t.aim) != where || len(next) > 0 && t.taken > next[0].taken:
			case len(next) > 0 && t.taken < next[0].taken:
				next = []*turn{t}
			default:
				next = append(next, t)
			}
		}
		if len(next) > 0 {
			t := next[s.rng.IntN(len(next))]
			t.taken += 1 / s.bites.share(t.aim)
			return where, s.inject(t.aim, "f1")
		}
	}
}

// place is where an aim belongs, as far as is known.
func (s *Source) place(a aim) place {
	f := harness.Step{Name: a.fault.Name, Args: a.args}
	if f.Args.Text("proc") == harness.Service {
		f.For = brief // as it is injected
	}
	switch {
	case a.fault.Effect == harness.EffectNone:
		return place{at(f), lagging}
	case s.tolls.holds(f):
		return place{at(f), waiting}
	}
	return place{at(f), failing}
}

// next takes the trial whose op felt most faults at that place.
func (r *round) next(where place, felt affinity) trial {
	best := 0
	for i, x := range r.left {
		if felt.share(x.op.Name, where.at) > felt.share(r.left[best].op.Name, where.at) {
			best = i
		}
	}
	x := r.left[best]
	r.left = slices.Delete(r.left, best, best+1)
	return x
}

// slowTime is what calls take at least, on average, where a fault holds them until they give
// up: a lane then makes no second one in its time. What took lingerTime is made by two lanes.
const (
	slowTime   = mostLaneTime / 2
	lingerTime = 500 * time.Millisecond
)

// sweeping is of how many cases with faults one is drawn; the others are of the sweep.
const sweeping = 3
