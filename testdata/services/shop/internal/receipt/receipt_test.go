package receipt

import (
	"errors"
	"testing"

	"example.com/shop/internal/store"
)

func TestReceiptsHoldNothingOfOthers(t *testing.T) {
	t.Parallel()
	p := new(Printer)
	down := errors.New("down")
	const want = "Receipt for ann\n\nOrder 7 (paid)\n    2 x mug\nTotal 18.05\n"
	for range 20 {
		if text, err := p.Print("bob", func() (store.Order, error) { return store.Order{}, down }); text != "" || !errors.Is(err, down) {
			t.Errorf("Print = %q, %v", text, err)
		}
		text, err := p.Print("ann", func() (store.Order, error) {
			return store.Order{ID: 7, Total: 1805, Status: "paid", Lines: []store.Line{{SKU: "mug", Qty: 2}}}, nil
		})
		if text != want || err != nil {
			t.Fatalf("Print = %q, %v; want %q", text, err, want)
		}
	}
}
