package link

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
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
	acted atomic.Int64
}

func check(t harness.Toxic) error {
	switch {
	case t.Dir > harness.Down:
		return fmt.Errorf("direction %d is not known", t.Dir)
	case t.Delay < 0 || t.Delay > longest, t.Jitter < 0 || t.Jitter > longest:
		return fmt.Errorf("delay %s with jitter %s: each must be from 0 to %s", t.Delay, t.Jitter, longest)
	case t.CutAfter < 0:
		return fmt.Errorf("a cut after %d bytes: the number must not be negative", t.CutAfter)
	case !touchesBytes(t) && !touchesConns(t):
		return errors.New("the toxic does nothing")
	}
	return nil
}

func touchesBytes(t harness.Toxic) bool { return t.Delay > 0 || t.Jitter > 0 || t.Hold || t.Drop }
func touchesConns(t harness.Toxic) bool { return t.Refuse || t.Reset || t.Cut }

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
	const spread = 0x9e3779b97f4a7c15 // keeps the sequences of neighbouring seeds apart
	rng := rand.New(rand.NewPCG(t.Seed^n*spread, conn<<1|uint64(dir)))
	return max(0, t.Delay-t.Jitter+time.Duration(rng.Int64N(2*int64(t.Jitter)+1)))
}

// rules are the toxics in force, sorted by what they do. They are never changed.
type rules struct {
	refuse []*toxic
	flows  [2]flow // by direction
	drops  bool    // in some direction
}

// flow is what is in force for the bytes of one direction.
type flow struct {
	free                   bool // nothing is
	late, hold, drop, cuts []*toxic
}

func newRules(toxics []*toxic) *rules {
	r := &rules{}
	for d := range r.flows {
		f := &r.flows[d]
		for _, t := range toxics {
			if t.Dir == harness.Up && d == down || t.Dir == harness.Down && d == up {
				continue
			}
			if t.Delay > 0 || t.Jitter > 0 {
				f.late = append(f.late, t)
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
		f.free = len(f.late)+len(f.hold)+len(f.drop)+len(f.cuts) == 0
		r.drops = r.drops || len(f.drop) > 0
	}
	for _, t := range toxics {
		if t.Refuse {
			r.refuse = append(r.refuse, t)
		}
	}
	return r
}

// refuses resets a new connection if the rules say so.
func (r *rules) refuses(c *net.TCPConn) bool {
	for _, t := range r.refuse {
		t.acted.Add(1)
	}
	if len(r.refuse) > 0 {
		reset(c)
	}
	return len(r.refuse) > 0
}

// delay is how much later the chunk is passed on.
func (f *flow) delay(conn uint64, dir int, n uint64) time.Duration {
	var sum time.Duration
	for _, t := range f.late {
		sum += t.delay(conn, dir, n)
	}
	return sum
}

// touch counts the chunk for the toxics that hold it back and have not counted it yet.
func (f *flow) touch(c *chunk) {
	newest := c.touched
	for _, toxics := range [...][]*toxic{f.late, f.hold} {
		for _, t := range toxics {
			if t.id > c.touched {
				t.acted.Add(int64(len(c.bytes)))
			}
			newest = max(newest, t.id)
		}
	}
	c.touched = newest
}
