package spec

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
)

const good = `service:
  build: ./cmd/shop
  args: ["-addr", "{{listen}}"]
  env: {REDIS_ADDR: "{{link.cache}}", BUGS: "{{bugs}}", WORKERS: 4}
  ready: GET /healthz
  ready_within: 5s
dependencies:
  cache: {engine: redis}
  db: {engine: postgres, provide: local, init: schema.sql, version: 15}
api:
  login: {op: login, token: "{{reply.session.token}}"}
  ops:
    login:
      request: POST /login
      params:
        body.user: {value: "u-{{lane}}"}
    create_order:
      request: POST /orders
      params:
        body.items.0.sku: {oneof: [s1, 2, true]}
        body.items.0.qty: {int: "-1..5"}
        body.note: {text: "0..20", optional: true}
        header.Idempotency-Key: {unique: k-}
    pay:
      doc: pay an order
      request: POST /orders/{order}/pay
      expect: [200, 404]
      params:
        path.order: {from: [create_order.id, create_order.items.0.id]}
        body.gift: {bool: true}
        body.coupon: {pattern: "[A-Z]{3}-[0-9]{2}"}
    search:
      request: GET /items
      mutates: true
      params:
        query.q: {value: {b: 1, a: [x]}}
`

func TestGoodFile(t *testing.T) {
	t.Parallel()
	f, err := Parse("shakedown.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Duration(f.Service.Within); got != 5*time.Second {
		t.Errorf("ready_within = %v, want 5s", got)
	}
	var got []string
	rng := rand.New(rand.NewPCG(1, 1))
	for _, o := range f.HarnessOps() {
		got = append(got, fmt.Sprintf("%s mutates=%v", o.Name, o.Mutates))
		for _, p := range o.Params {
			line := fmt.Sprintf("  %s optional=%v from=%v", p.Name, p.Optional, p.From)
			if (p.Domain == nil) != (len(p.From) > 0) {
				t.Errorf("%s %s: domain %v beside from %v", o.Name, p.Name, p.Domain, p.From)
			}
			got = append(got, line)
		}
		if o.Name == "search" {
			if v := o.Params[0].Domain.Draw(rng); v != (harness.Value{Form: harness.FormJSON, Text: `{"a":["x"],"b":1}`}) {
				t.Errorf("a value that is a mapping is drawn as %v", v)
			}
		}
	}
	want := `create_order mutates=true
  body.items.0.qty optional=false from=[]
  body.items.0.sku optional=false from=[]
  body.note optional=true from=[]
  header.Idempotency-Key optional=false from=[]
login mutates=true
  body.user optional=false from=[]
pay mutates=true
  body.coupon optional=false from=[]
  body.gift optional=false from=[]
  path.order optional=false from=[create_order.id create_order.items.0.id]
search mutates=true
  query.q optional=false from=[]`
	if g := strings.Join(got, "\n"); g != want {
		t.Errorf("ops:\n%s\nwant:\n%s", g, want)
	}
	if path := f.API.Login.TokenPath(); path != "session.token" {
		t.Errorf("token path %q, want session.token", path)
	}
	if name, value := f.API.Login.Carry("t1"); name != "Authorization" || value != "Bearer t1" {
		t.Errorf("the token is carried as %q: %q", name, value)
	}
}

func TestExpects(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		expect []int
		status int
		want   bool
	}{
		{nil, 200, true}, {nil, 404, true}, {nil, 500, false}, {nil, 501, true}, {nil, 502, false},
		{nil, 503, true}, {nil, 504, false}, {nil, 505, true},
		{[]int{200, 404}, 404, true}, {[]int{200, 404}, 503, false}, {[]int{500}, 500, true},
	} {
		if got := (&Op{Expect: tc.expect}).Expects(tc.status); got != tc.want {
			t.Errorf("expect %v: Expects(%d) = %v, want %v", tc.expect, tc.status, got, tc.want)
		}
	}
}

// TestMistakes changes one line of the good file and looks for the place and the words.
func TestLinks(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Links{
		"":                             {},
		"links: {engine: native}\n":    {Engine: "native"},
		"links: {engine: toxiproxy}\n": {Engine: "toxiproxy"},
		"links: {engine: toxiproxy, url: 'http://localhost:8474/'}\n":              {"toxiproxy", "http://localhost:8474/"},
		"links: {engine: toxiproxy, url: 'https://toxi:8474'}\nallow: [x, toxi]\n": {"toxiproxy", "https://toxi:8474"},
	} {
		f, err := Parse("f.yaml", []byte(strings.Replace(good, "api:\n", text+"api:\n", 1)))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if f.Links != want {
			t.Errorf("%s: got %+v", text, f.Links)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, old, new string
		line, column   int
		want           string
	}{
		{"unknown key", "  build: ./cmd/shop", "  biuld: ./cmd/shop", 2, 3, `unknown key "biuld"`},
		{"wrong type", "  build: ./cmd/shop", "  build: [1]", 2, 10, "expected a text, found a list"},
		{"duplicate key", "  ready: GET /healthz", "  build: x", 5, 3, `"build" already defined at [2:3]`},
		{"bad indent", "  ready: GET /healthz", " ready: GET /healthz", 5, 0, ""},
		{"key no text", "WORKERS: 4", "4: 4", 4, 0, "not a text"},
		{"alias", "WORKERS: 4", "WORKERS: *x", 4, 0, "anchors, aliases and tags"},
		{"build missing", "  build: ./cmd/shop\n", "", 1, 1, "service.build is missing"},
		{"build a flag", "./cmd/shop", "-toolexec=x", 2, 10, "is not a path"},
		{"bad duration", "ready_within: 5s", "ready_within: fast", 6, 17, "such as 200ms"},
		{"zero duration", "ready_within: 5s", "ready_within: 0s", 6, 17, "above zero"},
		{"duration without unit", "ready_within: 5s", "ready_within: 5", 6, 17, "such as 200ms"},
		{"duration a list", "ready_within: 5s", "ready_within: [5s]", 6, 17, "such as 200ms"},
		{"bad ready", "GET /healthz", "/healthz", 5, 10, "not a request"},
		{"ready with placeholder", "GET /healthz", "GET /h/{x}", 5, 10, "{x} in the path: nothing is filled in here"},
		{"steady without request", "api:\n", "steady:\n  - {within: 5s}\napi:\n", 11, 0, "not a request"},
		{"steady status", "api:\n", "steady:\n  - {request: GET /, status: 42}\napi:\n", 11, 0, "no reply has the status 42"},
		{"abort of nothing", "api:\n", "abort:\n  - {times: 2}\napi:\n", 11, 0, "this one has 0"},
		{"abort twice", "api:\n", "abort:\n  - {memory: 1GiB, time: 5s}\napi:\n", 11, 0, "this one has 2"},
		{"abort times", "api:\n", "abort:\n  - {time: 5s, times: -1}\napi:\n", 11, 0, "-1 times in a row"},
		{"abort size", "api:\n", "abort:\n  - {memory: 2TB}\napi:\n", 11, 0, "expected a size such as 512MiB"},
		{"abort size too large", "api:\n", "abort:\n  - {memory: 99999999GiB}\napi:\n", 11, 0, "expected a size such as 512MiB"},
		{"unknown link", "{{link.cache}}", "{{link.cash}}", 4, 21, "{{link.cash}} is not known; there are: {{listen}}, {{port}}, {{bugs}}, {{dir}}, {{link.cache}}, {{link.db}}"},
		{"unknown placeholder", `"{{listen}}"`, `"{{listen}} {{listn}}"`, 3, 19, "{{listn}} is not known"},
		{"nowhere to listen", `"{{listen}}"`, `":80"`, 4, 3, "must say where to listen"},
		{"URL elsewhere", "WORKERS: 4", "DATABASE_URL: 'postgres://u:p@db.staging.example.com/x'", 4, 71, `this leads to db.staging.example.com, which is not this machine: what is done there is done for real; if it may be, add "db.staging.example.com" to allow`},
		{"argument elsewhere", `"{{listen}}"]`, `"{{listen}}", "-db=10.0.0.5:5432"]`, 3, 33, "this leads to 10.0.0.5"},
		{"dependency called service", "  cache: {", "  cache: {engine: redis}\n  service: {", 9, 3, "that is the service itself"},
		{"dependency called engine", "  cache: {", "  cache: {engine: redis}\n  engine: {", 9, 3, "in the env of a case that is what disturbs the links"},
		{"link engine", "api:\n", "links: {engine: toxy}\napi:\n", 10, 17, `no engine is called "toxy"; there are native, toxiproxy`},
		{"link key", "api:\n", "links: {motor: native}\napi:\n", 10, 9, `unknown key "motor"`},
		{"url without toxiproxy", "api:\n", "links: {engine: native, url: 'http://127.0.0.1:8474'}\napi:\n", 10, 30, "make it engine: toxiproxy, or take the url away"},
		{"url alone", "api:\n", "links: {url: 'http://127.0.0.1:8474'}\napi:\n", 10, 14, "the engine is not toxiproxy"},
		{"url of toxiproxy", "api:\n", "links: {engine: toxiproxy, url: '127.0.0.1:8474'}\napi:\n", 10, 33, "such as http://127.0.0.1:8474"},
		{"url with a path", "api:\n", "links: {engine: toxiproxy, url: 'http://127.0.0.1:8474/proxies'}\napi:\n", 10, 33, "such as http://127.0.0.1:8474"},
		{"url with a bad port", "api:\n", "links: {engine: toxiproxy, url: 'http://127.0.0.1:99999'}\napi:\n", 10, 33, "99999 is not a port"},
		{"toxiproxy elsewhere", "api:\n", "links: {engine: toxiproxy, url: 'http://toxi.example.com:8474'}\napi:\n", 10, 33, `toxiproxy is at toxi.example.com, which is not this machine: what passes the links passes it; if it may, add "toxi.example.com" to allow`},
		{"engine empty", "{engine: redis}", "{provide: auto}", 8, 3, "cache: the engine is missing: one of redis, postgres"},
		{"engine unknown", "{engine: redis}", "{engine: rediss}", 8, 19, `the engine "rediss" is not known; there are redis, postgres`},
		{"provide unknown", "provide: local", "provide: lokal", 9, 35, "provide: lokal is not there for postgres; there are auto, docker, local, url"},
		{"provide of another engine", "provide: local", "provide: embedded", 9, 35, "provide: embedded is not there for postgres"},
		{"version of the embedded", "{engine: redis}", "{engine: redis, provide: embedded, version: 7}", 8, 54, "version 7 is wanted, but the embedded redis is of no version"},
		{"url missing", "provide: local", "provide: url", 9, 35, "needs a url"},
		{"url without provide", "{engine: redis}", "{engine: redis, url: 'redis://x'}", 8, 31, "make it provide: url, or take the url away"},
		{"init for redis", "{engine: redis}", "{engine: redis, init: x}", 8, 32, "it is for postgres and mysql"},
		{"database for redis", "{engine: redis}", "{engine: redis, database: x}", 8, 36, "database is for postgres and mysql"},
		{"user for redis", "{engine: redis}", "{engine: redis, user: x}", 8, 32, "user is for postgres and mysql"},
		{"database beside a url", "provide: local", "provide: url, url: 'postgres://127.0.0.1/x', database: x", 9, 81, "write it into the url"},
		{"dependency name", "  cache: {", "  'my cache': {", 4, 21, "{{link.cache}} is not known"},
		{"login op unknown", "op: login", "op: logon", 11, 15, `no op is called "logon"`},
		{"login token", "{{reply.session.token}}", "reply.token", 11, 29, "expected {{reply.FIELD}}"},
		{"login header", `token}}"}`, `token}}", header: "X-Token"}`, 11, 64, "expected a header"},
		{"request malformed", "POST /orders\n", "orders\n", 18, 16, `"orders" is not a request`},
		{"request with query", "POST /orders\n", "POST /orders?a=1\n", 18, 16, "params query.NAME"},
		{"request CONNECT", "POST /orders\n", "CONNECT /orders\n", 18, 16, "CONNECT"},
		{"request escape", "POST /orders\n", "POST /%zz\n", 18, 16, "not a path that a URL can have"},
		{"placeholder twice", "/orders/{order}/pay", "/orders/{order}/{order}", 26, 16, "{order} twice"},
		{"placeholder open", "/orders/{order}/pay", "/orders/{order}/{pay", 26, 16, "not a path"},
		{"param missing", "path.order: {from", "query.order: {from", 26, 16, "there is no param path.order"},
		{"placeholder missing", "/orders/{order}/pay", "/orders/pay", 29, 9, "has no {order}"},
		{"path optional", "create_order.items.0.id]}", "create_order.items.0.id], optional: true}", 29, 82, "cannot be optional"},
		{"param without kind", "{bool: true}", "{optional: true}", 30, 9, "has no kind of value"},
		{"param empty", "{bool: true}", "", 30, 9, "has no kind of value"},
		{"param with two kinds", "{bool: true}", "{bool: true, int: 1..2}", 30, 27, "two kinds of value: int and bool"},
		{"param key", "body.gift:", "trailer.gift:", 30, 9, "a param is keyed"},
		{"param key empty part", "body.gift:", "body..gift:", 30, 9, "empty part"},
		{"header name", "header.Idempotency-Key", `header."a b"`, 23, 9, "cannot name a header"},
		{"body and body.x", "body.gift:", "body:", 30, 9, "there can be no body.* beside it"},
		{"range", `"-1..5"`, `"1-5"`, 21, 33, "is not a range"},
		{"range empty", `"-1..5"`, `"5..1"`, 21, 33, "is empty"},
		{"range too large", `"-1..5"`, `"0..9223372036854775808"`, 21, 33, "64 bits"},
		{"text negative", `"0..20"`, `"-1..20"`, 22, 27, "a text has from"},
		{"pattern", "[A-Z]{3}-", "[A-Z{3}-", 31, 32, "invalid character class"},
		{"oneof of lists", "[s1, 2, true]", "[s1, [2]]", 20, 28, "oneof takes"},
		{"value not JSON", "{b: 1, a: [x]}", ".inf", 36, 26, "cannot be written as JSON"},
		{"from no field", "[create_order.id,", "[create_order,", 29, 29, "is not op.field"},
		{"from unknown op", "create_order.items", "make_order.items", 29, 46, `no op is called "make_order"`},
		{"expect no status", "[200, 404]", "[200, 4040]", 27, 21, "4040 is not an HTTP status"},
		{"stream too long", "mutates: true", "stream: 2s", 34, 15, "a stream cannot be read for 2s: a call is stuck after 2s"},
		{"stream no duration", "mutates: true", "stream: true", 34, 15, "such as 200ms"},
		{"ops empty", good[strings.Index(good, "  login: {"):], "  ops: {}\n", 11, 3, "api.ops is empty"},
		{"op empty", "      request: GET /items\n      mutates: true\n      params:\n        query.q: {value: {b: 1, a: [x]}}\n", "", 32, 5, "search is empty"},
		{"op name", "    search:", "    a.b:", 32, 5, "cannot name an op"},
		{"login from reply", `{value: "u-{{lane}}"}`, "{from: [create_order.id]}", 16, 9, "the login comes first"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if n := strings.Count(good, tc.old); n == 0 {
				t.Fatalf("%q is not in the good file", tc.old)
			}
			text := strings.Replace(good, tc.old, tc.new, 1)
			_, err := Parse("f.yaml", []byte(text))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v (%T), want an *Error", err, err)
			}
			if e.Line != tc.line || tc.column != 0 && e.Column != tc.column || !strings.Contains(e.Msg, tc.want) {
				t.Errorf("got %d:%d %q, want %d:%d %q", e.Line, e.Column, e.Msg, tc.line, tc.column, tc.want)
			}
			if lines := strings.Split(text, "\n"); !strings.Contains(e.Excerpt, strings.TrimSpace(lines[tc.line-1])) {
				t.Errorf("the excerpt does not show line %d:\n%s", tc.line, e.Excerpt)
			}
			if !strings.HasPrefix(err.Error(), fmt.Sprintf("f.yaml:%d:%d: ", e.Line, e.Column)) {
				t.Errorf("the error does not begin with its place: %s", err)
			}
		})
	}
}

func TestHostileFiles(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"empty":         "",
		"comment":       "# nothing\n",
		"two documents": "service: {build: .}\n---\nservice: {build: .}\n",
		"too large":     "# " + strings.Repeat("x", maxBytes),
		"brackets":      strings.Repeat("[", maxBytes),
		"braces":        strings.Repeat("{a: ", maxBytes/16),
		"dashes":        strings.Repeat("- ", maxBytes/16),
		"question":      strings.Repeat("? ", maxBytes/16),
		"empty entries": strings.Repeat("-\n", maxBytes/4),
		"empty values":  keys(maxBytes/2, ""),
		"most values":   keys(maxTokens*5/2, " 1"),
		"entry of keys": strings.Repeat("a:\n-\n", maxTokens/3),
		"staircase":     staircase(1000),
		"long line":     "service: {build: " + strings.Repeat("x", maxBytes/2) + "}\n",
		"anchors":       "a: &a [x]\nb: &b [*a, *a]\n",
		"binary":        "\x00\xff\xfe\x01",
	} {
		t.Run(name, func(t *testing.T) {
			harnesstest.Within(t, 5*time.Second, func() time.Duration {
				start := time.Now()
				_, err := Parse("f.yaml", []byte(text))
				var e *Error
				if !errors.As(err, &e) {
					t.Errorf("error %v, want an *Error", err)
				} else if len(err.Error()) > 2000 {
					t.Errorf("an error of %d bytes", len(err.Error()))
				}
				return time.Since(start)
			})
		})
	}
}

func TestBoundsAreSaid(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		strings.Repeat("[", maxDepth+1):    "nested deeper than 32 levels",
		strings.Repeat("{a: ", maxDepth+1): "nested deeper than 32 levels",
		strings.Repeat("- ", maxDepth+1):   "nested deeper than 32 levels",
		strings.Repeat("? ", maxDepth+1):   "nested deeper than 32 levels",
		staircase(8*maxDepth + 2):          "nested deeper than 32 levels",
		strings.Repeat("-\n", maxTokens+1): "more than 32768 keys, values and signs",
		strings.Repeat(" ", maxBytes+1):    "larger than 1048576 bytes",
	} {
		if _, err := Parse("f.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q... gave %v, want %s", text, err, want)
		}
	}
}

// keys returns n bytes of a mapping, or some more.
func keys(n int, value string) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "k%x:%s\n", i, value)
	}
	return b.String()
}

// staircase nests mappings over n lines.
func staircase(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestLoadFindsTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := Load(dir)
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Msg, filepath.Join(dir, "shakedown.yaml")) || !strings.Contains(e.Msg, filepath.Join(dir, "shakedown.yml")) {
		t.Errorf("error %v does not say what was looked for", err)
	}
	if _, err := Load(filepath.Join(dir, "other")); !errors.As(err, &e) || !strings.Contains(e.Error(), "no such file") {
		t.Errorf("error %v for a path that is not there", err)
	}
	file := filepath.Join(dir, "shakedown.yml")
	write(t, file, good)
	write(t, filepath.Join(dir, "schema.sql"), "SELECT 1;")
	write(t, filepath.Join(dir, "cmd/shop/main.go"), "package main\n")
	for _, path := range []string{dir, file} {
		f, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if f.Path != file || f.Dir != dir {
			t.Errorf("Load(%s): path %s, dir %s", path, f.Path, f.Dir)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestNamedFilesMustBeThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "shakedown.yaml")
	write(t, file, good)
	lost := func(line, column int, want string) {
		t.Helper()
		_, err := Load(dir)
		var e *Error
		if !errors.As(err, &e) || e.File != file || e.Line != line || e.Column != column || e.Msg != want || e.Excerpt == "" {
			t.Errorf("got %v, want %d:%d %s", err, line, column, want)
		}
	}
	lost(2, 10, "there is no directory ./cmd/shop")
	write(t, filepath.Join(dir, "cmd/shop"), "")
	lost(2, 10, "there is no directory ./cmd/shop")
	if err := os.Remove(filepath.Join(dir, "cmd/shop")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "cmd/shop/main.go"), "package main\n")
	lost(9, 48, "there is no file schema.sql")
	if err := os.Mkdir(filepath.Join(dir, "schema.sql"), 0o700); err != nil {
		t.Fatal(err)
	}
	lost(9, 48, "there is no file schema.sql")
}

func TestAllowedHostsMayBeLedTo(t *testing.T) {
	t.Parallel()
	text := strings.Replace(good, "WORKERS: 4", "DATABASE_URL: 'postgres://db.example.com/x'", 1) + "allow: [DB.example.com]\n"
	if _, err := Parse("f.yaml", []byte(text)); err != nil {
		t.Error(err)
	}
}

func TestAddressesAreSeen(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"postgres://u:p@db.example.com:5432/x?sslmode=disable": "db.example.com",
		"postgres://a.example.com,b.example.com:1/x":           "a.example.com b.example.com",
		"postgres://[2001:db8::1]:5432/x":                      "2001:db8::1",
		"redis://cache":                                        "cache",
		"https://a.example.com/x https://b.example.com":        "a.example.com b.example.com",
		"u:p@tcp(10.0.0.5:3306)/shop":                          "10.0.0.5",
		"--kafka=k1.example.com:9092,k2.example.com:9092":      "k1.example.com k2.example.com",
		"db:5432":              "db",
		"[2001:db8::1]:5432":   "2001:db8::1",
		`{"db": "10.1.1.1:1"}`: "10.1.1.1",
		// What could be something else, and what leads nowhere.
		"":                  "",
		"shop:1":            "",
		"12:30":             "",
		"2026-11-20T20:47":  "",
		"1.2.3.4":           "",
		"db.example.com":    "",
		":8080":             "",
		"0.0.0.0:8080":      "",
		"http://[::]:8080":  "",
		"file:///etc/hosts": "",
		"a.b:http":          "",
		"a.b:99999":         "",
	} {
		if got := strings.Join(hosts(text), " "); got != want {
			t.Errorf("hosts(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestLoopbackTrustsNoNames(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::1": true, "[::1]": true, "[::1]:80": true, "localhost": true,
		"LOCALHOST:6379": true, "127.0.0.1:6379": true, "::ffff:127.0.0.1": true,
		"": false, "0.0.0.0": false, "10.0.0.1": false, "localhost.example.com": false,
		"127.0.0.1.example.com": false, "ip6-localhost": false, "2130706433": false,
	} {
		if got := Loopback(host); got != want {
			t.Errorf("Loopback(%q) = %t, want %t", host, got, want)
		}
	}
	if allow := []string{"db.example.com", "[2001:db8::1]"}; !Allowed(allow, "db.example.com:5432") || !Allowed(allow, "2001:db8::1") || Allowed(allow, "example.com") || Allowed(allow, "") {
		t.Error("a host is not allowed as it should be")
	}
}

func TestUniqueRepeatsItselfWhenMutated(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	u := unique("k-")
	v := u.Draw(rng)
	if !strings.HasPrefix(v.Text, "k-") || len(v.Text) != 10 || u.Draw(rng) == v {
		t.Fatalf("drew %v", v)
	}
	same := 0
	for range 100 {
		if u.Mutate(rng, v) == v {
			same++
		}
	}
	if same < 40 || same == 100 {
		t.Errorf("%d of 100 neighbours were the same value", same)
	}
	for range 10 {
		simpler := v
		for x := range u.Simpler(v) {
			simpler = x
			break
		}
		if simpler == v {
			return
		}
		v = simpler
	}
	t.Errorf("simplifying does not end: %v", v)
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(good))
	for _, s := range []string{"service: {build: .}", "a: &a [*a]", "? {a: b}\n: c", "- |\n  x\n", "a: !!binary x", "\"\\x\": '", "%YAML 1.2\n---\n", "a: >-\n\n b\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse("f.yaml", b)
		var e *Error
		switch {
		case err == nil:
			file.HarnessOps()
		case !errors.As(err, &e):
			t.Errorf("error %v (%T) is not an *Error", err, err)
		}
	})
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	const text = `service: {build: ., args: ["{{listen}}"]}
api:
  login:
    op: login
    token: "{{reply.token}}"
    identity: body.user
  ops:
    login:
      request: POST /login
      params:
        body.user: {value: "u-{{lane}}"}
    me: {request: GET /me, private: true}
`
	for _, tc := range []struct {
		name, old, new string
		line, column   int // of the mistake; 0 for none
		want           string
	}{
		{"of a param", "", "", 0, 0, "u-a"},
		{"of the reply", "body.user\n", "'{{reply.user.0.id}}'\n", 0, 0, "7"},
		{"of no param", "body.user\n", "body.name\n", 6, 15, "expected a param of the login that says who the lane is"},
		{"of a text", "body.user\n", "'user-{{lane}}'\n", 6, 15, "expected a param of the login"},
		{"of a param that may be left out", `-{{lane}}"`, `-{{lane}}", optional: true`, 6, 15, "body.user may be left out"},
		{"the same for all", "u-{{lane}}", "root", 6, 15, "body.user is the same for every lane: put {{lane}} into its value"},
		{"of nobody", "    identity: body.user\n", "", 11, 37, "say in login.identity who a lane is"},
		{"without a login", text[strings.Index(text, "  login:\n"):strings.Index(text, "  ops:")], "", 8, 37, "say in login.identity"},
		{"with nothing private", "private: true", "private: false", 6, 15, "no op is private"},
	} {
		f, err := Parse("f.yaml", []byte(strings.Replace(text, tc.old, tc.new, 1)))
		var e *Error
		switch {
		case tc.line == 0 && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.line == 0:
			got := f.API.Login.Who(harness.Args{{Key: "body.user", Value: harness.Text("u-a")}}, []byte(`{"user":[{"id":7}]}`))
			if got != tc.want || f.Declares() != harness.CapIdentity {
				t.Errorf("%s: the lane is %q, want %q; declared %v", tc.name, got, tc.want, f.Declares())
			}
		case !errors.As(err, &e) || e.Line != tc.line || e.Column != tc.column || !strings.Contains(e.Msg, tc.want):
			t.Errorf("%s: %v, want %d:%d %s", tc.name, err, tc.line, tc.column, tc.want)
		}
	}
	f, err := Parse("f.yaml", []byte(good))
	if err != nil || f.Declares() != 0 {
		t.Errorf("a description without identities declares %v, %v", f.Declares(), err)
	}
}
