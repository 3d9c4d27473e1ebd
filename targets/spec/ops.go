package spec

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
)

// maxText bounds the length of free text, in characters.
const maxText = 1 << 16

// kinds are the kinds of values that a param can have, as the file names them.
var kinds = []string{"int", "oneof", "pattern", "text", "bool", "value", "unique", "from"}

// kinds returns the names of those that are set.
func (p *Param) kinds() []string {
	set := map[string]bool{
		"int": p.Int != "", "oneof": len(p.OneOf) > 0, "pattern": p.Pattern != "", "text": p.Text != "",
		"bool": p.Bool, "value": p.Value != nil, "unique": p.Unique != "", "from": len(p.From) > 0,
	}
	return slices.DeleteFunc(slices.Clone(kinds), func(k string) bool { return !set[k] })
}

// described reports whether the param is one of an OpenAPI document.
func (p *Param) described() bool { return p.drawn != nil }

// HarnessOps returns the ops as the contract has them, sorted by name, with their params
// sorted by key.
func (f *File) HarnessOps() []harness.Op {
	var out []harness.Op
	for _, name := range slices.Sorted(maps.Keys(f.API.Ops)) {
		o := f.API.Ops[name]
		op := harness.Op{Name: name, Doc: strings.TrimSuffix(o.Request+": "+o.Doc, ": "), Route: o.Request, Mutates: o.Changes(), Takes: []string{"path", "query", "header", "cookie", "body"}}
		for _, key := range slices.Sorted(maps.Keys(o.Params)) {
			p := o.Params[key]
			d, err := p.domain()
			if err != nil {
				panic("spec: a file that was checked has a bad domain: " + err.Error())
			}
			op.Params = append(op.Params, harness.Param{Name: key, Doc: p.about(), Optional: p.Optional, Domain: d, From: p.From})
		}
		out = append(out, op)
	}
	return out
}

// Changes reports whether the op may change state.
func (o *Op) Changes() bool {
	if o.Mutates != nil {
		return *o.Mutates
	}
	method, _, _ := strings.Cut(o.Request, " ")
	return !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, method)
}

// Expects reports whether the description allows a status while nothing is injected.
func (o *Op) Expects(status int) bool {
	if len(o.Expect) > 0 {
		return slices.Contains(o.Expect, status)
	}
	if slices.Contains(o.known, status) {
		return true
	}
	switch status {
	case http.StatusNotImplemented, http.StatusServiceUnavailable, http.StatusHTTPVersionNotSupported:
		return true
	}
	return status < 500
}

// about says in a few words what the param can be.
func (p *Param) about() string {
	switch {
	case p.drawn != nil:
		return p.meaning
	case p.Int != "":
		return "a number, " + p.Int
	case len(p.OneOf) > 0:
		return "one of " + strings.Trim(fmt.Sprint(p.OneOf), "[]")
	case p.Pattern != "":
		return p.Pattern
	case p.Text != "":
		return "a text of " + p.Text + " characters"
	case p.Bool:
		return "true or false"
	case p.Value != nil:
		return fmt.Sprintf("always %v", p.Value)
	case p.Unique != "":
		return p.Unique + "..., new in each case"
	}
	return ""
}

// domain returns the values that the param can have; nil where they come from replies.
func (p *Param) domain() (harness.Domain, error) {
	d, err := p.plain()
	if p.Raw && d != nil {
		d = raw{d}
	}
	return d, err
}

func (p *Param) plain() (harness.Domain, error) {
	switch {
	case p.drawn != nil:
		return p.drawn, nil
	case p.Int != "":
		lo, hi, err := between(p.Int)
		if err != nil {
			return nil, err
		}
		return harness.Ints(lo, hi), nil
	case len(p.OneOf) > 0:
		values := make([]harness.Value, len(p.OneOf))
		for i, x := range p.OneOf {
			v, err := value(x)
			if err != nil || v.Form == harness.FormJSON && strings.ContainsAny(v.Text[:1], "{[") {
				return nil, fmt.Errorf("oneof takes texts, numbers, true and false, and null")
			}
			values[i] = v
		}
		return harness.OneOf(values...), nil
	case p.Pattern != "":
		return harness.Pattern(p.Pattern)
	case p.Text != "":
		lo, hi, err := between(p.Text)
		if err != nil {
			return nil, err
		}
		if lo < 0 || hi > maxText {
			return nil, fmt.Errorf("a text has from 0 to %d characters", maxText)
		}
		return harness.Strings(int(lo), int(hi)), nil
	case p.Bool:
		return harness.OneOf(harness.Value{Form: harness.FormJSON, Text: "false"}, harness.Value{Form: harness.FormJSON, Text: "true"}), nil
	case p.Value != nil:
		v, err := value(p.Value)
		return harness.Const(v), err
	case p.Unique != "":
		return unique(p.Unique), nil
	}
	return nil, nil
}

var interval = regexp.MustCompile(`^(-?[0-9]+)\.\.(-?[0-9]+)$`)

// between reads a range such as 1..100.
func between(s string) (lo, hi int64, err error) {
	m := interval.FindStringSubmatch(s)
	if m == nil {
		return 0, 0, fmt.Errorf("%q is not a range such as 1..100", s)
	}
	lo, err1 := strconv.ParseInt(m[1], 10, 64)
	hi, err2 := strconv.ParseInt(m[2], 10, 64)
	switch {
	case err1 != nil || err2 != nil:
		return 0, 0, fmt.Errorf("the range %s does not fit into 64 bits", s)
	case lo > hi:
		return 0, 0, fmt.Errorf("the range %s is empty: %d is above %d", s, lo, hi)
	}
	return lo, hi, nil
}

// value returns what the YAML file says as a value of the contract.
func value(x any) (harness.Value, error) {
	if s, ok := x.(string); ok {
		return harness.Text(s), nil
	}
	b, err := json.Marshal(x)
	if err != nil {
		return harness.Value{}, fmt.Errorf("the value cannot be written as JSON")
	}
	return harness.JSON(b)
}

// raw is a domain whose texts are sent as they are.
type raw struct{ harness.Domain }

func (d raw) Draw(rng *rand.Rand) harness.Value { return harness.Raw(d.Domain.Draw(rng).Text) }

func (d raw) Mutate(rng *rand.Rand, v harness.Value) harness.Value {
	return harness.Raw(d.Domain.Mutate(rng, harness.Text(v.Text)).Text)
}

func (d raw) Simpler(v harness.Value) iter.Seq[harness.Value] {
	return func(yield func(harness.Value) bool) {
		for x := range d.Domain.Simpler(harness.Text(v.Text)) {
			if !yield(harness.Raw(x.Text)) {
				return
			}
		}
	}
}

// Check asks the domain of texts, where that knows what is valid.
func (d raw) Check(text string) error {
	if c, ok := d.Domain.(harness.Checker); ok {
		return c.Check(text)
	}
	return nil
}

// Bounds returns those of the domain of texts.
func (d raw) Bounds() []harness.Value {
	var out []harness.Value
	if b, ok := d.Domain.(harness.Bounded); ok {
		for _, v := range b.Bounds() {
			out = append(out, harness.Raw(v.Text))
		}
	}
	return out
}

// unique is the domain of a prefix and a token. A key is worth something only where it
// comes again, so a neighbour is mostly the same value.
type unique string

const tokenLetters = "abcdefghijklmnopqrstuvwxyz234567"

func (u unique) Draw(rng *rand.Rand) harness.Value {
	b := []byte(u)
	for range 8 {
		b = append(b, tokenLetters[rng.IntN(len(tokenLetters))])
	}
	return harness.Text(string(b))
}

func (u unique) Mutate(rng *rand.Rand, v harness.Value) harness.Value {
	switch rng.IntN(8) {
	case 0:
		return u.Draw(rng)
	case 1:
		return harness.Text(string(u))
	case 2:
		return harness.Text("")
	}
	return v
}

func (u unique) Simpler(v harness.Value) iter.Seq[harness.Value] {
	return func(yield func(harness.Value) bool) {
		for _, letter := range "abc" {
			x := harness.Text(string(u) + string(letter))
			if x == v || !yield(x) {
				return
			}
		}
	}
}
