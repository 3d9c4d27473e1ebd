package web

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"time"

	"example.com/shop/internal/bugs"
	"example.com/shop/internal/cache"
	"example.com/shop/internal/coupon"
	"example.com/shop/internal/settings"
	"example.com/shop/internal/store"
)

var skuForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// shown is an item as callers see it: a bundle with its parts.
type shown struct {
	store.Item
	Parts []store.Part `json:"parts,omitempty"`
}

// listItems returns the items, and what is shown above them.
func (s *Server) listItems(c call) (int, any, error) {
	items, err := s.store.Items(c.Context())
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, struct {
		settings.Settings
		Items []store.Item `json:"items"`
	}{s.settings.Get(), items}, nil
}

func (s *Server) getItem(c call) (int, any, error) {
	sku := c.PathValue("item")
	if !skuForm.MatchString(sku) {
		return 0, nil, store.ErrNotFound
	}
	item, err := s.item(c.Context(), sku)
	if err != nil {
		return 0, nil, err
	}
	out := shown{Item: *item}
	if item.Kind == "bundle" {
		out.Parts, err = s.parts(c.Context(), sku)
	}
	return http.StatusOK, out, err
}

// item reads through the cache. That there is no such item is kept too, so that asking
// for nonsense does not reach the database each time.
func (s *Server) item(ctx context.Context, sku string) (*store.Item, error) {
	entry, err := s.cache.Item(ctx, sku)
	switch {
	case err == nil && entry.Absent:
		return nil, store.ErrNotFound
	case err == nil && entry.Item != nil:
		return entry.Item, nil
	}
	missed := errors.Is(err, cache.ErrMiss)
	if !missed {
		s.cacheFailed(err)
	}
	item, err := s.store.Item(ctx, sku)
	if missed && (err == nil || errors.Is(err, store.ErrNotFound)) {
		s.cacheFailed(s.cache.PutItem(ctx, sku, item))
	}
	return item, err
}

// parts reads the parts of a bundle through the cache.
func (s *Server) parts(ctx context.Context, sku string) ([]store.Part, error) {
	bundle, err := s.cache.Bundle(ctx, sku)
	missed := errors.Is(err, cache.ErrMiss)
	hit := err == nil
	if s.bugs.Enabled(bugs.NilCache) {
		hit = !missed
	}
	if hit {
		return bundle.Parts, nil
	}
	if !missed {
		s.cacheFailed(err)
	}
	parts, err := s.store.Parts(ctx, sku)
	if err == nil && missed {
		s.cacheFailed(s.cache.PutBundle(ctx, sku, &cache.Bundle{Parts: parts}))
	}
	return parts, err
}

// relatedItems returns what is bought together with an item, as far as that is known soon.
func (s *Server) relatedItems(c call) (int, any, error) {
	sku := c.PathValue("item")
	if !skuForm.MatchString(sku) {
		return 0, nil, store.ErrNotFound
	}
	skus, err := s.related.Get(c.Context(), sku)
	return http.StatusOK, map[string]any{"related": skus}, err
}

// search finds items by a word of their names.
func (s *Server) search(c call) (int, any, error) {
	word := c.URL.Query().Get("q")
	if word == "" || len(word) > 40 {
		return 0, nil, invalid("what is searched for has 1 to 40 characters")
	}
	items, err := s.store.Search(c.Context(), word)
	return http.StatusOK, map[string]any{"items": items}, err
}

func (s *Server) checkCoupon(c call) (int, any, error) {
	var in struct{ Code string }
	if err := decode(c.Request, &in); err != nil {
		return 0, nil, err
	}
	percent, err := s.discount(c.Context(), in.Code)
	return http.StatusOK, map[string]int{"percent": percent}, err
}

// discount returns how many percent a coupon takes off.
func (s *Server) discount(ctx context.Context, code string) (int, error) {
	got, err := coupon.Parse(code, s.bugs)
	if err != nil {
		return 0, invalid("%v", err)
	}
	most, err := s.store.MaxPercent(ctx, got.Campaign)
	if errors.Is(err, store.ErrNotFound) {
		return 0, invalid("no such campaign")
	}
	return min(got.Percent, most), err
}

func (s *Server) startFlash(c call) (int, any, error) {
	var in struct {
		SKU string
		MS  int
	}
	if err := decode(c.Request, &in); err != nil {
		return 0, nil, err
	}
	if !skuForm.MatchString(in.SKU) || in.MS < 1 || in.MS > 60_000 {
		return 0, nil, invalid("a flash sale is of an item, for 1 to 60000 ms")
	}
	s.sale.Start(in.SKU, time.Duration(in.MS)*time.Millisecond)
	return http.StatusAccepted, map[string]string{"sku": in.SKU}, nil
}

func (s *Server) getFlash(call) (int, any, error) {
	return http.StatusOK, map[string]string{"sku": s.sale.Item()}, nil
}

func (s *Server) getSettings(call) (int, any, error) {
	return http.StatusOK, s.settings.Get(), nil
}

func (s *Server) putSettings(c call) (int, any, error) {
	var in settings.Settings
	if err := decode(c.Request, &in); err != nil {
		return 0, nil, err
	}
	if len(in.Banner) > 200 || len(in.Currencies) == 0 || len(in.Currencies) > 10 || in.FreeFrom < 0 {
		return 0, nil, invalid("settings out of range")
	}
	s.settings.Set(in)
	return http.StatusOK, in, nil
}

func (s *Server) getStats(call) (int, any, error) {
	return http.StatusOK, s.stats.Snapshot(), nil
}

func (s *Server) stockReport(c call) (int, any, error) {
	levels, err := s.report.Get(c.Context())
	return http.StatusOK, map[string]any{"levels": levels}, err
}
