// Package settings holds what an administrator can change while the shop is open.
package settings

import (
	"slices"
	"sync/atomic"

	"example.com/shop/internal/bugs"
)

// Settings are read by every request that shows a price.
type Settings struct {
	Banner     string   `json:"banner"`
	Currencies []string `json:"currencies"`
	FreeFrom   int      `json:"free_from"` // in cents: shipping is free from here
}

// Holder holds the settings in force. What it hands out is never changed.
type Holder struct {
	bugs bugs.Set
	now  atomic.Pointer[Settings]
}

// New returns a holder of the settings that a shop opens with.
func New(on bugs.Set) *Holder {
	h := &Holder{bugs: on}
	h.now.Store(&Settings{Banner: "welcome", Currencies: []string{"EUR", "USD"}, FreeFrom: 5000})
	return h
}

// Get returns the settings in force.
func (h *Holder) Get() Settings { return *h.now.Load() }

// Set puts settings in force.
func (h *Holder) Set(s Settings) {
	s.Currencies = slices.Clone(s.Currencies)
	if h.bugs.Enabled(bugs.TornConfig) {
		now := h.now.Load()
		now.Banner = s.Banner
		now.Currencies = s.Currencies
		now.FreeFrom = s.FreeFrom
		return
	}
	h.now.Store(&s)
}
