package spec

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/shakedown-go/shakedown/harness"
)

var (
	tokenPath  = regexp.MustCompile(`^\{\{reply((?:\.[A-Za-z0-9_$@-]+)+)\}\}$`)
	fromField  = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_-]*)\.([A-Za-z0-9_$@-]+(?:\.[A-Za-z0-9_$@-]+)*)$`)
	headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
)

// checker finds what is wrong with a file that has the right form. It stops at the first
// mistake.
type checker struct {
	f         *File
	functions bool // there need be no service
}

func (c *checker) fail(path []string, format string, args ...any) error {
	return c.f.Mistake(path, format, args...)
}

// Mistake returns an error at the place of a path of keys, or of as much of it as is there.
func (f *File) Mistake(path []string, format string, args ...any) *Error {
	msg := fmt.Sprintf(format, args...)
	if f.root == nil { // it was not read from a text
		return &Error{File: f.Path, Msg: msg}
	}
	return f.src.at(locate(f.root, path), msg)
}

// locate returns the token of a scalar, or the key of anything else.
func locate(n ast.Node, path []string) *token.Token {
	tk := n.GetToken()
	for _, name := range path {
		var next ast.Node
		switch n := n.(type) {
		case *ast.SequenceNode:
			if i, err := strconv.Atoi(name); err == nil && i < len(n.Values) {
				next, tk = n.Values[i], n.Values[i].GetToken()
			}
		case ast.MapNode:
			for it := n.MapRange(); it.Next(); {
				if key := it.Key().GetToken(); key.Value == name {
					next, tk = it.Value(), key
				}
			}
		}
		if next == nil {
			return tk
		}
		n = next
	}
	if _, scalar := n.(ast.ScalarNode); scalar && n.Type() != ast.NullType {
		return n.GetToken()
	}
	return tk
}

func (c *checker) check() error {
	if !c.functions {
		if c.f.Fuzz != nil && c.f.Service.Build == "" && len(c.f.API.Ops) == 0 {
			return c.fail([]string{"fuzz"}, "this describes fuzz functions and no service: shakedown fuzz takes it")
		}
		if err := c.service(); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.f.Dependencies)) {
		if err := c.dependency(name, c.f.Dependencies[name]); err != nil {
			return err
		}
	}
	if err := c.links(c.f.Links); err != nil {
		return err
	}
	if err := c.conditions(); err != nil {
		return err
	}
	if err := c.fuzz(); err != nil || c.functions {
		return err
	}
	if c.f.document() == "" && len(c.f.API.Ops) == 0 {
		return c.fail([]string{"api", "ops"}, "api.ops is empty and there is no api.openapi: there is nothing to ask of the service")
	}
	for i, host := range c.f.Allow {
		if host == "" {
			return c.fail([]string{"allow", strconv.Itoa(i)}, "the host is empty")
		}
	}
	if c.f.OpenAPI != "" && c.f.API.OpenAPI != "" {
		return c.fail([]string{"openapi"}, "openapi is short for api.openapi: give one of them")
	}
	if c.f.document() != "" { // the ops are known when the document is read
		return nil
	}
	if len(c.f.API.Auth) > 0 {
		return c.fail([]string{"api", "auth"}, "api.auth is for the security schemes of api.openapi: give a header by a param, or api.login.header")
	}
	return c.api()
}

// api checks the ops and the login.
func (c *checker) api() error {
	for _, name := range slices.Sorted(maps.Keys(c.f.API.Ops)) {
		if err := c.op(name, c.f.API.Ops[name]); err != nil {
			return err
		}
	}
	return c.login(c.f.API.Login)
}

func (c *checker) service() error {
	s := c.f.Service
	if err := c.source(s); err != nil {
		return err
	}
	if s.Ready != "" {
		if err := c.plain([]string{"service", "ready"}, s.Ready); err != nil {
			return err
		}
	}
	for i, arg := range s.Args {
		if err := c.text([]string{"service", "args", strconv.Itoa(i)}, arg); err != nil {
			return err
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.Env)) {
		if err := c.text([]string{"service", "env", key}, s.Env[key]); err != nil {
			return err
		}
	}
	if assumes := c.f.document() != "" && len(s.Env) == 0 && len(s.Args) == 0; !assumes && !s.Uses("listen") && !s.Uses("port") {
		return c.fail([]string{"service", "env"}, `service.env or service.args must say where to listen: {{listen}} is the address, as in ADDR: "{{listen}}", and {{port}} its port`)
	}
	return nil
}

// source checks what the service is made of.
func (c *checker) source(s Service) error {
	var given []string
	for _, key := range []struct{ name, value string }{{"build", s.Build}, {"image", s.Image}, {"dockerfile", s.Dockerfile}} {
		if key.value != "" {
			given = append(given, key.name)
		}
	}
	switch {
	case len(given) == 0 && c.f.document() != "": // the only main package of the module
	case len(given) == 0:
		return c.fail([]string{"service", "build"}, "service.build is missing: the directory of the Go main package, such as ./cmd/shop; or give an image, or a dockerfile")
	case len(given) > 1:
		return c.fail([]string{"service", given[1]}, "the service has %s: give one", strings.Join(given, " and "))
	case s.Build == "":
		if s.Uses("dir") {
			return c.fail([]string{"service", "env"}, "{{dir}} is a directory of this machine, which is not there in a container")
		}
		if s.Dockerfile != "" && !filepath.IsLocal(s.Dockerfile) {
			return c.fail([]string{"service", "dockerfile"}, "%q is not a path below this directory, which is what it is built from", s.Dockerfile)
		}
	case s.Pull:
		return c.fail([]string{"service", "pull"}, "pull is for images, but the service is built from its source")
	// Anything else could be read as a flag of the go command.
	case s.Build != "." && !strings.HasPrefix(s.Build, "./") && !strings.HasPrefix(s.Build, "../"):
		return c.fail([]string{"service", "build"}, "%q is not a path from this directory: it begins with ./", s.Build)
	}
	return nil
}

// conditions checks the steady state, and what aborts a run.
func (c *checker) conditions() error {
	for i, s := range c.f.Steady {
		path := []string{"steady", strconv.Itoa(i)}
		if err := c.plain(append(path, "request"), s.Request); err != nil {
			return err
		}
		if s.Status != 0 && (s.Status < 100 || s.Status > 599) {
			return c.fail(append(path, "status"), "no reply has the status %d", s.Status)
		}
	}
	for i, a := range c.f.Abort {
		path := []string{"abort", strconv.Itoa(i)}
		kinds := 0
		for _, set := range []bool{a.Request != "", a.Memory > 0, a.Latency > 0, a.Time > 0} {
			if set {
				kinds++
			}
		}
		switch {
		case kinds != 1:
			return c.fail(path, "a condition has one of request, memory, latency and time, this one has %d", kinds)
		case a.Times < 0 || a.Times > 1000:
			return c.fail(append(path, "times"), "%d times in a row: from 1 to 1000", a.Times)
		case a.Latency > 0 && a.Times > 0:
			return c.fail(append(path, "times"), "a latency is of the last calls already")
		case a.Latency >= cmp.Or(c.f.Service.Timeout, DefaultTimeout):
			return c.fail(append(path, "latency"), "no call takes so long: it is given up after %s (service.timeout)", time.Duration(cmp.Or(c.f.Service.Timeout, DefaultTimeout)))
		case a.Memory > 0 && c.f.Service.Image+c.f.Service.Dockerfile != "":
			return c.fail(append(path, "memory"), "memory is measured of a service that is built here, not of a container")
		}
		if a.Request != "" {
			if err := c.plain(append(path, "request"), a.Request); err != nil {
				return err
			}
		}
	}
	return nil
}

// plain checks a request that is made as it stands.
func (c *checker) plain(path []string, text string) error {
	r, err := ParseRequest(text)
	if err != nil {
		return c.fail(path, "%v", err)
	}
	if len(r.Names) > 0 {
		return c.fail(path, "{%s} in the path: nothing is filled in here", r.Names[0])
	}
	return nil
}

// fuzz checks the environment of fuzz functions.
func (c *checker) fuzz() error {
	section, env := "service", c.f.Service.Env
	if c.f.Fuzz != nil {
		section, env = "fuzz", c.f.Fuzz.Env
	}
	for _, key := range slices.Sorted(maps.Keys(env)) {
		path := []string{section, "env", key}
		if section == "fuzz" && listens(env[key]) {
			return c.fail(path, "{{listen}} and {{port}} are the address of a service: a fuzz function has none")
		}
		if err := c.text(path, env[key]); err != nil {
			return err
		}
	}
	return nil
}

// text checks the placeholders of what is handed to the service, and that it leads to
// no other machine.
func (c *checker) text(path []string, text string) error {
	known := []string{"listen", "port", "bugs", "dir"}
	for _, d := range slices.Sorted(maps.Keys(c.f.Dependencies)) {
		known = append(known, "link."+d)
	}
	for _, name := range placeholders(text) {
		if !slices.Contains(known, name) {
			return c.fail(path, "{{%s}} is not known; there are: {{%s}}", name, strings.Join(known, "}}, {{"))
		}
	}
	// Here a placeholder stands for something of this machine.
	for _, host := range hosts(Fill(text, func(string) string { return "127.0.0.1:1" })) {
		if !Allowed(c.f.Allow, host) {
			return c.fail(path, "this leads to %s, which is not this machine: what is done there is done for real; if it may be, add %q to allow", host, host)
		}
	}
	return nil
}

func (c *checker) dependency(name string, d Dependency) error {
	path := []string{"dependencies", name}
	switch {
	case !plainName.MatchString(name) || name == "bugs":
		return c.fail(path, "%q cannot name a dependency: letters, digits, _ and - are taken, and bugs is not", name)
	case name == "engine":
		return c.fail(path, "%q cannot name a dependency: in the env of a case that is what disturbs the links", name)
	case name == harness.Service:
		return c.fail(path, "%q cannot name a dependency: that is the service itself", name)
	}
	if key, err := d.Check(); err != nil {
		return c.fail(append(path, key), "%s: %v", name, err)
	}
	return nil
}

// files checks that the files that a description names are there.
func (c *checker) files() error {
	build, dockerfile := c.f.Service.Build, c.f.Service.Dockerfile
	if st, err := os.Stat(filepath.Join(c.f.Dir, build)); build != "" && !c.functions && (err != nil || !st.IsDir()) {
		return c.fail([]string{"service", "build"}, "there is no directory %s", build)
	}
	if st, err := os.Stat(filepath.Join(c.f.Dir, dockerfile)); dockerfile != "" && (err != nil || !st.Mode().IsRegular()) {
		return c.fail([]string{"service", "dockerfile"}, "there is no file %s", dockerfile)
	}
	for _, name := range slices.Sorted(maps.Keys(c.f.Dependencies)) {
		init := c.f.Dependencies[name].Init
		if init == "" {
			continue
		}
		at := init
		if !filepath.IsAbs(at) {
			at = filepath.Join(c.f.Dir, at)
		}
		if st, err := os.Stat(at); err != nil || !st.Mode().IsRegular() {
			return c.fail([]string{"dependencies", name, "init"}, "there is no file %s", init)
		}
	}
	return nil
}

func (c *checker) op(name string, o *Op) error {
	path := func(keys ...string) []string { return append([]string{"api", "ops", name}, keys...) }
	if !plainName.MatchString(name) {
		return c.fail(path(), "%q cannot name an op: letters, digits, _ and - are taken", name)
	}
	if o == nil {
		return c.fail(path(), "%s is empty: give its request", name)
	}
	if o.Skip && c.f.document() == "" {
		return c.fail(path("skip"), "skip is for operations of api.openapi: take the op away")
	}
	if o.Request == "" && c.f.document() != "" {
		return c.fail(path(), "%s is no operation of %s, so it needs a request", name, c.f.document())
	}
	r, err := ParseRequest(o.Request)
	if err != nil {
		return c.fail(path("request"), "%v", err)
	}
	for _, n := range r.Names {
		if p := o.Params["path."+n]; p == nil {
			return c.fail(path("request"), "the path has {%s}, but there is no param path.%s", n, n)
		} else if p.Optional {
			return c.fail(path("params", "path."+n, "optional"), "a part of the path cannot be optional")
		}
	}
	for i, status := range o.Expect {
		if status < 100 || status > 599 {
			return c.fail(path("expect", strconv.Itoa(i)), "%d is not an HTTP status", status)
		}
	}
	if limit := cmp.Or(c.f.Service.Timeout, DefaultTimeout); o.Stream >= limit {
		return c.fail(path("stream"), "a stream cannot be read for %s: a call is stuck after %s (service.timeout)", time.Duration(o.Stream), time.Duration(limit))
	}
	for _, key := range slices.Sorted(maps.Keys(o.Params)) {
		if err := c.param(path("params", key), r, key, o.Params[key]); err != nil {
			return err
		}
	}
	_, whole := o.Params["body"]
	for key := range o.Params {
		if whole && strings.HasPrefix(key, "body.") {
			return c.fail(path("params", "body"), "body is the whole of it, so there can be no body.* beside it")
		}
	}
	return nil
}

func (c *checker) param(path []string, r Request, key string, p *Param) error {
	segs, err := harness.SplitKey(key)
	if err != nil {
		return c.fail(path, "%v", err)
	}
	if harness.JoinKey(segs...) != key {
		return c.fail(path, "write %s instead", harness.JoinKey(segs...))
	}
	where := segs[0].Name
	switch {
	case where == "body":
	case !slices.Contains([]string{"path", "query", "header", "cookie"}, where) || len(segs) != 2:
		return c.fail(path, "a param is keyed path.NAME, query.NAME, header.NAME, cookie.NAME, body.FIELD or body, not %s", key)
	case where == "path" && !slices.Contains(r.Names, segs[1].Name):
		return c.fail(path, "the path %s has no {%s}", r.Path, segs[1].Name)
	case (where == "header" || where == "cookie") && !headerName.MatchString(segs[1].Name):
		return c.fail(path, "%q cannot name a %s", segs[1].Name, where)
	}
	if p == nil {
		return c.fail(path, "%s has no kind of value; there are: %s", key, strings.Join(kinds, ", "))
	}
	switch set := p.kinds(); {
	case p.described():
	case len(set) == 0:
		return c.fail(path, "%s has no kind of value; there are: %s", key, strings.Join(kinds, ", "))
	case len(set) > 1:
		return c.fail(append(path, set[1]), "%s has two kinds of value: %s", key, strings.Join(set, " and "))
	}
	for i, from := range p.From {
		m := fromField.FindStringSubmatch(from)
		if m == nil {
			return c.fail(append(path, "from", strconv.Itoa(i)), "%q is not op.field, such as create_order.id", from)
		}
		if c.f.API.Ops[m[1]] == nil {
			return c.fail(append(path, "from", strconv.Itoa(i)), "no op is called %q; there are: %s", m[1], names(c.f.API.Ops))
		}
	}
	if _, err := p.domain(); err != nil && !p.described() {
		return c.fail(append(path, p.kinds()[0]), "%v", err)
	}
	if p.Raw && (key != "body" || len(p.From) > 0) {
		return c.fail(append(path, "raw"), "only the whole body can be raw")
	}
	return nil
}

func (c *checker) login(l *Login) error {
	if l == nil {
		return c.private("")
	}
	path := func(key string) []string { return []string{"api", "login", key} }
	op := c.f.API.Ops[l.Op]
	if op == nil {
		return c.fail(path("op"), "no op is called %q; there are: %s", l.Op, names(c.f.API.Ops))
	}
	for _, key := range slices.Sorted(maps.Keys(op.Params)) {
		if p := op.Params[key]; len(p.From) > 0 && !p.Optional {
			return c.fail([]string{"api", "ops", l.Op, "params", key}, "the login comes first: its params cannot come from replies")
		}
	}
	if l.Register != "" && c.f.API.Ops[l.Register] == nil {
		return c.fail(path("register"), "no op is called %q; there are: %s", l.Register, names(c.f.API.Ops))
	}
	if !tokenPath.MatchString(l.Token) {
		return c.fail(path("token"), "expected {{reply.FIELD}}, the field of the login's reply that holds the token")
	}
	if l.Header != "" {
		name, value, _ := strings.Cut(l.Header, ":")
		if !headerName.MatchString(name) || !strings.Contains(value, "{{token}}") {
			return c.fail(path("header"), "expected a header with the token in it, such as \"Authorization: Bearer {{token}}\"")
		}
	}
	if l.Identity != "" {
		if err := c.identity(path("identity"), l.Identity, op); err != nil {
			return err
		}
	}
	return c.private(l.Identity)
}

// identity checks that each lane can be told from the others.
func (c *checker) identity(path []string, identity string, login *Op) error {
	if fieldOf(identity) != "" {
		return nil
	}
	p := login.Params[identity]
	switch {
	case p == nil:
		return c.fail(path, "expected a param of the login that says who the lane is, such as body.user, or {{reply.FIELD}}")
	case p.Optional:
		return c.fail(path, "%s may be left out: then nobody could tell who the lane is", identity)
	case p.Value != nil && !strings.Contains(fmt.Sprint(p.Value), "{{lane}}"):
		return c.fail(path, "%s is the same for every lane: put {{lane}} into its value", identity)
	}
	return nil
}

// private checks that private ops and the identity of their callers come together.
func (c *checker) private(identity string) error {
	for _, name := range slices.Sorted(maps.Keys(c.f.API.Ops)) {
		switch private := c.f.API.Ops[name].Private; {
		case private && identity == "":
			return c.fail([]string{"api", "ops", name, "private"}, "whose replies these are is not known: say in login.identity who a lane is")
		case private:
			return nil
		}
	}
	if identity != "" {
		return c.fail([]string{"api", "login", "identity"}, "no op is private: say private: true where the replies speak of the caller alone")
	}
	return nil
}

// TokenPath is the path of the token in the login's reply.
func (l *Login) TokenPath() string { return fieldOf(l.Token) }

// Who returns the identity of a lane that has logged in with these arguments and got this
// reply, or "" where it is not known.
func (l *Login) Who(args harness.Args, reply []byte) string {
	if l.Identity == "" {
		return ""
	}
	if field := fieldOf(l.Identity); field != "" {
		v, _ := harness.Lookup(reply, field)
		return v.Text
	}
	return args.Text(l.Identity)
}

// fieldOf returns the path in {{reply.PATH}}, or "".
func fieldOf(text string) string {
	m := tokenPath.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return m[1][1:]
}

// Declares returns the abilities that the description gives the service.
func (f *File) Declares() harness.Caps {
	var caps harness.Caps
	if f.API.Login != nil && f.API.Login.Identity != "" {
		caps |= harness.CapIdentity
	}
	if len(f.Steady) > 0 {
		caps |= harness.CapSteady
	}
	return caps
}

// Carry returns the header that carries the token.
func (l *Login) Carry(token string) (name, value string) {
	h := l.Header
	if h == "" {
		h = "Authorization: Bearer {{token}}"
	}
	name, value, _ = strings.Cut(h, ":")
	return http.CanonicalHeaderKey(name), strings.ReplaceAll(strings.TrimSpace(value), "{{token}}", token)
}

// names lists what there is, for an error.
func names[V any](m map[string]V) string {
	if len(m) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
