package openapi

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/shakedown-go/shakedown/harness"
)

// schemas are schemas of bodies, with what is said about them.
var schemas = []struct{ name, schema, components, about string }{
	{"text", `{type: string}`, "", "a text"},
	{"bounded text", `{type: string, minLength: 2, maxLength: 4}`, "", "a text of 2 to 4 characters"},
	{"pattern", `{type: string, pattern: "^[a-c]{2}-[0-9]+$"}`, "", "^[a-c]{2}-[0-9]+$"},
	{"pattern of a length", `{type: string, pattern: "^[a-z]+$", minLength: 5, maxLength: 6}`, "", "^[a-z]+$"},
	{"uuid", `{type: string, format: uuid}`, "", "uuid"},
	{"date", `{type: string, format: date}`, "", "date"},
	{"date-time", `{type: string, format: date-time}`, "", "date-time"},
	{"email", `{type: string, format: email}`, "", "email"},
	{"uri", `{type: string, format: uri}`, "", "uri"},
	{"ipv4", `{type: string, format: ipv4}`, "", "ipv4"},
	{"ipv6", `{type: string, format: ipv6}`, "", "ipv6"},
	{"byte", `{type: string, format: byte}`, "", "byte"},
	{"password", `{type: string, format: password, minLength: 12}`, "", "password"},
	{"enum", `{type: string, enum: [a, b]}`, "", "one of a b"},
	{"enum of numbers", `{enum: [1, 2.5]}`, "", "one of 1 2.5"},
	{"const", `{const: {a: 1}}`, "", `always {"a":1}`},
	{"whole number", `{type: integer}`, "", "a whole number"},
	{"int32", `{type: integer, format: int32, minimum: -5}`, "", "a whole number from -5"},
	{"exclusive bounds", `{type: integer, exclusiveMinimum: 3, exclusiveMaximum: 6}`, "", "a whole number from 3 to 6"},
	{"multiples", `{type: integer, multipleOf: 7, minimum: 10, maximum: 50}`, "", "a whole number from 10 to 50"},
	{"number", `{type: number, minimum: -1.5, exclusiveMaximum: 1.5}`, "", "a number from -1.5 to 1.5"},
	{"parts", `{type: number, multipleOf: 0.25}`, "", "a number"},
	{"boolean", `{type: boolean}`, "", "true or false"},
	{"nullable", `{type: [string, "null"]}`, "", "a text, or null"},
	{"null", `{type: "null"}`, "", "null"},
	{"two types", `{type: [string, integer]}`, "", "either a text, or a whole number"},
	{"anything", `{}`, "", "anything"},
	{"array", `{type: array, items: {type: integer, minimum: 1}, minItems: 1, maxItems: 3}`, "", "a list of 1 to 3: a whole number from 1"},
	{"distinct", `{type: array, items: {enum: [a, b, c]}, uniqueItems: true}`, "", "a list: one of a b c"},
	{"object", `{type: object, required: [a], properties: {a: {type: string}, b: {type: integer, default: 3}}}`, "", "{a: a text, [b: a whole number, such as 3]}"},
	{"nested", `{type: object, required: [a], properties: {a: {type: object, required: [b], properties: {b: {type: boolean}}}}}`, "", "{a: {b: true or false}}"},
	{"map", `{type: object, additionalProperties: {type: integer}}`, "", "{*: a whole number}"},
	{"some properties", `{type: object, minProperties: 1, properties: {a: {type: string}, b: {type: string}}}`, "", "{[a: a text], [b: a text]}"},
	{"read only", `{type: object, required: [id, a], properties: {id: {type: integer, readOnly: true}, a: {type: string}}}`, "", "{a: a text}"},
	{"required, not described", `{type: object, required: [a]}`, "", "{a: a text}"},
	{"all of", `{allOf: [{type: object, required: [a], properties: {a: {type: integer, minimum: 2}}}, {properties: {a: {maximum: 4}, b: {type: string}}, required: [b]}]}`, "", "{a: a whole number from 2 to 4, b: a text}"},
	{"one of", `{oneOf: [{type: object, required: [a], properties: {a: {type: string}}}, {type: array, items: {type: integer}}]}`, "", "either {a: a text}, or a list: a whole number"},
	{"any of, beside more", `{type: object, required: [x], properties: {x: {type: string}}, anyOf: [{required: [a], properties: {a: {type: integer}}}, {required: [b], properties: {b: {type: integer}}}]}`, "", "either {a: a whole number, x: a text}, or {b: a whole number, x: a text}"},
	{"discriminator", `{oneOf: [{$ref: "#/components/schemas/Cat"}, {$ref: "#/components/schemas/Dog"}], discriminator: {propertyName: kind, mapping: {c: "#/components/schemas/Cat", d: "#/components/schemas/Dog"}}}`,
		`{Cat: {type: object, required: [kind], properties: {kind: {type: string}, lives: {type: integer}}}, Dog: {type: object, required: [kind], properties: {kind: {type: string}}}}`,
		"either {kind: always c, [lives: a whole number]}, or {kind: always d}"},
	{"discriminator of what is inherited from", `{$ref: "#/components/schemas/Pet"}`, pets,
		"either {kind: always bird, [wings: a whole number]}, or {kind: always cat, lives: a whole number}, or {[eyes: a whole..."},
	{"discriminator that is inherited", `{$ref: "#/components/schemas/Cat"}`, pets, "{kind: always cat, lives: a whole number}"},
	{"discriminator that is inherited twice", `{$ref: "#/components/schemas/Owl"}`, pets, "{[eyes: a whole number], kind: always Owl, [wings: a whole number]}"},
	{"discriminator above alternatives", `{$ref: "#/components/schemas/Cat"}`,
		`{Pet: {type: object, required: [kind], properties: {kind: {type: string}}, oneOf: [{$ref: "#/components/schemas/Cat"}, {$ref: "#/components/schemas/Dog"}], discriminator: {propertyName: kind}}, Cat: {allOf: [{$ref: "#/components/schemas/Pet"}, {properties: {lives: {type: integer}}}]}, Dog: {allOf: [{$ref: "#/components/schemas/Pet"}, {required: [bark], properties: {bark: {type: boolean}}}]}}`,
		"{kind: always Cat, [lives: a whole number]}"},
	{"discriminator that the alternatives know better", `{oneOf: [{$ref: "#/components/schemas/Cat"}, {$ref: "#/components/schemas/Dog"}], discriminator: {propertyName: kind}}`,
		`{Cat: {type: object, required: [kind], properties: {kind: {type: string, enum: [cat]}}}, Dog: {type: object, required: [kind], properties: {kind: {const: dog}}}}`,
		"either {kind: always cat}, or {kind: always dog}"},
	{"cycle with an end", `{$ref: "#/components/schemas/Node"}`, `{Node: {type: object, required: [v], properties: {v: {type: integer}, next: {$ref: "#/components/schemas/Node"}, kids: {type: array, items: {$ref: "#/components/schemas/Node"}}}}}`,
		"{[kids: a list: {[kids: ...], [next: ...], v: a whole number}], [next: {[kids: a list: ...], [next: {[kids: ...], [ne..."},
	{"cycle through a list", `{$ref: "#/components/schemas/Tree"}`, `{Tree: {type: array, items: {$ref: "#/components/schemas/Tree"}}}`, "a list: a list: a list: ..."},
	{"cycle through alternatives", `{$ref: "#/components/schemas/Expr"}`, `{Expr: {oneOf: [{type: integer}, {type: object, required: [l, r], properties: {l: {$ref: "#/components/schemas/Expr"}, r: {$ref: "#/components/schemas/Expr"}}}]}}`,
		"either a whole number, or {l: either a whole number, or ..., r: either a whole number, or ...}"},
}

// pets is a hierarchy whose root says how its heirs are told apart.
const pets = `{Pet: {type: object, required: [kind], properties: {kind: {type: string}}, discriminator: {propertyName: kind, mapping: {cat: "#/components/schemas/Cat", bird: Bird}}}, Cat: {allOf: [{$ref: "#/components/schemas/Pet"}, {type: object, required: [lives], properties: {lives: {type: integer}}}]}, Bird: {allOf: [{$ref: "#/components/schemas/Pet"}, {type: object, properties: {wings: {type: integer}}}]}, Owl: {allOf: [{$ref: "#/components/schemas/Bird"}, {type: object, properties: {eyes: {type: integer}}}]}}`

// document is one with a body of a schema.
func document(schema, components string) string {
	if components == "" {
		components = "{}"
	}
	return fmt.Sprintf(`openapi: 3.1.0
info: {title: t, version: "1"}
paths:
  /things:
    post:
      requestBody: {content: {application/json: {schema: {type: object, properties: {it: %s}}}}}
      responses: {"200": {description: ok}}
components: {schemas: %s}
`, schema, components)
}

func TestSchemas(t *testing.T) {
	t.Parallel()
	for _, tc := range schemas {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			text := document(tc.schema, tc.components)
			doc, err := Parse("openapi.yaml", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			p := doc.Ops[0].Params[0]
			if p.Key != "body.it" || p.About != tc.about {
				t.Errorf("%s is %q, want body.it, %q", p.Key, p.About, tc.about)
			}
			if len(doc.Notes) > 0 {
				t.Errorf("notes: %q", doc.Notes)
			}
			loaded, err := openapi3.NewLoader().LoadFromData([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			judge := loaded.Paths.Value("/things").Post.RequestBody.Value.Content["application/json"].Schema.Value.Properties["it"].Value
			check := p.Domain.(harness.Checker)
			valid := func(v harness.Value) error {
				var x any
				if err := json.Unmarshal(asJSON(v), &x); err != nil {
					return err
				}
				return judge.VisitJSON(x, openapi3.EnableJSONSchema2020(), openapi3.VisitAsRequest())
			}
			rng := rand.New(rand.NewPCG(1, 2))
			for range 50 {
				v := p.Domain.Draw(rng)
				// The library has a server's view of what only replies hold.
				if err := valid(v); err != nil && tc.name != "read only" {
					t.Fatalf("drew %s: %v", v, err)
				}
				if err := check.Check(v.Text); err != nil {
					t.Fatalf("drew %s, which is not in its own domain: %v", v, err)
				}
				n := 0
				for s := range p.Domain.Simpler(v) {
					if n++; !json.Valid(asJSON(s)) || n == 20 {
						break
					}
				}
				slip := p.Domain.Mutate(rng, v)
				if !json.Valid(asJSON(slip)) && !strings.Contains(slip.Text, "1e400") {
					t.Fatalf("a slip in %s is %s", v, slip)
				}
			}
			if b, ok := p.Domain.(harness.Bounded); ok && len(b.Bounds()) > maxBounds {
				t.Errorf("%d bounds", len(b.Bounds()))
			}
		})
	}
}

// asJSON is the text of a value in a body.
func asJSON(v harness.Value) []byte {
	if v.Form == harness.FormJSON {
		return []byte(v.Text)
	}
	return []byte(quote(v.Text))
}

func TestSimplerEnds(t *testing.T) {
	t.Parallel()
	for _, tc := range schemas {
		doc, err := Parse("openapi.yaml", []byte(document(tc.schema, tc.components)))
		if err != nil {
			t.Fatal(err)
		}
		d := doc.Ops[0].Params[0].Domain
		rng := rand.New(rand.NewPCG(5, 5))
		for range 5 {
			v := d.Draw(rng)
			for steps := 0; ; steps++ {
				if steps > 5000 {
					t.Fatalf("%s: simplifying does not end, now at %s", tc.name, v)
				}
				next, any := v, false
				for s := range d.Simpler(v) {
					next, any = s, true
					break
				}
				if !any || next == v {
					break
				}
				v = next
			}
		}
	}
}

func TestTreesVary(t *testing.T) {
	t.Parallel()
	doc, err := Parse("openapi.yaml", []byte(document(`{type: array, minItems: 1, maxItems: 3, items: {type: object, required: [code], properties: {code: {type: string, pattern: "^[A-Z]{2}-[0-9]$"}, n: {type: integer}}}}`, "")))
	if err != nil {
		t.Fatal(err)
	}
	d := doc.Ops[0].Params[0].Domain
	rng := rand.New(rand.NewPCG(7, 7))
	lengths, withN, broken := map[int]bool{}, false, false
	for range 200 {
		v, err := readValue(d.Draw(rng))
		if err != nil {
			t.Fatal(err)
		}
		lengths[len(v.items)] = true
		withN = withN || v.items[0].find("n") >= 0
		broken = broken || d.(harness.Checker).Check(d.Mutate(rng, v.contract()).Text) != nil
	}
	if len(lengths) != 3 || !withN || !broken {
		t.Errorf("lengths %v, optional members %v, broken ones by slips %v", lengths, withN, broken)
	}
	var bounds []string
	for _, v := range d.(harness.Bounded).Bounds() {
		bounds = append(bounds, v.Text)
	}
	all := strings.Join(bounds, "\n")
	for _, want := range []string{`[]`, `"code":"`, `-"`, `"n":2147483648`} {
		if !strings.Contains(all, want) {
			t.Errorf("no bound has %s:\n%s", want, all)
		}
	}
	for _, b := range bounds {
		if v, _ := readValue(harness.Value{Form: harness.FormJSON, Text: b}); len(v.items) == 4 {
			return
		}
	}
	t.Errorf("no bound has four elements:\n%s", all)
}

func TestImpossibleSchemas(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, schema, components, want string }{
		{"cycle", `{$ref: "#/components/schemas/A"}`, `{A: {type: object, required: [b], properties: {b: {$ref: "#/components/schemas/B"}}}, B: {type: object, required: [a], properties: {a: {$ref: "#/components/schemas/A"}}}}`,
			"the schema #/components/schemas/A wants itself within itself"},
		{"cycle through a list", `{$ref: "#/components/schemas/A"}`, `{A: {type: array, minItems: 1, items: {$ref: "#/components/schemas/A"}}}`, "#/components/schemas/A wants itself within itself"},
		{"no number", `{type: integer, minimum: 5, maximum: 4}`, "", "no number is within its bounds"},
		{"no text", `{type: string, minLength: 5, maxLength: 4}`, "", "minLength is above maxLength"},
		{"no array", `{type: array, minItems: 5, maxItems: 4, items: {}}`, "", "minItems is above maxItems"},
		{"never", `false`, "", "no value satisfies"},
		{"no type is both", `{allOf: [{type: string}, {type: integer}]}`, "", "no value satisfies"},
		{"very large", `{type: array, minItems: 5000, items: {type: integer}}`, "", "consists of more than 1024 values at least"},
		{"wide and deep", `{$ref: "#/components/schemas/A"}`, wide(20), "consists of more than 1024 values at least"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(document(tc.schema, tc.components), "{type: object, properties", "{type: object, required: [it], properties", 1)
			_, err := Parse("openapi.yaml", []byte(text))
			e, ok := err.(*Error)
			if !ok || e.Line == 0 || !strings.Contains(e.Msg, tc.want) {
				t.Errorf("error %v, want one with a line that says %q", err, tc.want)
			}
		})
	}
}

// wide is a chain of schemas each of which wants the next twice.
func wide(n int) string {
	var b strings.Builder
	b.WriteString("{")
	for i := range n {
		name, next := string(rune('A'+i)), fmt.Sprintf(`{$ref: "#/components/schemas/%c"}`, 'A'+i+1)
		if i == n-1 {
			next = "{type: integer}"
		}
		fmt.Fprintf(&b, "%s: {type: object, required: [l, r], properties: {l: %s, r: %s}}, ", name, next, next)
	}
	return b.String() + "}"
}
