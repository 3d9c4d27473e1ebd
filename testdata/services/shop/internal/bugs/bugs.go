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
)

// All lists the planted bugs.
func All() []ID {
	return []ID{StatsMap, NilCache, CouponParse, LockHold, TimerRace, TornConfig}
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
