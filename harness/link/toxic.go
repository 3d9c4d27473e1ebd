package link

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// The directions, as indices.
const (
	up = iota
	down
)

// longest bounds delays, so that their sums cannot overflow.
const longest = time.Hour

// toxic is one that is or was in force.
type toxic struct {
	harness.Toxic
	id    uint64 // later ones have higher ids
	since time.Time
	acted atomic.Int64
	once  sync.Once
	done  chan struct{} // closed when it is no longer in force
}

// end is called when the toxic is no longer in force.
func (t *toxic) end() { t.once.Do(func() { close(t.done) }) }

// spares reports whether the toxic leaves a direction alone.
func (t *toxic) spares(dir int) bool {
	return t.Dir == harness.Up && dir == down || t.Dir == harness.Down && dir == up
}

func check(t harness.Toxic) error {
	switch {
	case t.Dir > harness.Down:
		return fmt.Errorf("direction %d is not known", t.Dir)
	case !(t.Share >= 0 && t.Share <= 1):
		return fmt.Errorf("a share of %v: it must be from 0 to 1", t.Share)
	case t.Delay < 0 || t.Delay > longest, t.Jitter < 0 || t.Jitter > longest:
		return fmt.Errorf("delay %s with jitter %s: each must be from 0 to %s", t.Delay, t.Jitter, longest)
	case t.Rate < 0:
		return fmt.Errorf("%d kB a second: the rate must not be negative", t.Rate)
	case t.Slice < 0 || t.Gap < 0 || t.Gap > longest:
		return fmt.Errorf("pieces of %d bytes, %s apart: neither must be negative, nor the gap above %s", t.Slice, t.Gap, longest)
	case t.Vary < 0 || t.Vary > 0 && t.Vary >= t.Slice:
		return fmt.Errorf("pieces of %d bytes, give or take %d: that must be less, and not negative", t.Slice, t.Vary)
	case t.Age < 0 || t.Age > longest || t.Age > 0 && !t.Reset:
		return fmt.Errorf("connections that are %s old: it must be from 0 to %s, and they must be reset", t.Age, longest)
	case t.Gap > 0 && t.Slice == 0:
		return errors.New("a gap between pieces, but nothing is sliced")
	case t.Linger < 0 || t.Linger > longest, t.Expire < 0 || t.Expire > longest:
		return fmt.Errorf("an end that comes %s later, a close after %s: each must be from 0 to %s", t.Linger, t.Expire, longest)
	case t.Expire > 0 && !t.Drop:
		return errors.New("connections are to be closed where nothing comes, but nothing is dropped")
	case t.CutAfter < 0:
		return fmt.Errorf("a cut after %d bytes: the number must not be negative", t.CutAfter)
	case !touchesBytes(t) && !touchesConns(t):
		return errors.New("the toxic does nothing")
	}
	return nil
}

func touchesBytes(t harness.Toxic) bool { return late(t) || t.Hold || t.Drop }
func touchesConns(t harness.Toxic) bool {
	return t.Refuse || t.Reset || t.Close || t.Cut || t.Linger > 0 || t.Expire > 0
}

// late reports whether the toxic makes bytes pass later or slower.
func late(t harness.Toxic) bool { return t.Delay > 0 || t.Jitter > 0 || t.Rate > 0 || t.Slice > 0 }

// unit names what the toxic counts.
func (t *toxic) unit() string {
	switch {
	case !touchesConns(t.Toxic):
		return "bytes"
	case !touchesBytes(t.Toxic):
		return "connections"
	}
	return "bytes and connections"
}

// delay is how much later the n-th chunk of a connection's direction is passed on. It
// depends on its arguments alone, so that the same traffic is delayed the same way again.
func (t *toxic) delay(conn uint64, dir int, n uint64) time.Duration {
	if t.Jitter == 0 {
		return t.Delay
	}
	return max(0, t.Delay-t.Jitter+time.Duration(t.rng(conn, dir, n).Int64N(2*int64(t.Jitter)+1)))
}

// rng returns the randomness of the n-th of something in a connection's direction.
func (t *toxic) rng(conn uint64, dir int, n uint64) *rand.Rand {
	const spread = 0x9e3779b97f4a7c15 // keeps the sequences of neighbouring seeds apart
	return rand.New(rand.NewPCG(t.Seed^n*spread, conn<<1|uint64(dir)))
}

// hits reports whether the toxic is for a connection.
func (t *toxic) hits(conn uint64) bool {
	const verdict = 1 << 63 // no chunk has this ordinal
	return t.Share == 0 || t.Share == 1 || t.rng(conn, up, verdict).Float64() < t.Share
}

// rules are the toxics in force, sorted by what they do. They are never changed.
type rules struct {
	toxics []*toxic
	refuse []*toxic
	flows  [2]flow // by direction
	drops  bool    // in some direction
	shared bool    // some are for a part of the connections
	of     *rules  // those of the link, where these are a connection's
}

// flow is what is in force for the bytes of one direction.
type flow struct {
	free                   bool // nothing is
	late, hold, drop, cuts []*toxic
	linger                 []*toxic      // on the ends of streams
	rate                   int64         // the least of the toxics'; 0 where none has one
	slice                  *toxic        // that with the smallest pieces
	gap                    time.Duration // the longest of the toxics'
}

func newRules(toxics []*toxic) *rules {
	r := &rules{toxics: toxics}
	for _, t := range toxics {
		r.shared = r.shared || t.Share > 0 && t.Share < 1
	}
	for d := range r.flows {
		f := &r.flows[d]
		for _, t := range toxics {
			if t.spares(d) {
				continue
			}
			if late(t.Toxic) {
				f.late = append(f.late, t)
			}
			if t.Linger > 0 {
				f.linger = append(f.linger, t)
			}
			f.rate, f.gap = least(f.rate, t.Rate), max(f.gap, t.Gap)
			if t.Slice > 0 && (f.slice == nil || t.Slice < f.slice.Slice) {
				f.slice = t
			}
			if t.Hold {
				f.hold = append(f.hold, t)
			}
			if t.Drop {
				f.drop = append(f.drop, t)
			}
			if t.Cut {
				f.cuts = append(f.cuts, t)
			}
		}
		f.free = len(f.late)+len(f.hold)+len(f.drop)+len(f.cuts)+len(f.linger) == 0
		r.drops = r.drops || len(f.drop) > 0
	}
	for _, t := range toxics {
		if t.Refuse {
			r.refuse = append(r.refuse, t)
		}
	}
	return r
}

// refuses resets a new connection if the rules say so. Nth is which one it would be.
func (r *rules) refuses(c *net.TCPConn, nth uint64) bool {
	refused := false
	for _, t := range r.refuse {
		if t.hits(nth) {
			t.acted.Add(1)
			refused = true
		}
	}
	if refused {
		reset(c)
	}
	return refused
}

// least returns the smaller of two numbers of which 0 is none.
func least[T int64 | time.Duration](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// delay is how much later the chunk is passed on.
func (f *flow) delay(conn uint64, dir int, c chunk) time.Duration {
	var sum time.Duration
	for _, t := range f.late {
		sum += t.delay(conn, dir, c.n)
	}
	if c.end != nil {
		for _, t := range f.linger {
			sum += t.Linger
		}
	}
	return sum
}

// grain is for how long a bounded rate lets bytes pass at once.
const grain = 20 * time.Millisecond

// piece is how many bytes of a chunk, or of what is left of it, pass at once.
func (f *flow) piece(conn uint64, dir int, c chunk) int {
	n := len(c.bytes)
	most := int64(n)
	if t := f.slice; t != nil {
		size := t.Slice
		if t.Vary > 0 { // as long as nothing passes, it is the same
			size += t.rng(conn, dir, c.n<<32|uint64(n)).Int64N(2*t.Vary+1) - t.Vary
		}
		most = min(most, size)
	}
	if f.rate > 0 && f.rate < int64(n) { // so that the product is small
		most = min(most, f.rate*int64(grain/time.Millisecond))
	}
	return int(most)
}

// cost is how long n bytes take at the rate: thousand bytes a second are as many bytes a
// millisecond.
func (f *flow) cost(n int) time.Duration {
	if f.rate == 0 {
		return 0
	}
	return time.Duration(n) * time.Millisecond / time.Duration(f.rate)
}

// passesWhole reports whether the toxic would only slice, and the chunk is one piece anyhow.
func (t *toxic) passesWhole(c *chunk) bool {
	return t.Delay == 0 && t.Jitter == 0 && t.Rate == 0 && !t.Hold && int64(len(c.bytes)) <= t.Slice-t.Vary
}

// touch counts the chunk for the toxics that hold it back and have not counted it yet: its
// bytes, and for those that linger its end.
func (f *flow) touch(c *chunk) {
	newest := c.touched
	for _, toxics := range [...][]*toxic{f.late, f.hold} {
		for _, t := range toxics {
			if t.id > c.touched && !t.passesWhole(c) {
				t.acted.Add(int64(len(c.bytes)))
			}
			newest = max(newest, t.id)
		}
	}
	for _, t := range f.linger {
		if t.id > c.touched && c.end != nil {
			t.acted.Add(1)
		}
		newest = max(newest, t.id)
	}
	c.touched = newest
}
