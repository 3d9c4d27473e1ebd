package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/spec"
)

const description = `service: {build: ., args: ["{{listen}}"]}
api:
  ops:
    get: {request: GET /get}
    post: {request: POST /post}
    put: {request: PUT /put}
    pay: {request: "POST /orders/{order}/pay/{part}", params: {path.order: {int: 1..9}, path.part: {int: 1..9}}}
    strict: {request: POST /post, expect: [200]}
`

// newClient returns a client of lane a for the description, at base.
func newClient(t *testing.T, text, base string, emit func(harness.Event)) harness.Client {
	t.Helper()
	f, err := spec.Parse("shakedown.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(f, base).Client(t.Context(), "a", emit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// call makes a call with a deadline, and returns how often it was forwarded.
func call(t *testing.T, c harness.Client, op string, args harness.Args, limit time.Duration) (harness.Reply, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	forwarded := 0
	r, err := c.Call(ctx, op, args, func(e harness.Event) {
		if e.Kind != harness.Forwarded || e.Name != op {
			t.Errorf("event %+v, want forwarded %s", e, op)
		}
		forwarded++
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, forwarded
}

func noEvents(t *testing.T) func(harness.Event) {
	return func(e harness.Event) { t.Errorf("unexpected event %+v", e) }
}

func TestRequest(t *testing.T) {
	t.Parallel()
	var got atomic.Pointer[string]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var head []string
		for _, k := range []string{"Content-Type", "Idempotency-Key", "X-Empty"} {
			if v, ok := r.Header[k]; ok {
				head = append(head, k+"="+v[0])
			}
		}
		s := fmt.Sprintf("%s %s %v %s len=%d te=%v", r.Method, r.RequestURI, head, b, r.ContentLength, r.TransferEncoding)
		got.Store(&s)
	}))
	defer srv.Close()
	c := newClient(t, description, srv.URL+"/", noEvents(t))
	text, num := harness.Text, harness.Int
	for _, tc := range []struct {
		op   string
		args harness.Args
		want string
	}{
		{"get", nil, "GET /get []  len=0 te=[]"},
		{"post", nil, "POST /post []  len=0 te=[]"},
		{"get", harness.Args{{Key: "query.q", Value: text("a b&c")}, {Key: "query.n", Value: num(3)}, {Key: `query."x y"`, Value: text("{{lane}}")}},
			"GET /get?q=a+b%26c&n=3&x+y=a []  len=0 te=[]"},
		{"pay", harness.Args{{Key: "path.order", Value: text("a/../b?c %")}, {Key: "path.part", Value: num(2)}},
			"POST /orders/a%2F..%2Fb%3Fc%20%25/pay/2 []  len=0 te=[]"},
		{"pay", harness.Args{{Key: "path.part", Value: text("..")}}, "POST /orders//pay/.. []  len=0 te=[]"},
		{"post", harness.Args{
			{Key: "body.items.1.sku", Value: text("s<2>")},
			{Key: "body.items.0.sku", Value: text("s1")},
			{Key: "body.items.1.qty", Value: num(2)},
			{Key: "body.user", Value: text("u-{{lane}}")},
			{Key: "header.idempotency-key", Value: text("k1")},
			{Key: "header.X-Empty", Value: text("")},
		}, `POST /post [Content-Type=application/json Idempotency-Key=k1 X-Empty=] {"items":[{"sku":"s1"},{"sku":"s<2>","qty":2}],"user":"u-a"} len=60 te=[]`},
		{"put", harness.Args{{Key: "body", Value: harness.Raw("{\"a\": \xff")}, {Key: "header.content-type", Value: text("text/plain")}},
			"PUT /put [Content-Type=text/plain] {\"a\": \xff len=7 te=[]"},
		{"put", harness.Args{{Key: "body", Value: harness.Raw("")}}, "PUT /put [Content-Type=application/json]  len=0 te=[]"},
		{"put", harness.Args{{Key: "body", Value: text("x")}}, `PUT /put [Content-Type=application/json] "x" len=3 te=[]`},
		{"get", harness.Args{{Key: "body.x", Value: num(1)}}, `GET /get [Content-Type=application/json] {"x":1} len=7 te=[]`},
	} {
		r, forwarded := call(t, c, tc.op, tc.args, 5*time.Second)
		if r.Outcome != harness.OK || forwarded != 1 {
			t.Fatalf("%s %v: %+v, forwarded %d times", tc.op, tc.args, r, forwarded)
		}
		if g := *got.Load(); g != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.op, g, tc.want)
		}
	}
}

func TestWhatHTTPCannotCarryIsNotSent(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request came") }))
	defer srv.Close()
	c := newClient(t, description, srv.URL, noEvents(t))
	for _, a := range []harness.Arg{
		{Key: `header."a b"`, Value: harness.Text("x")},
		{Key: `header.""`, Value: harness.Text("x")},
		{Key: "header.X-A", Value: harness.Text("x\r\nX-B: y")},
		{Key: "body" + strings.Repeat(".a", 300), Value: harness.Text("x")},
	} {
		r, forwarded := call(t, c, "post", harness.Args{a}, time.Second)
		if r.Outcome != harness.Fail || !strings.HasPrefix(r.Error, "not sent: ") || forwarded != 0 {
			t.Errorf("%.40s: %+v, forwarded %d times", a.Key, r, forwarded)
		}
	}
}

func TestImpossibleCallsAreErrors(t *testing.T) {
	t.Parallel()
	c := newClient(t, description, "http://127.0.0.1:1", noEvents(t))
	for _, tc := range []struct {
		op   string
		args harness.Args
		want string
	}{
		{"nothing", nil, "no op nothing"},
		{"get", harness.Args{{Key: "trailer.x", Value: harness.Text("")}}, "trailer.x is no argument"},
		{"get", harness.Args{{Key: "query", Value: harness.Text("")}}, "query is no argument"},
		{"get", harness.Args{{Key: "query.x", Value: harness.Ref("o1.id")}}, "query.x={{o1.id}} was not resolved"},
	} {
		if _, err := c.Call(t.Context(), tc.op, tc.args, noEvents(t)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %s", tc.op, err, tc.want)
		}
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	reply := func(s string) func(net.Conn) { return func(c net.Conn) { io.WriteString(c, s) } }
	for _, tc := range []struct {
		name   string
		op     string
		answer func(net.Conn) // behind a request that was read; the connection is then closed
		want   harness.Kind
		status int
		expect bool
		error  string
	}{
		{"ok", "post", reply("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), harness.OK, 200, true, ""},
		{"redirect is not followed", "post", reply("HTTP/1.1 302 F\r\nLocation: /get\r\nContent-Length: 0\r\n\r\n"), harness.OK, 302, true, ""},
		{"rejected", "post", reply("HTTP/1.1 422 U\r\nContent-Length: 0\r\n\r\n"), harness.Fail, 422, true, ""},
		{"conflict", "post", reply("HTTP/1.1 409 C\r\nContent-Length: 0\r\n\r\n"), harness.Unknown, 409, true, ""},
		{"unavailable, read", "get", reply("HTTP/1.1 503 U\r\nContent-Length: 0\r\n\r\n"), harness.Fail, 503, true, ""},
		{"unavailable, mutation", "post", reply("HTTP/1.1 503 U\r\nContent-Length: 0\r\n\r\n"), harness.Unknown, 503, true, ""},
		{"unavailable, not expected", "strict", reply("HTTP/1.1 503 U\r\nContent-Length: 0\r\n\r\n"), harness.Unknown, 503, false, ""},
		{"server error", "post", reply("HTTP/1.1 500 I\r\nContent-Length: 0\r\n\r\n"), harness.Unknown, 500, false, ""},
		{"cut in the body, mutation", "post", reply("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi"), harness.Unknown, 200, true, "broke off"},
		{"cut in the body, read", "get", reply("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi"), harness.Fail, 200, true, "broke off"},
		{"cut in the body, rejected", "post", reply("HTTP/1.1 404 N\r\nContent-Length: 20\r\n\r\nhi"), harness.Fail, 404, true, "broke off"},
		{"reset in the body", "post", func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
			c.(*net.TCPConn).SetLinger(0)
		}, harness.Unknown, 0, false, "reset"},
		{"closed", "post", func(net.Conn) {}, harness.Unknown, 0, false, "EOF"},
		{"closed, read", "get", func(net.Conn) {}, harness.Fail, 0, false, "EOF"},
		{"cut in the head", "post", reply("HTTP/1.1 200 OK\r\nConte"), harness.Unknown, 0, false, "broken"},
		{"no HTTP", "post", reply("SSH-2.0-x\r\n"), harness.Unknown, 0, false, "malformed"},
		{"endless head", "get", reply("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20)), harness.Fail, 0, false, "exceeded"},
		{"timeout, mutation", "post", func(c net.Conn) { io.Copy(io.Discard, c) }, harness.Unknown, 0, false, "deadline"},
		{"timeout, read", "get", func(c net.Conn) { io.Copy(io.Discard, c) }, harness.Fail, 0, false, "deadline"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(c net.Conn, _ int) bool {
				tc.answer(c)
				return false
			})
			c := newClient(t, description, "http://"+s.addr, noEvents(t))
			r, forwarded := call(t, c, tc.op, nil, 500*time.Millisecond)
			if r.Outcome != tc.want || !strings.Contains(r.Error, tc.error) || tc.error == "" && r.Error != "" || forwarded != 1 {
				t.Errorf("outcome %s, error %q, forwarded %d times; want %s, %q, once", r.Outcome, r.Error, forwarded, tc.want, tc.error)
			}
			// A reset can overtake the status that was written before it.
			if tc.name != "reset in the body" && (r.Status != tc.status || r.Expect != tc.expect) {
				t.Errorf("status %d, expect %v; want %d, %v", r.Status, r.Expect, tc.status, tc.expect)
			}
		})
	}
}

func TestNotForwarded(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := newClient(t, description, "http://"+l.Addr().String(), noEvents(t))
	if r, forwarded := call(t, c, "post", nil, time.Second); r.Outcome != harness.Fail || !strings.HasPrefix(r.Error, "not sent: ") || forwarded != 0 {
		t.Errorf("refused: %+v, forwarded %d times", r, forwarded)
	}
	srv := httptest.NewServer(http.NotFoundHandler())
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := newClient(t, description, srv.URL, noEvents(t)).Call(ctx, "post", nil, noEvents(t))
	if err != nil || r.Outcome != harness.Fail {
		t.Errorf("canceled before: %+v, %v", r, err)
	}
}

// TestNothingIsSentTwice breaks a connection on its second request: one that was used
// before is what tempts the transport to send again.
func TestNothingIsSentTwice(t *testing.T) {
	t.Parallel()
	key := harness.Args{{Key: "header.Idempotency-Key", Value: harness.Text("k")}, {Key: "header.x-idempotency-key", Value: harness.Text("k")}}
	for _, tc := range []struct {
		op   string
		args harness.Args
		want harness.Kind
	}{
		{"get", nil, harness.Fail},
		{"get", key, harness.Fail},
		{"get", harness.Args{{Key: "body.x", Value: harness.Int(1)}}, harness.Fail},
		{"post", nil, harness.Unknown},
		{"post", key, harness.Unknown},
		{"put", key.Set("body.x", harness.Int(1)), harness.Unknown},
	} {
		t.Run(fmt.Sprint(tc.op, len(tc.args)), func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(c net.Conn, nth int) bool {
				if nth == 1 {
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
				return nth == 1
			})
			c := newClient(t, description, "http://"+s.addr, noEvents(t))
			if r, _ := call(t, c, tc.op, tc.args, time.Second); r.Outcome != harness.OK || r.Reused {
				t.Fatalf("first call: %+v", r)
			}
			r, forwarded := call(t, c, tc.op, tc.args, time.Second)
			if r.Outcome != tc.want || forwarded != 1 {
				t.Errorf("second call: %+v, forwarded %d times; want %s, once", r, forwarded, tc.want)
			}
			if n := s.requests.Load(); n != 2 {
				t.Errorf("%d requests came for two calls", n)
			}
			if n := s.conns.Load(); n != 1 || !r.Reused {
				t.Errorf("%d connections for two calls, the second's reused: %v; it did not use the first's", n, r.Reused)
			}
		})
	}
}

func TestLongReplies(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ size, conns int }{{maxBody, 1}, {maxBody + 1000, 1}, {maxBody + maxDrain + 1000, 2}} {
		s := serve(t, func(c net.Conn, _ int) bool {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", tc.size)
			_, err := c.Write(bytes.Repeat([]byte("x"), tc.size))
			return err == nil
		})
		c := newClient(t, description, "http://"+s.addr, noEvents(t))
		for i := range 2 {
			r, _ := call(t, c, "post", nil, 5*time.Second)
			if want := i > 0 && tc.conns == 1; r.Reused != want {
				t.Errorf("%d bytes, call %d: reused %v, want %v", tc.size, i, r.Reused, want)
			}
			if r.Outcome != harness.OK || len(r.Body) != min(tc.size, maxBody) || r.Error != "" {
				t.Errorf("%d bytes: outcome %s, %d bytes kept, error %q", tc.size, r.Outcome, len(r.Body), r.Error)
			}
		}
		if n := int(s.conns.Load()); n != tc.conns {
			t.Errorf("%d bytes: %d connections, want %d", tc.size, n, tc.conns)
		}
	}
}

const streams = `service: {build: ., args: ["{{listen}}"], timeout: 1m}
api:
  ops:
    follow: {request: GET /stream, stream: 50ms}
    make: {request: POST /stream, stream: 50ms}
    wait: {request: GET /stream, stream: 50s}
`

// TestStreams has replies that are begun and not ended.
func TestStreams(t *testing.T) {
	t.Parallel()
	const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	endless := func(s string) func(net.Conn) {
		return func(c net.Conn) {
			io.WriteString(c, s)
			io.Copy(io.Discard, c) // until the client hangs up
		}
	}
	for _, tc := range []struct {
		name, op string
		answer   func(net.Conn)
		want     harness.Kind
		status   int
		body     string
		error    string
	}{
		{"silent", "follow", endless(head), harness.OK, 200, "", ""},
		{"hung up on", "follow", endless(head + "2\r\nhi\r\n"), harness.OK, 200, "hi", ""},
		{"hung up on, mutation", "make", endless(head + "2\r\nhi\r\n"), harness.Unknown, 200, "hi", ""},
		{"hung up on, refused", "follow", endless("HTTP/1.1 503 U\r\nContent-Length: 9\r\n\r\nno"), harness.Fail, 503, "no", ""},
		{"ended", "wait", endless(head + "2\r\nhi\r\n0\r\n\r\n"), harness.OK, 200, "hi", ""},
		{"ended, mutation", "make", endless(head + "0\r\n\r\n"), harness.OK, 200, "", ""},
		{"broke off", "wait", func(c net.Conn) { io.WriteString(c, head+"2\r\nhi\r\n") }, harness.Fail, 200, "hi", "broke off"},
		{"never began", "follow", endless(""), harness.Fail, 0, "", "deadline"},
		{"not read in time", "wait", endless(head + "2\r\nhi\r\n"), harness.Fail, 200, "hi", "deadline"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(c net.Conn, _ int) bool {
				tc.answer(c)
				return false
			})
			c := newClient(t, streams, "http://"+s.addr, noEvents(t))
			limit := 30 * time.Second
			if tc.error == "deadline" {
				limit = 500 * time.Millisecond
			}
			r, forwarded := call(t, c, tc.op, nil, limit)
			if r.Outcome != tc.want || r.Status != tc.status || string(r.Body) != tc.body || forwarded != 1 {
				t.Errorf("got %+v with %q, forwarded %d times; want %s, %d, %q, once", r, r.Body, forwarded, tc.want, tc.status, tc.body)
			}
			if !strings.Contains(r.Error, tc.error) || tc.error == "" && r.Error != "" {
				t.Errorf("error %q, want %q", r.Error, tc.error)
			}
		})
	}
}

func TestSlowStreamsAreNotStuck(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ stream, limit, took, want time.Duration }{
		{300, 2000, 0, 300},
		{300, 2000, 1400, 300},
		{300, 2000, 1700, 100},
		{300, 2000, 1900, -100}, // at once
		{1900, 2000, 0, 1800},
	} {
		if got := enough(tc.stream, tc.limit, tc.took); got != tc.want {
			t.Errorf("enough(%d, %d, %d) = %d, want %d", tc.stream, tc.limit, tc.took, got, tc.want)
		}
	}
}

const withLogin = `service: {build: ., args: ["{{listen}}"], timeout: 300ms}
api:
  login: {op: login, token: "{{reply.data.0.token}}"}
  ops:
    login: {request: POST /login, params: {body.user: {value: "u-{{lane}}"}, body.pin: {int: 1..1000000}, body.x: {from: [get.id], optional: true}}}
    get: {request: GET /get}
`

func TestLogin(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		seen = append(seen, fmt.Sprintf("%s %s %s", r.URL.Path, r.Header.Get("Authorization"), b))
		mu.Unlock()
		io.WriteString(w, `{"data": [{"token": "t1"}]}`)
	}))
	defer srv.Close()
	var events []string
	for range 2 {
		c := newClient(t, withLogin, srv.URL, func(e harness.Event) {
			events = append(events, fmt.Sprintf("%d %s %s %s %s", e.Step, e.Lane, e.Kind, e.Name, e.Args.Text("status")))
		})
		call(t, c, "get", nil, time.Second)
		call(t, c, "get", harness.Args{{Key: "header.Authorization", Value: harness.Text("mine")}}, time.Second)
	}
	half := len(seen) / 2
	if len(seen) != 6 || !slices.Equal(seen[:half], seen[half:]) {
		t.Fatalf("the lane did not log in alike twice: %q", seen)
	}
	if !strings.HasPrefix(seen[0], `/login  {"`) || !strings.Contains(seen[0], `"user":"u-a"`) || strings.Contains(seen[0], `"x"`) {
		t.Errorf("login %q", seen[0])
	}
	if want := []string{"/get Bearer t1 ", "/get mine "}; !slices.Equal(seen[1:3], want) {
		t.Errorf("then %q, want %q", seen[1:3], want)
	}
	if want := []string{"-1 a invoke login ", "-1 a forwarded login ", "-1 a ok login 200"}; !slices.Equal(events[:3], want) {
		t.Errorf("events %q, want %q", events[:3], want)
	}
}

// TestPrivate: a reply is private where the op is and the lane's own token was sent.
func TestPrivate(t *testing.T) {
	t.Parallel()
	const description = `service: {build: ., args: ["{{listen}}"]}
api:
  login: {op: login, token: "{{reply.token}}", identity: IDENTITY}
  ops:
    login: {request: POST /login, params: {body.user: {value: "u-{{lane}}"}}}
    me: {request: GET /me, private: true}
    all: {request: GET /all}
`
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"token": "t1", "user": {"id": "x-7"}}`)
	}))
	defer srv.Close()
	auth := func(v string) harness.Args {
		return harness.Args{{Key: "header.authorization", Value: harness.Text(v)}}
	}
	for identity, want := range map[string]string{"body.user": "u-a", `"{{reply.user.id}}"`: "x-7", `"{{reply.user.name}}"`: ""} {
		var last harness.Event
		c := newClient(t, strings.Replace(description, "IDENTITY", identity, 1), srv.URL, func(e harness.Event) { last = e })
		if got := last.Args.Text("identity"); got != want {
			t.Errorf("%s: the login's event has the identity %q, want %q", identity, got, want)
		}
		for _, tc := range []struct {
			op   string
			args harness.Args
			want bool
		}{
			{"me", nil, want != ""},
			{"me", auth("Bearer t1"), want != ""},
			{"me", auth("Bearer t2"), false},
			{"me", auth(""), false},
			{"all", nil, false},
		} {
			if r, _ := call(t, c, tc.op, tc.args, time.Second); r.Private != tc.want {
				t.Errorf("%s: %s%v is private: %v, want %v", identity, tc.op, tc.args, r.Private, tc.want)
			}
		}
	}
}

func TestFailedLoginIsNoError(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		answer string
		want   harness.Kind
	}{
		"rejected": {"HTTP/1.1 401 U\r\nContent-Length: 0\r\n\r\n", harness.Fail},
		"no token": {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", harness.OK},
		"no reply": {"", harness.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, func(c net.Conn, _ int) bool {
				io.WriteString(c, tc.answer)
				if tc.answer == "" {
					io.Copy(io.Discard, c)
				}
				return false
			})
			var last harness.Event
			newClient(t, withLogin, "http://"+s.addr, func(e harness.Event) { last = e })
			if last.Kind != tc.want || last.Step != -1 {
				t.Errorf("last event %+v, want %s", last, tc.want)
			}
		})
	}
}

func FuzzBody(f *testing.F) {
	f.Add("items.0.sku", "s1", "items.1.qty", "2", true)
	f.Add("a", "1", "a.b", "{", false)
	f.Add(`"a.b".7`, "\xff", `"a.b".3`, "null", true)
	f.Fuzz(func(t *testing.T, k1, v1, k2, v2 string, asJSON bool) {
		form := harness.FormText
		if asJSON {
			form = harness.FormJSON
		}
		args := harness.Args{
			{Key: "body." + k1, Value: harness.Value{Form: form, Text: v1}},
			{Key: "body." + k2, Value: harness.Value{Form: harness.FormRaw, Text: v2}},
		}
		if got, has, err := body(args); err == nil && (!has || !json.Valid(got)) {
			t.Errorf("%v became %q", args, got)
		}
		if got, has, err := body(harness.Args{{Key: "body", Value: harness.Value{Form: form, Text: v1}}}); err != nil || !has || !json.Valid(got) {
			t.Errorf("body=%q became %q, %v", v1, got, err)
		}
	})
}

// server reads requests and lets answer write to the connection.
type server struct {
	addr            string
	requests, conns atomic.Int64
}

// serve starts a server. Answer is told the how many-th request of its connection it
// answers, and says whether the connection goes on.
func serve(t *testing.T, answer func(c net.Conn, nth int) bool) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{addr: l.Addr().String()}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			stop := context.AfterFunc(ctx, func() { c.Close() })
			wg.Go(func() {
				defer stop()
				defer c.Close()
				r := bufio.NewReader(c)
				for nth := 1; ; nth++ {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					io.Copy(io.Discard, req.Body)
					s.requests.Add(1)
					if !answer(c, nth) {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		cancel()
		wg.Wait()
	})
	return s
}
