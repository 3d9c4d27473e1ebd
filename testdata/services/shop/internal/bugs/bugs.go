// Package bugs says which of the planted bugs are switched on. Each is a mistake that
// stands beside the right way to do it; bugs.yaml describes them.
package bugs

import (
	"fmt"
	"slices"
	"strings"
)

// ID names a planted bug.
type ID string

// The planted bugs.
const (
	StatsMap    ID = "stats-map"    // errors are counted in a map without its lock
	NilCache    ID = "nil-cache"    // a cache error is taken for a hit
	CouponParse ID = "coupon-parse" // the last part of a coupon is indexed unchecked
	LockHold    ID = "lock-hold"    // a lock is held across a query that has no deadline
	TimerRace   ID = "timer-race"   // a timer's callback writes without the lock
	TornConfig  ID = "torn-config"  // settings are changed in place while they are read
	CtxLost     ID = "ctx-lost"     // a search goes on without the deadline of who asked for it
	PoolReuse   ID = "pool-reuse"   // a page is used again as an error has left it
	ConnLeak    ID = "conn-leak"    // rows are not closed where not all of them are read
	TimerLeak   ID = "timer-leak"   // whoever waits for a timer is not told that it was stopped
	DeferGo     ID = "defer-go"     // a deferred goroutine outlives its request
	CtxMap      ID = "ctx-map"      // goroutines of a request write to a map in its context
	InitRace    ID = "init-race"    // a package variable is filled at first use, without a lock
)

// All lists the planted bugs.
func All() []ID {
	return []ID{
		StatsMap, NilCache, CouponParse, LockHold, TimerRace, TornConfig,
		CtxLost, PoolReuse, ConnLeak, TimerLeak, DeferGo, CtxMap, InitRace,
	}
}

// Set is a set of bugs that are switched on. The zero value has none.
type Set map[ID]bool

// Parse reads a list such as "stats-map,lock-hold". "all" is all of them.
func Parse(list string) (Set, error) {
	set := Set{}
	for word := range strings.SplitSeq(list, ",") {
		switch id := ID(strings.TrimSpace(word)); {
		case id == "":
		case id == "all":
			for _, id := range All() {
				set[id] = true
			}
		case slices.Contains(All(), id):
			set[id] = true
		default:
			return nil, fmt.Errorf("no bug is called %q; there are: %v", id, All())
		}
	}
	return set, nil
}

// Enabled reports whether a bug is switched on.
func (s Set) Enabled(id ID) bool { return s[id] }
