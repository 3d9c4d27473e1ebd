package harness

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Checker is a Domain that can tell its values from others.
type Checker interface {
	// Check says why text, the text of a value of any form, is not in the domain.
	Check(text string) error
}

// Bounded is a Domain that knows the values at its bounds and just beyond them, and what
// else programs stumble over; an enumeration knows all its values.
type Bounded interface {
	Bounds() []Value
}

// Const is the domain of one value, which is never mutated.
func Const(v Value) Domain { return constant{v} }

type constant struct{ v Value }

func (c constant) Draw(*rand.Rand) Value          { return c.v }
func (c constant) Mutate(*rand.Rand, Value) Value { return c.v }
func (c constant) Simpler(v Value) iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v != c.v {
			yield(c.v)
		}
	}
}

func (c constant) Check(text string) error {
	if text != c.v.Text {
		return fmt.Errorf("expected %s", word(c.v.Text))
	}
	return nil
}

// OneOf is an enumeration, the simplest value first. A mutation is another of the values,
// or one that is misspelt.
func OneOf(values ...Value) Domain { return oneOf(values) }

type oneOf []Value

func (d oneOf) Draw(r *rand.Rand) Value { return d[r.IntN(len(d))] }

func (d oneOf) Mutate(r *rand.Rand, v Value) Value {
	if v.Form == FormText && r.IntN(3) == 0 {
		return Text(misspell(r, v.Text))
	}
	return d.Draw(r)
}

// Bounds returns every value: each may take a way of its own.
func (d oneOf) Bounds() []Value { return slices.Clone(d) }

func (d oneOf) Simpler(v Value) iter.Seq[Value] {
	if i := slices.Index(d, v); i >= 0 {
		return slices.Values(d[:i])
	}
	return slices.Values(d)
}

func (d oneOf) Check(text string) error {
	if slices.ContainsFunc(d, func(v Value) bool { return v.Text == text }) {
		return nil
	}
	return fmt.Errorf("expected one of %s", d)
}

// String lists the values.
func (d oneOf) String() string {
	words := make([]string, len(d))
	for i, v := range d {
		words[i] = word(v.Text)
	}
	return strings.Join(words, ", ")
}

// Durations is the domain of the durations from lo to hi, as texts such as "80ms". Draws
// are spread over the orders of magnitude, and mutations stay within.
func Durations(lo, hi time.Duration) Domain { return durations{lo, hi} }

type durations struct{ lo, hi time.Duration }

func (d durations) Draw(r *rand.Rand) Value {
	if r.IntN(16) == 0 {
		return d.value(d.lo)
	}
	from := d.lo
	if from <= 0 {
		from = d.hi / 1000 // what is shorter is as good as nothing
	}
	lo := math.Log(float64(max(from, 1)))
	hi := math.Log(float64(max(d.hi, 1)))
	return d.value(time.Duration(math.Exp(lo + r.Float64()*(hi-lo))))
}

func (d durations) Mutate(r *rand.Rand, v Value) Value {
	was, err := time.ParseDuration(v.Text)
	if err != nil {
		return d.Draw(r)
	}
	switch r.IntN(6) {
	case 0:
		return d.value(d.lo)
	case 1:
		return d.value(d.hi)
	case 2:
		return d.value(was / 2)
	case 3:
		return d.value(min(was, d.hi/2) * 2)
	case 4:
		return d.value(was - was/8)
	}
	return d.value(min(was, d.hi-d.hi/8) + was/8)
}

func (d durations) Simpler(v Value) iter.Seq[Value] {
	was, err := time.ParseDuration(v.Text)
	return func(yield func(Value) bool) {
		if err != nil || was < d.lo || was > d.hi {
			yield(d.value(d.lo))
			return
		}
		last := time.Duration(-1)
		for n := range nearer(int64(d.lo), int64(was)) {
			got := max(roundDown(time.Duration(n)), d.lo)
			if got != last && got < was && !yield(Text(got.String())) {
				return
			}
			last = got
		}
	}
}

func (d durations) Check(text string) error {
	got, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return errors.New("expected a duration, such as 80ms")
	case got < d.lo || got > d.hi:
		return fmt.Errorf("it must be %s", d)
	}
	return nil
}

// String says which durations are in the domain.
func (d durations) String() string { return fmt.Sprintf("from %s to %s", d.lo, d.hi) }

// value rounds n to two digits within the domain.
func (d durations) value(n time.Duration) Value {
	return Text(min(max(roundDown(n), d.lo), d.hi).String())
}

// roundDown keeps the first two digits of n.
func roundDown(n time.Duration) time.Duration {
	unit := time.Duration(1)
	for n/unit >= 100 {
		unit *= 10
	}
	return n.Truncate(unit)
}

// nearer yields numbers from lo up to below n, at half of what is left each time.
func nearer(lo, n int64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for left := uint64(n) - uint64(lo); left > 0; left /= 2 {
			if !yield(int64(uint64(n) - left)) {
				return
			}
		}
	}
}

// Ints is the domain of the JSON numbers from lo to hi. Mutations leave it: numbers out of
// range, and values that are no whole numbers.
func Ints(lo, hi int64) Domain { return ints{lo, hi} }

type ints struct{ lo, hi int64 }

// oddNumbers are JSON values that stand where a whole number should.
var oddNumbers = [...]string{
	"null", "true", "{}", "[]", "0.5", "1e400", "-0",
	"9007199254740993", "2147483648", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
}

func (d ints) Draw(r *rand.Rand) Value {
	from := min(max(0, d.lo), d.hi) // small numbers are the ones of every day
	switch r.IntN(8) {
	case 0:
		return Int(d.lo)
	case 1:
		return Int(d.hi)
	case 2, 3:
		span := uint64(d.hi) - uint64(d.lo)
		if span == math.MaxUint64 {
			return Int(int64(r.Uint64()))
		}
		return Int(int64(uint64(d.lo) + r.Uint64N(span+1)))
	}
	span := float64(uint64(d.hi) - uint64(from))
	n := uint64(math.Exp(r.Float64()*math.Log(span+1))) - 1
	return Int(int64(uint64(from) + min(n, uint64(d.hi)-uint64(from))))
}

func (d ints) Mutate(r *rand.Rand, v Value) Value {
	n, err := strconv.ParseInt(v.Text, 10, 64)
	if err != nil || v.Form != FormJSON {
		return d.Draw(r)
	}
	near := []int64{d.lo, d.hi, d.lo - 1, d.hi + 1, n + 1, n - 1, -n, n * 2, n / 2, n ^ 1<<r.IntN(63), 0}
	if i := r.IntN(len(near) + 3); i < len(near) {
		return Int(near[i]) // one that overflows is one more boundary
	}
	odd := append([]string{v.Text + ".5", v.Text + "e3"}, oddNumbers[:]...)
	if i := r.IntN(len(odd) + 2); i < len(odd) {
		return Value{FormJSON, odd[i]}
	}
	return Text(v.Text)
}

func (d ints) Bounds() []Value {
	out := []Value{Int(d.lo), Int(d.hi), Int(d.lo - 1), Int(d.hi + 1), Int(0), Int(-1), Text(strconv.FormatInt(d.lo, 10))}
	for _, s := range oddNumbers {
		out = append(out, Value{FormJSON, s})
	}
	return out
}

func (d ints) Simpler(v Value) iter.Seq[Value] {
	n, err := strconv.ParseInt(v.Text, 10, 64)
	switch {
	case err != nil || v.Form != FormJSON || n < d.lo:
		return slices.Values([]Value{Int(d.lo)})
	case n <= d.hi:
		return func(yield func(Value) bool) {
			for m := range nearer(d.lo, n) {
				if !yield(Int(m)) {
					return
				}
			}
		}
	}
	return func(yield func(Value) bool) {
		if !yield(Int(d.lo)) || !yield(Int(d.hi)) {
			return
		}
		for m := range nearer(d.hi+1, n) {
			if !yield(Int(m)) {
				return
			}
		}
	}
}

func (d ints) Check(text string) error {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange):
		return errors.New("expected a whole number")
	case err != nil || n < d.lo || n > d.hi:
		return fmt.Errorf("it must be %s", d)
	}
	return nil
}

// String says which numbers are in the domain.
func (d ints) String() string { return fmt.Sprintf("from %d to %d", d.lo, d.hi) }

// Fractions is the domain of the numbers from lo to hi that need not be whole, as texts such as
// 0.01. Draws have two digits and are spread over the orders of magnitude, where lo is above
// zero, and mutations stay within.
func Fractions(lo, hi float64) Domain { return fractions{lo, hi} }

type fractions struct{ lo, hi float64 }

func (d fractions) Draw(r *rand.Rand) Value {
	from := d.lo
	if from <= 0 {
		from = d.hi / 1000 // what is smaller is as good as nothing
	}
	if r.IntN(16) == 0 {
		return d.value(d.lo)
	}
	return d.value(from * math.Pow(d.hi/from, r.Float64()))
}

func (d fractions) Mutate(r *rand.Rand, v Value) Value {
	was, err := strconv.ParseFloat(v.Text, 64)
	if err != nil {
		return d.Draw(r)
	}
	near := []float64{d.lo, d.hi, was / 2, was * 2, was - was/8, was + was/8}
	return d.value(near[r.IntN(len(near))])
}

func (d fractions) Simpler(v Value) iter.Seq[Value] {
	was, err := strconv.ParseFloat(v.Text, 64)
	return func(yield func(Value) bool) {
		if err != nil || d.Check(v.Text) != nil {
			yield(d.value(d.lo))
			return
		}
		for _, part := range []float64{0, 0.5} {
			got := d.value(d.lo + part*(was-d.lo))
			if n, _ := strconv.ParseFloat(got.Text, 64); n < was && !yield(got) {
				return
			}
		}
	}
}

func (d fractions) Check(text string) error {
	got, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return errors.New("expected a number, such as 0.01")
	case !(got >= d.lo && got <= d.hi):
		return fmt.Errorf("it must be %s", d)
	}
	return nil
}

// String says which numbers are in the domain.
func (d fractions) String() string { return fmt.Sprintf("from %g to %g", d.lo, d.hi) }

// value rounds n to two digits within the domain.
func (d fractions) value(n float64) Value {
	n, _ = strconv.ParseFloat(strconv.FormatFloat(n, 'g', 2, 64), 64)
	return Text(strconv.FormatFloat(min(max(n, d.lo), d.hi), 'g', -1, 64))
}

// Strings is the domain of free text of lo to hi characters: mostly short words, now and
// then what programs stumble over. Mutations also leave the bounds.
func Strings(lo, hi int) Domain { return texts{lo, max(lo, hi)} }

type texts struct{ lo, hi int }

// longText is where texts end that are made to be long: just beyond 64 KiB.
const longText = 70_000

// stumbles are texts that programs take for something else.
var stumbles = [...]string{
	"", " ", "0", "-1", "null", "true", "NaN", "1e9", "'", `"`, `\`, "%", "%s", "../", "<b>", "' OR '1'='1",
	"\x00", "\n", "\t", "\x7f", "\u202e", "\ufeff", "\u00e9", "e\u0301", "\u00df", "\u0130", "\u4f60\u597d", "\U0001f600",
}

const letters = "abcdefghijklmnopqrstuvwxyz"

func (d texts) Draw(r *rand.Rand) Value {
	hi := min(d.hi, max(d.lo, 12))
	if r.IntN(16) == 0 {
		hi = min(d.hi, max(d.lo, 4096))
	}
	n := min(d.lo+r.IntN(hi-d.lo+1), longText)
	var out []rune
	for len(out) < n {
		if r.IntN(40) == 0 {
			out = append(out, []rune(stumbles[r.IntN(len(stumbles))])...)
		} else {
			out = append(out, rune(letters[r.IntN(len(letters))]))
		}
	}
	return Text(string(out[:n]))
}

func (d texts) Mutate(r *rand.Rand, v Value) Value {
	if v.Form != FormText {
		return d.Draw(r)
	}
	if r.IntN(4) > 0 {
		return Text(misspell(r, v.Text))
	}
	n := []int{d.lo - 1, d.lo, d.hi, d.hi + 1, 4096, longText}[r.IntN(6)]
	return Text(resize(v.Text, n))
}

func (d texts) Bounds() []Value {
	var out []Value
	for _, n := range []int{d.lo - 1, d.lo, d.hi, d.hi + 1} {
		out = append(out, Text(resize("", n)))
	}
	for _, s := range stumbles {
		out = append(out, Text(s), Text("a"+s+"a"))
	}
	return out
}

func (d texts) Simpler(v Value) iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Form != FormText {
			yield(Text(resize("", d.lo)))
			return
		}
		runes := []rune(v.Text)
		n := int64(len(runes))
		lo := min(int64(d.lo), n)
		for _, from := range []string{"", v.Text} {
			for m := range nearer(lo, n) {
				if !yield(Text(resize(from, int(m)))) {
					return
				}
			}
		}
		for i := range min(n, 64) {
			plain := slices.Clone(runes)
			plain[i] = 'a'
			if runes[i] != 'a' && !yield(Text(string(plain))) {
				return
			}
		}
	}
}

func (d texts) Check(text string) error {
	if n := utf8.RuneCountInString(text); n < d.lo || n > d.hi {
		return fmt.Errorf("it must have from %d to %d characters", d.lo, d.hi)
	}
	return nil
}

// resize makes s n characters long, by cutting it or by repeating it; "" becomes letters.
func resize(s string, n int) string {
	runes := []rune(s)
	if len(runes) == 0 {
		runes = []rune("a")
	}
	out := make([]rune, min(max(n, 0), longText))
	for i := range out {
		out[i] = runes[i%len(runes)]
	}
	return string(out)
}

// misspell makes one slip in s.
func misspell(r *rand.Rand, s string) string {
	runes := []rune(s)
	if len(runes) == 0 {
		return stumbles[r.IntN(len(stumbles))]
	}
	i := r.IntN(len(runes))
	switch r.IntN(8) {
	case 0: // drop a character
		return string(slices.Delete(runes, i, i+1))
	case 1: // write it twice
		return string(slices.Insert(runes, i, runes[i]))
	case 2: // swap it with the next
		j := (i + 1) % len(runes)
		runes[i], runes[j] = runes[j], runes[i]
		return string(runes)
	case 3: // flip the case, or another low bit
		runes[i] ^= 0x20
		return string(runes)
	case 4: // put something odd in
		return string(slices.Insert(runes, i, []rune(stumbles[r.IntN(len(stumbles))])...))
	case 5: // put something odd in its place
		return string(slices.Replace(runes, i, i+1, []rune(stumbles[r.IntN(len(stumbles))])...))
	case 6: // break off
		return string(runes[:i])
	}
	if up := strings.ToUpper(s); up != s && r.IntN(2) == 0 {
		return up
	}
	return ""
}
