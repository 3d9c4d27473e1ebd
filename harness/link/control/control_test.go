package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness/link"
	"github.com/shakedown-go/shakedown/harness/link/linktest"
)

func local(addr string) bool {
	return strings.HasPrefix(addr, "127.0.0.1:") || strings.HasPrefix(addr, "localhost:")
}

// serve starts the API and returns it with its URL.
func serve(t *testing.T) (*Server, string) {
	t.Helper()
	s := New(Options{Seed: 1, Allow: local})
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		h.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, h.URL
}

// proxied makes a proxy before a server, by the official client.
func proxied(t *testing.T, url string, handle func(*net.TCPConn)) *toxiproxy.Proxy {
	t.Helper()
	p, err := toxiproxy.NewClient(url).CreateProxy("dep", "127.0.0.1:0", linktest.Serve(t, handle))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// trip is how long a round trip takes.
func trip(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	start := time.Now()
	linktest.RoundTrip(t, c, "hello")
	return time.Since(start)
}

func TestOfficialClient(t *testing.T) {
	t.Parallel()
	_, url := serve(t)
	client := toxiproxy.NewClient(url)
	p := proxied(t, url, linktest.Echo)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := linktest.Dial(t, p.Listen)
	linktest.RoundTrip(t, c, "hello")
	tox, err := p.AddToxic("", "latency", "", 1, toxiproxy.Attributes{"latency": 60, "jitter": 10})
	ok(err)
	if tox.Name != "latency_downstream" || tox.Stream != "downstream" || tox.Attributes["latency"] != 60.0 {
		t.Errorf("the toxic is %+v", tox)
	}
	if took := trip(t, c); took < 50*time.Millisecond {
		t.Errorf("a round trip took %s", took)
	}
	tox, err = p.UpdateToxic("latency_downstream", -1, toxiproxy.Attributes{"latency": 150.0})
	ok(err)
	if tox.Attributes["jitter"] != 10.0 || tox.Toxicity != 1 {
		t.Errorf("what was not said has changed: %+v", tox)
	}
	if took := trip(t, c); took < 140*time.Millisecond {
		t.Errorf("after the update a round trip took %s", took)
	}
	all, err := p.Toxics()
	ok(err)
	if len(all) != 1 || all[0].Name != "latency_downstream" {
		t.Errorf("toxics: %+v", all)
	}
	ok(p.RemoveToxic("latency_downstream"))
	if took := trip(t, c); took > 50*time.Millisecond {
		t.Errorf("after the removal a round trip took %s", took)
	}

	ok(p.Disable())
	if got, err := linktest.Ended(c); got != "" || err != nil {
		t.Errorf("disabled: got %q, %v; want an end in good order", got, err)
	}
	linktest.Refused(t, p.Listen)
	ok(p.Enable())
	linktest.RoundTrip(t, linktest.Dial(t, p.Listen), "hello")

	_, err = p.AddToxic("x", "timeout", "upstream", 1, nil)
	ok(err)
	ok(p.Disable())
	ok(client.ResetState())
	linktest.RoundTrip(t, linktest.Dial(t, p.Listen), "hello")
	if proxies, err := client.Proxies(); err != nil || len(proxies) != 1 || !proxies["dep"].Enabled || len(proxies["dep"].ActiveToxics) != 0 {
		t.Errorf("proxies: %+v, %v", proxies, err)
	}

	other := linktest.Serve(t, func(c *net.TCPConn) { io.WriteString(c, "other") })
	p.Upstream, p.Enabled = other, true // which the reset did, not p
	ok(p.Save())
	if got, err := linktest.Ended(linktest.Dial(t, p.Listen)); got != "other" {
		t.Errorf("at another upstream: %q, %v", got, err)
	}
	was := p.Listen
	p.Listen = "127.0.0.1:0"
	ok(p.Save())
	if got, _ := linktest.Ended(linktest.Dial(t, p.Listen)); got != "other" || p.Listen == was {
		t.Errorf("at another port, %s: %q", p.Listen, got)
	}
	linktest.Eventually(t, "the port before is free", func() bool {
		_, err := net.Dial("tcp", was)
		return errors.Is(err, syscall.ECONNREFUSED)
	})

	config := []toxiproxy.Proxy{{Name: "dep", Listen: p.Listen, Upstream: p.Upstream, Enabled: true}, {Name: "more", Listen: "127.0.0.1:0", Upstream: other, Enabled: true}}
	for range 2 {
		made, err := client.Populate(config)
		ok(err)
		if len(made) != 2 || made[0].Listen != p.Listen {
			t.Fatalf("populated: %+v", made)
		}
		config[1].Listen = made[1].Listen
	}
	ok(p.Delete())
	linktest.Eventually(t, "the port is free", func() bool {
		_, err := net.Dial("tcp", p.Listen)
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	if v, err := client.Version(); err != nil || !strings.Contains(string(v), Version) {
		t.Errorf("version: %s, %v", v, err)
	}
}

// Every toxic of toxiproxy is known with its attributes, and no other.
func TestToxicsAreToxiproxys(t *testing.T) {
	t.Parallel()
	for name := range toxics.ToxicRegistry {
		if _, known := kinds[name]; !known && name != "noop" {
			t.Errorf("toxic %s is not known", name)
		}
	}
	for name, k := range kinds {
		w := &toxics.ToxicWrapper{Type: name}
		if toxics.New(w) == nil {
			t.Errorf("toxiproxy has no toxic %s", name)
			continue
		}
		b, err := json.Marshal(w.Toxic)
		if err != nil {
			t.Fatal(err)
		}
		var want map[string]any
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		got := map[string]any{}
		for _, a := range k.attributes {
			got[a.name] = 0.0
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("attributes of %s (-want +got):\n%s", name, diff)
		}
	}
}

func TestWhatToxicsDo(t *testing.T) {
	t.Parallel()
	tests := []struct {
		kind, stream string
		attributes   toxiproxy.Attributes
		got          string // what a client gets back for "hello"
		err          error  // and how that ends; nil: it stays open
		least        time.Duration
	}{
		{"latency", "upstream", toxiproxy.Attributes{"latency": 40}, "hello", nil, 40 * time.Millisecond},
		{"latency", "upstream", nil, "hello", nil, 0},
		{"bandwidth", "upstream", toxiproxy.Attributes{"rate": 1}, "hello", nil, 4 * time.Millisecond},
		{"slicer", "downstream", toxiproxy.Attributes{"average_size": 2, "size_variation": 1, "delay": 5000}, "hello", nil, 5 * time.Millisecond},
		{"timeout", "downstream", toxiproxy.Attributes{"timeout": 40}, "", io.EOF, 40 * time.Millisecond},
		{"limit_data", "downstream", toxiproxy.Attributes{"bytes": 3}, "hel", syscall.ECONNRESET, 0},
		{"reset_peer", "upstream", toxiproxy.Attributes{"timeout": 60}, "", syscall.ECONNRESET, 60 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.kind, tt.attributes), func(t *testing.T) {
			t.Parallel()
			_, url := serve(t)
			p := proxied(t, url, linktest.Echo)
			c := linktest.Dial(t, p.Listen)
			linktest.RoundTrip(t, c, "bytes before do not count")
			start := time.Now()
			if _, err := p.AddToxic("x", tt.kind, tt.stream, 1, tt.attributes); err != nil {
				t.Fatal(err)
			}
			linktest.Send(t, c, "hello")
			linktest.Expect(t, c, tt.got)
			if tt.err != nil {
				c.SetReadDeadline(time.Now().Add(linktest.Soon))
				if n, err := c.Read(make([]byte, 9)); n > 0 || !errors.Is(err, tt.err) {
					t.Errorf("%d bytes, then %v; want %v", n, err, tt.err)
				}
			}
			if took := time.Since(start); took < tt.least {
				t.Errorf("it took %s, want %s", took, tt.least)
			}
			reply, err := http.Get(url + "/proxies/dep/toxics/x")
			if err != nil {
				t.Fatal(err)
			}
			defer reply.Body.Close()
			var shown toxic
			if err := json.NewDecoder(reply.Body).Decode(&shown); err != nil {
				t.Fatal(err)
			}
			if inert := tt.attributes == nil; inert != (shown.Acted == 0) {
				t.Errorf("it acted on %d %s", shown.Acted, shown.Unit)
			}
			if err := p.RemoveToxic("x"); err != nil {
				t.Fatal(err)
			}
			linktest.RoundTrip(t, linktest.Dial(t, p.Listen), "healed")
		})
	}
}

func TestBandwidthOfZeroHolds(t *testing.T) {
	t.Parallel()
	_, url := serve(t)
	p := proxied(t, url, linktest.Echo)
	c := linktest.Dial(t, p.Listen)
	linktest.RoundTrip(t, c, "x")
	if _, err := p.AddToxic("hold", "bandwidth", "downstream", 1, toxiproxy.Attributes{"rate": 0}); err != nil {
		t.Fatal(err)
	}
	linktest.Send(t, c, "hello")
	c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 9)); n > 0 || err == nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := p.RemoveToxic("hold"); err != nil {
		t.Fatal(err)
	}
	linktest.Expect(t, c, "hello")
}

func TestHalfCloseIsKeptUnderToxics(t *testing.T) {
	t.Parallel()
	_, url := serve(t)
	p := proxied(t, url, func(c *net.TCPConn) {
		b, err := io.ReadAll(c)
		fmt.Fprintf(c, "%d bytes, %v", len(b), err)
	})
	if _, err := p.AddToxic("", "latency", "upstream", 1, toxiproxy.Attributes{"latency": 10}); err != nil {
		t.Fatal(err)
	}
	c := linktest.Dial(t, p.Listen)
	linktest.Send(t, c, "request")
	c.CloseWrite()
	if got, err := linktest.Ended(c); got != "7 bytes, <nil>" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// ask makes a request and returns status and body.
func ask(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	reply, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply.StatusCode, string(b)
}

func TestMistakesAreRefused(t *testing.T) {
	t.Parallel()
	s, url := serve(t)
	proxied(t, url, linktest.Echo)
	own, err := link.Listen("cache", "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	s.Adopt("cache", own)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	const toxics = "/proxies/dep/toxics"
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", toxics, `{"type":"latency","attributes":{"latencyy":100}}`, 400, `toxic latency has no attribute \"latencyy\"; there are: latency, jitter`},
		{"POST", toxics, `{"type":"latency","attributes":{"latency":-1}}`, 400, `attribute \"latency\" of toxic latency is -1: it must be from 0 to 3600000`},
		{"POST", toxics, `{"type":"latency","attributes":{"latency":1.5}}`, 400, `1.5 is no whole number`},
		{"POST", toxics, `{"type":"latency","attributes":{"latency":"100"}}`, 400, `is no whole number`},
		{"POST", toxics, `{"type":"slicer","attributes":{}}`, 400, `attribute \"average_size\" of toxic slicer is 0: it must be from 1`},
		{"POST", toxics, `{"type":"slicer","attributes":{"average_size":4,"size_variation":4}}`, 400, `must be less than`},
		{"POST", toxics, `{"type":"latency","toxicity":7}`, 400, `toxicity is 7: it must be from 0 to 1`},
		{"POST", toxics, `{"type":"latencies"}`, 400, `invalid toxic type: \"latencies\"; there are bandwidth, latency,`},
		{"POST", toxics, `{"type":"latency","stream":"sideways"}`, 400, `either upstream or downstream`},
		{"POST", toxics, `{"type":"latency","attribute":{}}`, 400, `unknown field`},
		{"POST", toxics, `{"type":"latency"} {}`, 400, `something follows`},
		{"POST", toxics, `{"type":`, 400, `bad request body`},
		{"POST", toxics, `{"name":"` + strings.Repeat("x", maxBody) + `"}`, 400, `more than 1048576 bytes`},
		{"PATCH", toxics + "/none", `{}`, 404, `toxic not found: \"none\"`},
		{"DELETE", toxics + "/none", ``, 404, `toxic not found`},
		{"POST", "/proxies/none/toxics", `{"type":"latency"}`, 404, `proxy not found: \"none\"; there are: cache, dep`},
		{"POST", "/proxies", `{"name":"dep","upstream":"127.0.0.1:1"}`, 409, `proxy already exists`},
		{"POST", "/proxies", `{"name":"x"}`, 400, `missing required field: upstream`},
		{"POST", "/proxies", `{"upstream":"127.0.0.1:1"}`, 400, `missing required field: name`},
		{"POST", "/proxies", `{"name":"a/b","upstream":"127.0.0.1:1"}`, 400, `no name for a proxy`},
		{"POST", toxics, `{"name":"..","type":"latency"}`, 400, `no name for a toxic`},
		{"POST", "/populate", `[{"name":"dep","upstream":"127.0.0.1:1","toxics":[{"type":"x"}]}]`, 400, `invalid toxic type`},
		{"POST", "/populate", `[{"name":"dep","upstream":"db.example.com:1"}]`, 403, `not this machine`},
		{"POST", "/proxies", `{"name":"x","upstream":"db.example.com:5432"}`, 403, `upstream db.example.com:5432 is not this machine`},
		{"POST", "/proxies", `{"name":"x","listen":"0.0.0.0:0","upstream":"127.0.0.1:1"}`, 403, `listen 0.0.0.0:0 is not this machine`},
		{"POST", "/proxies", `{"name":"x","listen":"127.0.0.1:77777","upstream":"127.0.0.1:1"}`, 400, `invalid port`},
		{"POST", "/proxies", `{"name":"x","listen":"` + taken.Addr().String() + `","upstream":"127.0.0.1:1"}`, 409, `port 0 takes a free one`},
		{"POST", "/proxies", `{"name":"x","upstream":"127.0.0.1:1","toxics":[{"type":"latency","attributes":{"l":1}}]}`, 400, `has no attribute`},
		{"POST", "/proxies/dep", `{"upstream":"db.example.com:5432"}`, 403, `not this machine`},
		{"POST", "/populate", `[{"name":"x"}]`, 400, `missing required field: upstream at proxy 1`},
		{"POST", "/populate", `[{"name":"x","upstream":"db.example.com:1"}]`, 403, `\"proxies\":[]`},
		{"DELETE", "/proxies/cache", ``, 403, `belongs to the environment`},
		{"POST", "/proxies/cache", `{"upstream":"127.0.0.1:2"}`, 403, `cannot be moved`},
		{"POST", "/populate", `[{"name":"cache","upstream":"127.0.0.1:2"}]`, 403, `cannot be replaced`},
		{"PUT", "/proxies", ``, 405, `Method Not Allowed`},
		{"GET", "/nothing", ``, 404, `not found`},
	} {
		status, body := ask(t, tt.method, url+tt.path, tt.body)
		want := strings.ReplaceAll(tt.want, `\"`, `"`)
		if status != tt.status || !strings.Contains(strings.ReplaceAll(body, `\"`, `"`), want) {
			t.Errorf("%s %s %.80s: %d %s\nwant %d %s", tt.method, tt.path, tt.body, status, body, tt.status, want)
		}
	}
	if p := s.proxies["dep"]; len(s.proxies) != 2 || len(p.toxics) != 0 {
		t.Errorf("something was left: %v, %v", slices.Collect(maps.Keys(s.proxies)), p.toxics)
	}
	for header, value := range map[string]string{"User-Agent": "Mozilla/5.0", "Origin": "http://example.com"} {
		req := httptest.NewRequest("POST", "http://127.0.0.1:8474/reset", nil)
		req.Header.Set(header, value)
		w := httptest.NewRecorder()
		if s.ServeHTTP(w, req); w.Code != http.StatusForbidden {
			t.Errorf("a browser (%s) got %d", header, w.Code)
		}
	}
	w := httptest.NewRecorder()
	if s.ServeHTTP(w, httptest.NewRequest("GET", "http://rebound.example.com:8474/proxies", nil)); w.Code != http.StatusForbidden {
		t.Errorf("a name that leads here got %d", w.Code)
	}
}

// A link that belongs to somebody else is disturbed like any other, and healed at the end.
func TestAdopted(t *testing.T) {
	t.Parallel()
	l, err := link.Listen("cache", linktest.Serve(t, linktest.Echo))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := New(Options{Allow: local})
	s.Adopt("cache", l)
	for _, r := range []struct{ path, body string }{{"/proxies/cache/toxics", `{"type":"bandwidth"}`}, {"/proxies/cache", `{"enabled":false}`}} {
		w := httptest.NewRecorder()
		if s.ServeHTTP(w, httptest.NewRequest("POST", "http://127.0.0.1:8474"+r.path, strings.NewReader(r.body))); w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", r.path, w.Code, w.Body)
		}
	}
	linktest.Refused(t, l.Addr())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	linktest.RoundTrip(t, linktest.Dial(t, l.Addr()), "healed, and open")
}

// A proxy that is named otherwise than it is shown is the same all the same, and keeps its
// connections and toxics.
func TestNamesOfThisMachineAreResolved(t *testing.T) {
	t.Parallel()
	s, url := serve(t)
	p := proxied(t, url, linktest.Echo)
	c := linktest.Dial(t, p.Listen)
	linktest.RoundTrip(t, c, "x")
	_, port, _ := net.SplitHostPort(p.Listen)
	named := fmt.Sprintf(`{"name":"dep","listen":"localhost:%s","upstream":%q}`, port, p.Upstream)
	if status, body := ask(t, "POST", url+"/populate", "["+named+"]"); status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	linktest.RoundTrip(t, c, "still there")
	if status, body := ask(t, "POST", url+"/proxies/dep", fmt.Sprintf(`{"listen":"localhost:%s","enabled":false}`, port)); status != http.StatusOK || s.proxies["dep"].down == nil {
		t.Errorf("%d %s", status, body)
	}
	if status, _ := ask(t, "POST", url+"/populate", `[{"name":"dep","upstream":"127.0.0.1:1"}]`); status != http.StatusCreated || s.proxies["dep"].link.Addr() != p.Listen {
		t.Errorf("%d: replaced without a word about its port, it is at %s, not %s", status, s.proxies["dep"].link.Addr(), p.Listen)
	}
}

func TestMetricsAreOfNow(t *testing.T) {
	t.Parallel()
	_, url := serve(t)
	p := proxied(t, url, linktest.Echo)
	c := linktest.Dial(t, p.Listen) // it stays open
	linktest.RoundTrip(t, c, "hello")
	want := fmt.Sprintf(`toxiproxy_proxy_sent_bytes_total{direction="downstream",listener=%q,proxy="dep",upstream=%q} 5`, p.Listen, p.Upstream)
	linktest.Eventually(t, want, func() bool {
		_, got := ask(t, "GET", url+"/metrics", "")
		return strings.Contains(got, want)
	})
}

// Requests of all kinds at once, under traffic: for the race detector, and no call waits.
func TestStorm(t *testing.T) {
	t.Parallel()
	_, url := serve(t)
	p := proxied(t, url, linktest.Echo)
	stop := make(chan struct{})
	var traffic, control sync.WaitGroup
	for range 8 {
		traffic.Go(func() {
			block := bytes.Repeat([]byte("x"), 4096)
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := net.Dial("tcp", p.Listen)
				if err != nil {
					continue
				}
				c.SetDeadline(time.Now().Add(20 * time.Millisecond))
				c.Write(block)
				io.ReadFull(c, block[:100]) // and hangs up in the midst of the reply
				c.Close()
			}
		})
	}
	names := slices.Sorted(maps.Keys(kinds))
	for i := range 4 {
		control.Go(func() {
			client := &http.Client{Timeout: 5 * time.Second}
			for n := range 60 {
				name, path := fmt.Sprintf("t%d", i), "/proxies/dep/toxics"
				for _, r := range []struct{ method, path, body string }{
					{"POST", path, fmt.Sprintf(`{"name":%q,"type":%q,"toxicity":0.5,"attributes":%s}`, name, names[n%len(names)], map[bool]string{true: `{"average_size":9}`, false: `{}`}[names[n%len(names)] == "slicer"])},
					{"PATCH", path + "/" + name, `{"toxicity":0.9}`},
					{"GET", "/proxies", ``}, {"GET", "/metrics", ``},
					{"DELETE", path + "/" + name, ``},
				} {
					req, err := http.NewRequest(r.method, url+r.path, strings.NewReader(r.body))
					if err != nil {
						t.Error(err)
						return
					}
					reply, err := client.Do(req)
					if err != nil {
						t.Errorf("%s %s: %v", r.method, r.path, err)
						return
					}
					b, _ := io.ReadAll(reply.Body)
					reply.Body.Close()
					if reply.StatusCode >= 300 {
						t.Errorf("%s %s %s: %d %s", r.method, r.path, r.body, reply.StatusCode, b)
						return
					}
				}
			}
		})
	}
	control.Wait()
	close(stop)
	traffic.Wait()
	linktest.RoundTrip(t, linktest.Dial(t, p.Listen), "healed")
}

func FuzzToxicBody(f *testing.F) {
	f.Add(`{"type":"latency","stream":"upstream","toxicity":0.5,"attributes":{"latency":100,"jitter":1e1}}`)
	f.Add(`{"type":"slicer","attributes":{"average_size":64,"size_variation":32,"delay":10}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var b toxicBody
		if read(strings.NewReader(text), &b) != nil {
			return
		}
		x, err := b.create()
		if err != nil {
			return
		}
		l, err := link.Listen("x", "127.0.0.1:1")
		if err != nil {
			t.Skip(err)
		}
		defer l.Close()
		if toxic, some := x.on(1); some {
			if _, err := l.Disturb(t.Context(), toxic); err != nil {
				t.Errorf("%s is taken, and the link refuses it: %v", text, err)
			}
		}
	})
}
