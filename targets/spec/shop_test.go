package spec

import (
	"maps"
	"slices"
	"testing"

	"github.com/shakedown-go/shakedown/targets/openapi"
)

// TestBothDescriptionsSayTheSame holds the sample service's OpenAPI document against its
// shakedown.yaml: everything that one can ask, the other can, as the same caller.
func TestBothDescriptionsSayTheSame(t *testing.T) {
	t.Parallel()
	byHand, err := Load("../../testdata/services/shop")
	if err != nil {
		t.Fatal(err)
	}
	read, err := Load("../../testdata/services/shop/shakedown.openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi.Read("../../testdata/services/shop/openapi.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(byHand.API.Ops)) {
		want, got := byHand.API.Ops[name], read.API.Ops[name]
		if got == nil {
			t.Errorf("the document has no %s, %s", name, want.Request)
			continue
		}
		if got.Request != want.Request || got.Changes() != want.Changes() {
			t.Errorf("%s is %s (changes %v), want %s (%v)", name, got.Request, got.Changes(), want.Request, want.Changes())
		}
		if got.Private != want.Private {
			t.Errorf("%s is private: %v, want %v", name, got.Private, want.Private)
		}
		if want.Private && len(got.Auth) == 0 {
			t.Errorf("%s is private, and the document lets anybody in", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(read.API.Ops)) {
		if byHand.API.Ops[name] == nil {
			t.Errorf("shakedown.yaml has no %s, %s", name, read.API.Ops[name].Request)
		}
	}
	if l := read.API.Login; l == nil || *l != *byHand.API.Login {
		t.Errorf("login %+v, want %+v", l, byHand.API.Login)
	}
	if len(read.Notes) > 0 {
		t.Errorf("notes: %q", read.Notes)
	}
	for _, name := range []string{"get_order", "get_receipt", "pay_order", "cancel_order"} {
		o := read.API.Ops[name]
		if o == nil || o.Params["path.order"] == nil {
			t.Errorf("%s takes no order", name)
			continue
		}
		if from := o.Params["path.order"].From; !slices.Equal(from, []string{"create_order.id"}) {
			t.Errorf("the order of %s comes from %v", name, from)
		}
	}
	for _, d := range doc.Ops {
		o := read.API.Ops[d.Name]
		if o == nil { // it is left out
			continue
		}
		if carries, asks := len(o.Auth) > 0, len(d.Security) > 0; carries != asks {
			t.Errorf("%s carries a token: %v, the document asks for one: %v", d.Name, carries, asks)
		}
	}
}
