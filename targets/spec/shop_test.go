package spec

import (
	"maps"
	"slices"
	"testing"
)

// TestBothDescriptionsSayTheSame holds the sample service's OpenAPI document against its
// shakedown.yaml: everything that one can ask, the other can.
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
	for _, name := range slices.Sorted(maps.Keys(byHand.API.Ops)) {
		want, got := byHand.API.Ops[name], read.API.Ops[name]
		if got == nil {
			t.Errorf("the document has no %s, %s", name, want.Request)
			continue
		}
		if got.Request != want.Request || got.Changes() != want.Changes() {
			t.Errorf("%s is %s (changes %v), want %s (%v)", name, got.Request, got.Changes(), want.Request, want.Changes())
		}
	}
	if l := read.API.Login; l == nil || *l != *byHand.API.Login {
		t.Errorf("login %+v, want %+v", l, byHand.API.Login)
	}
	if len(read.Notes) > 0 {
		t.Errorf("notes: %q", read.Notes)
	}
	if order := read.API.Ops["pay_order"].Params["path.order"]; !slices.Equal(order.From, []string{"create_order.id"}) {
		t.Errorf("what is paid comes from %v", order.From)
	}
	for name, o := range read.API.Ops {
		asks := name == "me" || name == "get_cart" || name == "put_cart" || name == "create_order" || name == "get_order" ||
			name == "pay_order" || name == "stock_report" || name == "start_flash" || name == "put_settings"
		if carries := len(o.Auth) > 0; carries != asks {
			t.Errorf("%s carries a token: %v, want %v", name, carries, asks)
		}
	}
}
