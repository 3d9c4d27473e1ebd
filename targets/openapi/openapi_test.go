package openapi

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

var update = flag.Bool("update", false, "write what is read into the goldens")

// TestGoldens reads the documents in testdata, and compares what they come to.
func TestGoldens(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d documents: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			doc, err := Read(file, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := show(doc)
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// show prints what a document comes to.
func show(doc *Doc) string {
	var b strings.Builder
	for _, o := range doc.Ops {
		fmt.Fprintf(&b, "%s: %s %s", o.Name, o.Method, o.Path)
		if o.Media != "" {
			fmt.Fprintf(&b, " (%s)", o.Media)
		}
		if len(o.Security) > 0 {
			fmt.Fprintf(&b, " security %v", o.Security)
		}
		if len(o.Allowed) > 0 {
			fmt.Fprintf(&b, " allowed %v", o.Allowed)
		}
		b.WriteByte('\n')
		for _, p := range o.Params {
			fmt.Fprintf(&b, "  %s: %s", p.Key, p.About)
			if p.Optional {
				b.WriteString("; optional")
			}
			if len(p.From) > 0 {
				fmt.Fprintf(&b, "; from %s", strings.Join(p.From, ", "))
			}
			if p.Style.Name != "" && p.Style != (Style{"form", true}) && p.Style != (Style{"simple", false}) {
				fmt.Fprintf(&b, "; %s", p.Style.Name)
				if p.Style.Explode {
					b.WriteString(", exploded")
				}
			}
			b.WriteByte('\n')
		}
	}
	for _, name := range sortedKeys(doc.Schemes) {
		fmt.Fprintf(&b, "scheme %s: %v\n", name, doc.Schemes[name])
	}
	if doc.Login != nil {
		fmt.Fprintf(&b, "login: %s gives %s", doc.Login.Op, doc.Login.Token)
		if doc.Login.Register != "" {
			fmt.Fprintf(&b, ", behind %s", doc.Login.Register)
		}
		b.WriteByte('\n')
	}
	for _, n := range doc.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	return b.String()
}

const least = "openapi: 3.0.3\ninfo: {title: t, version: '1'}\npaths: {/a: {get: {responses: {'200': {description: ok}}}}}\n"

func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text string
		line       int
		want       string
	}{
		{"not YAML", "openapi: 3.0.3\npaths: [\n", 3, "not YAML"},
		{"a tab", "openapi: 3.0.3\n\tpaths: 1\n", 2, "not YAML"},
		{"empty", "", 0, "not an OpenAPI document"},
		{"something else", "a: 1\n", 1, "not an OpenAPI document"},
		{"swagger", "swagger: '2.0'\n", 1, "Swagger 2.0 is not read"},
		{"another version", "openapi: 4.0.0\n", 1, "OpenAPI 4.0.0 is not read"},
		{"no paths", "openapi: 3.0.3\ninfo: {title: t, version: '1'}\npaths: {}\n", 3, "has no paths"},
		{"wrong form", "openapi: 3.0.3\ninfo: {title: t, version: '1'}\npaths: [1]\n", 3, "not an OpenAPI document"},
		{"alias", "openapi: 3.0.3\na: &x 1\nb: *x\n", 2, "anchors and aliases are not taken"},
		{"remote", strings.Replace(least, "{description: ok}", "{$ref: 'https://example.com/a.yaml#/b'}", 1), 3, "https://example.com/a.yaml#/b is elsewhere"},
		{"outside", strings.Replace(least, "{description: ok}", "{$ref: '../a.yaml#/b'}", 1), 3, "outside the directory"},
		{"absolute", strings.Replace(least, "{description: ok}", "{$ref: '/etc/passwd#/b'}", 1), 3, "outside the directory"},
		{"not there", strings.Replace(least, "{description: ok}", "{$ref: 'a.yaml#/b'}", 1), 3, "a.yaml: file does not exist"},
		{"op of a wrong form", strings.Replace(least, "responses:", "parameters: {name: a}, responses:", 1), 3, "Operation.parameters"},
		{"path of a wrong form", strings.Replace(least, "{get: ", "{parameters: 1, get: ", 1), 3, "PathItem.parameters"},
		{"schema of a wrong form", least + "components:\n  schemas:\n    A: {type: string}\n    B: {type: integer, minimum: low}\n", 7, "minimum"},
		{"op of a wrong form", strings.Replace(least, "responses:", "parameters: {name: a}, responses:", 1), 3, "Operation.parameters"},
		{"path of a wrong form", strings.Replace(least, "{get: ", "{parameters: 1, get: ", 1), 3, "not an OpenAPI document"},
		{"schema of a wrong form", least + "components:\n  schemas:\n    A: {type: string, example: 2020-01-02}\n    B: {type: integer, minimum: low}\n", 7, "minimum"},
		{"a name twice", strings.Replace(least, "/a:", "'/a/{id}/b/{id}':", 1), 3, "the path has {id} twice"},
		{"schema that refers to itself", strings.Replace(least, "responses:", "parameters: [{name: a, in: query, schema: {$ref: '#/components/schemas/A'}}], responses:", 1) + "components: {schemas: {A: {$ref: '#/components/schemas/B'}, B: {$ref: '#/components/schemas/A'}}}\n", 4, "leads to nothing but references"},
		{"body that refers to itself", strings.Replace(least, "{get: {", "{put: {requestBody: {$ref: '#/components/requestBodies/A'}, ", 1) + "components: {requestBodies: {A: {$ref: '#/components/requestBodies/A'}}}\n", 4, "leads to nothing but references"},
		{"response that refers to itself", strings.Replace(least, "{description: ok}", "{$ref: '#/components/responses/A'}", 1) + "components: {responses: {A: {$ref: '#/components/responses/A'}}}\n", 4, "leads to nothing but references"},
		{"parameter that refers to itself", strings.Replace(least, "responses:", "parameters: [{$ref: '#/components/parameters/A'}], responses:", 1) + "components: {parameters: {A: {$ref: '#/components/parameters/A'}}}\n", 4, "leads to nothing but references"},
		{"leads nowhere", strings.Replace(least, "{description: ok}", "{$ref: '#/components/responses/X'}", 1), 3, "#/components/responses/X"},
		{"deep", "openapi: 3.0.3\na: " + strings.Repeat("[", 100) + strings.Repeat("]", 100) + "\n", 2, "nested deeper"},
		{"very deep", "openapi: 3.0.3\na: " + strings.Repeat("{a: ", 100000) + "\n", 2, "nested deeper"},
		{"parameter nowhere", strings.Replace(least, "responses:", "parameters: [{name: a, in: soul}], responses:", 1), 3, `not "soul"`},
		{"not text", "openapi: 3.0.3\na: \xff\n", 0, "not UTF-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("openapi.yaml", []byte(tc.text))
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error %v (%T), want an *Error", err, err)
			}
			if e.Line != tc.line || !strings.Contains(e.Msg, tc.want) {
				t.Errorf("got %d %q, want %d %q", e.Line, e.Msg, tc.line, tc.want)
			}
		})
	}
}

func TestJSONDocument(t *testing.T) {
	t.Parallel()
	doc, err := Parse("openapi.json", []byte("{\n\t\"openapi\": \"3.0.3\",\n\t\"info\": {\"title\": \"t\", \"version\": \"1\"},\n\t\"paths\": {\"/a\": {\"get\": {\"responses\": {\"200\": {\"description\": \"ok\"}}}}}\n}"))
	if err != nil {
		t.Fatal(err)
	}
	if len(doc.Ops) != 1 || doc.Ops[0].Name != "get_a" {
		t.Errorf("ops %+v, want get_a", doc.Ops)
	}
	odd := "\ufeff" + `{"openapi": "3.0.3", "info": {"title": "t", "version": "1"}, "paths": {"/a": {"get": {"summary": "a` + "\u009c\u007f\uffff" + `b\/\ud83d\uDE00\ud83d\\ud83d", "responses": {}}}}}`
	if doc, err = Parse("openapi.json", []byte(odd)); err != nil {
		t.Fatal(err)
	}
	if got := doc.Ops[0].Doc; got != "a\u009c\u007f\uffffb/\U0001F600\ufffd\\ud83d" {
		t.Errorf("the summary is %q", got)
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, responses string
		want            bool
	}{
		{"events", "{'200': {description: ok, content: {text/event-stream: {schema: {type: string}}}}}", true},
		{"without a schema", "{'200': {description: ok, content: {text/event-stream: {}}}}", true},
		{"of a character set", "{'200': {description: ok, content: {'Text/Event-Stream ; charset=utf-8': {}}}}", true},
		{"any success", "{2XX: {description: ok, content: {text/event-stream: {}}}}", true},
		{"another success", "{'200': {description: ok, content: {application/json: {}}}, '202': {description: ok, content: {text/event-stream: {}}}}", true},
		{"beside JSON", "{'200': {description: ok, content: {application/json: {}, text/event-stream: {}}}}", true},
		{"elsewhere", "{'200': {$ref: '#/components/responses/Events'}}", true},
		{"anything", "{default: {description: ok, content: {text/event-stream: {}}}}", true},
		{"anything but a success", "{'200': {description: ok}, default: {description: no, content: {text/event-stream: {}}}}", false},
		{"a failure", "{'200': {description: ok}, '400': {description: no, content: {text/event-stream: {}}}}", false},
		{"text", "{'200': {description: ok, content: {text/plain: {}}}}", false},
		{"no content", "{'200': {description: ok}}", false},
	} {
		text := strings.Replace(least, "{'200': {description: ok}}", tc.responses, 1) +
			"components: {responses: {Events: {description: ok, content: {text/event-stream: {}}}}}\n"
		doc, err := Parse("openapi.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if got := doc.Ops[0].Stream; got != tc.want {
			t.Errorf("%s: stream %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestFilesBesideTheDocument(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("secret.yaml", "S: {type: string}\n")
	write("api/openapi.yaml", document(`{$ref: "parts/schemas.yaml#/A"}`, ""))
	write("api/parts/schemas.yaml", "A: {type: object, required: [b], properties: {b: {$ref: '#/B'}}}\nB: {type: integer, minimum: 3}\n")
	doc, err := Read(filepath.Join(dir, "api", "openapi.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if about := doc.Ops[0].Params[0].About; about != "{b: a whole number from 3}" {
		t.Errorf("the param is %q", about)
	}
	write("api/parts/schemas.yaml", "A: {type: object, required: [a], properties: {a: {$ref: '#/A'}}}\n")
	write("api/openapi.yaml", strings.Replace(document(`{$ref: "parts/schemas.yaml#/A"}`, ""), "{type: object, properties", "{type: object, required: [it], properties", 1))
	_, err = Read(filepath.Join(dir, "api", "openapi.yaml"), nil)
	var e *Error
	if !errors.As(err, &e) || e.File != filepath.Join(dir, "api", "parts", "schemas.yaml") || e.Line != 1 {
		t.Errorf("error %v, want one at the first line of schemas.yaml", err)
	}
	if err := os.Symlink(filepath.Join(dir, "secret.yaml"), filepath.Join(dir, "api", "link.yaml")); err != nil {
		t.Fatal(err)
	}
	write("api/openapi.yaml", document(`{$ref: "link.yaml#/S"}`, ""))
	if _, err := Read(filepath.Join(dir, "api", "openapi.yaml"), nil); err == nil {
		t.Error("a link that leads out of the directory was followed")
	}
	if _, err := Read(filepath.Join(dir, "api"), nil); err == nil {
		t.Error("a directory was read as a document")
	}
	if _, err := Read(filepath.Join(dir, "none.yaml"), nil); err == nil || strings.Count(err.Error(), "none.yaml") != 1 {
		t.Errorf("error %v, want one that names the file once", err)
	}
}

// TestHostsLeadNowhere looks at what is drawn that a service may call.
func TestHostsLeadNowhere(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"uri", "url", "iri", "email", "hostname", "idn-email", "idn-hostname"} {
		doc, err := Parse("openapi.yaml", []byte(document("{type: string, format: "+format+"}", "")))
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		for range 100 {
			if v := doc.Ops[0].Params[0].Domain.Draw(rng); !strings.Contains(v.Text, ".invalid") {
				t.Fatalf("%s: drew %s", format, v)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(least))
	for _, tc := range schemas {
		f.Add([]byte(document(tc.schema, tc.components)))
	}
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<16 {
			return
		}
		start := time.Now()
		doc, err := Parse("openapi.yaml", bytes.Clone(text))
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("it took %v", took)
		}
		var e *Error
		if err != nil {
			if !errors.As(err, &e) || e.Msg == "" || strings.Contains(e.Msg, "runtime error") {
				t.Errorf("error %v (%T)", err, err)
			}
			return
		}
		rng := rand.New(rand.NewPCG(1, 1))
		for _, o := range doc.Ops {
			for _, p := range o.Params {
				if _, err := harness.SplitKey(p.Key); err != nil {
					t.Errorf("%s: %v", o.Name, err)
				}
				v := p.Domain.Draw(rng)
				v = p.Domain.Mutate(rng, v)
				n := 0
				for range p.Domain.Simpler(v) {
					if n++; n > 10 {
						break
					}
				}
				if b, ok := p.Domain.(harness.Bounded); ok {
					b.Bounds()
				}
			}
		}
	})
}

// TestLargeDocumentsAreBounded reads what is made to take long.
func TestLargeDocumentsAreBounded(t *testing.T) {
	t.Parallel()
	const head = "openapi: 3.1.0\ninfo: {title: t, version: '1'}\npaths: {/a: {post: {requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/S0'}}}}, responses: {'200': {description: ok}}}}}\ncomponents:\n  schemas:\n"
	many := func(n int, schema func(i int) string) string {
		var b strings.Builder
		b.WriteString(head)
		for i := range n {
			fmt.Fprintf(&b, "    S%d: %s\n", i, schema(i))
		}
		return b.String()
	}
	next := func(i, n int) string { return fmt.Sprintf("{$ref: '#/components/schemas/S%d'}", (i+1)%n) }
	for _, tc := range []struct{ name, text, want string }{
		{"long chain", many(2000, func(i int) string {
			return "{type: object, required: [a], properties: {a: " + next(i, 2000) + ", b: {type: integer}}}"
		}), "wants itself within itself"},
		{"wide alternatives", many(300, func(i int) string {
			return "{oneOf: [" + next(i, 300) + ", " + next(i+7, 300) + ", {type: integer}]}"
		}), "more than 64 schemas are to hold at once"},
		{"alternatives of alternatives", many(12, func(i int) string {
			return "{oneOf: [" + next(i, 12) + ", {type: integer}], anyOf: [" + next(i+1, 12) + ", {minimum: 1}], allOf: [" + next(i+4, 12) + "]}"
		}), ""},
		{"many parts", many(100, func(i int) string { return "{allOf: [" + next(i, 100) + "]}" }), "more than 64 schemas are to hold at once"},
		{"everything leads everywhere", many(20, func(i int) string {
			var props []string
			for j := range 20 {
				props = append(props, fmt.Sprintf("p%d: {$ref: '#/components/schemas/S%d'}", j, j))
			}
			return "{type: object, properties: {" + strings.Join(props, ", ") + "}}"
		}), ""},
		{"many schemas", many(8000, func(i int) string {
			return "{type: object, properties: {a: " + next(i, 8000) + ", b: {type: integer}}}"
		}), ""},
		{"many keys", "openapi: 3.0.0\na:\n" + strings.Repeat("- b\n", maxNodes), "more than"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			doc, err := Parse("openapi.yaml", []byte(tc.text))
			if took := time.Since(start); took > time.Minute {
				t.Errorf("it took %v", took)
			}
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error %v, want %q", err, tc.want)
			}
			if err != nil {
				return
			}
			rng := rand.New(rand.NewPCG(1, 1))
			for _, p := range doc.Ops[0].Params {
				for range 20 {
					if v := p.Domain.Draw(rng); len(v.Text) > 1<<20 {
						t.Errorf("%s: %d bytes are drawn", p.Key, len(v.Text))
					}
				}
				if b, ok := p.Domain.(harness.Bounded); ok {
					b.Bounds()
				}
			}
		})
	}
}

// TestDeepValuesAreCheckedInTime has alternatives that both hold, all the way down.
func TestDeepValuesAreCheckedInTime(t *testing.T) {
	t.Parallel()
	doc, err := Parse("openapi.yaml", []byte(document(`{$ref: "#/components/schemas/A"}`,
		`{A: {oneOf: [{type: object, required: [x], properties: {a: {$ref: "#/components/schemas/A"}}}, {type: object, required: [y], properties: {a: {$ref: "#/components/schemas/A"}}}]}}`)))
	if err != nil {
		t.Fatal(err)
	}
	deep := harness.Value{Form: harness.FormJSON, Text: strings.Repeat(`{"x":"","y":"","a":`, 60) + "1" + strings.Repeat("}", 60)}
	n := 0
	for range doc.Ops[0].Params[0].Domain.Simpler(deep) {
		if n++; n == 20 {
			return
		}
	}
	t.Errorf("only %d simpler values", n)
}
