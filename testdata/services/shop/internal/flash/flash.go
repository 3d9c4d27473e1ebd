// Package flash runs flash sales: one item at a time, for a while.
package flash

import (
	"sync"
	"time"

	"example.com/shop/internal/bugs"
)

// Sale is the flash sale of the shop. The zero value has none on.
type Sale struct {
	Bugs bugs.Set

	mu    sync.Mutex // guards what follows
	sku   string
	round int // counts starts, so that a timer that fires late ends only its own sale
	timer *time.Timer
}

// Start puts an item on sale for a while. A sale that is on ends.
func (s *Sale) Start(sku string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sku = sku
	if s.Bugs.Enabled(bugs.TimerRace) {
		if s.timer == nil {
			s.timer = time.AfterFunc(d, func() { s.sku = "" })
		} else {
			s.timer.Reset(d)
		}
		return
	}
	s.round++
	round := s.round
	if s.timer != nil {
		s.timer.Stop()
	}
	s.timer = time.AfterFunc(d, func() { s.end(round) })
}

// end ends the sale of a round, if it is still on.
func (s *Sale) end(round int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.round == round {
		s.sku = ""
	}
}

// Item returns what is on sale, or "".
func (s *Sale) Item() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sku
}

// Close ends the sale for good.
func (s *Sale) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
}
