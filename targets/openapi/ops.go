package openapi

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/shakedown-go/shakedown/harness"
)

// request is an op while it is read.
type request struct {
	Op
	id     string // operationId
	at     place
	op     *openapi3.Operation
	params []input
	reply  *shape // of its first success; nil where there is none in JSON
	where  bool   // a success says by Location what it has made
	empty  bool   // a 201 without a described body
}

// input is a param with its shape.
type input struct {
	Param
	shape  *shape
	in     string // path, query, header, cookie, body
	name   string
	linked bool // a link says where it comes from
}

// ops reads all operations.
func (r *reader) ops() error {
	r.doc.Schemes = r.schemes()
	taken := map[string]bool{}
	var all []*request
	if r.t.Paths == nil || r.t.Paths.Len() == 0 {
		return r.fail(place{r.root, []string{"paths"}}, "the document has no paths: there is nothing to ask of the service")
	}
	paths := r.t.Paths.Map()
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		item := paths[path]
		if item == nil {
			continue
		}
		methods := item.Operations()
		for _, method := range slices.Sorted(maps.Keys(methods)) {
			if method == http.MethodConnect || method == http.MethodTrace || methods[method] == nil {
				continue
			}
			if len(all) == maxOps {
				r.note("of more than %d operations the first are made use of", maxOps)
				continue
			}
			q := &request{Op: Op{Method: method}, op: methods[method], id: methods[method].OperationID}
			if q.Name = unique(name(q.id, method, path), taken); r.skip != nil && r.skip(q.Name) {
				continue
			}
			q.at = place{r.root, []string{"paths", path}}.follow(item.Ref)
			q.at = q.at.to(strings.ToLower(method))
			if err := r.operation(q, path, item); err != nil {
				return err
			}
			q.Path = r.prefix(q.op, item) + q.Path
			all = append(all, q)
		}
	}
	r.settle()
	if err := r.check(all); err != nil {
		return err
	}
	r.refer(all)
	slices.SortFunc(all, func(a, b *request) int { return strings.Compare(a.Name, b.Name) })
	for _, q := range all {
		q.flatten()
		r.doc.Ops = append(r.doc.Ops, q.Op)
	}
	r.doc.Login = r.login(all)
	return nil
}

// prefix is the path of the first server of an operation, or else of its path or of the
// document: it stands before the path.
func (r *reader) prefix(op *openapi3.Operation, item *openapi3.PathItem) string {
	servers := r.t.Servers
	if len(item.Servers) > 0 {
		servers = item.Servers
	}
	if op.Servers != nil && len(*op.Servers) > 0 {
		servers = *op.Servers
	}
	if len(servers) == 0 || servers[0] == nil {
		return ""
	}
	s := servers[0]
	at := s.URL
	for _, name := range slices.Sorted(maps.Keys(s.Variables)) {
		if v := s.Variables[name]; v != nil {
			at = strings.ReplaceAll(at, "{"+name+"}", v.Default)
		}
	}
	u, err := url.Parse(at)
	if err == nil && u.Opaque != "" { // localhost:8080/v1
		u, err = url.Parse("//" + at)
	}
	if err != nil || strings.ContainsAny(u.Path, "{}") || u.Path != "" && !strings.HasPrefix(u.Path, "/") {
		r.note("the path of the server %s is not made use of", short(s.URL))
		return ""
	}
	return strings.TrimRight(u.EscapedPath(), "/")
}

var (
	placeholder = regexp.MustCompile(`\{([^{}]*)\}`)
	notName     = regexp.MustCompile(`[^A-Za-z0-9_-]+`)
	plural      = regexp.MustCompile(`[a-z]s$`)
)

// plain makes a name of letters, digits, _ and -.
func plain(s string) string {
	s = strings.Trim(notName.ReplaceAllString(s, "_"), "_-")
	if s == "" {
		return "op"
	}
	if s[0] >= '0' && s[0] <= '9' {
		s = "n" + s
	}
	return s[:min(len(s), 64)]
}

// unique makes a name one that was not taken, and takes it.
func unique(name string, taken map[string]bool) string {
	got := name
	for n := 2; taken[got]; n++ {
		got = name + "_" + strconv.Itoa(n)
	}
	taken[got] = true
	return got
}

// name is that of an operation: its id, or what its method and path say.
func name(id, method, path string) string {
	if id != "" && plain(id) != "op" {
		return plain(id)
	}
	var words []string
	ends := ""
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		switch {
		case strings.HasPrefix(part, "{"):
			if n := len(words); n > 0 {
				words[n-1] = singular(words[n-1])
			}
			ends = "one"
		case part != "" && part != "api" && !regexp.MustCompile(`^v[0-9]+$`).MatchString(part):
			words = append(words, plain(part))
			ends = ""
			if plural.MatchString(part) {
				ends = "many"
			}
		}
	}
	verb := strings.ToLower(method)
	switch {
	case method == http.MethodGet && ends == "many":
		verb = "list"
	case method == http.MethodPost && ends == "many":
		verb = "create"
		words[len(words)-1] = singular(words[len(words)-1])
	}
	return plain(strings.Join(append([]string{verb}, words...), "_"))
}

// singular returns the word for one of many, as far as that is plain.
func singular(s string) string {
	switch {
	case strings.HasSuffix(s, "ies") && len(s) > 4:
		return s[:len(s)-3] + "y"
	case strings.HasSuffix(s, "sses"), strings.HasSuffix(s, "xes"), strings.HasSuffix(s, "ches"), strings.HasSuffix(s, "shes"):
		return s[:len(s)-2]
	case strings.HasSuffix(s, "ss"), strings.HasSuffix(s, "us"), strings.HasSuffix(s, "is"):
		return s
	}
	return strings.TrimSuffix(s, "s")
}

// operation reads one operation.
func (r *reader) operation(q *request, path string, item *openapi3.PathItem) error {
	q.Doc = strings.TrimSpace(q.op.Summary)
	if q.Doc == "" {
		q.Doc, _, _ = strings.Cut(strings.TrimSpace(q.op.Description), "\n")
	}
	q.Doc = short(q.Doc)
	if !strings.HasPrefix(path, "/") {
		return r.fail(q.at, "the path %q does not begin with /", path)
	}
	names := map[string]string{} // of the parts of the path, as they are written
	taken := map[string]bool{}
	twice := ""
	q.Path = placeholder.ReplaceAllStringFunc(path, func(m string) string {
		written := m[1 : len(m)-1]
		if names[written] != "" {
			twice = m
		}
		names[written] = unique(plain(written), taken)
		return "{" + names[written] + "}"
	})
	if twice != "" {
		return r.fail(q.at, "the path has %s twice: give each its own name", twice)
	}
	q.Path, _, _ = strings.Cut(q.Path, "?")
	q.Path, _, _ = strings.Cut(q.Path, "#")
	q.Path = strings.NewReplacer(" ", "%20", `"`, "%22").Replace(q.Path)
	for i, ref := range item.Parameters {
		if ref != nil && ref.Value != nil && q.op.Parameters.GetByInAndName(ref.Value.In, ref.Value.Name) != nil {
			continue
		}
		at := place{q.at.file, q.at.path[:len(q.at.path)-1]}.to("parameters", strconv.Itoa(i))
		if err := r.parameter(q, ref, at, names); err != nil {
			return err
		}
	}
	for i, ref := range q.op.Parameters {
		if err := r.parameter(q, ref, q.at.to("parameters", strconv.Itoa(i)), names); err != nil {
			return err
		}
	}
	for _, n := range slices.Sorted(maps.Values(names)) { // described or not, something must stand there
		if !slices.ContainsFunc(q.params, func(p input) bool { return p.Key == "path."+n }) {
			s, err := r.compile([]part{{schema: &openapi3.Schema{Type: &openapi3.Types{"string"}, MinLength: 1}, at: q.at}})
			if err != nil {
				return err
			}
			q.params = append(q.params, input{Param: Param{Key: "path." + n}, shape: s, in: "path", name: n})
		}
	}
	if err := r.body(q); err != nil {
		return err
	}
	if err := r.responses(q); err != nil {
		return err
	}
	security := r.t.Security
	if q.op.Security != nil {
		security = *q.op.Security
	}
	for _, need := range security {
		q.Security = append(q.Security, slices.Sorted(maps.Keys(need)))
	}
	return nil
}

// circular returns the error of a reference that leads to no value.
func (r *reader) circular(at place, ref string) error {
	return r.fail(at, "%s leads to nothing but references, and back to itself: write out what is meant", ref)
}

// parameter reads one parameter.
func (r *reader) parameter(q *request, ref *openapi3.ParameterRef, at place, names map[string]string) error {
	if ref == nil {
		return nil
	}
	at = at.follow(ref.Ref)
	if ref.Value == nil {
		return r.circular(at, ref.Ref)
	}
	p := ref.Value
	name := p.Name
	in := p.In
	switch in {
	case "path":
		if names[name] == "" {
			r.note("%s %s: the path has no {%s}", q.Method, q.Path, short(name))
			return nil
		}
		name = names[name]
	case "header":
		// The client's own, as the specification has it.
		if slices.Contains([]string{"accept", "content-type", "authorization"}, strings.ToLower(name)) {
			return nil
		}
		if !token.MatchString(name) {
			return r.fail(at, "%q cannot name a header", name)
		}
		name = http.CanonicalHeaderKey(name)
	case "cookie":
		if !token.MatchString(name) {
			return r.fail(at, "%q cannot name a cookie", name)
		}
	case "query":
	default:
		return r.fail(at.to("in"), "a parameter is in path, query, header or cookie, not %q", in)
	}
	if name == "" {
		return r.fail(at, "the parameter has no name")
	}
	schema, where := p.Schema, at.to("schema")
	style := Style{Name: p.Style, Explode: p.Style == "form" || p.Style == "" && (in == "query" || in == "cookie")}
	if style.Name == "" {
		style.Name = map[string]string{"query": "form", "cookie": "form"}[in]
		if style.Name == "" {
			style.Name = "simple"
		}
	}
	if p.Explode != nil {
		style.Explode = *p.Explode
	}
	if schema == nil {
		for _, media := range slices.Sorted(maps.Keys(p.Content)) {
			if c := p.Content[media]; c != nil {
				schema, where, style = c.Schema, at.to("content", media, "schema"), Style{}
				break
			}
		}
	}
	if schema == nil {
		schema = &openapi3.SchemaRef{Value: &openapi3.Schema{Type: &openapi3.Types{"string"}}}
	}
	if v := schema.Value; v != nil && in == "path" && v.MinLength == 0 && v.Type.Is("string") && v.Pattern == "" {
		c := *v // an empty part would make it another path
		c.MinLength = 1
		schema = &openapi3.SchemaRef{Ref: schema.Ref, Value: &c}
	}
	s, err := r.shape(schema, where)
	if err != nil {
		return err
	}
	if some := examples(p.Example, p.Examples); len(some) > 0 {
		s = s.with(some)
		r.order = append(r.order, s)
	}
	if in == "header" && strings.Contains(strings.ToLower(name), "idempotency") {
		s = s.keyed()
		r.order = append(r.order, s)
	}
	key := harness.JoinKey(harness.Segment{Name: in}, harness.Segment{Name: name})
	if slices.ContainsFunc(q.params, func(p input) bool { return p.Key == key }) {
		return nil
	}
	q.params = append(q.params, input{
		Param: Param{Key: key, Optional: in != "path" && !p.Required, Style: style},
		shape: s, in: in, name: p.Name,
	})
	return nil
}

var token = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")

// examples returns those that stand beside a schema.
func examples(one any, more openapi3.Examples) []value {
	var out []value
	if v, ok := example(one); ok {
		out = append(out, v)
	}
	for _, name := range slices.Sorted(maps.Keys(more)) {
		if e := more[name]; e != nil && e.Value != nil && e.Value.Value != nil && len(out) < 16 {
			if v, ok := example(e.Value.Value); ok {
				out = append(out, v)
			}
		}
	}
	return out
}

// with returns the shape with examples of its own.
func (s *shape) with(some []value) *shape {
	c := *s
	c.examples = append(some, c.examples...)
	return &c
}

// keyed returns the shape with short keys, where these will do: nobody gains by long ones.
func (s *shape) keyed() *shape {
	d, err := harness.Pattern("k-[a-z2-7]{8}")
	check, ok := s.leaf.(harness.Checker)
	if err != nil || !ok || s.kind != "string" || len(s.examples) > 0 || check.Check("k-abcdefg2") != nil {
		return s
	}
	c := *s
	c.leaf = d
	return &c
}

// body reads a request's body.
func (r *reader) body(q *request) error {
	if q.op.RequestBody == nil {
		return nil
	}
	at := q.at.to("requestBody").follow(q.op.RequestBody.Ref)
	if q.op.RequestBody.Value == nil {
		return r.circular(at, q.op.RequestBody.Ref)
	}
	content := q.op.RequestBody.Value.Content
	media := ""
	for _, m := range slices.Sorted(maps.Keys(content)) {
		if content[m] != nil && (media == "" || rank(m) < rank(media)) {
			media = m
		}
	}
	if media == "" {
		return nil
	}
	if rank(media) == unknownMedia {
		r.note("%s %s: it is called without a body: %s is not drawn; give a param body in the YAML", q.Method, q.Path, short(media))
		return nil
	}
	q.Media = media
	if strings.Contains(media, "*") {
		q.Media = "application/json"
	}
	where := at.to("content", media, "schema")
	s, err := r.shape(content[media].Schema, where)
	if err != nil {
		return err
	}
	if content[media].Schema == nil {
		if s, err = r.compile([]part{{schema: &openapi3.Schema{}, at: at}}); err != nil {
			return err
		}
	}
	if some := examples(content[media].Example, content[media].Examples); len(some) > 0 {
		s = s.with(some)
		r.order = append(r.order, s)
	}
	q.Members = members(content[media].Encoding)
	r.spread(q, s, "body", 0)
	return nil
}

// members returns the styles that the members of a form have.
func members(all map[string]*openapi3.Encoding) map[string]Style {
	out := map[string]Style{}
	for name, e := range all {
		if e == nil || e.Style == "" && e.Explode == nil {
			continue // it is about the media type
		}
		s := Style{Name: cmp.Or(e.Style, "form")}
		s.Explode = s.Name == "form"
		if e.Explode != nil {
			s.Explode = *e.Explode
		}
		out[name] = s
	}
	return out
}

const unknownMedia = 4

// rank says which of the media types of a body is drawn first.
func rank(media string) int {
	m, _, _ := strings.Cut(strings.ToLower(media), ";")
	switch m = strings.TrimSpace(m); {
	case m == "application/json":
		return 0
	case strings.HasSuffix(m, "+json"), m == "*/*", m == "application/*":
		return 1
	case m == "application/x-www-form-urlencoded":
		return 2
	case strings.HasPrefix(m, "text/"), m == "application/octet-stream":
		return 3
	}
	return unknownMedia
}

// mostSpread bounds the params of a body.
const mostSpread = 64

// spread adds the params of a body: one for each member that is always there, so that each
// can be referred to and made simpler alone, and one for each other part as a whole.
func (r *reader) spread(q *request, s *shape, key string, depth int) {
	// A member is there though all that is in it is left out.
	lasts := depth == 0 || slices.ContainsFunc(s.props, func(p prop) bool { return p.required && !p.readOnly })
	fixed := lasts && s.kind == "object" && s.leaf == nil && len(s.alts) == 0 && s.extra == nil && !s.nullable && s.least == 0 && len(s.props) > 0
	if !fixed || depth > 4 || len(q.params)+len(s.props) > mostSpread || rank(q.Media) == 3 {
		q.params = append(q.params, input{Param: Param{Key: key}, shape: s, in: "body", name: last(key)})
		return
	}
	for _, p := range s.props {
		for _, ex := range s.examples { // of the whole: its parts are examples of the parts
			if j := ex.find(p.name); j >= 0 && ex.kind == object {
				p.shape = p.with([]value{ex.members[j].value})
				r.order = append(r.order, p.shape)
			}
		}
		if p.readOnly {
			continue
		}
		k := key + "." + harness.JoinKey(harness.Segment{Name: p.name})
		if p.required {
			r.spread(q, p.shape, k, depth+1)
			continue
		}
		q.params = append(q.params, input{Param: Param{Key: k, Optional: true}, shape: p.shape, in: "body", name: p.name})
	}
}

// last returns the name of the last part of a key.
func last(key string) string {
	segs, err := harness.SplitKey(key)
	if err != nil {
		return ""
	}
	return segs[len(segs)-1].Name
}

// responses reads what a request is answered with.
func (r *reader) responses(q *request) error {
	if q.op.Responses == nil {
		return nil
	}
	all := q.op.Responses.Map()
	best := ""
	for _, status := range slices.Sorted(maps.Keys(all)) {
		ref := all[status]
		if ref == nil {
			continue
		}
		if ref.Value == nil {
			return r.circular(q.at.to("responses", status).follow(ref.Ref), ref.Ref)
		}
		if strings.EqualFold(status, "5XX") {
			for n := 500; n < 600; n++ {
				q.Allowed = append(q.Allowed, n)
			}
		}
		if n, err := strconv.Atoi(status); err == nil && n >= 500 && n < 600 {
			q.Allowed = append(q.Allowed, n)
		}
		good := strings.HasPrefix(status, "2")
		if good && (best == "" || best == "default") || status == "default" && best == "" {
			best = status
		}
		if good {
			for name := range ref.Value.Headers {
				q.where = q.where || http.CanonicalHeaderKey(name) == "Location"
			}
			q.empty = q.empty || status == "201" && len(ref.Value.Content) == 0
			q.Stream = q.Stream || streams(ref.Value.Content)
		}
	}
	if best == "" {
		return nil
	}
	ref := all[best]
	q.Stream = q.Stream || streams(ref.Value.Content)
	at := q.at.to("responses", best).follow(ref.Ref)
	for _, media := range slices.Sorted(maps.Keys(ref.Value.Content)) {
		c := ref.Value.Content[media]
		if c == nil || c.Schema == nil || rank(media) > 1 {
			continue
		}
		var err error
		q.reply, err = r.shape(c.Schema, at.to("content", media, "schema"))
		return err
	}
	return nil
}

// streams reports whether a reply may be one of server-sent events.
func streams(content openapi3.Content) bool {
	for media := range content {
		m, _, _ := strings.Cut(media, ";")
		if strings.EqualFold(strings.TrimSpace(m), "text/event-stream") {
			return true
		}
	}
	return false
}

// check reports a request that no value can be drawn for, and leaves out what is optional.
func (r *reader) check(all []*request) error {
	for _, q := range all {
		var kept []input
		for _, p := range q.params {
			err := r.finite(p.shape, q.Method+" "+q.Path)
			if err != nil && !p.Optional {
				return err
			}
			if err == nil {
				kept = append(kept, p)
			}
		}
		q.params = kept
	}
	return nil
}

// flatten makes the params of the inputs.
func (q *request) flatten() {
	for _, p := range q.params {
		p.Domain = p.shape.draws()
		p.About = short(p.shape.words(3))
		p.Raw = rank(q.Media) == 3 && p.in == "body"
		q.Params = append(q.Params, p.Param)
	}
	slices.SortFunc(q.Params, func(a, b Param) int { return strings.Compare(a.Key, b.Key) })
}

// schemes reads what can say who is calling.
func (r *reader) schemes() map[string]Scheme {
	out := map[string]Scheme{}
	if r.t.Components == nil {
		return out
	}
	for name, ref := range r.t.Components.SecuritySchemes {
		if ref == nil || ref.Value == nil {
			continue
		}
		x := ref.Value
		switch strings.ToLower(x.Type) {
		case "http":
			out[name] = Scheme{Kind: strings.ToLower(x.Scheme)}
		case "apikey":
			out[name] = Scheme{Kind: "key", In: x.In, Name: x.Name}
		case "oauth2":
			out[name] = Scheme{Kind: "oauth2"}
		case "openidconnect":
			out[name] = Scheme{Kind: "openid"}
		default:
			out[name] = Scheme{Kind: fmt.Sprintf("%.40s", x.Type)}
		}
	}
	return out
}
