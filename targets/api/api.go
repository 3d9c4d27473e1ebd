// Package api calls a service over HTTP as its description says: it logs a lane in,
// makes requests of arguments, and tells what the outcome of each call proves.
package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/openapi"
	"github.com/shakedown-go/shakedown/targets/spec"
)

const (
	dialTimeout = 5 * time.Second // of a connection that nobody waits for any more
	maxBody     = 256 << 10       // of a reply that is kept
	maxDrain    = 1 << 20         // of a reply that is read so that its connection can serve again
	maxHeader   = 64 << 10        // of a reply
)

// API is what can be asked of a service that runs.
type API struct {
	base  string
	login *spec.Login
	limit time.Duration // of a call
	ops   map[string]op
}

// op is one request with what is known about it.
type op struct {
	drawn harness.Op
	*spec.Op
	request spec.Request
}

// New returns the API of a description, served at base: "http://127.0.0.1:8080".
func New(f *spec.File, base string) *API {
	a := &API{base: strings.TrimSuffix(base, "/"), login: f.API.Login, ops: map[string]op{}}
	a.limit = time.Duration(cmp.Or(f.Service.Timeout, spec.DefaultTimeout))
	for _, o := range f.HarnessOps() {
		described := f.API.Ops[o.Name]
		r, err := spec.ParseRequest(described.Request)
		if err != nil {
			panic("api: a description that was checked has a bad request: " + err.Error())
		}
		a.ops[o.Name] = op{o, described, r}
	}
	return a
}

// Client returns the client of a lane, logged in where the description wants that. The
// events of the login go to emit, with Step -1. A login that fails is the service's
// doing and no error: the client then works without a token.
func (a *API) Client(ctx context.Context, lane string, emit func(harness.Event)) (harness.Client, error) {
	c := &client{api: a, lane: lane, transport: &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		DisableCompression:     true, // the service sees the headers of the case and no others
		MaxResponseHeaderBytes: maxHeader,
	}}
	if a.login == nil {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, a.limit)
	defer cancel()
	if err := c.logIn(ctx, emit); err != nil {
		c.Close()
		return nil, fmt.Errorf("log lane %s in: %w", lane, err)
	}
	return c, nil
}

// client is one lane's. Its connections are its own, so that lanes disturb each other in
// the service only.
type client struct {
	api         *API
	lane        string
	transport   *http.Transport
	name, value string // the header that carries the token; "" without
	user        string // who the lane is; "" where that is not known
	token       string
}

// logIn calls the login op and keeps its token, and the op that makes users before it. The
// arguments are drawn from the lane's name, so that a lane logs in alike every time.
func (c *client) logIn(ctx context.Context, emit func(harness.Event)) error {
	h := fnv.New64a()
	io.WriteString(h, c.lane)
	rng := rand.New(rand.NewPCG(h.Sum64(), 0))
	login := c.api.login
	args := c.credentials(login.Op, rng)
	if login.Register != "" {
		user := c.credentials(login.Register, rng)
		for i, a := range user {
			if v, ok := byName(args, a.Key); ok {
				user[i].Value = v
			}
		}
		if err := c.enter(ctx, login.Register, user, emit); err != nil {
			return err
		}
	}
	return c.enter(ctx, login.Op, args, emit)
}

// keep takes over the token of a login, and who that makes the lane.
func (c *client) keep(args harness.Args, r harness.Reply) {
	if token, ok := r.Lookup(c.api.login.TokenPath()); ok {
		c.token = token.Text
		c.name, c.value = c.api.login.Carry(token.Text)
		c.user = c.api.login.Who(c.named(args), r.Body)
	}
}

// credentials draws the arguments of an op that comes before all others.
func (c *client) credentials(op string, rng *rand.Rand) harness.Args {
	var args harness.Args
	for _, p := range c.api.ops[op].drawn.Params {
		if p.Domain != nil {
			args = append(args, harness.Arg{Key: p.Name, Value: credential(p.Domain, rng)})
		}
	}
	return args
}

// byName returns the argument whose key ends alike.
func byName(args harness.Args, key string) (harness.Value, bool) {
	last := func(key string) string { return strings.ToLower(key[strings.LastIndexByte(key, '.')+1:]) }
	for _, a := range args {
		if last(a.Key) == last(key) {
			return a.Value, true
		}
	}
	return harness.Value{}, false
}

// enter makes a call of a login, and tells of it.
func (c *client) enter(ctx context.Context, name string, args harness.Args, emit func(harness.Event)) error {
	tell := func(e harness.Event) {
		e.Step, e.Lane, e.Name = -1, c.lane, name
		emit(e)
	}
	tell(harness.Event{Kind: harness.Invoke, Args: args})
	r, err := c.Call(ctx, name, args, tell)
	if err != nil {
		return err
	}
	e := harness.Event{Kind: r.Outcome, Text: string(r.Body[:min(len(r.Body), maxText)])}
	if r.Status != 0 {
		e.Args = e.Args.Set("status", harness.Int(int64(r.Status)))
		e.Args = e.Args.Set("expect", harness.Value{Form: harness.FormJSON, Text: fmt.Sprint(r.Expect)})
	}
	if r.Error != "" {
		e.Args = e.Args.Set("error", harness.Text(r.Error))
	}
	if name == c.api.login.Op && r.Outcome == harness.OK {
		c.keep(args, r)
	}
	if c.user != "" {
		e.Args = e.Args.Set("identity", harness.Text(c.user))
	}
	tell(e)
	return nil
}

// credential draws an argument of a login: where the description gives an example, that is
// what lets callers in.
func credential(d harness.Domain, rng *rand.Rand) harness.Value {
	if u, ok := d.(interface{ Usual() harness.Value }); ok {
		return u.Usual()
	}
	return d.Draw(rng)
}

// maxText bounds how much of the login's reply its event holds.
const maxText = 2 << 10

// Call makes one request and never a second: see once.
func (c *client) Call(ctx context.Context, name string, args harness.Args, emit func(harness.Event)) (harness.Reply, error) {
	o, ok := c.api.ops[name]
	if !ok {
		return harness.Reply{}, fmt.Errorf("the description has no op %s", name)
	}
	args = c.named(args)
	for _, a := range args {
		if err := known(a); err != nil {
			return harness.Reply{}, fmt.Errorf("op %s: %w", name, err)
		}
	}
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// RoundTrip calls the hook when it has a connection, which is before it writes; and
	// again where nothing could be written and it takes another one.
	forwarded, reused := false, false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(got httptrace.GotConnInfo) {
		reused = got.Reused
		if !forwarded {
			forwarded = true
			emit(harness.Event{Kind: harness.Forwarded, Name: name})
		}
	}})
	req, err := c.request(ctx, o, args)
	if err != nil {
		return unsent(err), nil
	}
	resp, err := c.transport.RoundTrip(req)
	switch {
	case err != nil && !forwarded:
		return unsent(err), nil
	case err != nil:
		return harness.Reply{Outcome: lost(o), Error: err.Error(), Reused: reused}, nil
	}
	if o.Stream > 0 {
		hangUp := time.AfterFunc(enough(time.Duration(o.Stream), c.api.limit, time.Since(began)), func() { cancel(errEnough) })
		defer hangUp.Stop()
	}
	r := read(ctx, o, resp)
	r.Reused = reused
	r.Private = o.Private && c.user != "" && req.Header.Get(c.name) == c.value
	return r, nil
}

// errEnough is why a client hangs up on a reply that has no end.
var errEnough = errors.New("the stream was read for long enough")

// enough returns how long a stream is read whose beginning took so long to come: not so
// long that a call which was answered in time would be stuck.
func enough(stream, limit, took time.Duration) time.Duration { return min(stream, limit*9/10-took) }

// Close lets go of the client's connections.
func (c *client) Close() { c.transport.CloseIdleConnections() }

// unsent is the reply of a call of which no byte was written.
func unsent(err error) harness.Reply {
	return harness.Reply{Outcome: harness.Fail, Error: "not sent: " + err.Error()}
}

// lost is the outcome of a call whose reply did not come.
func lost(o op) harness.Kind {
	if o.Changes() {
		return harness.Unknown
	}
	return harness.Fail
}

// read reads a reply to its end, within bounds, or until the client has had enough of it:
// such a reply is whole, but does not prove that what it tells of was done.
func read(ctx context.Context, o op, resp *http.Response) harness.Reply {
	defer resp.Body.Close()
	r := harness.Reply{
		Outcome: harness.Outcome(resp.StatusCode, o.Changes()),
		Status:  resp.StatusCode,
		Expect:  o.Expects(resp.StatusCode),
	}
	for name, values := range resp.Header {
		if r.Header == nil {
			r.Header = map[string]string{}
		}
		r.Header[name] = values[0]
	}
	var err error
	r.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err == nil {
		_, err = io.CopyN(io.Discard, resp.Body, maxDrain)
	}
	switch {
	case err == nil || err == io.EOF:
	case context.Cause(ctx) == errEnough:
		if r.Outcome == harness.OK && o.Changes() {
			r.Outcome = harness.Unknown
		}
	default:
		r.Error = "the reply broke off: " + err.Error()
		// A status alone may have been sent before the work was done.
		if r.Outcome == harness.OK {
			r.Outcome = lost(o)
		}
	}
	return r
}

// named replaces {{lane}} by the lane.
func (c *client) named(args harness.Args) harness.Args {
	out := make(harness.Args, len(args))
	for i, a := range args {
		a.Value.Text = strings.ReplaceAll(a.Value.Text, "{{lane}}", c.lane)
		out[i] = a
	}
	return out
}

// known reports an argument that has no place in a request, or still refers to a reply.
func known(a harness.Arg) error {
	where, _, named := strings.Cut(a.Key, ".")
	switch {
	case a.Value.Form == harness.FormRef:
		return fmt.Errorf("%s=%s was not resolved", a.Key, a.Value)
	case where == "body", named && (where == "path" || where == "query" || where == "header" || where == "cookie"):
		return nil
	}
	return fmt.Errorf("%s is no argument: path.NAME, query.NAME, header.NAME, cookie.NAME, body.FIELD and body are", a.Key)
}

// request returns the request that the arguments describe. Its errors are about
// arguments that HTTP cannot carry.
func (c *client) request(ctx context.Context, o op, args harness.Args) (*http.Request, error) {
	target := o.request.Expand(func(name string) string {
		key := harness.JoinKey(harness.Segment{Name: "path"}, harness.Segment{Name: name})
		v, _ := args.Get(key)
		return inPath(o.style(key), name, v)
	})
	var query, cookies []pair
	for _, a := range args {
		if name, ok := part(a.Key, "query"); ok {
			query = append(query, pairs(o.style(a.Key), name, a.Value)...)
		}
		if name, ok := part(a.Key, "cookie"); ok {
			cookies = append(cookies, pairs(o.style(a.Key), name, a.Value)...)
		}
	}
	payload, has, err := body(args)
	if err != nil {
		return nil, err
	}
	if !has && o.spread() {
		payload, has = []byte("{}"), true
	}
	media := o.Media
	switch {
	case media == "":
		media = "application/json"
	case has && isForm(media):
		payload = form(payload, o.Members)
	}
	req, err := http.NewRequestWithContext(ctx, o.request.Method, c.api.base+target, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "shakedown")
	if has {
		req.Header.Set("Content-Type", media)
	}
	if len(payload) > 0 {
		req.ContentLength = int64(len(payload))
		req.Body = io.NopCloser(bytes.NewReader(payload))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(payload)), nil }
	}
	for _, p := range c.identity(o) {
		switch p.in {
		case "query":
			query = append(query, p.pair)
		case "cookie":
			cookies = append(cookies, p.pair)
		default:
			req.Header.Set(p.name, p.value)
		}
	}
	req.URL.RawQuery = encodeQuery(query)
	if len(cookies) > 0 {
		req.Header.Set("Cookie", list(cookies, true, true, "; "))
	}
	for _, a := range args {
		if name, ok := part(a.Key, "header"); ok {
			req.Header.Set(name, inHeader(o.style(a.Key), a.Value))
		}
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	once(req)
	return req, nil
}

// spread reports whether the body is an object of the document whose members are params: it
// is there even where all of them are left out.
func (o op) spread() bool {
	if o.Media == "" {
		return false
	}
	for key := range o.Op.Params {
		if strings.HasPrefix(key, "body.") {
			return true
		}
	}
	return false
}

// style is how an array or an object is written where an argument stands.
func (o op) style(key string) openapi.Style {
	if p := o.Op.Params[key]; p != nil {
		return p.Style
	}
	return openapi.Style{}
}

// carried is a part of a request that says who is calling.
type carried struct {
	in string
	pair
}

// identity returns what a call says about who is calling: what the document asks for where
// there is one, and else the login's header.
func (c *client) identity(o op) []carried {
	if !o.Login {
		if c.name == "" {
			return nil
		}
		return []carried{{"header", pair{name: c.name, value: c.value}}}
	}
	var out []carried
	for _, x := range o.Auth {
		if strings.Contains(x.Value, "{{token}}") && c.token == "" {
			continue // the login failed
		}
		v := strings.ReplaceAll(strings.ReplaceAll(x.Value, "{{token}}", c.token), "{{lane}}", c.lane)
		if x.Basic {
			v = "Basic " + base64.StdEncoding.EncodeToString([]byte(v))
		}
		out = append(out, carried{x.In, pair{name: x.Name, value: v}})
	}
	return out
}

// once keeps the transport from sending a request again when a connection that was used
// before breaks: the call would count once and be done twice. It does so with requests
// that it takes for repeatable: those of a safe method whose body is none or can be had
// anew, and those with an idempotency key. What stays is the retry of a request of which
// nothing was written.
func once(req *http.Request) {
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		req.GetBody = nil
		if req.Body == nil {
			// Found to be empty before the head is written: nothing of it is sent.
			req.Body = io.NopCloser(strings.NewReader(""))
		}
	}
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if v, ok := req.Header[name]; ok {
			delete(req.Header, name)
			req.Header[strings.ToLower(name)] = v
		}
	}
}

// part returns the name in a key of two parts, such as query.NAME.
func part(key, where string) (name string, ok bool) {
	segs, err := harness.SplitKey(key)
	if err != nil || len(segs) < 2 || segs[0].Name != where {
		return "", false
	}
	if len(segs) == 2 {
		return segs[1].Name, true
	}
	return harness.JoinKey(segs[1:]...), true
}
