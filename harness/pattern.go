package harness

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Pattern is the domain of the texts that match a regular expression. Draws repeat what
// may be repeated a few times; mutations slip near the pattern: a character, a part
// between separators, or a number of it is dropped, doubled, emptied or pushed to a bound.
func Pattern(re string) (Domain, error) {
	tree, err := syntax.Parse(re, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("pattern %.80q: %w", re, err)
	}
	match, err := regexp.Compile(re)
	if err != nil {
		return nil, fmt.Errorf("pattern %.80q: %w", re, err)
	}
	p := &pattern{tree: tree, match: match}
	r := rand.New(rand.NewPCG(1, 1))
	found := 0
	for i := 0; i < 100 && found < samples; i++ {
		if s := p.try(r); match.MatchString(s) {
			// What is optional breaks, too: the sample is the one with the most parts.
			if found++; found == 1 || len(split(s)) > len(split(p.sample)) {
				p.sample = s
			}
		}
	}
	if found > 0 {
		return p, nil
	}
	return nil, fmt.Errorf("pattern %.80q: no text was found that matches it", re)
}

type pattern struct {
	tree   *syntax.Regexp
	match  *regexp.Regexp
	sample string // a text that matches
}

// The bounds of what is drawn.
const (
	samples      = 10      // of which one is broken at its bounds
	mostRepeats  = 8       // beyond what must be repeated, where the pattern sets no bound
	patternSteps = 1 << 14 // after so many parts nothing is repeated more often than it must be
)

func (p *pattern) Draw(r *rand.Rand) Value {
	for range 20 { // an anchor or a word boundary in the middle can make a try miss
		if s := p.try(r); p.match.MatchString(s) {
			return Text(s)
		}
	}
	return Text(p.sample)
}

func (p *pattern) try(r *rand.Rand) string {
	g := generator{Rand: r, steps: patternSteps}
	g.write(p.tree)
	return g.String()
}

// generator writes a text that matches a pattern, but for what its anchors ask.
type generator struct {
	strings.Builder
	*rand.Rand
	steps int // left
}

func (g *generator) write(re *syntax.Regexp) {
	g.steps--
	switch re.Op {
	case syntax.OpLiteral:
		for _, c := range re.Rune {
			if re.Flags&syntax.FoldCase != 0 && g.IntN(2) == 0 {
				c = unicode.SimpleFold(c)
			}
			g.WriteRune(c)
		}
	case syntax.OpCharClass:
		g.WriteRune(member(g.Rand, re.Rune))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		g.WriteRune(member(g.Rand, []rune{' ', '~', 0xa1, 0x17f}))
	case syntax.OpCapture, syntax.OpConcat:
		for _, sub := range re.Sub {
			g.write(sub)
		}
	case syntax.OpAlternate:
		g.write(re.Sub[g.IntN(len(re.Sub))])
	case syntax.OpStar:
		g.repeat(re.Sub[0], 0, -1)
	case syntax.OpPlus:
		g.repeat(re.Sub[0], 1, -1)
	case syntax.OpQuest:
		g.repeat(re.Sub[0], 0, 1)
	case syntax.OpRepeat:
		g.repeat(re.Sub[0], re.Min, re.Max)
	}
}

// repeat writes re lo to hi times, mostly closer to lo. A negative hi sets no bound.
func (g *generator) repeat(re *syntax.Regexp, lo, hi int) {
	n := lo
	switch {
	case g.steps <= 0:
	case hi < 0:
		n += min(g.IntN(mostRepeats+1), g.IntN(mostRepeats+1))
	case g.IntN(8) == 0:
		n = hi
	default:
		n += min(g.IntN(hi-lo+1), g.IntN(max(hi-lo, mostRepeats)+1))
	}
	for range n {
		g.write(re)
	}
}

// member draws from a class given as pairs of bounds, mostly from its printable ASCII.
func member(r *rand.Rand, class []rune) rune {
	if len(class) < 2 {
		return utf8.RuneError // nothing matches an empty class
	}
	if r.IntN(16) > 0 {
		var plain []rune
		for i := 0; i+1 < len(class); i += 2 {
			for c := max(class[i], ' '); c <= min(class[i+1], '~'); c++ {
				plain = append(plain, c)
			}
		}
		if len(plain) > 0 {
			return plain[r.IntN(len(plain))]
		}
	}
	i := r.IntN(len(class)/2) * 2
	c := class[i] + rune(r.Int64N(int64(class[i+1]-class[i])+1))
	if !utf8.ValidRune(c) { // a surrogate
		return class[i]
	}
	return c
}

func (p *pattern) Mutate(r *rand.Rand, v Value) Value {
	if v.Form != FormText || r.IntN(8) == 0 {
		return p.Draw(r)
	}
	switch parts := split(v.Text); {
	case len(parts) > 1 && r.IntN(2) == 0:
		return Text(slip(r, parts))
	case digits.MatchString(v.Text) && r.IntN(3) == 0:
		return Text(bound(r, v.Text))
	}
	return Text(misspell(r, v.Text))
}

var digits = regexp.MustCompile(`[0-9]+`)

// bound pushes one number in s to a bound.
func bound(r *rand.Rand, s string) string {
	all := digits.FindAllStringIndex(s, -1)
	at := all[r.IntN(len(all))]
	was := s[at[0]:at[1]]
	n, _ := strconv.ParseInt(was, 10, 64)
	bounds := []string{
		"0", "-1", "00" + was, strconv.FormatInt(n+1, 10), strconv.FormatInt(n-1, 10), was + "0",
		strings.Repeat("0", len(was)), strings.Repeat("9", len(was)),
		"255", "256", "65536", "2147483648", "4294967296", "9223372036854775807", "18446744073709551616",
	}
	return s[:at[0]] + bounds[r.IntN(len(bounds))] + s[at[1]:]
}

// split cuts s into parts, each with the separator before it.
func split(s string) []string {
	var parts []string
	for rest := s; rest != ""; {
		_, first := utf8.DecodeRuneInString(rest)
		n := len(rest)
		if next := strings.IndexFunc(rest[first:], separates); next >= 0 {
			n = first + next
		}
		parts = append(parts, rest[:n])
		rest = rest[n:]
	}
	return parts
}

// separator returns the separators that a part begins with.
func separator(part string) string {
	return part[:len(part)-len(strings.TrimLeftFunc(part, separates))]
}

func separates(c rune) bool { return !unicode.IsLetter(c) && !unicode.IsDigit(c) }

// slip drops, doubles, empties or swaps a part, or breaks off within the separator before
// it.
func slip(r *rand.Rand, parts []string) string {
	i := r.IntN(len(parts))
	switch r.IntN(5) {
	case 0:
		parts = slices.Delete(parts, i, i+1)
	case 1:
		parts = slices.Insert(parts, i, parts[i])
	case 2:
		parts[i] = separator(parts[i])
	case 3:
		parts[i] = separator(parts[i])
		parts = parts[:i+1]
	default:
		j := (i + 1) % len(parts)
		parts[i], parts[j] = parts[j], parts[i]
	}
	return strings.Join(parts, "")
}

// Bounds returns broken forms of a text that matches: each part of it dropped, doubled and
// emptied, and the text broken off before and behind each separator.
func (p *pattern) Bounds() []Value {
	out := []Value{Text("")}
	parts := split(p.sample)
	for i, part := range parts {
		before, after := strings.Join(parts[:i], ""), strings.Join(parts[i+1:], "")
		for _, s := range []string{before, before + after, before + separator(part), before + separator(part) + after, before + part + part + after} {
			if v := Text(s); !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	return append(out, Text(p.sample+p.sample), Text(p.sample+"\x00"))
}

// Simpler yields beginnings of v, then v without one of its parts or characters. They
// need not match.
func (p *pattern) Simpler(v Value) iter.Seq[Value] {
	return func(yield func(Value) bool) {
		if v.Form != FormText {
			yield(Text(p.sample))
			return
		}
		runes := []rune(v.Text)
		for n := range nearer(0, int64(len(runes))) {
			if !yield(Text(string(runes[:n]))) {
				return
			}
		}
		parts := split(v.Text)
		for i := range parts {
			if len(parts) > 1 && !yield(Text(strings.Join(slices.Delete(slices.Clone(parts), i, i+1), ""))) {
				return
			}
		}
		for i := range min(len(runes), 64) {
			if !yield(Text(string(slices.Delete(slices.Clone(runes), i, i+1)))) {
				return
			}
		}
	}
}

// Check says why text does not match.
func (p *pattern) Check(text string) error {
	if !p.match.MatchString(text) {
		return fmt.Errorf("it must match %s", p.match)
	}
	return nil
}
