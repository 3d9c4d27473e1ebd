// Package hub hands messages to the readers of their topics. Nobody waits for a slow
// reader: what it has not taken is kept in a ring, and one whose ring is full is dropped.
package hub

import (
	"errors"
	"sync"
)

// Why a reader gets nothing more.
var (
	ErrSlow   = errors.New("the reader was too slow")
	ErrClosed = errors.New("the hub is closed")
	ErrFull   = errors.New("there are too many readers")
)

// Message is something that was said about a topic.
type Message struct {
	ID     string `json:"id"`
	Author string `json:"author"`
	Text   string `json:"text"`
}

// Hub has the readers of all topics.
type Hub struct {
	most, ring int

	mu      sync.Mutex // guards the rest
	topics  map[string]map[*Reader]struct{}
	readers int
	dropped int
	closed  bool
}

// New returns a hub for so many readers, each with a ring of so many messages.
func New(most, ring int) *Hub {
	return &Hub{most: most, ring: ring, topics: map[string]map[*Reader]struct{}{}}
}

// Reader is one who listens to a topic. Leave ends that.
type Reader struct {
	hub   *Hub
	topic string
	wake  chan struct{} // holds one when there is something to take

	mu   sync.Mutex // guards the rest
	buf  []Message
	head int // of the oldest
	n    int
	err  error // why there will be no more
}

// Join adds a reader to a topic.
func (h *Hub) Join(topic string) (*Reader, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closed:
		return nil, ErrClosed
	case h.readers >= h.most:
		return nil, ErrFull
	}
	r := &Reader{hub: h, topic: topic, wake: make(chan struct{}, 1), buf: make([]Message, h.ring)}
	if h.topics[topic] == nil {
		h.topics[topic] = map[*Reader]struct{}{}
	}
	h.topics[topic][r] = struct{}{}
	h.readers++
	return r, nil
}

// Leave takes the reader out; it may have been dropped before.
func (r *Reader) Leave() {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	r.hub.remove(r)
}

// remove takes a reader out of the books. The caller holds mu.
func (h *Hub) remove(r *Reader) {
	of := h.topics[r.topic]
	if _, there := of[r]; !there {
		return
	}
	delete(of, r)
	h.readers--
	if len(of) == 0 {
		delete(h.topics, r.topic)
	}
}

// Publish hands a message to the readers of a topic.
func (h *Hub) Publish(topic string, m Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range h.topics[topic] {
		if !r.push(m) {
			h.remove(r)
			h.dropped++
		}
	}
}

// Readers returns how many readers there are, and how many were dropped.
func (h *Hub) Readers() (now, dropped int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.readers, h.dropped
}

// Close tells all readers that there will be no more.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, of := range h.topics {
		for r := range of {
			r.end(ErrClosed)
			h.remove(r)
		}
	}
}

// push adds a message, or ends a reader who has no room for it.
func (r *Reader) push(m Message) bool {
	r.mu.Lock()
	full := r.n == len(r.buf)
	if !full {
		r.buf[(r.head+r.n)%len(r.buf)] = m
		r.n++
	}
	r.mu.Unlock()
	if full {
		r.end(ErrSlow)
		return false
	}
	r.signal()
	return true
}

func (r *Reader) end(err error) {
	r.mu.Lock()
	if r.err == nil {
		r.err = err
	}
	r.mu.Unlock()
	r.signal()
}

func (r *Reader) signal() {
	select {
	case r.wake <- struct{}{}:
	default: // it knows already
	}
}

// Wake says that there is something to take.
func (r *Reader) Wake() <-chan struct{} { return r.wake }

// Take returns what has come since. An error says that nothing will come behind it.
func (r *Reader) Take() ([]Message, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Message, 0, r.n)
	for ; r.n > 0; r.n-- {
		out = append(out, r.buf[r.head])
		r.buf[r.head] = Message{}
		r.head = (r.head + 1) % len(r.buf)
	}
	return out, r.err
}
