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
