package openapi

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/shakedown-go/shakedown/harness"
)

// tree is the domain of the values of a shape as JSON: whole objects and lists. A text in it
// that is "{{op.field}}" stands for what a reply holds.
type tree struct {
	*shape
	bounds func() []harness.Value // made once: sources ask again and again
}

func newTree(s *shape) tree {
	t := tree{shape: s}
	t.bounds = sync.OnceValue(t.atBounds)
	return t
}

// The bounds of what is drawn.
const (
	cutDepth  = 4  // below it, what may be left out is
	drawnMost = 64 // after so many values, too
)

// drawing draws one value.
type drawing struct {
	*rand.Rand
	left  int  // values until what may be left out is
	least bool // the smallest instance is wanted
	full  bool // nothing is left out
}

func (t tree) Draw(rng *rand.Rand) harness.Value {
	d := &drawing{Rand: rng, left: drawnMost}
	return d.draw(t.shape, 0).contract()
}

// smallest returns the same small instance each time.
func (t tree) smallest() value {
	d := &drawing{Rand: rand.New(rand.NewPCG(3, 3)), least: true}
	return d.draw(t.shape, 0)
}

// biggest returns an instance with everything in it, within bounds.
func (t tree) biggest() value {
	d := &drawing{Rand: rand.New(rand.NewPCG(3, 3)), left: drawnMost, full: true}
	return d.draw(t.shape, 0)
}

func (d *drawing) draw(s *shape, depth int) value {
	d.left--
	short := d.least || depth >= cutDepth || d.left <= 0
	switch {
	case s.kind == "never":
		return null()
	case s.nullable && (short && s.size <= 1 && s.leaf == nil || !d.full && !d.least && d.IntN(10) == 0):
		return null()
	case len(s.from) > 0 && (d.full || d.least || d.IntN(8) > 0):
		return value{leaf: harness.Text("{{" + s.from[d.IntN(len(s.from))] + "}}")}
	case s.leaf != nil && d.least:
		return value{leaf: simplest(s.draws())}
	case s.leaf != nil:
		v, err := readValue(s.draws().Draw(d.Rand))
		if err != nil {
			return null()
		}
		return v
	case len(s.examples) > 0 && !d.full && !d.least && d.IntN(4) == 0:
		return s.examples[d.IntN(len(s.examples))].clone()
	case len(s.alts) > 0:
		return d.draw(d.pick(s.alts, short), depth)
	case s.kind == "array":
		return d.list(s, depth, short)
	}
	return d.object(s, depth, short)
}

// simplest returns the simplest value of a domain.
func simplest(d harness.Domain) harness.Value {
	v := d.Draw(rand.New(rand.NewPCG(4, 4)))
	for range 8 {
		c, checks := d.(harness.Checker)
		better := false
		for x := range d.Simpler(v) {
			if !checks || c.Check(x.Text) == nil {
				v, better = x, true
				break
			}
		}
		if !better {
			break
		}
	}
	return v
}

// pick chooses an alternative: the smallest where it should be short.
func (d *drawing) pick(alts []*shape, short bool) *shape {
	some := slices.DeleteFunc(slices.Clone(alts), func(s *shape) bool { return s.size >= maxLeast })
	if len(some) == 0 {
		some = alts
	}
	if short {
		return slices.MinFunc(some, func(a, b *shape) int { return a.size - b.size })
	}
	return some[d.IntN(len(some))]
}

func (d *drawing) list(s *shape, depth int, short bool) value {
	out := value{kind: array}
	n := s.least
	switch {
	case s.items.size >= maxLeast:
		n = 0
	case short:
	case d.full:
		n = min(max(n, 2), s.most)
	default:
		n = min(max(n, min(d.IntN(4), n+d.IntN(4))), s.most)
	}
	seen := map[harness.Value]bool{}
	for i := 0; len(out.items) < n && i < 4*n; i++ {
		x := d.draw(s.items, depth+1)
		if v := x.contract(); !s.distinct || x.reference() || !seen[v] {
			seen[v] = true
			out.items = append(out.items, x)
		}
	}
	return out
}

func (d *drawing) object(s *shape, depth int, short bool) value {
	out := value{kind: object}
	free := 0
	for _, p := range s.props {
		if !p.required && !p.readOnly {
			free++
		}
	}
	wanted := s.least
	for _, p := range s.props {
		have := p.required
		if !have && !p.readOnly && p.size < maxLeast {
			have = d.full && !short || !short && d.IntN(max(free, 12)) < 6 || len(out.members) < wanted && s.extra == nil
		}
		if have && !p.readOnly && (p.required || len(out.members) < s.most) {
			out.members = append(out.members, field{p.name, d.draw(p.shape, depth+1)})
		}
	}
	more := max(wanted-len(out.members), 0)
	if s.extra != nil && s.extra.size < maxLeast && !short {
		more = max(more, d.IntN(3))
	}
	for i := range min(more, s.most-len(out.members)) {
		x := s.extra
		if x == nil {
			x = &shape{leaf: harness.Strings(0, textMost), size: 1}
		}
		out.members = append(out.members, field{"k" + strconv.Itoa(i+1), d.draw(x, depth+1)})
	}
	return out
}

// spot is a place in a value, with what should stand there; nil where that is not known.
type spot struct {
	*shape
	at *value
	in *value // the object or list that it stands in; nil at the top
	i  int    // which of its parts
}

// spots returns every place in v, from the top.
func spots(s *shape, v *value, in *value, i int, out []spot) []spot {
	s = s.of(*v)
	out = append(out, spot{s, v, in, i})
	for i := range v.members {
		out = spots(s.member(v.members[i].name), &v.members[i].value, v, i, out)
	}
	for i := range v.items {
		var items *shape
		if s != nil {
			items = s.items
		}
		out = spots(items, &v.items[i], v, i, out)
	}
	return out
}

// of returns the alternative that a value is an instance of, or looks like.
func (s *shape) of(v value) *shape {
	for range maxParts {
		if s == nil || len(s.alts) == 0 {
			return s
		}
		best := s.alts[0]
		for _, a := range s.alts {
			if a.conforms(v) == nil {
				best = a
				break
			}
		}
		s = best
	}
	return s
}

// member returns the shape of a member; nil where it is not known.
func (s *shape) member(name string) *shape {
	if s == nil {
		return nil
	}
	for _, p := range s.props {
		if p.name == name {
			return p.shape
		}
	}
	return s.extra
}

// Mutate makes one slip in a value: in one of its scalars, or in how it is put together.
func (t tree) Mutate(rng *rand.Rand, v harness.Value) harness.Value {
	root, err := readValue(v)
	if err != nil || rng.IntN(16) == 0 {
		return t.Draw(rng)
	}
	all := spots(t.shape, &root, nil, 0, nil)
	x := all[rng.IntN(len(all))]
	d := &drawing{Rand: rng, left: drawnMost}
	switch n := rng.IntN(8); {
	case n < 4 && x.at.kind == scalar && x.shape != nil && x.leaf != nil && !x.at.reference():
		if got, err := readValue(x.draws().Mutate(rng, x.at.leaf)); err == nil {
			*x.at = got
		}
	case n == 4 && x.shape != nil: // another one
		*x.at = d.draw(x.shape, 2)
	case n == 5 && x.at.kind == array && len(x.at.items) > 0: // one element twice, or out of turn
		i, j := rng.IntN(len(x.at.items)), rng.IntN(len(x.at.items))
		if i == j {
			x.at.items = append(x.at.items, x.at.items[i].clone())
		} else {
			x.at.items[i], x.at.items[j] = x.at.items[j], x.at.items[i]
		}
	case n == 5 && x.at.kind == object: // a member that nobody knows
		x.at.members = append(x.at.members, field{"unknown", value{leaf: harness.Int(1)}})
	case n == 6 && x.in != nil: // one left out
		x.in.drop(x.i)
	default:
		odd := []string{"null", "true", "0", "-1", "[]", "{}", "1e400", `""`}
		v, err := readValue(harness.Value{Form: harness.FormJSON, Text: odd[rng.IntN(len(odd))]})
		if err == nil {
			*x.at = v
		}
	}
	return root.contract()
}

// drop takes a part of an object or a list away.
func (v *value) drop(i int) {
	if v.kind == object {
		v.members = slices.Delete(v.members, i, i+1)
	} else {
		v.items = slices.Delete(v.items, i, i+1)
	}
}

// Simpler yields the smallest instance, then v without one of its parts, the larger ones
// first, then v with one of its scalars simpler.
func (t tree) Simpler(v harness.Value) iter.Seq[harness.Value] {
	return func(yield func(harness.Value) bool) {
		root, err := readValue(v)
		if least := t.smallest().contract(); least != v && len(least.Text) < len(v.Text) && !yield(least) || err != nil {
			return
		}
		all := spots(t.shape, &root, nil, 0, nil)
		edit := func(i int, f func(spot)) bool {
			c := root.clone()
			f(spots(nil, &c, nil, 0, nil)[i]) // its shape is known
			got := c.contract()
			return got == v || yield(got)
		}
		for i := range all {
			if i > 0 && !edit(i, func(x spot) { x.in.drop(x.i) }) {
				return
			}
		}
		for i, x := range all {
			if x.at.kind != scalar || x.shape == nil || x.leaf == nil || x.at.reference() {
				continue
			}
			for s := range x.draws().Simpler(x.at.leaf) {
				got, err := readValue(s)
				if err == nil && !edit(i, func(x spot) { *x.at = got }) {
					return
				}
			}
		}
	}
}

// maxBounds is how many values a tree has at its bounds at most: each is a call.
const maxBounds = 200

// Bounds returns instances with one scalar at one of its bounds, one part left out, or a list
// of one element too many or too few.
func (t tree) Bounds() []harness.Value { return slices.Clone(t.bounds()) }

func (t tree) atBounds() []harness.Value {
	big := t.biggest()
	out := []harness.Value{big.contract(), t.smallest().contract()}
	edit := func(i int, f func(spot)) {
		c := big.clone()
		f(spots(nil, &c, nil, 0, nil)[i])
		if v := c.contract(); len(out) < maxBounds && !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	all := spots(t.shape, &big, nil, 0, nil)
	leaves := make([][]harness.Value, len(all))
	for i, x := range all {
		if x.in != nil && i < 32 {
			edit(i, func(x spot) { x.in.drop(x.i) })
		}
		if x.at.kind == array && i < 8 {
			edit(i, func(x spot) { x.at.items = nil })
			most := math.MaxInt
			if x.shape != nil {
				most = x.most
			}
			edit(i, func(x spot) { x.stretch(most) })
		}
		if b, ok := x.domain().(harness.Bounded); ok {
			leaves[i] = b.Bounds()
		}
	}
	// By turns, so that no scalar's bounds crowd out those of the others.
	for more := true; more && len(out) < maxBounds; {
		more = false
		for i := range leaves {
			if len(leaves[i]) == 0 {
				continue
			}
			more = true
			if got, err := readValue(leaves[i][0]); err == nil {
				edit(i, func(x spot) { *x.at = got })
			}
			leaves[i] = leaves[i][1:]
		}
	}
	return out
}

// domain returns that of the scalar at a spot; nil where there is none.
func (x spot) domain() harness.Domain {
	if x.shape == nil || x.leaf == nil {
		return nil
	}
	return x.leaf
}

// stretch makes a list one element longer than it may be, or else than it is.
func (x spot) stretch(most int) {
	n := len(x.at.items)
	if n == 0 {
		return
	}
	to := n + 1
	if most < 256 {
		to = most + 1
	}
	for i := n; i < to; i++ {
		x.at.items = append(x.at.items, x.at.items[i%n].clone())
	}
}

// Check says why the text of a value is no instance.
func (t tree) Check(text string) error {
	v, err := readValue(harness.Value{Form: harness.FormJSON, Text: text})
	if err != nil { // the text of a string
		v = value{leaf: harness.Text(text)}
	}
	return t.conforms(v)
}

// maxChecked is how many comparisons it takes at most to check a value: alternatives of
// alternatives are many.
const maxChecked = 1 << 11

// conforms says why v is no instance of s. What stands for a field of a reply conforms, and
// so does what takes too long to tell.
func (s *shape) conforms(v value) error {
	left := maxChecked
	return s.conform(v, &left)
}

func (s *shape) conform(v value, left *int) error {
	*left--
	switch {
	case s == nil || *left <= 0:
		return nil
	case s.nullable && v.isNull(), v.reference():
		return nil
	case s.kind == "never":
		return errors.New("nothing can stand here")
	case len(s.alts) > 0:
		var err error
		for _, a := range s.alts {
			if err = a.conform(v, left); err == nil {
				return nil
			}
		}
		return err
	case s.leaf != nil:
		return s.fits(v)
	case s.kind == "array":
		if v.kind != array || len(v.items) < s.least || len(v.items) > s.most {
			return fmt.Errorf("expected a list of %d elements or more", s.least)
		}
		for _, x := range v.items {
			if err := s.items.conform(x, left); err != nil {
				return err
			}
		}
		return nil
	}
	if v.kind != object {
		return errors.New("expected an object")
	}
	for _, p := range s.props {
		i := v.find(p.name)
		switch {
		case i < 0 && p.required && !p.readOnly:
			return fmt.Errorf("%s is missing", p.name)
		case i < 0:
		default:
			if err := p.conform(v.members[i].value, left); err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
		}
	}
	return nil
}

// fits says why v is no scalar of s.
func (s *shape) fits(v value) error {
	c := v.contract()
	isText := c.Form == harness.FormText
	switch s.kind {
	case "string":
		if !isText {
			return errors.New("expected a text")
		}
	case "integer", "number", "boolean":
		if isText || v.kind != scalar {
			return errors.New("expected a " + s.kind)
		}
		if f, err := strconv.ParseFloat(c.Text, 64); s.kind != "boolean" && (err != nil || math.IsInf(f, 0)) {
			return errors.New("expected a number")
		}
	}
	if d, ok := s.leaf.(harness.Checker); ok && (s.kind != "" || !strings.HasPrefix(s.about, "anything")) {
		return d.Check(c.Text)
	}
	return nil
}
