package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/spec"
)

const styles = `openapi: 3.0.3
info: {title: styles, version: "1"}
paths:
  /q:
    get:
      operationId: q
      parameters:
        - {name: a, in: query, schema: {type: array, items: {type: string}}}
        - {name: b, in: query, explode: false, schema: {type: array, items: {type: string}}}
        - {name: c, in: query, style: pipeDelimited, explode: false, schema: {type: array, items: {type: string}}}
        - {name: d, in: query, style: deepObject, explode: true, schema: {type: object, properties: {x: {type: integer}}}}
        - {name: e, in: query, schema: {type: object, properties: {x: {type: integer}}}}
        - {name: f, in: query, content: {application/json: {schema: {type: object, properties: {x: {type: integer}}}}}}
        - {name: s, in: cookie, schema: {type: string}}
        - {name: t, in: cookie, schema: {type: string}}
        - {name: X-List, in: header, schema: {type: array, items: {type: integer}}}
      responses: {"200": {description: ok}}
  /p/{a}/{b}/{c}:
    get:
      operationId: p
      parameters:
        - {name: a, in: path, required: true, schema: {type: array, items: {type: string}}}
        - {name: b, in: path, required: true, style: matrix, explode: true, schema: {type: array, items: {type: string}}}
        - {name: c, in: path, required: true, style: label, schema: {type: string}}
      responses: {"200": {description: ok}}
  /form:
    post:
      operationId: form
      requestBody: {content: {application/x-www-form-urlencoded: {schema: {type: object, required: [a, b], properties: {a: {type: string}, b: {type: array, items: {type: string}}}}}}}
      responses: {"200": {description: ok}}
  /deep:
    post:
      operationId: deep
      requestBody:
        content:
          application/x-www-form-urlencoded:
            encoding: {a: {style: deepObject, explode: true}, b: {explode: false}, c: {contentType: application/json}}
            schema: {type: object, properties: {a: {type: object}, b: {type: array, items: {type: string}}, c: {type: object}, d: {type: string}}}
      responses: {"200": {description: ok}}
  /patch:
    patch:
      operationId: patch
      requestBody: {required: true, content: {application/json: {schema: {type: object, properties: {a: {type: string}}}}}}
      responses: {"200": {description: ok}}
  /text:
    post:
      operationId: text
      requestBody: {content: {text/plain: {schema: {type: string}}}}
      responses: {"200": {description: ok}}
`

// described returns the API of a description with a document, at base.
func described(t *testing.T, yaml, document, base string) (*spec.File, *API) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"shakedown.yaml": yaml, "openapi.yaml": document} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	f, err := spec.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f, New(f, base)
}

const withDocument = `service: {build: ., args: ["{{listen}}"]}
api:
  openapi: openapi.yaml
`

func TestStyles(t *testing.T) {
	t.Parallel()
	var got atomic.Pointer[string]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s := strings.TrimSpace(fmt.Sprintf("%s cookie=%s list=%s type=%s %s", r.RequestURI, r.Header.Get("Cookie"), r.Header.Get("X-List"), r.Header.Get("Content-Type"), b))
		got.Store(&s)
	}))
	defer srv.Close()
	_, a := described(t, withDocument, styles, srv.URL)
	c, err := a.Client(t.Context(), "a", noEvents(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	jsonOf := func(s string) harness.Value { return harness.Value{Form: harness.FormJSON, Text: s} }
	for _, tc := range []struct {
		op   string
		args harness.Args
		want string
	}{
		{"q", harness.Args{{Key: "query.a", Value: jsonOf(`["x y","z"]`)}}, "/q?a=x+y&a=z cookie= list= type="},
		{"q", harness.Args{{Key: "query.a", Value: jsonOf(`[]`)}}, "/q cookie= list= type="},
		{"q", harness.Args{{Key: "query.a", Value: harness.Text("[")}}, "/q?a=%5B cookie= list= type="},
		{"q", harness.Args{{Key: "query.b", Value: jsonOf(`["x","y"]`)}}, "/q?b=x%2Cy cookie= list= type="},
		{"q", harness.Args{{Key: "query.c", Value: jsonOf(`["x","y"]`)}}, "/q?c=x%7Cy cookie= list= type="},
		{"q", harness.Args{{Key: "query.d", Value: jsonOf(`{"x":1,"y":{"z":[2,"[3]"]}}`)}}, "/q?d%5Bx%5D=1&d%5By%5D%5Bz%5D%5B0%5D=2&d%5By%5D%5Bz%5D%5B1%5D=%5B3%5D cookie= list= type="},
		{"q", harness.Args{{Key: "query.e", Value: jsonOf(`{"x":1}`)}}, "/q?x=1 cookie= list= type="},
		{"q", harness.Args{{Key: "query.f", Value: jsonOf(`{"x":1}`)}}, "/q?f=%7B%22x%22%3A1%7D cookie= list= type="},
		{"q", harness.Args{{Key: "cookie.s", Value: harness.Text("1")}, {Key: "cookie.t", Value: harness.Text("2")}}, "/q cookie=s=1; t=2 list= type="},
		{"q", harness.Args{{Key: "header.X-List", Value: jsonOf(`[1,2]`)}}, "/q cookie= list=1,2 type="},
		{"p", harness.Args{{Key: "path.a", Value: jsonOf(`["x/","y"]`)}, {Key: "path.b", Value: jsonOf(`["1","2"]`)}, {Key: "path.c", Value: harness.Text("v")}},
			"/p/x%2F,y/;b=1;b=2/.v cookie= list= type="},
		{"form", harness.Args{{Key: "body.a", Value: harness.Text("x&y")}, {Key: "body.b", Value: jsonOf(`["1","2"]`)}},
			"/form cookie= list= type=application/x-www-form-urlencoded a=x%26y&b=1&b=2"},
		{"q", harness.Args{{Key: "query.b", Value: jsonOf(`[]`)}}, "/q cookie= list= type="},
		{"deep", harness.Args{{Key: "body.a.x", Value: jsonOf(`{"y":[1]}`)}, {Key: "body.a.z", Value: harness.Text("2")}},
			"/deep cookie= list= type=application/x-www-form-urlencoded a%5Bx%5D%5By%5D%5B0%5D=1&a%5Bz%5D=2"},
		{"deep", harness.Args{{Key: "body.b", Value: jsonOf(`["x","y"]`)}, {Key: "body.c", Value: jsonOf(`{"x":1}`)}, {Key: "body.d", Value: harness.Text("[1]")}},
			"/deep cookie= list= type=application/x-www-form-urlencoded b=x%2Cy&c=%7B%22x%22%3A1%7D&d=%5B1%5D"},
		{"patch", harness.Args{{Key: "body.a", Value: harness.Text("x")}}, `/patch cookie= list= type=application/json {"a":"x"}`},
		{"patch", nil, `/patch cookie= list= type=application/json {}`},
		{"text", harness.Args{{Key: "body", Value: harness.Raw(`"hi`)}}, `/text cookie= list= type=text/plain "hi`},
	} {
		r, _ := call(t, c, tc.op, tc.args, 5*time.Second)
		if r.Outcome != harness.OK {
			t.Fatalf("%s %v: %+v", tc.op, tc.args, r)
		}
		if g := *got.Load(); g != tc.want {
			t.Errorf("%s %v:\n got %s\nwant %s", tc.op, tc.args, g, tc.want)
		}
	}
}

const secured = `openapi: 3.0.3
info: {title: who is calling, version: "1"}
paths:
  /login:
    post:
      operationId: login
      requestBody: {content: {application/json: {schema: {type: object, required: [user, password], properties: {user: {type: string, pattern: "^u-[a-z]{4}$"}, password: {type: string, example: open sesame}}}}}}
      responses: {"200": {description: in, content: {application/json: {schema: {type: object, properties: {data: {type: object, properties: {token: {type: string}}}}}}}}}
  /open: {get: {operationId: open, responses: {"200": {description: ok}}}}
  /bearer: {get: {operationId: bearer, security: [{b: []}], responses: {"200": {description: ok}}}}
  /basic: {get: {operationId: basic, security: [{p: []}], responses: {"200": {description: ok}}}}
  /query: {get: {operationId: query, security: [{q: []}], responses: {"200": {description: ok}}}}
  /cookie: {get: {operationId: cookie, security: [{c: []}], responses: {"200": {description: ok}}}}
  /token: {get: {operationId: token, security: [{a: []}], responses: {"200": {description: ok}}}}
  /both: {get: {operationId: both, security: [{b: [], q: []}], responses: {"200": {description: ok}}}}
  /either: {get: {operationId: either, security: [{x: []}, {b: []}], responses: {"200": {description: ok}}}}
  /digest: {get: {operationId: digest, security: [{x: []}], responses: {"200": {description: ok}}}}
components:
  securitySchemes:
    b: {type: http, scheme: bearer}
    p: {type: http, scheme: basic}
    q: {type: apiKey, in: query, name: key}
    c: {type: apiKey, in: cookie, name: sid}
    x: {type: http, scheme: digest}
    a: {type: apiKey, in: header, name: authorization}
`

func TestWhoIsCalling(t *testing.T) {
	t.Parallel()
	var got atomic.Pointer[string]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/login" {
			b, _ := io.ReadAll(r.Body)
			if !strings.Contains(string(b), `"password":"open sesame"`) {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			io.WriteString(w, `{"data": {"token": "t1"}}`)
			return
		}
		s := fmt.Sprintf("%s auth=%s cookie=%s", r.RequestURI, r.Header.Get("Authorization"), r.Header.Get("Cookie"))
		got.Store(&s)
	}))
	defer srv.Close()
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("me-a:pw"))
	for _, tc := range []struct{ name, auth, op, want string }{
		{"nothing is asked for", "", "open", "/open auth= cookie="},
		{"token", "", "bearer", "/bearer auth=Bearer t1 cookie="},
		{"no password", "", "basic", "/basic auth= cookie="},
		{"password", "p: 'me-{{lane}}:pw'", "basic", "/basic auth=" + basic + " cookie="},
		{"token as a key", "", "query", "/query?key=t1 auth= cookie="},
		{"a key of its own", "q: k1", "query", "/query?key=k1 auth= cookie="},
		{"token as a key in the header of tokens", "", "token", "/token auth=Bearer t1 cookie="},
		{"the header of tokens as it is", "a: '{{token}}'", "token", "/token auth=t1 cookie="},
		{"cookie", "", "cookie", "/cookie auth= cookie=sid=t1"},
		{"one of two is missing", "", "both", "/both auth= cookie="},
		{"both", "q: k1", "both", "/both?key=k1 auth=Bearer t1 cookie="},
		{"the other way", "", "either", "/either auth=Bearer t1 cookie="},
		{"the whole header", "x: Digest abc", "digest", "/digest auth=Digest abc cookie="},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, a := described(t, withDocument+"  auth: {"+tc.auth+"}\n", secured, srv.URL)
			c, err := a.Client(t.Context(), "a", func(harness.Event) {})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if r, _ := call(t, c, tc.op, nil, 5*time.Second); r.Outcome != harness.OK {
				t.Fatalf("%+v", r)
			}
			if g := *got.Load(); g != tc.want {
				t.Errorf("got %s, want %s", g, tc.want)
			}
			notes := strings.Join(f.Notes, "\n")
			lacks := strings.HasSuffix(tc.want, "auth= cookie=") && tc.op != "open" && !strings.Contains(tc.want, "?")
			if said := strings.Contains(notes, tc.op); said != lacks && tc.op != "digest" {
				t.Errorf("notes %q say that %s is not authorized: %v, want %v", notes, tc.op, said, lacks)
			}
		})
	}
}

// TestLocation follows what a reply without a body has made.
func TestLocation(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/things/17")
		w.WriteHeader(http.StatusCreated)
	}))
	defer srv.Close()
	c := newClient(t, description, srv.URL, noEvents(t))
	r, _ := call(t, c, "post", nil, 5*time.Second)
	if v, ok := r.Lookup("header.Location.last"); !ok || v.Text != "17" {
		t.Errorf("the last part of the location is %v, %v", v, ok)
	}
}

const registered = `openapi: 3.0.3
info: {title: users are made first, version: "1"}
security: [{b: []}]
paths:
  /auth/register:
    post:
      operationId: register
      requestBody: {content: {application/json: {schema: {type: object, required: [email, name, password], properties: {email: {type: string, format: email}, name: {type: string, minLength: 3}, password: {type: string, minLength: 8}}}}}}
      responses: {"201": {description: made}}
  /auth/login:
    post:
      operationId: signIn
      requestBody: {content: {application/json: {schema: {type: object, required: [email, password], properties: {email: {type: string, format: email}, password: {type: string, minLength: 8}}}}}}
      responses: {"200": {description: in, content: {application/json: {schema: {type: object, properties: {access_token: {type: string}}}}}}}
  /me: {get: {operationId: me, responses: {"200": {description: ok}}}}
components: {securitySchemes: {b: {type: http, scheme: bearer}}}
`

// TestUsersAreMadeFirst logs two lanes in where only who has registered gets a token.
func TestUsersAreMadeFirst(t *testing.T) {
	t.Parallel()
	var users sync.Map
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ Email, Password string }
		if r.URL.Path == "/me" {
			if got := r.Header.Get("Authorization"); !strings.HasPrefix(got, "Bearer t-") {
				w.WriteHeader(http.StatusUnauthorized)
			}
			return
		}
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Email == "" || len(in.Password) < 8 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if r.URL.Path == "/auth/register" {
			users.Store(in.Email, in.Password)
			w.WriteHeader(http.StatusCreated)
			return
		}
		if password, ok := users.Load(in.Email); !ok || password != in.Password {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintf(w, `{"access_token": "t-%s"}`, in.Email)
	}))
	defer srv.Close()
	f, a := described(t, withDocument, registered, srv.URL)
	if got := strings.Join(f.Assumed, "\n"); !strings.Contains(got, "register: register") {
		t.Errorf("assumed %q", got)
	}
	for _, lane := range []string{"a", "b"} {
		c, err := a.Client(t.Context(), lane, func(harness.Event) {})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if r, _ := call(t, c, "me", nil, 5*time.Second); r.Status != 200 {
			t.Errorf("lane %s: %+v", lane, r)
		}
	}
	n := 0
	users.Range(func(any, any) bool { n++; return true })
	if n != 2 {
		t.Errorf("%d users, want one for each lane", n)
	}
}
