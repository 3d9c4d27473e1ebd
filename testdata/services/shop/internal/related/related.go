// Package related finds what is bought together with an item. To find out is dear, and
// nobody waits long for it.
package related

import (
	"context"
	"time"

	"example.com/shop/internal/bugs"
)

const (
	patience = 250 * time.Millisecond // from then on callers do without
	most     = 2                      // who find out at the same time
)

// Finder finds related items.
type Finder struct {
	bugs  bugs.Set
	load  func(ctx context.Context, sku string) ([]string, error)
	slots chan struct{} // whoever loads has put one in
}

// New returns a finder that asks load.
func New(on bugs.Set, load func(ctx context.Context, sku string) ([]string, error)) *Finder {
	return &Finder{bugs: on, load: load, slots: make(chan struct{}, most)}
}

// Get returns the items related to one. None are known where it takes too long.
func (f *Finder) Get(ctx context.Context, sku string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if f.bugs.Enabled(bugs.CtxLost) {
		return f.ask(ctx, sku)
	}
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
	case <-ctx.Done():
		return nil, nil
	}
	skus, err := f.load(ctx, sku)
	if ctx.Err() != nil {
		return nil, nil
	}
	return skus, err
}

// found is what came of a search.
type found struct {
	skus []string
	err  error
}

// ask has somebody else find out, and leaves when it takes too long.
func (f *Finder) ask(ctx context.Context, sku string) ([]string, error) {
	answer := make(chan found)
	go func() {
		f.slots <- struct{}{}
		defer func() { <-f.slots }()
		skus, err := f.load(context.Background(), sku)
		answer <- found{skus, err}
	}()
	select {
	case a := <-answer:
		return a.skus, a.err
	case <-ctx.Done():
		return nil, nil
	}
}
