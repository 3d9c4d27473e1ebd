// Package generate draws cases from a target's description: calls in several lanes, with
// references from what one call made to what another one wants, and faults meanwhile.
package generate

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Options say what is drawn.
type Options struct {
	Target *harness.Target
	Faults []*harness.Fault // none: nothing is injected
	Lanes  int              // at most; zero means 4
	Seed   uint64
	Fixed  bool // one valid workload in every case: only the faults differ
}

// Source draws cases without end. It is a harness.Source.
type Source struct {
	Options
	rng   *rand.Rand
	ops   cycle[*harness.Op]
	aims  cycle[aim]
	fixed *harness.Case
	known []trait
	felt  affinity
	pace  map[string]time.Duration // of each op, while nothing is injected
	tolls tolls
	bites bites
	acts  map[string]bool // by aim that calls have met: it has taken effect
	sweep sweep

	calm, rough time.Duration // spent on cases without faults, and with
}

// aim is a fault and what it is aimed at.
type aim struct {
	fault *harness.Fault
	args  harness.Args
}

func (a aim) String() string { return aimed(harness.Step{Name: a.fault.Name, Args: a.args}) }

// New returns a source. The same options, told of the same records, draw the same cases.
func New(o Options) *Source {
	if o.Lanes == 0 {
		o.Lanes = 4
	}
	s := &Source{Options: o, rng: rand.New(rand.NewPCG(o.Seed, 0)), felt: affinity{}, pace: map[string]time.Duration{}, tolls: tolls{}, bites: bites{}, acts: map[string]bool{}}
	s.sweep.rounds, s.sweep.paired = map[place]*round{}, map[pair]bool{}
	for i := range o.Target.Ops {
		s.ops.all = append(s.ops.all, &o.Target.Ops[i])
	}
	if !o.Fixed {
		s.sweep.bounds = bounds(o.Target)
	}
	for _, f := range o.Faults {
		for _, args := range f.Aims(o.Target) {
			s.aims.all = append(s.aims.all, aim{f, args})
		}
	}
	swept := slices.DeleteFunc(slices.Clone(s.aims.all), func(a aim) bool { return a.fault.Variant })
	if len(swept) == 0 {
		swept = s.aims.all
	}
	for _, a := range swept {
		s.sweep.turns = append(s.sweep.turns, turn{aim: a})
		for _, where := range []place{s.place(a), {s.place(a).at, waiting}} {
			if !slices.Contains(s.sweep.places.all, where) {
				s.sweep.places.all = append(s.sweep.places.all, where)
			}
		}
	}
	return s
}

// Next draws a case. What shows a known bug is drawn rarely.
func (s *Source) Next() (harness.Case, bool) {
	if len(s.ops.all) == 0 {
		return harness.Case{}, false
	}
	for {
		calm := s.calmNow()
		switch {
		case s.Fixed:
		case calm && len(s.sweep.bounds) > 0:
			x := s.sweep.bounds[0]
			s.sweep.bounds = s.sweep.bounds[1:]
			return s.atBounds(x), true
		case !calm && s.rng.IntN(sweeping) > 0:
			c := s.together()
			if c.Calls() == 0 {
				c = s.meet()
			}
			if c.Calls() > 0 {
				return c, true
			}
			continue
		}
		var faults []harness.Step
		if !calm {
			faults = s.faults()
		}
		c := s.draw(faults)
		if !s.shunned(c) || s.rng.IntN(rarely) == 0 {
			return c, true
		}
	}
}

// rarely is of how many cases that show a known bug one is played all the same.
const rarely = 12

// builder returns what draws the calls of the next case.
func (s *Source) builder() *builder {
	c := harness.Case{Target: s.Target.Name, Seed: s.rng.Uint64(), Env: maps.Clone(s.Target.Env)}
	return &builder{rng: s.rng, t: s.Target, c: c, pace: s.pace, drawn: map[string][]harness.Value{}}
}

func (s *Source) draw(faults []harness.Step) harness.Case {
	b := s.builder()
	b.slip = []float64{0, 0.1, 0.3, 0.6}[s.rng.IntN(4)]
	if s.Fixed {
		if s.fixed == nil {
			s.fixed = s.workload()
		}
		b.c.Steps = s.fixed.Clone().Steps
		return join(b, faults)
	}
	b.least = s.tolls.of(faults...)
	for i := range 1 + s.rng.IntN(s.Lanes) {
		b.lanes = append(b.lanes, laneName(i))
	}
	var focus []*harness.Op
	for range 1 + s.rng.IntN(3) {
		focus = append(focus, s.ops.next(s.rng))
	}
	if len(faults) > 0 && s.rng.IntN(4) > 0 {
		if op := s.felt.op(s.rng, faults[0], s.ops.all); op != nil {
			focus = append(focus, op)
		}
	}
	b.busy = slices.ContainsFunc(faults, func(f harness.Step) bool { return f.At > 0 })
	b.group(focus)
	b.c = join(b, faults)
	for range s.rng.IntN(3) {
		last := b.call(focus[s.rng.IntN(len(focus))], b.lane(), 0)
		b.c.Steps = append(b.c.Steps, last)
	}
	return b.c.Normalize()
}

// workload is one valid call of every op in every lane, lanes against each other.
func (s *Source) workload() *harness.Case {
	b := &builder{rng: rand.New(rand.NewPCG(0, 0)), t: s.Target, drawn: map[string][]harness.Value{}}
	for i := range s.Lanes {
		b.lanes = append(b.lanes, laneName(i))
	}
	var group []harness.Step
	for _, lane := range b.lanes {
		for i := range s.Target.Ops {
			group = append(group, b.call(&s.Target.Ops[i], lane, 0))
		}
	}
	b.add(group)
	c := b.c.Normalize()
	return &c
}

// calmShare is how much longer cases with faults are played than cases without: what only
// the input brings out is found ten times faster where nothing is slow.
const calmShare = 3

// calmNow reports whether nothing is to be injected into the next case.
func (s *Source) calmNow() bool {
	return len(s.aims.all) == 0 || !s.Fixed && s.calm < s.rough/calmShare
}

// idleShare is of how many faults that are drawn one has never taken effect, where there is
// such a one: what it is aimed at has not been tested with it.
const idleShare = 4

// faults draws the faults of a case: mostly one. Some begin while calls are under way, and
// some end before these do.
func (s *Source) faults() []harness.Step {
	var out []harness.Step
	for range []int{1, 1, 1, 1, 1, 1, 1, 2}[s.rng.IntN(8)] {
		a := s.aims.next(s.rng)
		if x, some := s.idle(); some && s.rng.IntN(idleShare) == 0 {
			a = x
		}
		f := s.inject(a, "f"+strconv.Itoa(len(out)+1))
		if f.For == 0 && s.rng.IntN(3) == 0 {
			f.For = between(s.rng, 20*time.Millisecond, 1500*time.Millisecond)
		}
		if s.rng.IntN(3) == 0 {
			f.At = between(s.rng, time.Millisecond, 10*time.Millisecond)
		}
		out = append(out, f)
	}
	return out
}

// inject returns a fault, in force from its turn to the end of the case. The service itself
// is away for a moment only: meanwhile nothing can be learned.
func (s *Source) inject(a aim, label string) harness.Step {
	f := harness.Step{Verb: harness.VerbInject, Name: a.fault.Name, Args: a.args, Label: label}
	for _, p := range a.fault.Params {
		if p.Of == harness.OfNothing && p.Domain != nil && (p.Default == "" || s.rng.IntN(2) == 0) {
			f.Args = f.Args.Set(p.Name, p.Domain.Draw(s.rng))
		}
	}
	if f.Args.Text("proc") == harness.Service {
		f.For = between(s.rng, 10*time.Millisecond, brief)
	}
	return f
}

// join puts faults into the case: before its last turn, or into it where they have a time.
func join(b *builder, faults []harness.Step) harness.Case {
	c := b.c
	turns := c.Turns()
	if len(turns) == 0 {
		return c
	}
	last := turns[len(turns)-1]
	steps := append([]harness.Step(nil), c.Steps[:last[0]]...)
	group := append([]harness.Step(nil), c.Steps[last[0]:]...)
	var heals []harness.Step
	for _, f := range faults {
		if f.At > 0 {
			group = append([]harness.Step{f}, group...)
		} else {
			steps = append(steps, f)
		}
		heals = append(heals, harness.Step{Verb: harness.VerbHeal, Name: f.Label})
	}
	n := len(turns) + 1
	for i := range group {
		group[i].Group = n
	}
	steps = append(steps, group...)
	if b.rng.IntN(6) == 0 { // what runs in the background meets the fault, too
		steps = append(steps, harness.Step{Verb: harness.VerbWait, For: between(b.rng, 20*time.Millisecond, time.Second)})
	}
	c.Steps = append(steps, heals...)
	return c.Normalize()
}

// between draws a duration, log-uniformly, in whole milliseconds.
func between(rng *rand.Rand, lo, hi time.Duration) time.Duration {
	x := float64(lo) * math.Pow(float64(hi)/float64(lo), rng.Float64())
	return time.Duration(x).Round(time.Millisecond)
}

func laneName(i int) string {
	if i < 26 {
		return string(rune('a' + i))
	}
	return "l" + strconv.Itoa(i)
}

// cycle hands out all of something in a random order, again and again, so that nothing
// waits long for its turn.
type cycle[T any] struct {
	all  []T
	left []int
}

func (c *cycle[T]) next(rng *rand.Rand) T {
	if len(c.left) == 0 {
		c.left = rng.Perm(len(c.all))
	}
	i := c.left[0]
	c.left = c.left[1:]
	return c.all[i]
}

// builder draws the calls of one case.
type builder struct {
	rng   *rand.Rand
	t     *harness.Target
	c     harness.Case
	lanes []string
	pace  map[string]time.Duration
	slip  float64       // share of arguments that are mutated
	busy  bool          // calls must go on until a fault begins
	least time.Duration // what a call takes under the faults of the case
	made  []made
	drawn map[string][]harness.Value // by parameter
}

// made is a labelled call whose reply can be referred to.
type made struct{ op, label, lane string }

// maxDepth bounds how many calls are made so that one can be.
const maxDepth = 6

// brief is how long the service itself is away at most.
const brief = 200 * time.Millisecond

// A lane may be busy with a group for so long, as far as is known: many cases must get their
// turn, and slow ops must not starve all others.
const (
	leastLaneTime = 10 * time.Millisecond
	mostLaneTime  = 300 * time.Millisecond
)

// group draws what the lanes do at the same time: little where that is slow, much where it
// must last. Half of all groups collide: every lane makes the same calls.
func (b *builder) group(focus []*harness.Op) {
	steps := 1 + b.rng.IntN(12)
	budget := between(b.rng, leastLaneTime, mostLaneTime)
	collide := b.rng.IntN(2) == 0
	var group, first []harness.Step
	for i, lane := range b.lanes {
		if collide && i > 0 {
			cross := b.rng.IntN(2) == 0
			for _, s := range first {
				s.Lane, s.Label = lane, ""
				if cross {
					s.Args = b.crossed(s)
				}
				group = append(group, s)
			}
			continue
		}
		left := budget
		for range steps {
			if left <= 0 {
				break
			}
			s := b.call(focus[b.rng.IntN(len(focus))], lane, 0)
			if b.busy || b.rng.IntN(3) == 0 {
				s.Repeat = min(1+b.rng.IntN(10), max(int(left/b.takes(s.Name)), 1))
			}
			left -= b.takes(s.Name) * time.Duration(s.Times())
			group = append(group, s)
		}
		if i == 0 {
			first = slices.Clone(group)
		}
	}
	b.add(group)
}

// takes is how long a call of an op takes, as far as is known.
func (b *builder) takes(op string) time.Duration {
	return max(b.pace[op], b.least, time.Millisecond)
}

// crossed returns the arguments of a call with two that come from the same place swapped:
// what one lane does from here to there, another does from there to here.
func (b *builder) crossed(s harness.Step) harness.Args {
	args := slices.Clone(s.Args)
	params := b.t.Op(s.Name).Params
	from := func(key string) []string {
		i := slices.IndexFunc(params, func(p harness.Param) bool { return p.Name == key })
		if i < 0 {
			return nil
		}
		return params[i].From
	}
	for i := range args {
		for j := range i {
			if f := from(args[i].Key); len(f) > 0 && slices.Equal(f, from(args[j].Key)) {
				args[i].Value, args[j].Value = args[j].Value, args[i].Value
				return args
			}
		}
	}
	return args
}

// add appends steps as one group.
func (b *builder) add(group []harness.Step) {
	n := len(b.c.Steps) + 1
	for i := range group {
		group[i].Group = n
	}
	b.c.Steps = append(b.c.Steps, group...)
}

func (b *builder) lane() string { return b.lanes[b.rng.IntN(len(b.lanes))] }

// call draws one call. What it refers to is asked for before.
func (b *builder) call(op *harness.Op, lane string, depth int) harness.Step {
	s := harness.Step{Verb: harness.VerbCall, Lane: lane, Name: op.Name}
	for _, p := range op.Params {
		if p.Optional && b.rng.IntN(2) == 0 {
			continue
		}
		v := b.value(p, lane, depth)
		if taken := func(a harness.Arg) bool { return a.Value == v }; v.Form == harness.FormRef && slices.ContainsFunc(s.Args, taken) {
			v = b.value(p, lane, depth) // two references of a call are mostly two things
		}
		s.Args = append(s.Args, harness.Arg{Key: p.Name, Value: v})
	}
	return s
}

func (b *builder) value(p harness.Param, lane string, depth int) harness.Value {
	if len(p.From) > 0 && depth < maxDepth && (p.Domain == nil || b.rng.IntN(8) > 0) {
		if v, ok := b.refer(p.From[b.rng.IntN(len(p.From))], lane, depth); ok {
			return v
		}
	}
	if p.Domain == nil {
		return harness.Int(int64(b.rng.IntN(10)))
	}
	if old := b.drawn[p.Name]; len(old) > 0 && b.rng.IntN(3) == 0 {
		return b.bind(old[b.rng.IntN(len(old))], lane, depth) // what comes again has consequences
	}
	v := p.Domain.Draw(b.rng)
	for b.rng.Float64() < b.slip {
		v = p.Domain.Mutate(b.rng, v)
	}
	b.drawn[p.Name] = append(b.drawn[p.Name], v)
	return b.bind(v, lane, depth)
}

// bind makes the references that a domain draws within a JSON value, which name an op and a
// field of its reply, into references to calls.
func (b *builder) bind(v harness.Value, lane string, depth int) harness.Value {
	if v.Form != harness.FormJSON || depth >= maxDepth {
		return v
	}
	return v.MapRefs(func(from string) string {
		if ref, ok := b.refer(from, lane, depth); ok {
			return ref.Text
		}
		return from
	})
}

// refer returns a reference to a field of the reply of an earlier call, which it makes
// where there is none or a new one is wanted.
func (b *builder) refer(from, lane string, depth int) (harness.Value, bool) {
	name, field, _ := strings.Cut(from, ".")
	var known []made
	for _, m := range b.made {
		if m.op == name && (m.lane == lane || b.rng.IntN(4) == 0) {
			known = append(known, m)
		}
	}
	if len(known) > 0 && b.rng.IntN(4) > 0 {
		return harness.Ref(known[b.rng.IntN(len(known))].label + "." + field), true
	}
	op := b.t.Op(name)
	if op == nil {
		return harness.Value{}, false
	}
	s := b.call(op, lane, depth+1)
	s.Label = "r" + strconv.Itoa(len(b.made)+1)
	b.c.Steps = append(b.c.Steps, s)
	b.made = append(b.made, made{name, s.Label, lane})
	return harness.Ref(s.Label + "." + field), true
}
