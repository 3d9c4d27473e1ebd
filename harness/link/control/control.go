// Package control is the HTTP API of toxiproxy on links of our own, so that what drives a
// toxiproxy drives these: its clients, its command line, curl. Requests and replies are those
// of toxiproxy 2.12 (github.com/Shopify/toxiproxy), but for these:
//
//   - An attribute that is not known or out of range is refused, and so is any other field.
//   - Toxicity is drawn once for each connection, by a seed.
//   - A proxy that is disabled still holds its port, and resets who connects.
//   - Connections stay where they are when a proxy is pointed to another upstream.
//   - reset_peer resets connections that are idle, too. limit_data ends with a reset, at the
//     first byte beyond its limit. timeout loses the ends of streams, too, and its removal
//     resets the connections that have lost something, and no others.
//   - A toxic says what it has done: "acted", in "unit". An update starts that anew, and what
//     limit_data counts.
//   - Toxics that a proxy is created with are installed.
//   - The metrics count bytes as they pass, and not a connection's when it ends.
//   - Who listens and what is led to must be this machine, or allowed.
//
// A toxic that is set here stays until it is removed: it has no time to live. What a link of our
// own can do and toxiproxy cannot is not offered.
package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/link"
)

// Version is that of the toxiproxy whose API this is.
const Version = "2.12.0"

// Options say what a server may do.
type Options struct {
	Seed  uint64                 // of all that is left to chance
	Allow func(addr string) bool // reports whether an address may be listened at and led to
}

// Server is the API with its proxies. It is an http.Handler.
type Server struct {
	opts Options
	mux  *http.ServeMux

	mu      sync.Mutex // guards what follows; no link makes its holder wait
	proxies map[string]*proxy
	closed  bool
}

// proxy is a link with what is in force on it.
type proxy struct {
	name     string
	link     *link.Link
	borrowed bool               // it is not the server's to move or to end
	down     *harness.Injection // nil: it is enabled
	toxics   []*toxic           // oldest first
}

// New returns a server without proxies.
func New(o Options) *Server {
	s := &Server{opts: o, mux: http.NewServeMux(), proxies: map[string]*proxy{}}
	for pattern, h := range map[string]handler{
		"GET /version":                           s.version,
		"POST /reset":                            s.reset,
		"POST /populate":                         s.populate,
		"GET /proxies":                           s.list,
		"POST /proxies":                          s.create,
		"GET /proxies/{proxy}":                   s.show,
		"POST /proxies/{proxy}":                  s.update,
		"PATCH /proxies/{proxy}":                 s.update,
		"DELETE /proxies/{proxy}":                s.remove,
		"GET /proxies/{proxy}/toxics":            s.toxics,
		"POST /proxies/{proxy}/toxics":           s.addToxic,
		"GET /proxies/{proxy}/toxics/{toxic}":    s.showToxic,
		"POST /proxies/{proxy}/toxics/{toxic}":   s.updateToxic,
		"PATCH /proxies/{proxy}/toxics/{toxic}":  s.updateToxic,
		"DELETE /proxies/{proxy}/toxics/{toxic}": s.removeToxic,
	} {
		s.mux.Handle(pattern, h)
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collector{s})
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return s
}

// Adopt shows a link of somebody else's as a proxy. It stays where it is.
func (s *Server) Adopt(name string, l *link.Link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proxies[name] = &proxy{name: name, link: l, borrowed: true}
}

// Close heals everything and ends the proxies that were made here.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var errs []error
	for name, p := range s.proxies {
		errs = append(errs, p.end())
		delete(s.proxies, name)
	}
	return errors.Join(errs...)
}

// ServeHTTP answers one request. Browsers get no answer, as from toxiproxy, nor does who knows
// this machine by a name of his own: a page that somebody looks at has no business here.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.UserAgent(), "Mozilla/") || r.Header.Get("Origin") != "" || s.allowed("host", r.Host) != nil {
		http.Error(w, "User agent not allowed", http.StatusForbidden)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// handler answers a request with a status and a value, nil for no body.
type handler func(r *http.Request) (status int, body any, err error)

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	status, body, err := h(r)
	if e := new(apiError); errors.As(err, &e) {
		status = e.Status
		if body == nil {
			body = e
		}
	} else if err != nil {
		status, body = http.StatusInternalServerError, &apiError{err.Error(), http.StatusInternalServerError}
	}
	if body == nil {
		w.WriteHeader(status)
		return
	}
	b, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // who asked may have gone
}

// apiError is a failure as toxiproxy tells it.
type apiError struct {
	Message string `json:"error"`
	Status  int    `json:"status"`
}

func (e *apiError) Error() string { return e.Message }

func failed(status int, format string, args ...any) error {
	return &apiError{fmt.Sprintf(format, args...), status}
}

func badRequest(format string, args ...any) error {
	return failed(http.StatusBadRequest, format, args...)
}

// proxyBody is what a request says of a proxy. What it does not say is nil.
type proxyBody struct {
	Name     *string     `json:"name"`
	Listen   *string     `json:"listen"`
	Upstream *string     `json:"upstream"`
	Enabled  *bool       `json:"enabled"`
	Toxics   []toxicBody `json:"toxics"`
}

// proxyShown is what a reply says of one.
type proxyShown struct {
	Name     string  `json:"name"`
	Listen   string  `json:"listen"`
	Upstream string  `json:"upstream"`
	Enabled  bool    `json:"enabled"`
	Toxics   []toxic `json:"toxics"`
}

func (p *proxy) shown() proxyShown {
	out := proxyShown{p.name, p.link.Addr(), p.link.Upstream(), p.down == nil, []toxic{}}
	for _, t := range p.toxics {
		out.Toxics = append(out.Toxics, t.shown())
	}
	return out
}

func (s *Server) version(*http.Request) (int, any, error) {
	return http.StatusOK, map[string]string{"version": Version}, nil
}

func (s *Server) list(*http.Request) (int, any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]proxyShown{}
	for name, p := range s.proxies {
		out[name] = p.shown()
	}
	return http.StatusOK, out, nil
}

// proxy finds the one that a request names. The caller holds s.mu.
func (s *Server) proxy(r *http.Request) (*proxy, error) {
	name := r.PathValue("proxy")
	if p := s.proxies[name]; p != nil {
		return p, nil
	}
	return nil, failed(http.StatusNotFound, "proxy not found: %q; there are: %s", name, strings.Join(slices.Sorted(maps.Keys(s.proxies)), ", "))
}

func (s *Server) show(r *http.Request) (int, any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.proxy(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, p.shown(), nil
}

func (s *Server) create(r *http.Request) (int, any, error) {
	var b proxyBody
	if err := read(r.Body, &b); err != nil {
		return 0, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.Name != nil && s.proxies[*b.Name] != nil {
		return 0, nil, failed(http.StatusConflict, "proxy already exists: %q", *b.Name)
	}
	d, err := s.check(b, nil)
	if err != nil {
		return 0, nil, err
	}
	p, err := s.open(d)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusCreated, p.shown(), nil
}

// draft is a proxy that a request describes, checked and not yet started.
type draft struct {
	name, listen, upstream string
	enabled                bool
	toxics                 []*toxic
}

// check returns what a request describes. What it does not say of an old proxy stays.
func (s *Server) check(b proxyBody, old *proxy) (draft, error) {
	d := draft{listen: "127.0.0.1:0", enabled: b.Enabled == nil || *b.Enabled}
	if old != nil {
		d.listen = old.link.Addr()
	}
	for _, f := range []struct{ to, from *string }{{&d.name, b.Name}, {&d.listen, b.Listen}, {&d.upstream, b.Upstream}} {
		if f.from != nil && *f.from != "" {
			*f.to = *f.from
		}
	}
	switch {
	case d.name == "":
		return d, badRequest("missing required field: name")
	case d.upstream == "":
		return d, badRequest("missing required field: upstream")
	}
	for _, tb := range b.Toxics {
		t, err := tb.create()
		if err != nil {
			return d, err
		}
		if slices.ContainsFunc(d.toxics, func(x *toxic) bool { return x.Name == t.Name }) {
			return d, failed(http.StatusConflict, "toxic already exists: %q", t.Name)
		}
		d.toxics = append(d.toxics, t)
	}
	return d, cmp.Or(named("proxy", d.name), s.allowed("listen", d.listen), s.allowed("upstream", d.upstream))
}

// open starts a proxy. The caller holds s.mu.
func (s *Server) open(d draft) (*proxy, error) {
	p, err := s.start(d.name, d.listen, d.upstream)
	if err != nil {
		return nil, err
	}
	err = p.enable(d.enabled)
	for _, t := range d.toxics {
		if err == nil {
			err = s.install(p, t)
		}
	}
	if err != nil {
		return nil, errors.Join(err, p.end())
	}
	s.proxies[p.name] = p
	return p, nil
}

// allowed refuses an address of another machine.
func (s *Server) allowed(what, addr string) error {
	if s.opts.Allow == nil || !s.opts.Allow(addr) {
		return failed(http.StatusForbidden, "%s %s is not this machine: what is done there is done for real", what, addr)
	}
	return nil
}

// start starts a proxy on which nothing is in force.
func (s *Server) start(name, listen, upstream string) (*proxy, error) {
	if s.closed {
		return nil, failed(http.StatusServiceUnavailable, "the server is closed")
	}
	l, err := link.ListenAt(listen, name, upstream)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, failed(http.StatusConflict, "%v; port 0 takes a free one", err)
	case err != nil:
		return nil, badRequest("%v", err)
	}
	return &proxy{name: name, link: l}, nil
}

func (s *Server) update(r *http.Request) (int, any, error) {
	var b proxyBody
	if err := read(r.Body, &b); err != nil {
		return 0, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.proxy(r)
	if err == nil {
		err = s.change(p, b)
	}
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, p.shown(), nil
}

// change makes a proxy what a request says. Toxics have requests of their own, and what a
// client sends back of them here says nothing. The caller holds s.mu.
func (s *Server) change(p *proxy, b proxyBody) error {
	for _, f := range []struct {
		what string
		addr *string
	}{{"listen", b.Listen}, {"upstream", b.Upstream}} {
		if f.addr != nil && *f.addr != "" {
			if err := s.allowed(f.what, *f.addr); err != nil {
				return err
			}
		}
	}
	elsewhere, led := other(p.link.Addr(), b.Listen), other(p.link.Upstream(), b.Upstream)
	if p.borrowed && (elsewhere || led) {
		return failed(http.StatusForbidden, "proxy %s belongs to the environment: it cannot be moved", p.name)
	}
	if elsewhere {
		if err := s.move(p, *b.Listen); err != nil {
			return err
		}
	}
	if led {
		p.link.SetUpstream(*b.Upstream)
	}
	if b.Enabled != nil {
		return p.enable(*b.Enabled)
	}
	return nil
}

// other reports whether a request says another address than what is. Names, as localhost, are
// resolved: they have been allowed.
func other(is string, want *string) bool {
	if want == nil || *want == "" || *want == is {
		return false
	}
	a, err := net.ResolveTCPAddr("tcp", *want)
	return err != nil || a.String() != is
}

// move lets a proxy listen elsewhere, under the same toxics. Where it cannot, it stays.
func (s *Server) move(p *proxy, listen string) error {
	next, err := s.start(p.name, listen, p.link.Upstream())
	if err != nil {
		return err
	}
	err = next.enable(p.down == nil)
	for _, t := range p.toxics {
		again := *t
		again.in = harness.Injection{}
		err = errors.Join(err, s.install(next, &again))
	}
	if err != nil {
		return errors.Join(err, next.end())
	}
	old := *p
	*p = *next
	return old.end()
}

// enable lets connections through, or closes those that exist and resets new ones.
func (p *proxy) enable(on bool) error {
	switch {
	case on && p.down != nil:
		err := p.down.Heal(context.Background())
		p.down = nil
		return err
	case !on && p.down == nil:
		in, err := p.link.Disturb(context.Background(), harness.Toxic{Refuse: true, Close: true})
		if err != nil {
			return err
		}
		p.down = &in
	}
	return nil
}

// clear enables a proxy and removes its toxics.
func (p *proxy) clear() error {
	err := p.enable(true)
	for _, t := range p.toxics {
		err = errors.Join(err, t.heal())
	}
	p.toxics = nil
	return err
}

// end heals a link that is somebody else's, and closes one of our own.
func (p *proxy) end() error {
	if p.borrowed {
		return p.clear()
	}
	return p.link.Close()
}

func (s *Server) remove(r *http.Request) (int, any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.proxy(r)
	switch {
	case err != nil:
		return 0, nil, err
	case p.borrowed:
		return 0, nil, failed(http.StatusForbidden, "proxy %s belongs to the environment: it cannot be deleted", p.name)
	}
	delete(s.proxies, p.name)
	return http.StatusNoContent, nil, p.end()
}

func (s *Server) reset(*http.Request) (int, any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, p := range s.proxies {
		errs = append(errs, p.clear())
	}
	return http.StatusNoContent, nil, errors.Join(errs...)
}

// populate makes proxies what a list says: those that are not there are created, those that
// listen or lead elsewhere are replaced. At the first mistake it ends, and says what was done.
func (s *Server) populate(r *http.Request) (int, any, error) {
	var all []proxyBody
	if err := read(r.Body, &all); err != nil {
		return 0, nil, err
	}
	for i, b := range all {
		for _, f := range []struct {
			name  string
			value *string
		}{{"name", b.Name}, {"upstream", b.Upstream}} {
			if f.value == nil || *f.value == "" {
				return 0, nil, badRequest("missing required field: %s at proxy %d", f.name, i+1)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	out := struct {
		*apiError `json:",omitempty"`
		Proxies   []proxyShown `json:"proxies"`
	}{Proxies: []proxyShown{}}
	for _, b := range all {
		p, err := s.put(b)
		if err != nil {
			if !errors.As(err, &out.apiError) {
				out.apiError = &apiError{err.Error(), http.StatusInternalServerError}
			}
			return 0, out, out.apiError
		}
		out.Proxies = append(out.Proxies, p.shown())
	}
	return http.StatusCreated, out, nil
}

// put creates, replaces or keeps a proxy. Where the request is wrong, the old one stays as it
// was. The caller holds s.mu.
func (s *Server) put(b proxyBody) (*proxy, error) {
	old := s.proxies[*b.Name]
	d, err := s.check(b, old)
	switch {
	case err != nil:
		return nil, err
	case old == nil:
		return s.open(d)
	case !other(old.link.Addr(), &d.listen) && !other(old.link.Upstream(), &d.upstream):
		return old, nil
	case old.borrowed:
		return nil, failed(http.StatusForbidden, "proxy %s belongs to the environment: it cannot be replaced", old.name)
	}
	delete(s.proxies, old.name)
	if err := old.end(); err != nil { // first: the new one may want its port
		return nil, err
	}
	return s.open(d)
}

func (s *Server) toxics(r *http.Request) (int, any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.proxy(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, p.shown().Toxics, nil
}

// toxic finds the one that a request names, with its proxy. The caller holds s.mu.
func (s *Server) toxic(r *http.Request) (p *proxy, i int, err error) {
	if p, err = s.proxy(r); err != nil {
		return nil, 0, err
	}
	name := r.PathValue("toxic")
	if i = slices.IndexFunc(p.toxics, func(t *toxic) bool { return t.Name == name }); i < 0 {
		return nil, 0, failed(http.StatusNotFound, "toxic not found: %q", name)
	}
	return p, i, nil
}

func (s *Server) showToxic(r *http.Request) (int, any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, i, err := s.toxic(r)
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, p.toxics[i].shown(), nil
}

func (s *Server) addToxic(r *http.Request) (int, any, error) {
	var b toxicBody
	err := read(r.Body, &b)
	if err != nil {
		return 0, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := s.proxy(r)
	if err != nil {
		return 0, nil, err
	}
	t, err := b.create()
	if err != nil {
		return 0, nil, err
	}
	if slices.ContainsFunc(p.toxics, func(x *toxic) bool { return x.Name == t.Name }) {
		return 0, nil, failed(http.StatusConflict, "toxic already exists: %q", t.Name)
	}
	if err := s.install(p, t); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, t.shown(), nil
}

// updateToxic puts the new toxic in force before the old one is healed: nothing passes that
// meets neither.
func (s *Server) updateToxic(r *http.Request) (int, any, error) {
	var b toxicBody
	err := read(r.Body, &b)
	if err != nil {
		return 0, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, i, err := s.toxic(r)
	if err != nil {
		return 0, nil, err
	}
	old := p.toxics[i]
	t, err := b.update(old)
	if err != nil {
		return 0, nil, err
	}
	if err := s.install(p, t); err != nil {
		return 0, nil, err
	}
	p.toxics[i], p.toxics = t, p.toxics[:len(p.toxics)-1] // install has appended it
	return http.StatusOK, t.shown(), old.heal()
}

func (s *Server) removeToxic(r *http.Request) (int, any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, i, err := s.toxic(r)
	if err != nil {
		return 0, nil, err
	}
	t := p.toxics[i]
	p.toxics = slices.Delete(p.toxics, i, i+1)
	return http.StatusNoContent, nil, t.heal()
}

// install puts a toxic in force on a proxy's link.
func (s *Server) install(p *proxy, t *toxic) error {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s/%s", p.name, t.Name)
	if x, some := t.on(s.opts.Seed ^ h.Sum64()); some {
		in, err := p.link.Disturb(context.Background(), x)
		if err != nil {
			return badRequest("%v", err)
		}
		t.in = in
	}
	p.toxics = append(p.toxics, t)
	return nil
}

func (t *toxic) heal() error {
	if t.in.Heal == nil {
		return nil
	}
	return t.in.Heal(context.Background())
}

// collector tells Prometheus of the bytes of all proxies, by toxiproxy's names.
type collector struct{ s *Server }

var (
	labels   = []string{"direction", "proxy", "listener", "upstream"}
	received = prometheus.NewDesc("toxiproxy_proxy_received_bytes_total", "bytes that have come", labels, nil)
	sent     = prometheus.NewDesc("toxiproxy_proxy_sent_bytes_total", "bytes that were passed on", labels, nil)
)

// Describe is as prometheus.Collector wants it.
func (c collector) Describe(to chan<- *prometheus.Desc) { to <- received; to <- sent }

// Collect is as prometheus.Collector wants it.
func (c collector) Collect(to chan<- prometheus.Metric) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for _, p := range c.s.proxies {
		in, out := p.link.Traffic(), p.link.Stats()
		for _, m := range []struct {
			desc      *prometheus.Desc
			bytes     int64
			direction string
		}{{received, in.Up, "upstream"}, {received, in.Down, "downstream"}, {sent, out.Up, "upstream"}, {sent, out.Down, "downstream"}} {
			to <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.bytes), m.direction, p.name, p.link.Addr(), p.link.Upstream())
		}
	}
}
