package openapi

import (
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/getkin/kin-openapi/openapi3"
)

// source is a field of the reply of a request that makes or lists something.
type source struct {
	q     *request
	path  string   // of the field: "id", "order.id", "0.id"
	words []string // of its name
	kind  string
	deep  bool // within a list: what was there before
}

// The bounds of looking for sources.
const (
	sourceDepth = 3
	mostSources = 64 // of one reply
	mostFrom    = 6  // of one param
)

// refer says of every param that another request's reply can give it where it comes from.
// What links say counts first; then what names and types say, of requests that make
// something, or else of those that list what there is.
func (r *reader) refer(all []*request) {
	r.all = all
	byID := map[string]*request{}
	for _, q := range all {
		if q.id != "" && byID[q.id] == nil {
			byID[q.id] = q
		}
	}
	for _, q := range all {
		r.links(q, all, byID)
	}
	for _, q := range all {
		if q.reply != nil && q.Method != "DELETE" && q.Method != "HEAD" {
			r.sources = append(r.sources, fields(q, q.reply, "", nil, false, 0)...)
		}
	}
	for _, q := range all {
		for i := range q.params {
			p := &q.params[i]
			if !p.linked {
				p.From = r.from(q, p)
			}
		}
	}
	seen := map[*shape]bool{}
	for _, q := range all {
		for i := range q.params {
			if p := &q.params[i]; p.in == "body" && !p.shape.plain() {
				r.within(q, p.shape, seen)
			}
		}
	}
}

// links takes over what the replies of a request say about others.
func (r *reader) links(q *request, all []*request, byID map[string]*request) {
	if q.op.Responses == nil {
		return
	}
	for _, status := range sortedKeys(q.op.Responses.Map()) {
		resp := q.op.Responses.Map()[status]
		if resp == nil || resp.Value == nil || !strings.HasPrefix(status, "2") {
			continue
		}
		for _, name := range sortedKeys(resp.Value.Links) {
			l := resp.Value.Links[name]
			if l == nil || l.Value == nil {
				continue
			}
			to := byID[l.Value.OperationID]
			if ref := l.Value.OperationRef; to == nil && strings.HasPrefix(ref, "#/paths/") {
				at := q.at.follow(ref).path
				i := slices.IndexFunc(all, func(x *request) bool { return slices.Equal(x.at.path, at) })
				if i >= 0 {
					to = all[i]
				}
			}
			if to == nil {
				r.note("the link %s of %s %s leads to no operation that is made use of", short(name), q.Method, q.Path)
				continue
			}
			to.link(q, l.Value)
		}
	}
}

// link takes over one link that leads to q.
func (q *request) link(from *request, l *openapi3.Link) {
	for _, key := range sortedKeys(l.Parameters) {
		expr, _ := l.Parameters[key].(string)
		field, ok := replyField(expr)
		if !ok {
			continue
		}
		in, name, qualified := strings.Cut(key, ".")
		if !qualified || !slices.Contains([]string{"path", "query", "header", "cookie"}, in) {
			in, name = "", key
		}
		for i := range q.params {
			p := &q.params[i]
			if p.name == name && (in == "" || p.in == in) && p.in != "body" && (from != q || p.Optional) {
				p.From, p.linked = append(p.From, from.Name+"."+field), true
			}
		}
	}
	if body, ok := l.RequestBody.(map[string]any); ok {
		for _, key := range sortedKeys(body) {
			expr, _ := body[key].(string)
			field, ok := replyField(expr)
			for i := range q.params {
				p := &q.params[i]
				if ok && p.in == "body" && p.name == key && p.shape.plain() && (from != q || p.Optional) {
					p.From, p.linked = append(p.From, from.Name+"."+field), true
				}
			}
		}
	}
}

var (
	bodyField = regexp.MustCompile(`^\{?\$response\.body#((?:/[A-Za-z0-9_$@-]+)+)\}?$`)
	headField = regexp.MustCompile(`^\{?\$response\.header\.([A-Za-z0-9-]+)\}?$`)
)

// replyField returns the field of a reply that a runtime expression means.
func replyField(expr string) (string, bool) {
	if m := bodyField.FindStringSubmatch(expr); m != nil {
		return strings.ReplaceAll(m[1][1:], "/", "."), true
	}
	if m := headField.FindStringSubmatch(expr); m != nil {
		name := http.CanonicalHeaderKey(m[1])
		if name == "Location" {
			return "header.Location.last", true
		}
		return "header." + name, true
	}
	return "", false
}

var plainField = regexp.MustCompile(`^[A-Za-z0-9_$@-]+$`)

// fields returns what the replies of a request hold that others can refer to.
func fields(q *request, s *shape, path string, words []string, deep bool, depth int) []source {
	var out []source
	s = s.main()
	join := func(name string) string { return strings.TrimPrefix(path+"."+name, ".") }
	switch {
	case s.plain():
		if path != "" && (s.kind == "string" || s.kind == "integer" || s.kind == "") && s.kind != "boolean" {
			out = append(out, source{q, path, words, s.kind, deep})
		}
	case depth > sourceDepth:
	case s.kind == "array":
		out = fields(q, s.items, join("0"), words, true, depth+1)
	default:
		for _, p := range s.props {
			if !p.hideable && plainField.MatchString(p.name) && len(out) < mostSources {
				out = append(out, fields(q, p.shape, join(p.name), split(p.name), deep, depth+1)...)
			}
		}
	}
	return out
}

// split cuts a name into words: orderId, order_id and order-id are order and id.
func split(name string) []string {
	var out []string
	word := []rune{}
	end := func() {
		if len(word) > 0 {
			out = append(out, strings.ToLower(string(word)))
		}
		word = word[:0]
	}
	runes := []rune(name)
	for i, c := range runes {
		switch {
		case !unicode.IsLetter(c) && !unicode.IsDigit(c):
			end()
			continue
		case unicode.IsUpper(c) && i > 0 && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])):
			end()
		}
		word = append(word, c)
	}
	end()
	return out
}

// keys are the words that name what tells one thing from the others of its kind, those first
// that say nothing else.
var keys = []string{"id", "uuid", "guid", "uid", "key", "ref", "slug", "code", "sku", "number", "no", "name"}

// from returns where a param can come from.
func (r *reader) from(q *request, p *input) []string {
	words := split(p.name)
	kind := p.shape.kind
	if !p.shape.plain() || len(words) == 0 || enumerated(p.shape) {
		return nil
	}
	last := words[len(words)-1]
	named := slices.Contains(keys, last)
	entity := words
	if named {
		entity = words[:len(words)-1]
	}
	var entities []string
	switch {
	case p.in == "path":
		before := parent(q.Path, p.Key)
		if len(entity) > 0 {
			entities = append(entities, strings.Join(entity, " "))
		}
		if before != "" {
			entities = append(entities, before)
		}
	case len(entity) > 0 && slices.Contains([]string{"id", "uuid", "guid", "uid"}, last):
		entities = []string{strings.Join(entity, " ")}
	default:
		return nil
	}
	if n := len(entity); n > 1 { // from_account is an account
		entities = append(entities, entity[n-1])
	}
	self := func(x *request) bool { return x == q && !p.Optional }
	for _, made := range []bool{true, false} {
		var found []string
		rank := func(x source) int { return x.rank(words, named, p.in == "path") }
		var some []source
		for _, x := range r.sources {
			making := x.q.Method == "POST" && !x.deep
			if making == made && !self(x.q) && (made || len(p.shape.examples) == 0) && suits(kind, x.kind) &&
				!x.q.takes(entities) && x.of(entities, r.all) && rank(x) >= 0 {
				some = append(some, x)
			}
		}
		slices.SortStableFunc(some, func(a, b source) int { return rank(a) - rank(b) })
		for _, x := range some {
			if len(found) < mostFrom && rank(x) == rank(some[0]) {
				found = append(found, x.refs()...)
			}
		}
		if len(found) == 0 && made && p.in == "path" {
			found = q.location(p, r.all)
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// takes reports whether a request is about a thing of some kinds that is there already.
func (q *request) takes(entities []string) bool {
	return slices.ContainsFunc(q.params, func(p input) bool {
		return p.in == "path" && slices.Contains(entities, parent(q.Path, p.Key))
	})
}

// refs returns what can be referred to: of a list the first few.
func (x source) refs() []string {
	if !x.deep {
		return []string{x.q.Name + "." + x.path}
	}
	parts := strings.Split(x.q.Name+"."+x.path, ".")
	at := slices.Index(parts[1:], "0") + 1
	var out []string
	for i := range 3 {
		parts[at] = strconv.Itoa(i)
		out = append(out, strings.Join(parts, "."))
	}
	return out
}

// enumerated reports whether the document says all values.
func enumerated(s *shape) bool {
	return strings.HasPrefix(s.about, "one of ") || strings.HasPrefix(s.about, "always ")
}

// suits reports whether a value of one type can stand where another is wanted.
func suits(want, have string) bool {
	return want == have || want == "" || have == "" || want == "string" && have == "integer"
}

// of reports whether a field tells one of some kinds of things from others.
func (x source) of(entities []string, all []*request) bool {
	whole := strings.Join(x.words, " ")
	for _, e := range entities {
		if slices.Contains(x.q.makes(), e) {
			return true
		}
		// "order_id" says itself what it is of; but what was given is only given back.
		for _, k := range keys[:4] {
			if whole == e+" "+k && !x.echo(all) {
				return true
			}
		}
	}
	return false
}

// echo reports whether a request, or another one about such things, takes what the field of its
// reply is named after.
func (x source) echo(all []*request) bool {
	kinds := x.q.makes()
	return slices.ContainsFunc(all, func(q *request) bool {
		akin := q == x.q || slices.ContainsFunc(q.makes(), func(k string) bool { return slices.Contains(kinds, k) })
		return akin && slices.ContainsFunc(q.params, func(p input) bool { return slices.Equal(split(p.name), x.words) })
	})
}

// rank says how well a field suits a param by its name, the best first; -1 for not at all.
func (x source) rank(want []string, named, inPath bool) int {
	depth := 10 * strings.Count(x.path, ".")
	switch {
	case slices.Equal(x.words, want):
		return depth
	case len(x.words) > 1 && slices.Contains(keys[:4], x.words[len(x.words)-1]) && slices.Equal(x.words, append(slices.Clone(want), x.words[len(x.words)-1])):
		return depth + 1
	case named && len(x.words) == 1 && x.words[0] == want[len(want)-1]:
		return depth + 1
	case len(x.words) == 1 && slices.Contains(keys[:4], x.words[0]):
		return depth + 2
	case !inPath || named && len(want) > 0 && want[len(want)-1] != "id":
		return -1
	}
	if i := slices.Index(keys, x.words[len(x.words)-1]); i >= 0 && len(x.words) == 1 {
		return depth + 3 + i
	}
	return -1
}

// makes returns the kinds of things that a request makes, or lists.
func (q *request) makes() []string {
	var out []string
	parts := strings.Split(strings.Trim(q.Path, "/"), "/")
	for i := len(parts) - 1; i >= 0; i-- {
		if !strings.HasPrefix(parts[i], "{") && parts[i] != "" {
			out = append(out, kindOf(parts[i]))
			break
		}
	}
	for s := q.reply; s != nil; s = s.items {
		if s.title != "" {
			out = append(out, strings.Join(split(s.title), " "))
		}
	}
	return out
}

// kindOf returns what one of the things is called that a part of a path is named after.
func kindOf(part string) string {
	words := split(part)
	if len(words) == 0 {
		return ""
	}
	words[len(words)-1] = singular(words[len(words)-1])
	return strings.Join(words, " ")
}

// parent returns the kind of things that the part of the path before a placeholder names.
func parent(path, key string) string {
	before, _, found := strings.Cut(path, "/{"+strings.TrimPrefix(key, "path.")+"}")
	if !found {
		return ""
	}
	part := before[strings.LastIndexByte(before, '/')+1:]
	if strings.HasPrefix(part, "{") {
		return ""
	}
	return kindOf(part)
}

// location returns the requests that say by a Location what they have made, of what the param
// tells apart.
func (q *request) location(p *input, all []*request) []string {
	var out []string
	before, _, _ := strings.Cut(q.Path, "/{"+strings.TrimPrefix(p.Key, "path.")+"}")
	for _, x := range all {
		if x.Method == "POST" && x != q && strings.TrimSuffix(x.Path, "/") == before && (x.where || x.empty) {
			out = append(out, x.Name+".header.Location.last")
		}
	}
	return out
}

// within says of the parts of a body that is drawn as a whole where they come from.
func (r *reader) within(q *request, s *shape, seen map[*shape]bool) {
	if seen[s] {
		return
	}
	seen[s] = true
	for _, a := range s.alts {
		r.within(q, a, seen)
	}
	if s.items != nil {
		r.within(q, s.items, seen)
	}
	if s.extra != nil {
		r.within(q, s.extra, seen)
	}
	for i, p := range s.props {
		if !p.plain() {
			r.within(q, p.shape, seen)
			continue
		}
		in := &input{Param: Param{Key: "body." + strconv.Itoa(i)}, shape: p.shape, in: "body", name: p.name}
		if from := r.from(q, in); len(from) > 0 {
			c := *p.shape // the schema may be that of other members, too
			c.from = from
			s.props[i].shape = &c
		}
	}
}
