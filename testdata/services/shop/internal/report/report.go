// Package report makes the stock report, which is dear to make and may be a little old.
package report

import (
	"context"
	"sync"
	"time"

	"example.com/shop/internal/bugs"
	"example.com/shop/internal/store"
)

// fresh is how old a report may be.
const fresh = 50 * time.Millisecond

// Stock makes stock reports.
type Stock struct {
	Bugs bugs.Set
	Load func(context.Context) ([]store.Level, error)

	mu   sync.Mutex // guards what follows
	last []store.Level
	made time.Time
}

// Get returns a report that is fresh enough.
func (s *Stock) Get(ctx context.Context) ([]store.Level, error) {
	if s.Bugs.Enabled(bugs.LockHold) {
		return s.getLocked()
	}
	s.mu.Lock()
	last, made := s.last, s.made
	s.mu.Unlock()
	if time.Since(made) < fresh {
		return last, nil
	}
	// Two may load at once. That is cheaper than to have all wait for a slow one.
	levels, err := s.Load(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.last, s.made = levels, time.Now()
	s.mu.Unlock()
	return levels, nil
}

// getLocked loads a report once for all who ask at the same time.
func (s *Stock) getLocked() ([]store.Level, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.made) < fresh {
		return s.last, nil
	}
	levels, err := s.Load(context.Background()) // the report outlives the request
	if err != nil {
		return nil, err
	}
	s.last, s.made = levels, time.Now()
	return levels, nil
}
