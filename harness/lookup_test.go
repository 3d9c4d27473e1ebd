package harness

import (
	"encoding/json"
	"testing"
)

func TestLookup(t *testing.T) {
	t.Parallel()
	const body = ` {"id": 12345678901234567890, "token": "t\"1", "none": null, "price": 1.50,
		"items": [ {"id": "a"}, {"id": "b", "tags": [1, {"k": true}]} ], "": "unnamed"}`
	for _, tc := range []struct {
		path string
		want Value
		ok   bool
	}{
		{"id", Value{FormJSON, "12345678901234567890"}, true},
		{"price", Value{FormJSON, "1.50"}, true},
		{"token", Text(`t"1`), true},
		{"none", Value{FormJSON, "null"}, true},
		{"items.1.id", Text("b"), true},
		{"items.1.tags", Value{FormJSON, `[1,{"k":true}]`}, true},
		{"items.1.tags.1.k", Value{FormJSON, "true"}, true},
		{"items.2.id", Value{}, false},
		{"items.-1", Value{}, false},
		{"items.id", Value{}, false},
		{"id.more", Value{}, false},
		{"missing", Value{}, false},
		{"token.", Value{}, false},
	} {
		if got, ok := Lookup([]byte(body), tc.path); got != tc.want || ok != tc.ok {
			t.Errorf("Lookup(body, %q) = %v, %v; want %v, %v", tc.path, got, ok, tc.want, tc.ok)
		}
	}
	for _, body := range []string{"", "{", "<html>", `{"id": 1} x`, `{"id": }`, "[1,"} {
		if got, ok := Lookup([]byte(body), "id"); ok {
			t.Errorf("Lookup(%q, id) = %v, true; want false", body, got)
		}
	}
	if got, ok := Lookup([]byte(` [1, 2] `), ""); !ok || got.Text != "[1,2]" {
		t.Errorf("Lookup of the whole = %v, %v; want [1,2], true", got, ok)
	}
}

func TestLookupInHeaders(t *testing.T) {
	t.Parallel()
	r := Reply{Body: []byte(`{"id": 1, "header": {"Etag": "of the body"}}`), Header: map[string]string{
		"Location": "/v1/orders/a%20b/?x=1", "Etag": "of the header", "Refresh": "/",
	}}
	for _, tc := range []struct {
		path, want string
		ok         bool
	}{
		{"id", "1", true},
		{"header.Etag", "of the body", true},
		{"header.Location", "/v1/orders/a%20b/?x=1", true},
		{"header.Location.last", "a b", true},
		{"header.Refresh.last", "", false},
		{"header.Absent", "", false},
		{"header.Absent.last", "", false},
		{"Location", "", false},
	} {
		if got, ok := r.Lookup(tc.path); got.Text != tc.want || ok != tc.ok {
			t.Errorf("Lookup(%q) = %v, %v; want %q, %v", tc.path, got, ok, tc.want, tc.ok)
		}
	}
}

func TestReferencesInJSON(t *testing.T) {
	t.Parallel()
	replies := map[string]Value{"o1.id": Int(17), "o1.sku": Text(`m"g`), "o2.lines": {FormJSON, `[{"n":1}]`}}
	lookup := func(path string) (Value, bool) { v, ok := replies[path]; return v, ok }
	for _, tc := range []struct {
		text, want string // "" where it cannot be resolved
		labels     int
	}{
		{`[{"id":"{{o1.id}}","sku":"{{o1.sku}}"}]`, `[{"id":17,"sku":"m\"g"}]`, 2},
		{`{"a":"{{o2.lines}}"}`, `{"a":[{"n":1}]}`, 1},
		{`["{{o1.id}}","{{o1.id}}"]`, `[17,17]`, 2},
		{`{"a":"{{o3.id}}"}`, "", 1},
		{`{"{{o1.id}}":1}`, `{"{{o1.id}}":1}`, 0},
		{`{"a":"x{{o1.id}}"}`, `{"a":"x{{o1.id}}"}`, 0},
		{`{"a":",\"{{o1.id}}"}`, `{"a":",\"{{o1.id}}"}`, 0},
	} {
		v := Value{FormJSON, tc.text}
		if n := len(v.References()); n != tc.labels {
			t.Errorf("%s refers %d times, want %d", tc.text, n, tc.labels)
		}
		got, ok := v.Resolve(lookup)
		if ok != (tc.want != "") || ok && got.Text != tc.want {
			t.Errorf("%s resolves to %s, %v; want %s", tc.text, got.Text, ok, tc.want)
		}
		if !json.Valid([]byte(got.Text)) && ok {
			t.Errorf("%s resolves to %s, which is no JSON", tc.text, got.Text)
		}
		if got := v.prefixed("p-"); !json.Valid([]byte(got.Text)) || len(got.References()) != tc.labels {
			t.Errorf("%s with a prefix is %s", tc.text, got.Text)
		}
	}
}

func FuzzLookup(f *testing.F) {
	f.Add([]byte(`{"items": [{"id": 1.0e3}]}`), "items.0.id")
	f.Add([]byte(`[[["deep"]]]`), "0.0.0")
	f.Fuzz(func(t *testing.T, body []byte, path string) {
		v, ok := Lookup(body, path)
		if ok && v.Form == FormJSON && !json.Valid([]byte(v.Text)) {
			t.Errorf("Lookup(%q, %q) = %q, which is not JSON", body, path, v.Text)
		}
	})
}
