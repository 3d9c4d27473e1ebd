// Package views counts how often topics are looked at. The counts are gathered in memory
// and written now and then; they are estimates, and what cannot be written waits.
package views

import (
	"context"
	"sync"
	"time"
)

const (
	every = 250 * time.Millisecond
	limit = 600 * time.Millisecond // of one write
	most  = 10_000                 // topics that wait; views of others are not counted
)

// Counter gathers views. The first one starts what writes them, and Close ends that.
type Counter struct {
	Write func(ctx context.Context, views map[string]int64) error

	once   sync.Once
	ending chan struct{} // nil until something was started
	ended  chan struct{}

	mu    sync.Mutex // guards waits
	waits map[string]int64
}

// Add counts a view of a topic.
func (c *Counter) Add(topic string) {
	c.once.Do(func() {
		c.ending, c.ended = make(chan struct{}), make(chan struct{})
		go c.flush(c.ending, c.ended)
	})
	c.add(topic, 1)
}

func (c *Counter) add(topic string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waits == nil {
		c.waits = map[string]int64{}
	}
	if _, known := c.waits[topic]; known || len(c.waits) < most {
		c.waits[topic] += n
	}
}

// Close writes what waits and ends the writing. Nothing may be added any more.
func (c *Counter) Close() {
	c.once.Do(func() {}) // nothing was ever added: nothing is started any more
	if c.ending == nil {
		return
	}
	close(c.ending)
	<-c.ended
}

func (c *Counter) flush(ending <-chan struct{}, ended chan<- struct{}) {
	defer close(ended)
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			c.write()
		case <-ending:
			c.write()
			return
		}
	}
}

// write writes what waits. Where that fails it waits again.
func (c *Counter) write() {
	c.mu.Lock()
	batch := c.waits
	c.waits = nil
	c.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if c.Write(ctx, batch) != nil {
		for topic, n := range batch {
			c.add(topic, n)
		}
	}
}
