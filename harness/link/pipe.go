package link

import (
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

const (
	bufferSize = 32 << 10
	// maxQueued bounds the bytes that one direction of a connection holds back, with
	// what it takes to keep them; beyond it the sender is no longer read from.
	maxQueued = 4 << 20
	overhead  = 128 // of a chunk, in bytes
)

var errCut = errors.New("cut")

// pipe copies one direction of a connection. While its flow is free, one goroutine reads
// and writes. Else that one queues what it reads, and a second one drains the queue.
type pipe struct {
	conn     *conn
	dir      int
	src, dst *net.TCPConn
	wake     chan struct{} // the rules have changed
	room     chan struct{} // the queue has become shorter
	draining atomic.Bool   // the queue's goroutine runs; changed only under mu
	drains   sync.WaitGroup
	finished atomic.Bool      // the end of the stream has been passed on in good order: nothing more can be
	endLost  bool             // the end of the stream was dropped
	cut      map[*toxic]int64 // bytes passed on under each toxic that cuts
	last     *flow            // under which the queue was drained last
	since    time.Time        // nothing is saved up at a rate from before
	paid     time.Time        // the rate has been kept up to here
	line     *queue           // where it waits for its turn; nil for nowhere
	sliced   time.Time        // the latest piece was passed on then
	came     atomic.Int64     // bytes read
	sentOn   uint64           // bytes passed on
	ended    atomic.Bool      // by who sends
	lost     atomic.Bool      // some of its bytes, or its end, were dropped
	lostAt   atomic.Int64     // when something was dropped last, in nanoseconds since the epoch

	mu     sync.Mutex // guards what follows
	queue  []chunk
	queued int    // bytes of the queue, with overhead
	count  uint64 // chunks queued so far
	sent   uint64 // ... and the segments that they came in
	broken bool   // dst takes nothing more
}

// chunk is what one read returned: some bytes, or how the stream ended.
type chunk struct {
	bytes   []byte
	end     error // io.EOF where the sender has closed its side
	at      time.Time
	n       uint64 // ordinal in its direction
	size    int    // how many bytes there were
	segment uint64 // ordinal of the first segment
	touched uint64 // id of the newest toxic that has counted it
}

func (p *pipe) init(c *conn, dir int) {
	p.conn, p.dir = c, dir
	p.wake, p.room = make(chan struct{}, 1), make(chan struct{}, 1)
}

// flow is what is in force now.
func (p *pipe) flow() *flow { return &p.conn.rules().flows[p.dir] }

// run copies until the stream has ended and its end was passed on.
func (p *pipe) run() {
	buf := p.conn.link.buffers.Get().(*[bufferSize]byte)
	defer p.conn.link.buffers.Put(buf)
	for more := true; more; {
		n, err := p.src.Read(buf[:])
		p.came.Add(int64(n))
		if n > 0 {
			more = p.take(buf[:n], nil)
		}
		if err != nil {
			if more && !errors.Is(err, os.ErrDeadlineExceeded) { // that is how pop and abort say stop
				p.conn.ends(p.dir)
				p.take(nil, err)
			}
			more = false
		}
	}
	p.drains.Wait()
	if p.endLost {
		<-p.conn.ctx.Done() // the heal resets the connection
	}
}

// take handles what was read, and reports whether more can follow.
func (p *pipe) take(b []byte, end error) bool {
	f := p.flow()
	switch {
	case f.free && !p.draining.Load():
		return p.pass(f, b, end) == nil
	case len(f.drop) > 0:
		p.lose(f, b, end)
		return true
	}
	return p.enqueue(b, end)
}

// enqueue appends a copy of what was read to the queue, when it has room.
func (p *pipe) enqueue(b []byte, end error) bool {
	c := chunk{bytes: slices.Clone(b), end: end, at: time.Now(), size: len(b)}
	p.mu.Lock()
	for p.queued >= maxQueued && !p.broken {
		p.mu.Unlock()
		select {
		case <-p.room:
		case <-p.conn.ctx.Done():
			return false
		}
		p.mu.Lock()
	}
	defer p.mu.Unlock()
	if p.broken {
		return false
	}
	p.count++
	c.n, c.segment = p.count, p.sent
	p.sent += uint64(len(b)+harness.SegmentSize-1) / harness.SegmentSize
	p.flow().touch(p, &c) // under mu: drain touches what is queued when the rules change
	p.queue = append(p.queue, c)
	p.queued += len(b) + overhead
	if !p.draining.Load() {
		p.draining.Store(true)
		p.drains.Go(p.drain)
	}
	return true
}

// drain passes on what is queued, each chunk when its time has come and in the pieces that
// the rules want, until the queue is empty. The rules are consulted anew for each piece, and
// whenever they change.
func (p *pipe) drain() {
	timer := time.NewTimer(longest)
	defer timer.Stop()
	for {
		f, c, some := p.head()
		if !some {
			return
		}
		var err error
		n, now := f.piece(p.conn.id, p.dir, c), time.Now()
		s := p.plan(f, c, n, now)
		wait := s.due.Sub(now)
		switch {
		case len(f.drop) > 0:
			n = len(c.bytes)
			p.lose(f, c.bytes, c.end)
		case len(f.hold) > 0 || s.queues || wait > 0:
			var come <-chan time.Time
			if len(f.hold) == 0 && !s.queues {
				timer.Reset(wait)
				come = timer.C
			}
			select {
			case <-come:
				continue
			case <-p.wake:
				continue
			case <-p.conn.ctx.Done():
				p.leave()
				err = net.ErrClosed
			}
		default:
			p.keep(f, s, n)
			err = p.pass(f, c.bytes[:n], c.end)
			if took := time.Since(now); took > grain { // who does not read saves nothing up
				p.since = now.Add(took)
			}
		}
		p.pop(n, err)
	}
}

// plan is when a piece of the oldest chunk, or its end, is passed on.
type plan struct {
	ready  time.Time // no delay holds it back any more
	own    time.Time // up to here the connection's rate has been kept then
	turn   time.Time // nothing holds it back any more but the rate of all connections
	joint  time.Time // up to here that one has been kept then
	due    time.Time // all of it; but where it queues it is due when its turn has come
	queues bool
}

// plan plans the next n bytes. A rate is kept from when a chunk may pass at the earliest, a gap
// from the piece before.
func (p *pipe) plan(f *flow, c chunk, n int, now time.Time) plan {
	s := plan{ready: later(c.at.Add(f.delay(p.conn.id, p.dir, c)), p.since)}
	s.turn = s.ready
	if f.own != nil {
		s.own = f.own.pay(s.ready, p.paid, n)
		s.turn = later(s.turn, s.own)
	}
	if f.gap > 0 {
		s.turn = later(s.turn, p.sliced.Add(f.gap))
	}
	s.due = s.turn
	if f.joint == nil || len(f.hold)+len(f.drop) > 0 || now.Before(s.turn) {
		p.leave()
		return s
	}
	var first bool
	s.joint, first = p.turn(f.joint, s.turn, n)
	s.due, s.queues = later(s.turn, s.joint), !first
	return s
}

// keep takes note that n bytes pass as planned, and calls the next whose turn it is.
func (p *pipe) keep(f *flow, s plan, n int) {
	if f.own != nil {
		f.own.slowed(n, s.ready, s.own)
		p.paid = later(s.own, s.due.Add(-f.own.credit()))
	}
	if f.joint != nil {
		f.joint.slowed(n, s.turn, s.joint)
		p.line.passed(s.joint)
		p.leave()
	}
	if f.slice != nil {
		p.sliced = time.Now()
	}
}

// head returns the oldest chunk with what is in force for it. Without one it takes note
// that the draining ends.
func (p *pipe) head() (f *flow, c chunk, some bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f = p.flow(); f != p.last {
		for i := range p.queue {
			f.touch(p, &p.queue[i])
		}
		maps.DeleteFunc(p.cut, func(t *toxic, _ int64) bool { return !slices.Contains(f.cuts, t) })
		p.last, p.since = f, time.Now()
	}
	if len(p.queue) == 0 {
		p.queue = nil
		p.draining.Store(false)
		return f, c, false
	}
	return f, p.queue[0], true
}

// pop removes n bytes of the oldest chunk, and the chunk where that is all of it. Where dst
// has failed the rest goes too, and the reader is told to stop.
func (p *pipe) pop(n int, failed error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := &p.queue[0]; n < len(c.bytes) {
		p.queued -= n
		c.bytes = c.bytes[n:]
	} else {
		p.queued -= n + overhead
		*c = chunk{}
		p.queue = p.queue[1:]
	}
	if failed != nil {
		p.queue, p.queued, p.broken = nil, 0, true
		p.src.SetReadDeadline(past)
	}
	signal(p.room)
}

// pass hands bytes, or the end of the stream, on to dst.
func (p *pipe) pass(f *flow, b []byte, end error) error {
	switch {
	case end == io.EOF:
		if p.finished.CompareAndSwap(false, true) {
			p.dst.CloseWrite() // an error says that dst is gone: it has been told
		}
		return nil
	case end != nil:
		p.conn.abort(nil)
		return end
	case p.finished.Load():
		p.loses()
		return nil
	case len(f.cuts) > 0:
		return p.passCut(f, b)
	}
	return p.write(b)
}

// passCut passes on what the toxics that cut let through, and cuts in place of the first
// byte that they do not.
func (p *pipe) passCut(f *flow, b []byte) error {
	var by *toxic
	for _, t := range f.cuts {
		if left := t.CutAfter - p.cut[t]; left < int64(len(b)) {
			b, by = b[:left], t
		}
	}
	if p.cut == nil {
		p.cut = map[*toxic]int64{}
	}
	for _, t := range f.cuts {
		p.cut[t] += int64(len(b))
	}
	err := p.write(b)
	if by == nil {
		return err
	}
	p.conn.stop(by, by.Orderly)
	return errCut
}

func (p *pipe) write(b []byte) error {
	p.harm(b)
	n, err := p.dst.Write(b)
	p.sentOn += uint64(n)
	p.conn.link.passed[p.dir].Add(int64(n))
	if err != nil && p.finished.Load() { // it was half closed meanwhile
		p.loses()
		return nil
	}
	return err
}

// lose drops bytes, or the end of the stream, which counts as one.
func (p *pipe) lose(f *flow, b []byte, end error) {
	n := len(b)
	if end != nil {
		p.endLost = true
		n++
	}
	for _, t := range f.drop {
		t.acted.Add(int64(n))
	}
	p.lostAt.Store(time.Now().UnixNano())
	p.loses()
}

// loses takes note that something was lost. The connection is reset when nothing is lost any
// more: by abandon, or here if that moment has come and gone.
func (p *pipe) loses() {
	p.lost.Store(true)
	if p.conn.torn() {
		p.conn.abort(nil)
	}
}
