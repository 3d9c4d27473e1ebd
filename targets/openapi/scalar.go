package openapi

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/shakedown-go/shakedown/harness"
)

// formats are patterns of the formats that have a form of their own. Their hosts lead
// nowhere: what a service is told to call must not be called.
var formats = map[string]string{
	"uuid":          `[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`,
	"date":          `20[0-3][0-9]-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])`,
	"date-time":     `20[0-3][0-9]-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{3})?(Z|[+-]0[0-9]:[03]0)`,
	"time":          `([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z`,
	"duration":      `P[1-9]D|PT[1-9][0-9]?[HMS]`,
	"email":         `[a-z]{1,8}(\.[a-z]{1,8})?@[a-z]{2,8}\.invalid`,
	"idn-email":     `[a-z]{1,8}@[a-z]{2,8}\.invalid`,
	"hostname":      `[a-z][a-z0-9]{0,7}\.invalid`,
	"idn-hostname":  `[a-z][a-z0-9]{0,7}\.invalid`,
	"uri":           `https?://[a-z]{2,8}\.invalid(/[a-z0-9]{1,8}){0,3}(\?[a-z]{1,4}=[a-z0-9]{1,4})?`,
	"url":           `https?://[a-z]{2,8}\.invalid(/[a-z0-9]{1,8}){0,3}(\?[a-z]{1,4}=[a-z0-9]{1,4})?`,
	"iri":           `https?://[a-z]{2,8}\.invalid(/[a-z0-9]{1,8}){0,3}`,
	"uri-reference": `(/[a-z0-9]{1,8}){1,3}`,
	"iri-reference": `(/[a-z0-9]{1,8}){1,3}`,
	"ipv4":          `192\.0\.2\.([1-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9])`,
	"ipv6":          `2001:db8::[1-9a-f][0-9a-f]{0,3}`,
	"byte":          `([A-Za-z0-9+/]{4}){1,6}`,
	"password":      `[A-Za-z0-9]{8,16}`,
}

// Values where a schema gives no bound: small numbers and short texts are those of every
// day, and mutations leave them anyway.
const (
	fewMore  = 1000
	textMost = 20
	maxText  = 1 << 16 // characters
)

// limits are the bounds of a number; an infinite one is none.
type limits struct {
	lo, hi         float64
	loOpen, hiOpen bool // the bound itself does not belong
	step           float64
	whole, small   bool // a whole number; of 32 bits
}

// numbers returns the domain of the numbers in some limits: the multiples of a step.
func numbers(l limits) (harness.Domain, error) {
	step := l.step
	if step <= 0 {
		step = 0.01
		if l.whole {
			step = 1
		}
	}
	if l.whole && step != math.Trunc(step) {
		step = 1 // what is a multiple of both is rare: that it is whole counts more
	}
	lo, hi := l.lo, l.hi
	if l.small {
		lo, hi = max(lo, math.MinInt32), min(hi, math.MaxInt32)
		if math.IsInf(l.lo, -1) {
			lo = math.Inf(-1)
		}
		if math.IsInf(l.hi, 1) {
			hi = math.Inf(1)
		}
	}
	switch {
	case math.IsInf(lo, -1) && math.IsInf(hi, 1):
		lo, hi = 0, fewMore
	case math.IsInf(lo, -1):
		lo = min(0, hi-fewMore)
	case math.IsInf(hi, 1):
		hi = max(lo+fewMore, fewMore)
	}
	first, last := math.Ceil(lo/step), math.Floor(hi/step)
	if l.loOpen && first*step <= l.lo {
		first++
	}
	if l.hiOpen && last*step >= l.hi {
		last--
	}
	first, last = max(first, math.MinInt64), min(last, math.MaxInt64)
	if !(first <= last) {
		return nil, errors.New("no number is within its bounds")
	}
	g := grid{step: step, from: integer(first), to: integer(last)}
	if step == 1 {
		return harness.Ints(g.from, g.to), nil
	}
	g.ints = harness.Ints(g.from, g.to)
	return g, nil
}

// integer converts a number that is whole.
func integer(f float64) int64 {
	switch {
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	}
	return int64(f)
}

// grid is the domain of the multiples of a step. Neighbours leave it: they are beyond its
// bounds, or between two multiples.
type grid struct {
	ints     harness.Domain // of the factors
	step     float64
	from, to int64
}

// at returns the multiple with a factor; anything else is left as it is.
func (g grid) at(v harness.Value) harness.Value {
	n, err := strconv.ParseInt(v.Text, 10, 64)
	if err != nil || v.Form != harness.FormJSON {
		return v
	}
	return g.number(float64(n) * g.step)
}

func (g grid) number(f float64) harness.Value {
	digits := 0
	for s := g.step; digits < 12 && math.Abs(s-math.Round(s)) > 1e-9*s; digits++ {
		s *= 10
	}
	return harness.Value{Form: harness.FormJSON, Text: strconv.FormatFloat(f, 'f', digits, 64)}
}

// factor is the inverse of at; false where v is not on the grid.
func (g grid) factor(v harness.Value) (harness.Value, bool) {
	f, err := strconv.ParseFloat(v.Text, 64)
	if err != nil || v.Form != harness.FormJSON {
		return v, false
	}
	n := math.Round(f / g.step)
	if math.Abs(n) > 1<<53 || math.Abs(n*g.step-f) > 1e-6*g.step {
		return v, false
	}
	return harness.Int(int64(n)), true
}

func (g grid) Draw(rng *rand.Rand) harness.Value { return g.at(g.ints.Draw(rng)) }

func (g grid) Mutate(rng *rand.Rand, v harness.Value) harness.Value {
	n, ok := g.factor(v)
	if !ok {
		return g.Draw(rng)
	}
	if f, err := strconv.ParseFloat(v.Text, 64); err == nil && rng.IntN(8) == 0 {
		return harness.Value{Form: harness.FormJSON, Text: strconv.FormatFloat(f+g.step/2, 'f', -1, 64)}
	}
	return g.at(g.ints.Mutate(rng, n))
}

func (g grid) Simpler(v harness.Value) iter.Seq[harness.Value] {
	return func(yield func(harness.Value) bool) {
		n, ok := g.factor(v)
		if !ok {
			n = harness.Text("")
		}
		for x := range g.ints.Simpler(n) {
			if !yield(g.at(x)) {
				return
			}
		}
	}
}

// Bounds returns those of the factors as multiples.
func (g grid) Bounds() []harness.Value {
	var out []harness.Value
	for _, v := range g.ints.(harness.Bounded).Bounds() {
		out = append(out, g.at(v))
	}
	return append(out, g.number((float64(g.from)+0.5)*g.step))
}

// Check says why a text is no multiple within the bounds.
func (g grid) Check(text string) error {
	n, ok := g.factor(harness.Value{Form: harness.FormJSON, Text: text})
	if !ok {
		return fmt.Errorf("expected a multiple of %v", g.step)
	}
	return g.ints.(harness.Checker).Check(n.Text)
}

// sized is a domain of texts of which only those of some length are drawn.
type sized struct {
	harness.Domain
	lo, hi int // characters
	always string
}

// fit returns a domain with its texts held to a length; false where it has none.
func fit(d harness.Domain, lo, hi int) (harness.Domain, bool) {
	s := sized{d, lo, hi, ""}
	rng := rand.New(rand.NewPCG(2, 2))
	for range 200 {
		if v := d.Draw(rng); s.fits(v.Text) {
			s.always = v.Text
			return s, true
		}
	}
	return d, false
}

func (s sized) fits(text string) bool {
	n := utf8.RuneCountInString(text)
	return n >= s.lo && n <= s.hi
}

func (s sized) Draw(rng *rand.Rand) harness.Value {
	for range 20 {
		if v := s.Domain.Draw(rng); s.fits(v.Text) {
			return v
		}
	}
	return harness.Text(s.always)
}

// Bounds returns those of the domain.
func (s sized) Bounds() []harness.Value {
	if b, ok := s.Domain.(harness.Bounded); ok {
		return b.Bounds()
	}
	return nil
}

// Check says why a text is too short, too long, or not in the domain.
func (s sized) Check(text string) error {
	if !s.fits(text) {
		return fmt.Errorf("it must have from %d to %d characters", s.lo, s.hi)
	}
	if c, ok := s.Domain.(harness.Checker); ok {
		return c.Check(text)
	}
	return nil
}

// usual is a domain of which a document gives examples. Where anything is allowed, they are
// what mostly makes sense.
type usual struct {
	harness.Domain
	examples []harness.Value
	mostly   bool
}

func (u usual) Draw(rng *rand.Rand) harness.Value {
	if n := rng.IntN(8); n < 4 || u.mostly && n < 7 {
		return u.examples[rng.IntN(len(u.examples))]
	}
	return u.Domain.Draw(rng)
}

// Usual returns the first of the examples.
func (u usual) Usual() harness.Value { return u.examples[0] }

// Simpler yields the examples before anything else.
func (u usual) Simpler(v harness.Value) iter.Seq[harness.Value] {
	return func(yield func(harness.Value) bool) {
		if i := slices.Index(u.examples, v); i >= 0 {
			for _, x := range u.examples[:i] {
				if !yield(x) {
					return
				}
			}
			return
		}
		for _, x := range u.examples {
			if !yield(x) {
				return
			}
		}
		u.Domain.Simpler(v)(yield)
	}
}

// mostBroken is of how many examples the broken forms are tried.
const mostBroken = 3

// Bounds returns the examples, broken forms of those with the most parts, and what the domain
// knows.
func (u usual) Bounds() []harness.Value {
	out := slices.Clone(u.examples)
	rich := slices.DeleteFunc(slices.Clone(u.examples), func(v harness.Value) bool { return v.Form != harness.FormText })
	slices.SortStableFunc(rich, func(a, b harness.Value) int { return len(split(b.Text)) - len(split(a.Text)) })
	for _, v := range rich[:min(len(rich), mostBroken)] {
		if d, err := harness.Pattern(regexp.QuoteMeta(v.Text)); err == nil {
			out = append(out, d.(harness.Bounded).Bounds()...)
		}
	}
	if b, ok := u.Domain.(harness.Bounded); ok {
		out = append(out, b.Bounds()...)
	}
	return out
}

// Check says why a text is neither an example nor in the domain.
func (u usual) Check(text string) error {
	for _, x := range u.examples {
		if x.Text == text {
			return nil
		}
	}
	if c, ok := u.Domain.(harness.Checker); ok {
		return c.Check(text)
	}
	return nil
}

// orNull is a domain with null beside it.
type orNull struct{ harness.Domain }

var nothing = harness.Value{Form: harness.FormJSON, Text: "null"}

func (o orNull) Draw(rng *rand.Rand) harness.Value {
	if rng.IntN(10) == 0 {
		return nothing
	}
	return o.Domain.Draw(rng)
}

// Bounds returns null, and what the domain knows.
func (o orNull) Bounds() []harness.Value {
	out := []harness.Value{nothing}
	if b, ok := o.Domain.(harness.Bounded); ok {
		out = append(out, b.Bounds()...)
	}
	return out
}

// Check says why a text is neither null nor in the domain.
func (o orNull) Check(text string) error {
	if c, ok := o.Domain.(harness.Checker); ok && text != "null" {
		return c.Check(text)
	}
	return nil
}
