// Package stats counts what the service did, for GET /stats.
package stats

import (
	"maps"
	"sync"
	"sync/atomic"

	"example.com/shop/internal/bugs"
)

// Stats counts requests, and failures of dependencies by kind.
type Stats struct {
	bugs     bugs.Set
	requests atomic.Int64
	slow     atomic.Int64

	mu       sync.Mutex // guards failures
	failures map[string]int
}

// New returns counters that stand at zero.
func New(on bugs.Set) *Stats {
	return &Stats{bugs: on, failures: map[string]int{}}
}

// Request counts a request.
func (s *Stats) Request() { s.requests.Add(1) }

// Slow counts a payment that takes long.
func (s *Stats) Slow() { s.slow.Add(1) }

// Failure counts a failure of a dependency.
func (s *Stats) Failure(kind string) {
	if s.bugs.Enabled(bugs.StatsMap) {
		s.failures[kind]++
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures[kind]++
}

// Snapshot is what was counted so far.
type Snapshot struct {
	Requests int64          `json:"requests"`
	Slow     int64          `json:"slow"` // payments that took long
	Failures map[string]int `json:"failures"`
}

// Snapshot returns what was counted so far.
func (s *Stats) Snapshot() Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Snapshot{Requests: s.requests.Load(), Slow: s.slow.Load(), Failures: maps.Clone(s.failures)}
}
