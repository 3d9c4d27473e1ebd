package spec

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

const document = `openapi: 3.0.3
info: {title: t, version: "1"}
paths:
  /things:
    post:
      operationId: make
      requestBody: {content: {application/json: {schema: {type: object, required: [name, size], properties: {name: {type: string}, size: {type: object, required: [w], properties: {w: {type: integer}, h: {type: integer}}}, tags: {type: array, items: {type: string}}}}}}}
      responses:
        "201": {description: made, content: {application/json: {schema: {type: object, properties: {id: {type: integer}}}}}}
        "500": {description: it happens}
  /things/{thing}:
    get:
      operationId: look
      parameters: [{name: thing, in: path, required: true, schema: {type: integer}}]
      responses: {"200": {description: one}}
`

const events = `  /events:
    get:
      operationId: follow
      responses: {"200": {description: what happens, content: {text/event-stream: {schema: {type: string}}}}}
`

// loaded loads a description with the document beside it.
func loaded(t *testing.T, yaml string) (*File, error) {
	t.Helper()
	return loadedWith(t, yaml, document)
}

// loadedWith loads a description with a document beside it.
func loadedWith(t *testing.T, yaml, document string) (*File, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"shakedown.yaml": yaml, "openapi.yaml": document} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return Load(dir)
}

const beside = `service: {build: ., args: ["{{listen}}"]}
api:
  openapi: openapi.yaml
`

// show prints the ops of a description.
func show(f *File) string {
	var b strings.Builder
	for _, o := range f.HarnessOps() {
		fmt.Fprintln(&b, o.Name, o.Doc)
		for _, p := range o.Params {
			fmt.Fprintf(&b, "  %s: %s %v optional=%v drawn=%v\n", p.Name, p.Doc, p.From, p.Optional, p.Domain != nil)
		}
	}
	return b.String()
}

func TestYAMLBesideDocument(t *testing.T) {
	t.Parallel()
	const look = "look GET /things/{thing}\n  path.thing: a whole number [make.id] optional=false drawn=true\n"
	const size = "  body.size.h: a whole number [] optional=true drawn=true\n  body.size.w: a whole number [] optional=false drawn=true\n"
	const tags = "  body.tags: a list: a text [] optional=true drawn=true\n"
	for _, tc := range []struct{ name, yaml, want string }{
		{"nothing", beside, look + "make POST /things\n  body.name: a text [] optional=false drawn=true\n" + size + tags},
		{"one param", beside + "  ops: {make: {params: {body.name: {int: 1..3}}}}\n", look + "make POST /things\n  body.name: a number, 1..3 [] optional=false drawn=true\n" + size + tags},
		{"a param below", beside + "  ops: {make: {params: {body.tags.0: {int: 1..3}}}}\n", look + "make POST /things\n  body.name: a text [] optional=false drawn=true\n" + size + "  body.tags.0: a number, 1..3 [] optional=false drawn=true\n"},
		{"a param above", beside + "  ops: {make: {params: {body: {value: {}}}}}\n", look + "make POST /things\n  body: always map[] [] optional=false drawn=true\n"},
		{"from beside what is drawn", beside + "  ops: {make: {doc: x, params: {body.size.w: {from: [look.w]}}}}\n",
			look + "make POST /things: x\n  body.name: a text [] optional=false drawn=true\n  body.size.h: a whole number [] optional=true drawn=true\n  body.size.w: a whole number [look.w] optional=false drawn=true\n" + tags},
		{"left out", beside + "  ops: {make: {skip: true}}\n", "look GET /things/{thing}\n  path.thing: a whole number [] optional=false drawn=true\n"},
		{"another request", beside + "  ops: {make: {request: PUT /thing, params: {body.a: {bool: true}}}}\n", look + "make PUT /thing\n  body.a: true or false [] optional=false drawn=true\n"},
		{"one more", beside + "  ops: {more: {request: GET /more}, make: {skip: true}}\n", "look GET /things/{thing}\n  path.thing: a whole number [] optional=false drawn=true\nmore GET /more\n"},
	} {
		f, err := loaded(t, tc.yaml)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if got := show(f); got != tc.want {
			t.Errorf("%s:\ngot:\n%swant:\n%s", tc.name, got, tc.want)
		}
	}
}

func TestDocumentedStatuses(t *testing.T) {
	t.Parallel()
	f, err := loaded(t, beside+"  ops: {look: {expect: [200, 404]}}\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		op     string
		status int
		want   bool
	}{
		{"make", 201, true}, {"make", 409, true}, {"make", 500, true}, {"make", 502, false}, {"make", 503, true},
		{"look", 200, true}, {"look", 400, false}, {"look", 500, false},
	} {
		if got := f.API.Ops[tc.op].Expects(tc.status); got != tc.want {
			t.Errorf("%s expects %d: %v, want %v", tc.op, tc.status, got, tc.want)
		}
	}
}

func TestDocumentedStreams(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, yaml string
		want       time.Duration
		assumed    string
	}{
		{"nothing said", beside, 300 * time.Millisecond, "api.ops.follow.stream is 300ms: it answers with server-sent events"},
		{"little time", strings.Replace(beside, "build: .", "build: ., timeout: 400ms", 1), 200 * time.Millisecond,
			"api.ops.follow.stream is 200ms: it answers with server-sent events"},
		{"said", beside + "  ops: {follow: {stream: 1s}}\n", time.Second, ""},
		{"something else said", beside + "  ops: {follow: {doc: x}}\n", 300 * time.Millisecond, "api.ops.follow.stream is 300ms: it answers with server-sent events"},
		{"another request", beside + "  ops: {follow: {request: GET /events/latest}}\n", 0, ""},
	} {
		f, err := loadedWith(t, tc.yaml, document+events)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if got := time.Duration(f.API.Ops["follow"].Stream); got != tc.want {
			t.Errorf("%s: read for %s, want %s", tc.name, got, tc.want)
		}
		if got := f.API.Ops["look"].Stream; got != 0 {
			t.Errorf("%s: what is no stream is read for %s", tc.name, time.Duration(got))
		}
		if got := strings.Join(f.Assumed, "\n"); got != tc.assumed {
			t.Errorf("%s: assumed %q, want %q", tc.name, got, tc.assumed)
		}
	}
	if _, err := loadedWith(t, beside+"  ops: {follow: {skip: true}}\n", document+events); err != nil {
		t.Errorf("left out: %v", err)
	}
}

func TestAssumptions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module example.com/x\n\ngo 1.24\n")
	write("lib/lib.go", "package lib\n")
	write("cmd/x/main.go", "package main\n\nfunc main() {}\n")
	write("openapi.yaml", document)
	write("shakedown.yaml", "openapi: openapi.yaml\n")
	f, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if f.Service.Build != "./cmd/x" || f.Service.Env["PORT"] != "{{port}}" || f.Service.Env["ADDR"] != "{{listen}}" || len(f.Assumed) != 2 {
		t.Errorf("build %s, env %v, assumed %q", f.Service.Build, f.Service.Env, f.Assumed)
	}
	write("shakedown.yaml", "openapi: openapi.yaml\nservice: {env: {WHERE: ':{{port}}'}}\n")
	if f, err = Load(dir); err != nil {
		t.Fatal(err)
	}
	if got := slices.Collect(maps.Keys(f.Service.Env)); !slices.Equal(got, []string{"WHERE"}) || len(f.Assumed) != 1 {
		t.Errorf("env %v, assumed %q: what is said is not added to", got, f.Assumed)
	}
	write("shakedown.yaml", "openapi: openapi.yaml\nservice: {image: 'x:1'}\n")
	if f, err = Load(dir); err != nil || f.Service.Build != "" || f.Service.Env["PORT"] != "{{port}}" || len(f.Assumed) != 1 {
		t.Errorf("an image: error %v, service %+v, assumed %q", err, f.Service, f.Assumed)
	}
	write("shakedown.yaml", "openapi: openapi.yaml\n")
	write("main.go", "package main\n\nfunc main() {}\n")
	if _, err = Load(dir); err == nil || !strings.Contains(err.Error(), "several main packages (., ./cmd/x)") {
		t.Errorf("error %v, want that there are several main packages", err)
	}
	write("go.mod", "no module\n")
	if _, err = Load(dir); err == nil || !strings.Contains(err.Error(), "service.build is missing") {
		t.Errorf("error %v, want that service.build is missing", err)
	}
}

// TestReferencesNameOps looks at every place that an inferred reference names, in the bodies
// that are drawn as a whole, too.
func TestReferencesNameOps(t *testing.T) {
	t.Parallel()
	f, err := Load("../../testdata/services/shop/shakedown.openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, o := range f.HarnessOps() {
		for _, p := range o.Params {
			for range 20 {
				for _, label := range p.Domain.Draw(rng).References() {
					if f.API.Ops[label] == nil {
						t.Errorf("%s %s refers to %s", o.Name, p.Name, label)
					}
				}
			}
		}
	}
}

// TestNothingRefersToWhatIsLeftOut leaves out the op that another one's bodies refer to from
// within, and the one that plainly is the login.
func TestNothingRefersToWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	const document = `openapi: 3.0.3
info: {title: t, version: "1"}
paths:
  /login: {post: {operationId: login, requestBody: {content: {application/json: {schema: {type: object, required: [password], properties: {password: {type: string}}}}}}, responses: {"200": {description: in, content: {application/json: {schema: {type: object, properties: {token: {type: string}}}}}}}}}
  /products: {post: {operationId: product, responses: {"201": {description: made, content: {application/json: {schema: {type: object, properties: {id: {type: integer}}}}}}}}}
  /orders: {post: {operationId: order, requestBody: {content: {application/json: {schema: {type: object, required: [lines], properties: {lines: {type: array, minItems: 1, items: {type: object, required: [product_id], properties: {product_id: {type: integer}}}}}}}}}, responses: {"201": {description: made}}}}
components: {securitySchemes: {b: {type: http, scheme: bearer}}}
`
	refers := func(yaml string) (f *File, refers bool) {
		t.Helper()
		f, err := loadedWith(t, yaml, document)
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		for range 20 {
			for _, label := range f.API.Ops["order"].Params["body.lines"].drawn.Draw(rng).References() {
				refers = refers || label == "product"
			}
		}
		return f, refers
	}
	if f, got := refers(beside); !got || f.API.Login == nil {
		t.Errorf("with all ops: refers %v, login %v", got, f.API.Login)
	}
	if f, got := refers(beside + "  ops: {product: {skip: true}, login: {skip: true}}\n"); got || f.API.Login != nil {
		t.Errorf("without two ops: refers %v, login %v", got, f.API.Login)
	}
	if _, err := loadedWith(t, beside+"  ops: {prodcut: {skip: true}}\n", document); err == nil || !strings.Contains(err.Error(), "prodcut is no operation") {
		t.Errorf("without an op that is not there: %v", err)
	}
}

func TestTextIsSentAsItIs(t *testing.T) {
	t.Parallel()
	f, err := loadedWith(t, beside, `openapi: 3.0.3
info: {title: t, version: "1"}
paths: {/notes: {post: {operationId: note, requestBody: {content: {text/plain: {schema: {type: string}}}}, responses: {"201": {description: made}}}}}
`)
	if err != nil {
		t.Fatal(err)
	}
	if v := f.HarnessOps()[0].Params[0].Domain.Draw(rand.New(rand.NewPCG(1, 1))); v.Form != harness.FormRaw {
		t.Errorf("the body is %v, want a raw one", v)
	}
}
