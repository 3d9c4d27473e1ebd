// Package receipt writes receipts.
package receipt

import (
	"bytes"
	"fmt"
	"sync"

	"example.com/shop/internal/bugs"
	"example.com/shop/internal/store"
)

// Printer writes receipts. The zero value is ready.
type Printer struct {
	Bugs  bugs.Set
	pages sync.Pool // of *bytes.Buffer: they grow to the size of a receipt once
}

// Print writes the receipt of an order, which it loads, for a user.
func (p *Printer) Print(user string, load func() (store.Order, error)) (string, error) {
	page, ok := p.pages.Get().(*bytes.Buffer)
	if !ok {
		page = new(bytes.Buffer)
	}
	defer p.pages.Put(page)
	if !p.Bugs.Enabled(bugs.PoolReuse) {
		defer page.Reset()
	}

	fmt.Fprintf(page, "Receipt for %s\n\n", user)
	o, err := load()
	if err != nil {
		return "", err
	}
	fmt.Fprintf(page, "Order %d (%s)\n", o.ID, o.Status)
	for _, l := range o.Lines {
		fmt.Fprintf(page, "%5d x %s\n", l.Qty, l.SKU)
	}
	fmt.Fprintf(page, "Total %d.%02d\n", o.Total/100, o.Total%100)
	text := page.String()
	page.Reset()
	return text, nil
}
