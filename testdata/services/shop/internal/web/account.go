package web

import (
	"context"
	"net/http"
	"sync"
	"time"

	"example.com/shop/internal/address"
	"example.com/shop/internal/bugs"
	"example.com/shop/internal/cache"
	"example.com/shop/internal/partial"
	"example.com/shop/internal/store"
)

// glance is how long an overview may take: it shows what is there by then.
const glance = 700 * time.Millisecond

// overview shows a user their cart, orders and journal, all loaded at once. What cannot be
// had is left out, and said to be.
func (s *Server) overview(c call) (int, any, error) {
	ctx, cancel := context.WithTimeout(partial.New(c.Context(), s.bugs), glance)
	defer cancel()
	out := struct {
		User    string            `json:"user"`
		Cart    []store.Line      `json:"cart"`
		Orders  []store.Head      `json:"orders"`
		Journal []cache.Deed      `json:"journal"`
		Missing map[string]string `json:"missing"`
	}{User: c.user}
	var parts sync.WaitGroup
	parts.Go(func() { out.Cart = part(ctx, "cart", c.user, s.store.Cart) })
	parts.Go(func() { out.Orders = part(ctx, "orders", c.user, s.store.Orders) })
	parts.Go(func() { out.Journal = part(ctx, "journal", c.user, s.cache.Journal) })
	parts.Wait()
	out.Missing = partial.Missing(ctx)
	return http.StatusOK, out, nil
}

// part loads a part of an overview, or notes that it is missing.
func part[T any](ctx context.Context, name, user string, load func(context.Context, string) ([]T, error)) []T {
	got, err := load(ctx, user)
	if err != nil {
		partial.Miss(ctx, name, kind(err))
		return nil
	}
	return got
}

// did keeps in the journal what a user has done.
func (s *Server) did(ctx context.Context, user string, d *cache.Deed) {
	s.cacheFailed(s.cache.Keep(ctx, user, *d))
}

// cancelOrder cancels an order that is not paid.
func (s *Server) cancelOrder(c call) (int, any, error) {
	id, err := orderID(c)
	if err != nil {
		return 0, nil, err
	}
	deed := &cache.Deed{Did: "cancelled order " + c.PathValue("order")}
	began := time.Now()
	if s.bugs.Enabled(bugs.DeferGo) {
		defer func() { deed.Took = time.Since(began) }()
	}
	o, err := s.store.Cancel(c.Context(), c.user, id)
	if err != nil {
		return 0, nil, err
	}
	s.forget(c.Context(), o.Lines)
	if s.bugs.Enabled(bugs.DeferGo) { // nobody need wait for the journal
		defer func() { go s.did(c.Context(), c.user, deed) }()
		return http.StatusOK, o, nil
	}
	deed.Took = time.Since(began)
	s.did(c.Context(), c.user, deed)
	return http.StatusOK, o, nil
}

func (s *Server) getReceipt(c call) (int, any, error) {
	id, err := orderID(c)
	if err != nil {
		return 0, nil, err
	}
	text, err := s.printer.Print(c.user, func() (store.Order, error) {
		return s.store.Order(c.Context(), c.user, id)
	})
	return http.StatusOK, map[string]string{"receipt": text}, err
}

func (s *Server) checkAddress(c call) (int, any, error) {
	var in struct{ Country, Postcode string }
	if err := decode(c.Request, &in); err != nil {
		return 0, nil, err
	}
	if err := address.Check(in.Country, in.Postcode, s.bugs); err != nil {
		return 0, nil, invalid("%v", err)
	}
	return http.StatusOK, in, nil
}
