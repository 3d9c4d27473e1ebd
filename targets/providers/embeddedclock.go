package providers

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alicebob/miniredis/v2"
	miniserver "github.com/alicebob/miniredis/v2/server"

	"github.com/shakedown-go/shakedown/harness"
)

// embeddedClock is the clock of a miniredis. Keys there have no time at which they end but one
// that is left to live, which the clock takes away as it goes on. When it jumps, what is left
// of each becomes less or more by as much: so it is in a real Redis, where it is the
// difference to a time.
type embeddedClock struct {
	m *miniredis.Miniredis

	mu    sync.Mutex    // guards the rest
	last  time.Time     // of the machine, when the keys were looked at
	ahead time.Duration // of the machine's clock
}

// run lets the clock go on until the end.
func (c *embeddedClock) run(end <-chan struct{}) {
	t := time.NewTicker(expireEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			c.tick()
		case <-end:
			return
		}
	}
}

func (c *embeddedClock) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forward()
	if c.ahead != 0 {
		c.m.SetTime(c.last.Add(c.ahead)) // it would stand still
	}
}

// forward lets as much time pass as has. The caller holds mu.
func (c *embeddedClock) forward() {
	now := time.Now()
	c.m.FastForward(now.Sub(c.last))
	c.last = now
}

// jump moves the clock, and returns how many keys end by that.
func (c *embeddedClock) jump(by time.Duration) (ended int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forward()
	for db := range databases {
		for _, key := range c.m.DB(db).Keys() {
			if left := c.m.DB(db).TTL(key); left > 0 && left <= by {
				ended++
			}
		}
	}
	c.m.FastForward(by)
	if c.ahead += by; c.ahead == 0 {
		c.m.SetTime(time.Time{}) // the machine's
	} else {
		c.m.SetTime(c.last.Add(c.ahead))
	}
	return ended
}

// Jump implements harness.Proc. While it is paused nothing ends, as nothing would in a process
// that is stopped: what counts is where the clock is at the end of the pause.
func (e *embedded) Jump(_ context.Context, by time.Duration) (harness.Injection, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var ended, looked atomic.Int64
	before := e.looks.Load()
	looked.Store(-1) // it goes on
	e.jump(by, &ended)
	return harness.Injection{
		Heal: func(context.Context) error {
			e.mu.Lock()
			defer e.mu.Unlock()
			looked.Store(e.looks.Load() - before)
			e.jump(-by, &ended)
			return nil
		},
		Acted: func() int64 {
			n := looked.Load()
			if n < 0 {
				n = e.looks.Load() - before
			}
			return ended.Load() + n
		},
		Unit: redisClockUnit,
	}, nil
}

// jump moves the clock as soon as it goes on, and adds to ended. The caller holds mu.
func (e *embedded) jump(by time.Duration, ended *atomic.Int64) {
	e.ahead += by
	switch {
	case e.close == nil: // it has the clock from its start
	case e.pauses > 0:
		e.late, e.lateEnded = e.late+by, ended
	default:
		ended.Add(e.clock.jump(by))
	}
}

// resumed lets the clock do what it could not while it was paused. The caller holds mu.
func (e *embedded) resumed() {
	if e.late != 0 {
		e.lateEnded.Add(e.clock.jump(e.late))
	}
	e.late = 0
}

// asked is called for each command, those of scripts included.
func (e *embedded) asked(_ *miniserver.Peer, command string, _ ...string) bool {
	if command == "TIME" {
		e.looks.Add(1)
	}
	return false
}
