package generate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Learn takes note of which ops felt which faults and of how long cases take, and puts the
// traits of a proven bug into quarantine.
func (s *Source) Learn(rec *harness.Record, proven []harness.Finding) {
	s.observe(rec)
	if len(proven) == 0 {
		var took time.Duration
		if n := len(rec.Events); n > 0 {
			took = rec.Events[n-1].At
		}
		if len(rec.Case.Faults()) == 0 {
			s.calm += took
		} else {
			s.rough += took
		}
	}
	if len(proven) > 0 && len(rec.Case.Steps) > 0 {
		s.known = append(s.known, traits(rec.Case))
	}
}

// observe takes note of how long each call took, and of what it met of the faults that were
// in force meanwhile.
func (s *Source) observe(rec *harness.Record) {
	type force struct {
		fault         harness.Step
		from, to      time.Duration
		counts, acted bool            // what it counts of bytes tells; there were some
		over          bool            // it was in force, and what it did has been counted
		ops           map[string]bool // called while it was in force
	}
	var forces []force
	for _, e := range rec.Events {
		switch {
		case e.Step < 0 || e.Step >= len(rec.Case.Steps):
		case e.Kind == harness.Inject:
			forces = append(forces, force{fault: rec.Case.Steps[e.Step], from: e.At, to: math.MaxInt64, ops: map[string]bool{}})
		case e.Kind == harness.Heal:
			for i := range forces {
				if f := &forces[i]; f.fault.Label == e.Lane && f.to > e.At {
					f.to = e.At
				}
			}
		case e.Kind == harness.Acted:
			for i := range slices.Backward(forces) {
				if f := &forces[i]; f.fault.Label == e.Lane {
					f.over, f.acted = true, e.Value > 0
					f.counts = strings.HasPrefix(e.Text, "bytes") && (f.acted || !s.chance(f.fault.Name))
					break
				}
			}
		}
	}
	began, stuck := map[string]time.Duration{}, map[string]bool{} // by lane
	for _, e := range rec.Events {
		switch e.Kind {
		case harness.Invoke:
			began[e.Lane], stuck[e.Lane] = e.At, false
		case harness.Stuck:
			stuck[e.Lane] = true
		}
		if !e.Returned() || e.Step < 0 {
			continue
		}
		took := e.At - began[e.Lane]
		hit := e.Kind == harness.Unknown || e.Args.Text("expect") == "false" || took > 2*s.pace[e.Name]+leastLaneTime
		for _, f := range forces {
			if f.from <= e.At && f.to >= began[e.Lane] {
				s.tolls.add(f.fault, took, hit)
				s.bites.add(f.fault, hit)
				f.ops[e.Name] = true
				if !slices.Contains(s.Target.Links, at(f.fault)) {
					s.felt.add(e.Name, at(f.fault), hit)
				}
				if took > lingerTime {
					s.linger(rec.Case.Steps[e.Step], f.fault, stuck[e.Lane])
				}
			}
		}
		if len(forces) == 0 {
			if _, known := s.pace[e.Name]; !known {
				s.pace[e.Name] = took
			}
			s.pace[e.Name] += (took - s.pace[e.Name]) / 8 // a moving average
		}
	}
	for _, f := range forces {
		if k := aimed(f.fault); f.over && len(f.ops) > 0 {
			s.acts[k] = s.acts[k] || f.acted
		}
		for op := range f.ops {
			if f.counts {
				s.felt.add(op, at(f.fault), f.acted)
			}
		}
	}
}

// chance reports whether a fault may find nothing to act on, whatever is called.
func (s *Source) chance(fault string) bool {
	return slices.ContainsFunc(s.Faults, func(f *harness.Fault) bool { return f.Name == fault && f.Chance })
}

// bites knows, by fault and what it is aimed at, how many of the calls feel it that are made
// meanwhile.
type bites map[string]felt

// leastBite is what a fault is taken to bite at least, so that each gets its turn.
const leastBite = 0.15

func (b bites) add(fault harness.Step, hit bool) {
	k := aimed(fault)
	f := b[k]
	f.of++
	if hit {
		f.hit++
	}
	b[k] = f
}

// share is how many of the calls feel what is aimed: half of them where nothing is known.
func (b bites) share(a aim) float64 {
	f := b[a.String()]
	return max(leastBite, (float64(f.hit)+1)/(float64(f.of)+2))
}

// tolls knows, by fault and what it is aimed at, how long calls take that feel it.
type tolls map[string]toll

type toll struct {
	took time.Duration
	hits int // calls that felt the fault
}

// unknownToll is what a call is taken to last under a fault that none has felt: one will tell.
const unknownToll = mostLaneTime

// add takes note of a call under a fault. Those that do not feel it say little.
func (t tolls) add(fault harness.Step, took time.Duration, hit bool) {
	k := key(fault)
	x, known := t[k]
	if !known {
		x.took = unknownToll
	}
	switch {
	case !hit:
		x.took -= x.took / 64
	case x.hits == 0:
		x.took = took
	default:
		x.took += (took - x.took) / 4
	}
	if hit {
		x.hits++
	}
	t[k] = x
}

// of is how long a call takes under some faults.
func (t tolls) of(faults ...harness.Step) time.Duration {
	var most time.Duration
	for _, f := range faults {
		x, known := t[key(f)]
		if !known {
			x.took = unknownToll
		}
		most = max(most, x.took)
	}
	return most
}

// holds reports whether calls that feel a fault are known to wait for long.
func (t tolls) holds(fault harness.Step) bool {
	x := t[key(fault)]
	return x.hits > 0 && x.took > slowTime
}

// key names a fault with its aim, and whether it lasts.
func key(s harness.Step) string {
	return fmt.Sprint(s.Name, " ", at(s), " ", s.For == 0 || s.For > brief)
}

// affinity knows which ops meet what is wrong with a link or a process: a fault that nothing
// meets proves nothing. What a caller sees does not tell: many a service answers well without
// its cache. A fault on a link that counts bytes does, in all cases in which an op is called,
// unless it was chance that it did nothing.
type affinity map[pair]felt

// pair is an op and the link or process that a fault was aimed at.
type pair struct{ op, at string }

// felt counts the cases in which an op was called while a fault was in force, and those in which
// the fault acted; without a link the calls, and those that took long or ended otherwise than
// they should.
type felt struct{ hit, of int }

func (a affinity) add(op, at string, hit bool) {
	f := a[pair{op, at}]
	f.of++
	if hit {
		f.hit++
	}
	a[pair{op, at}] = f
}

// share is how often faults at some place acted where an op was called. One that was never
// called there comes before those where they did less than half of the times.
func (a affinity) share(op, at string) float64 {
	f := a[pair{op, at}]
	return (float64(f.hit) + 0.4) / (float64(f.of) + 1)
}

// likely reports whether faults at some place nearly always act where an op is called.
func (a affinity) likely(op, at string) bool {
	f := a[pair{op, at}]
	return f.hit > 0 && 5*f.hit >= 4*f.of
}

// op draws an op that is likely to feel faults where this one is aimed; nil says that none is
// known.
func (a affinity) op(rng *rand.Rand, fault harness.Step, ops []*harness.Op) *harness.Op {
	var known []*harness.Op
	for _, op := range ops {
		if a.likely(op.Name, at(fault)) {
			known = append(known, op)
		}
	}
	if len(known) == 0 {
		return nil
	}
	return known[rng.IntN(len(known))]
}

// idle draws an aim that calls have met, and that has never taken effect. That of a fault
// which may find nothing to act on is none.
func (s *Source) idle() (a aim, some bool) {
	var all []aim
	for _, a := range s.aims.all {
		if acted, met := s.acts[a.String()]; met && !acted && !a.fault.Chance {
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		return aim{}, false
	}
	return all[s.rng.IntN(len(all))], true
}

// aimed names a fault with what it is aimed at.
func aimed(s harness.Step) string { return s.Name + " " + at(s) }

// at is what a fault is aimed at. A link, a process and a store of one name are one dependency.
func at(s harness.Step) string {
	return s.Args.Text("link") + s.Args.Text("proc") + s.Args.Text("store")
}
