package link

import (
	"slices"
	"sync"
	"time"
)

// mostBurst bounds what may be saved up at a rate, in thousand bytes.
const mostBurst = 1 << 20

// cost is how long n bytes take at the rate: thousand bytes a second are as many bytes a
// millisecond.
func (t *toxic) cost(n int64) time.Duration {
	return time.Duration(n) * time.Millisecond / time.Duration(t.Rate)
}

// credit is for how long bytes are saved up at most.
func (t *toxic) credit() time.Duration { return t.cost(t.Burst * 1000) }

// pay returns up to when the rate has been kept once n more bytes have passed that were ready at
// some time, where it has been kept up to paid until now: that is when they pass, unless they
// are ready only later. What is saved up is the time between paid and ready. That is the
// virtual scheduling of the generic cell rate algorithm (ITU-T I.371).
func (t *toxic) pay(ready, paid time.Time, n int) time.Time {
	return later(ready.Add(-t.credit()), paid).Add(t.cost(int64(n)))
}

// slowed counts n bytes that passed with the rate kept up to then, if they were ready before.
// That of a toxic that saves nothing up is counted when it comes, as by touch: it slows down all.
func (t *toxic) slowed(n int, ready, until time.Time) {
	if t.Burst > 0 && until.After(ready) {
		t.acted.Add(int64(n))
	}
}

// queue lets connections take turns at a rate that they share, each with one piece. Only the first
// in it looks at the clock; it calls the next when it has passed its piece on, or has left.
type queue struct {
	mu      sync.Mutex // guards what follows
	paid    time.Time  // the rate has been kept up to here
	waiting []*pipe
}

// turn returns up to when the rate of all connections has been kept if the pipe passes n bytes
// on that are ready, and whether it is its turn. A pipe that asks stands in the queue until it
// has passed or left.
func (p *pipe) turn(t *toxic, ready time.Time, n int) (until time.Time, first bool) {
	q := &t.lines[p.dir]
	if p.line != q {
		p.leave()
		p.line = q
		q.mu.Lock()
		q.waiting = append(q.waiting, p)
		q.mu.Unlock()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return t.pay(ready, q.paid, n), q.waiting[0] == p
}

// passed takes note that the rate of all connections has been kept up to then, by the first in
// the queue.
func (q *queue) passed(until time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.paid = until
}

// leave gives up the pipe's place in a queue, if it stands in one.
func (p *pipe) leave() {
	q := p.line
	if q == nil {
		return
	}
	p.line = nil
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.Index(q.waiting, p)
	q.waiting = slices.Delete(q.waiting, at, at+1)
	if at == 0 && len(q.waiting) > 0 {
		signal(q.waiting[0].wake)
	}
}
