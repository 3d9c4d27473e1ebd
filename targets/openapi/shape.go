package openapi

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/shakedown-go/shakedown/harness"
)

// shape is what the values of a schema look like: exactly one of its parts says so. Shapes
// may lead back to themselves.
type shape struct {
	at       place
	title    string // of the schema, where it has a name
	kind     string // string, integer, number, boolean, object, array; "" is anything
	format   string
	doc      string
	nullable bool
	examples []value

	leaf  harness.Domain // of a scalar
	about string         // of a leaf
	alts  []*shape       // one of these

	props    []prop // of an object, sorted by name
	extra    *shape // other members of an object; nil for none
	least    int    // members of an object, or elements of an array
	most     int
	items    *shape
	distinct bool

	from []string // what a value of it can be taken from
	size int      // values of the smallest instance
}

// prop is a member of an object.
type prop struct {
	name               string
	required           bool
	readOnly, hideable bool
	*shape
}

// endless is the size of what has no finite instance.
const endless = math.MaxInt32

// part is a schema that a value must satisfy together with others.
type part struct {
	schema *openapi3.Schema
	at     place
	chosen bool // its alternatives are dealt with
}

// The bounds of a union of alternatives.
const (
	maxParts = 64
	maxAlts  = 32
)

// shape returns what a schema says.
func (r *reader) shape(ref *openapi3.SchemaRef, at place) (*shape, error) {
	parts, err := r.parts(nil, ref, at)
	if err != nil {
		return nil, err
	}
	return r.compile(parts)
}

// parts adds a schema to others that are to hold, and all that it wants to hold beside.
func (r *reader) parts(all []part, ref *openapi3.SchemaRef, at place) ([]part, error) {
	if ref == nil {
		return all, nil
	}
	at = at.follow(ref.Ref)
	if ref.Value == nil {
		return nil, r.circular(at, ref.Ref)
	}
	if slices.ContainsFunc(all, func(p part) bool { return p.schema == ref.Value }) {
		return all, nil
	}
	if len(all) >= maxParts {
		return nil, r.fail(at, "%s: more than %d schemas are to hold at once", at, maxParts)
	}
	all = append(all, part{schema: ref.Value, at: at})
	for i, sub := range ref.Value.AllOf {
		var err error
		if all, err = r.parts(all, sub, at.to("allOf", strconv.Itoa(i))); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// compile returns the shape of what satisfies all parts.
func (r *reader) compile(parts []part) (*shape, error) {
	var key strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&key, "%p %v ", p.schema, p.chosen)
	}
	if s := r.shapes[key.String()]; s != nil {
		return s, nil
	}
	s := &shape{most: math.MaxInt}
	if len(parts) > 0 {
		s.at = parts[0].at
	}
	if len(r.order) >= maxShapes {
		return nil, r.fail(s.at, "requests and replies are made of more than %d schemas: give a document with fewer operations", maxShapes)
	}
	r.shapes[key.String()] = s
	r.order = append(r.order, s)
	return s, r.fill(s, parts)
}

func (r *reader) fill(s *shape, parts []part) error {
	all := make([]*openapi3.Schema, len(parts))
	for i, p := range parts {
		all[i] = p.schema
		if s.title == "" && len(p.at.path) > 2 && p.at.path[len(p.at.path)-2] == "schemas" {
			s.title = p.at.path[len(p.at.path)-1]
		}
		if s.doc == "" {
			s.doc = p.schema.Description
		}
	}
	s.describe(all)
	kinds, nullable := types(all)
	s.nullable = nullable
	if never(all) || kinds != nil && len(kinds) == 0 && !nullable {
		s.kind, s.size = "never", endless
		return nil
	}
	if consts := fixed(all); consts != nil {
		return r.enumerate(s, consts)
	}
	for i, p := range parts {
		if p.chosen {
			continue
		}
		if group, at := r.alternatives(p); len(group) > 0 {
			return r.choose(s, parts, i, group, at)
		}
	}
	if len(kinds) > 1 {
		return r.split(s, parts, kinds)
	}
	switch {
	case len(kinds) == 1:
		s.kind = kinds[0]
	case nullable && kinds != nil:
		s.kind = "null"
	default:
		s.kind = implied(all)
	}
	switch s.kind {
	case "object":
		return r.object(s, parts)
	case "array":
		return r.array(s, parts)
	}
	return r.scalar(s, all)
}

// describe takes examples and the format over.
func (s *shape) describe(all []*openapi3.Schema) {
	for _, x := range all {
		if s.format == "" {
			s.format = x.Format
		}
		for _, e := range slices.Concat([]any{x.Example}, x.Examples, []any{x.Default}) {
			if v, ok := example(e); ok && len(s.examples) < 16 {
				s.examples = append(s.examples, v)
			}
		}
	}
}

// types returns the types that all schemas allow, nil where none says; and whether null is one.
func types(all []*openapi3.Schema) (kinds []string, nullable bool) {
	nullable = true
	any, said := false, false
	for _, x := range all {
		if x.Type == nil || len(*x.Type) == 0 {
			continue
		}
		some := slices.DeleteFunc(slices.Clone(*x.Type), func(t string) bool { return t == "null" })
		any = any || x.Nullable
		nullable = nullable && (x.Nullable || slices.Contains(*x.Type, "null"))
		if !said {
			kinds, said = some, true
			continue
		}
		kinds = slices.DeleteFunc(kinds, func(t string) bool {
			return !slices.Contains(some, t) && !(t == "integer" && slices.Contains(some, "number"))
		})
	}
	if !said {
		return nil, slices.ContainsFunc(all, func(x *openapi3.Schema) bool { return x.Nullable })
	}
	if kinds == nil {
		kinds = []string{}
	}
	// Not every description that makes something nullable repeats that in each of its parts.
	return kinds, nullable || any && len(all) > 1
}

// never reports whether one of the schemas accepts nothing.
func never(all []*openapi3.Schema) bool {
	return slices.ContainsFunc(all, func(x *openapi3.Schema) bool { return x.Always != nil && !*x.Always })
}

// fixed returns the values that an enumeration or a constant leaves; nil where there is none.
func fixed(all []*openapi3.Schema) []value {
	var out []value
	for _, x := range all {
		some := x.Enum
		if x.Const != nil {
			some = []any{x.Const}
		}
		if len(some) == 0 {
			continue
		}
		var these []value
		for _, e := range some {
			if v, ok := given(e); ok {
				these = append(these, v)
			}
		}
		if out != nil {
			these = slices.DeleteFunc(these, func(v value) bool {
				return !slices.ContainsFunc(out, func(w value) bool { return v.contract() == w.contract() })
			})
		}
		out = these
		if out == nil {
			out = []value{}
		}
	}
	return out
}

// implied is the type that a schema without one plainly means; "" where it can be anything.
func implied(all []*openapi3.Schema) string {
	for _, x := range all {
		switch {
		case len(x.Properties) > 0 || len(x.Required) > 0 || x.AdditionalProperties.Schema != nil:
			return "object"
		case x.Items != nil || len(x.PrefixItems) > 0:
			return "array"
		case x.Pattern != "" || x.MaxLength != nil || x.MinLength > 0 || formats[x.Format] != "":
			return "string"
		case x.Min != nil || x.Max != nil || x.MultipleOf != nil || x.ExclusiveMin.Value != nil || x.ExclusiveMax.Value != nil:
			return "number"
		}
	}
	return ""
}

// enumerate makes a shape of given values.
func (r *reader) enumerate(s *shape, values []value) error {
	if len(values) == 0 {
		s.kind, s.size = "never", endless
		return nil
	}
	some := make([]harness.Value, len(values))
	words := make([]string, len(values))
	s.kind = "string"
	for i, v := range values {
		some[i] = v.contract()
		words[i] = some[i].Text
		if some[i].Form != harness.FormText && !v.isNull() {
			s.kind = "" // numbers and objects are told by their text
		}
	}
	s.size, s.leaf, s.nullable = 1, harness.OneOf(some...), false
	s.about = "one of " + short(strings.Join(words, " "))
	if len(some) == 1 {
		s.leaf, s.about = harness.Const(some[0]), "always "+short(words[0])
	}
	s.examples = slices.DeleteFunc(s.examples, func(v value) bool { return !slices.Contains(some, v.contract()) })
	return nil
}

// short bounds a description.
func short(s string) string {
	if r := []rune(s); len(r) > 120 {
		return string(r[:117]) + "..."
	}
	return s
}

// alternatives returns those of a schema, and where they stand: what inherits from a schema
// that says how its heirs are told apart is one, too.
func (r *reader) alternatives(p part) (openapi3.SchemaRefs, place) {
	switch x := p.schema; {
	case len(x.OneOf) > 0:
		return x.OneOf, p.at.to("oneOf")
	case len(x.AnyOf) > 0:
		return x.AnyOf, p.at.to("anyOf")
	case x.Discriminator != nil:
		return r.heirs(x), place{file: r.root}
	}
	return nil, place{}
}

// heirs returns the schemas that inherit from one by allOf, also by way of others.
func (r *reader) heirs(x *openapi3.Schema) openapi3.SchemaRefs {
	if r.t.Components == nil {
		return nil
	}
	if r.kids == nil {
		r.kids = map[*openapi3.Schema]openapi3.SchemaRefs{}
		for _, name := range sortedKeys(r.t.Components.Schemas) {
			kid := r.t.Components.Schemas[name]
			if kid == nil || kid.Value == nil || kid.Ref != "" { // another name for a schema
				continue
			}
			at := place{path: []string{"components", "schemas", name}}
			for _, of := range kid.Value.AllOf {
				if of != nil && of.Value != nil {
					r.kids[of.Value] = append(r.kids[of.Value], &openapi3.SchemaRef{Ref: at.String(), Value: kid.Value})
				}
			}
		}
	}
	all := slices.Clone(r.kids[x])
	for i := 0; i < len(all) && len(all) <= maxAlts; i++ {
		for _, kid := range r.kids[all[i].Value] {
			if !slices.ContainsFunc(all, func(a *openapi3.SchemaRef) bool { return a.Value == kid.Value }) {
				all = append(all, kid)
			}
		}
	}
	return all
}

// choose makes a shape of the alternatives of one part.
func (r *reader) choose(s *shape, parts []part, i int, group openapi3.SchemaRefs, at place) error {
	chosen := slices.Clone(parts)
	chosen[i].chosen = true
	d := parts[i].schema.Discriminator
	is := func(ref *openapi3.SchemaRef, p part) bool { return ref != nil && p.schema == ref.Value }
	settled := slices.IndexFunc(parts, func(p part) bool { // what holds anyway
		return !p.chosen && p.schema != parts[i].schema && slices.ContainsFunc(group, func(ref *openapi3.SchemaRef) bool { return is(ref, p) })
	})
	for n, ref := range group {
		if len(s.alts) == maxAlts {
			r.note("%s: of more than %d alternatives the first are drawn", s.at, maxAlts)
			break
		}
		if ref == nil || ref.Value == nil || settled >= 0 && !is(ref, parts[settled]) ||
			settled < 0 && slices.ContainsFunc(parts, func(p part) bool { return is(ref, p) }) {
			continue // itself, or out of the question
		}
		more, err := r.parts(chosen, ref, at.to(strconv.Itoa(n)))
		if err != nil {
			return err
		}
		if x := tagged(d, ref.Ref, more); x != nil {
			more = append(slices.Clone(more), part{schema: x, at: parts[i].at})
		}
		if settled >= 0 {
			s.examples = nil
			return r.fill(s, more)
		}
		alt, err := r.compile(more)
		if err != nil {
			return err
		}
		s.alts = append(s.alts, alt)
	}
	if len(s.alts) == 0 {
		s.kind, s.size = "never", endless
	}
	return nil
}

// tagged is a schema that says which alternative an object is; nil where nothing does, or the
// alternative says so itself.
func tagged(d *openapi3.Discriminator, ref string, parts []part) *openapi3.Schema {
	if d == nil || d.PropertyName == "" || ref == "" {
		return nil
	}
	tag := ref[strings.LastIndexByte(ref, '/')+1:]
	for _, name := range slices.Sorted(maps.Keys(d.Mapping)) {
		if to := d.Mapping[name].Ref; to == ref || strings.HasSuffix(ref, "/"+to) {
			tag = name
			break
		}
	}
	for _, p := range parts {
		x := p.schema.Properties[d.PropertyName]
		if x == nil || x.Value == nil {
			continue
		}
		said := fixed([]*openapi3.Schema{x.Value})
		if said != nil && !slices.ContainsFunc(said, func(v value) bool { return v.contract() == harness.Text(tag) }) {
			return nil
		}
	}
	return &openapi3.Schema{
		Properties: openapi3.Schemas{d.PropertyName: {Value: &openapi3.Schema{Type: &openapi3.Types{"string"}, Const: tag}}},
		Required:   []string{d.PropertyName},
	}
}

// split makes a shape of several types.
func (r *reader) split(s *shape, parts []part, kinds []string) error {
	for _, k := range kinds {
		alt, err := r.compile(append(slices.Clone(parts), part{schema: &openapi3.Schema{Type: &openapi3.Types{k}}, at: s.at}))
		if err != nil {
			return err
		}
		s.alts = append(s.alts, alt)
	}
	return nil
}

// object fills in a shape of objects.
func (r *reader) object(s *shape, parts []part) error {
	refs := map[string][]part{}
	required := map[string]bool{}
	for _, p := range parts {
		for _, name := range slices.Sorted(maps.Keys(p.schema.Properties)) {
			more, err := r.parts(refs[name], p.schema.Properties[name], p.at.to("properties", name))
			if err != nil {
				return err
			}
			refs[name] = more
		}
		for _, name := range p.schema.Required {
			required[name] = true
		}
		s.least = max(s.least, bounded(p.schema.MinProps))
		if p.schema.MaxProps != nil {
			s.most = min(s.most, bounded(*p.schema.MaxProps))
		}
		if x := p.schema.AdditionalProperties.Schema; x != nil && s.extra == nil {
			extra, err := r.shape(x, p.at.to("additionalProperties"))
			if err != nil {
				return err
			}
			s.extra = extra
		}
	}
	for _, name := range slices.Sorted(maps.Keys(required)) {
		if refs[name] == nil && len(s.props) < maxParts { // wanted, and not described
			some, err := r.compile([]part{{schema: &openapi3.Schema{Type: &openapi3.Types{"string"}}, at: s.at.to("required")}})
			if err != nil {
				return err
			}
			s.props = append(s.props, prop{name: name, required: true, shape: some})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(refs)) {
		sub, err := r.compile(refs[name])
		if err != nil {
			return err
		}
		p := prop{name: name, required: required[name], shape: sub}
		for _, x := range refs[name] {
			p.readOnly = p.readOnly || x.schema.ReadOnly
			p.hideable = p.hideable || x.schema.WriteOnly
		}
		s.props = append(s.props, p)
	}
	slices.SortFunc(s.props, func(a, b prop) int { return strings.Compare(a.name, b.name) })
	return nil
}

// bounded converts a count from a document.
func bounded(n uint64) int { return int(min(n, maxText)) }

// array fills in a shape of arrays.
func (r *reader) array(s *shape, parts []part) error {
	var items []part
	for _, p := range parts {
		var err error
		ref, at := p.schema.Items, p.at.to("items")
		if ref == nil && len(p.schema.PrefixItems) > 0 {
			ref, at = p.schema.PrefixItems[0], p.at.to("prefixItems", "0")
		}
		if items, err = r.parts(items, ref, at); err != nil {
			return err
		}
		s.least = max(s.least, bounded(p.schema.MinItems))
		if p.schema.MaxItems != nil {
			s.most = min(s.most, bounded(*p.schema.MaxItems))
		}
		s.distinct = s.distinct || p.schema.UniqueItems
	}
	if items == nil {
		items = []part{{schema: &openapi3.Schema{}, at: s.at}}
	}
	if s.least > s.most {
		s.size = endless
		return r.fail(s.at, "%s: minItems is above maxItems: no array has so many elements", s.at)
	}
	var err error
	s.items, err = r.compile(items)
	return err
}

// scalar fills in a shape of texts, numbers and the like.
func (r *reader) scalar(s *shape, all []*openapi3.Schema) error {
	s.size = 1
	switch s.kind {
	case "null":
		s.leaf, s.about, s.nullable = harness.Const(nothing), "null", false
	case "boolean":
		s.leaf = harness.OneOf(harness.Value{Form: harness.FormJSON, Text: "false"}, harness.Value{Form: harness.FormJSON, Text: "true"})
		s.about = "true or false"
	case "integer", "number":
		return r.number(s, all)
	case "string":
		return r.text(s, all)
	default:
		s.leaf, s.about = harness.Strings(0, textMost), "anything"
	}
	return nil
}

func (r *reader) number(s *shape, all []*openapi3.Schema) error {
	l := limits{lo: math.Inf(-1), hi: math.Inf(1), whole: s.kind == "integer", small: s.format == "int32"}
	for _, x := range all {
		low := func(v float64, open bool) {
			if v > l.lo || v == l.lo && open {
				l.lo, l.loOpen = v, open
			}
		}
		high := func(v float64, open bool) {
			if v < l.hi || v == l.hi && open {
				l.hi, l.hiOpen = v, open
			}
		}
		if x.Min != nil {
			low(*x.Min, x.ExclusiveMin.IsTrue())
		}
		if x.Max != nil {
			high(*x.Max, x.ExclusiveMax.IsTrue())
		}
		if x.ExclusiveMin.Value != nil {
			low(*x.ExclusiveMin.Value, true)
		}
		if x.ExclusiveMax.Value != nil {
			high(*x.ExclusiveMax.Value, true)
		}
		if x.MultipleOf != nil {
			l.step = *x.MultipleOf
		}
	}
	if math.IsNaN(l.lo) || math.IsNaN(l.hi) || math.IsNaN(l.step) || math.IsInf(l.step, 0) {
		return r.fail(s.at, "%s: a bound is no number", s.at)
	}
	var err error
	if s.leaf, err = numbers(l); err != nil {
		return r.fail(s.at, "%s: %v", s.at, err)
	}
	s.about = "a number"
	if l.whole {
		s.about = "a whole number"
	}
	if !math.IsInf(l.lo, -1) {
		s.about += fmt.Sprintf(" from %v", l.lo)
	}
	if !math.IsInf(l.hi, 1) {
		s.about += fmt.Sprintf(" to %v", l.hi)
	}
	return nil
}

func (r *reader) text(s *shape, all []*openapi3.Schema) error {
	lo, hi, pattern := 0, math.MaxInt, ""
	for _, x := range all {
		lo = max(lo, bounded(x.MinLength))
		if x.MaxLength != nil {
			hi = min(hi, bounded(*x.MaxLength))
		}
		if pattern == "" {
			pattern = x.Pattern
		}
	}
	if lo > hi {
		return r.fail(s.at, "%s: minLength is above maxLength: no text is so long", s.at)
	}
	form := pattern
	if pattern == "" {
		form = formats[s.format]
	}
	if form != "" && len(form) <= 1000 {
		d, err := harness.Pattern(form)
		fits := err == nil
		if fits && (lo > 0 || hi < math.MaxInt) {
			d, fits = fit(d, lo, hi)
		}
		if fits {
			s.leaf, s.about = d, short(form)
			if pattern == "" {
				s.about = s.format
			}
			return nil
		}
	}
	if pattern != "" {
		r.note("%s: no text is drawn that matches the pattern %s: any text is", s.at, short(pattern))
	}
	open := hi == math.MaxInt
	if open {
		hi = max(textMost, lo+textMost)
	}
	s.leaf = harness.Strings(lo, hi)
	s.about = fmt.Sprintf("a text of %d to %d characters", lo, hi)
	if open {
		s.about = "a text"
	}
	return nil
}

// settle computes the size of the smallest instance of every shape: what a shape consists of
// comes before it where that can be, and what has become smaller makes others smaller.
func (r *reader) settle() {
	wholes := map[*shape][]*shape{}
	for _, s := range r.order {
		if s.leaf == nil || s.size == 0 {
			s.size = endless
		}
		for _, p := range s.consists() {
			wholes[p] = append(wholes[p], s)
		}
	}
	next := slices.Clone(r.order)
	slices.Reverse(next) // what a shape consists of was mostly made after it
	for len(next) > 0 {
		s := next[0]
		next = next[1:]
		if n := s.smallest(); n < s.size {
			s.size = n
			next = append(next, wholes[s]...)
		}
	}
}

// consists returns what the size of a shape depends on.
func (s *shape) consists() []*shape {
	switch {
	case s.leaf != nil || s.kind == "never":
		return nil
	case len(s.alts) > 0:
		return s.alts
	case s.kind == "array":
		return []*shape{s.items}
	}
	var out []*shape
	for _, p := range s.props {
		if p.required && !p.readOnly {
			out = append(out, p.shape)
		}
	}
	return out
}

func (s *shape) smallest() int {
	n := endless
	switch {
	case s.kind == "never":
		return endless
	case s.leaf != nil:
		return s.size
	case len(s.alts) > 0:
		for _, a := range s.alts {
			n = min(n, a.size)
		}
	case s.kind == "array":
		n = 1
		if s.least > 0 {
			n = min(1+s.least*min(s.items.size, endless/maxText), endless)
			if s.items.size >= endless/maxText {
				n = endless
			}
		}
	case s.kind == "object":
		n = 1
		for _, p := range s.props {
			if p.required && !p.readOnly {
				n = min(n+p.size, endless)
			}
		}
	}
	if s.nullable {
		n = min(n, 1)
	}
	return n
}

// finite returns an error where a shape has no instance that could be drawn.
func (r *reader) finite(s *shape, what string) error {
	if s.size < maxLeast {
		return nil
	}
	seen := map[*shape]bool{}
	for at := s; ; {
		if seen[at] {
			return r.fail(at.at, "%s: the schema %s wants itself within itself, so that no value of it ends: make a property on the way optional, or nullable", what, at.at)
		}
		seen[at] = true
		next := at.culprit()
		if next == nil {
			if at.kind == "never" {
				return r.fail(at.at, "%s: no value satisfies the schema %s", what, at.at)
			}
			return r.fail(s.at, "%s: a value of the schema %s consists of more than %d values at least", what, s.at, maxLeast)
		}
		at = next
	}
}

// culprit returns a part for which a shape is endless.
func (s *shape) culprit() *shape {
	if s.size < endless {
		return nil
	}
	for _, p := range s.consists() {
		if p.size >= endless {
			return p
		}
	}
	return nil
}

// main returns the first alternative that is more than null.
func (s *shape) main() *shape {
	for len(s.alts) > 0 {
		i := slices.IndexFunc(s.alts, func(a *shape) bool { return a.kind != "null" })
		s = s.alts[max(i, 0)]
	}
	return s
}

// plain reports whether a value of the schema is a scalar.
func (s *shape) plain() bool { return s.leaf != nil }

// draws returns the domain of a shape as it stands in a request.
func (s *shape) draws() harness.Domain {
	if !s.plain() {
		return newTree(s)
	}
	d := s.leaf
	if s.nullable {
		d = orNull{d}
	}
	if len(s.examples) > 0 {
		var some []harness.Value
		for _, v := range s.examples {
			some = append(some, v.contract())
		}
		d = usual{d, some, s.about == "a text" || s.about == "anything"}
	}
	return d
}

// words describes a shape in a few words.
func (s *shape) words(depth int) string {
	var out string
	switch {
	case s.leaf != nil:
		out = s.about
		if len(s.examples) > 0 {
			out += ", such as " + short(s.examples[0].contract().Text)
		}
	case s.kind == "never":
		return "nothing"
	case depth == 0:
		out = "..."
	case len(s.alts) > 0:
		some := make([]string, len(s.alts))
		for i, a := range s.alts {
			some[i] = a.words(depth - 1)
		}
		out = "either " + strings.Join(some, ", or ")
	case s.kind == "array":
		out = "a list"
		if s.least > 0 || s.most < math.MaxInt {
			out += fmt.Sprintf(" of %d", s.least)
			if s.most < math.MaxInt {
				out += fmt.Sprintf(" to %d", s.most)
			} else {
				out += " or more"
			}
		}
		out += ": " + s.items.words(depth-1)
	default:
		var some []string
		for _, p := range s.props {
			if p.readOnly {
				continue
			}
			name := p.name + ": " + p.words(depth-1)
			if !p.required {
				name = "[" + name + "]"
			}
			some = append(some, name)
		}
		if s.extra != nil {
			some = append(some, "*: "+s.extra.words(depth-1))
		}
		out = "{" + strings.Join(some, ", ") + "}"
	}
	if len(s.from) > 0 {
		out = "from " + strings.Join(s.from, ", ")
	}
	if s.nullable {
		out += ", or null"
	}
	return out
}
