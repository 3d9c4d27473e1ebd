package link

import (
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// dialTimeout bounds how long a new connection waits for the dependency.
const dialTimeout = time.Second

// conn is one client's connection and the one to the dependency that belongs to it.
type conn struct {
	link   *Link
	id     uint64 // ordinal on the link, from one, those that were refused included
	client *net.TCPConn
	pipes  [2]pipe
	born   time.Time
	first  atomic.Int32          // one more than the direction that its peer ended first; 0 for neither yet
	drawn  atomic.Pointer[rules] // those that are for this connection; see rules
	hangs  bool                  // nothing is done with it; guarded by the link's mu
	free   chan struct{}         // closed when it does not hang, or no longer
	ctx    context.Context       // done when the connection is aborted or closed
	cancel context.CancelFunc

	mu      sync.Mutex   // guards what follows
	server  *net.TCPConn // nil until the dependency has answered
	aborted bool         // both sides get a reset, or are closed already
	orderly bool         // aborted, but both sides get an end and no reset
	spared  harness.Dir  // not orderly, but that side gets an end and no reset; Both is none
}

func newConn(l *Link, client *net.TCPConn, id uint64) *conn {
	ctx, cancel := context.WithCancel(context.Background())
	c := &conn{link: l, id: id, client: client, born: time.Now(), free: make(chan struct{}), ctx: ctx, cancel: cancel}
	for dir := range c.pipes {
		c.pipes[dir].init(c, dir)
	}
	return c
}

// rules returns what is in force for the connection: what is in force on the link, but for
// toxics that are for others only.
func (c *conn) rules() *rules {
	all := c.link.rules.Load()
	if !all.shared {
		return all
	}
	have := c.drawn.Load()
	if have != nil && have.of == all {
		return have
	}
	own := newRules(slices.DeleteFunc(slices.Clone(all.toxics), func(t *toxic) bool { return !t.hits(c.id) }))
	own.of = all
	if c.drawn.CompareAndSwap(have, own) {
		return own
	}
	return c.rules() // the other direction was faster
}

// serve waits until the connection does not hang, connects to the dependency, copies both ways
// until both directions have ended, and closes both sides. Nobody else closes them.
func (c *conn) serve() {
	if c.waits() && c.dial() {
		var other sync.WaitGroup
		other.Go(c.pipes[down].run)
		c.pipes[up].run()
		other.Wait()
	}
	c.mu.Lock()
	rst := !c.orderly && (c.aborted || !c.pipes[up].finished.Load() || !c.pipes[down].finished.Load())
	c.aborted = true
	spared := c.spared
	c.mu.Unlock() // whoever aborts must not wait for the kernel
	c.cancel()
	for side, s := range map[harness.Dir]*net.TCPConn{harness.Down: c.client, harness.Up: c.server} {
		switch {
		case s == nil:
		case rst && side != spared:
			reset(s)
		default:
			part(s)
		}
	}
}

// waits reports whether the connection does not hang any more, when that or its end has come.
func (c *conn) waits() bool {
	select {
	case <-c.free:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// dial reports whether there is now something to copy to.
func (c *conn) dial() bool {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
	s, err := d.DialContext(c.ctx, "tcp", *c.link.upstream.Load())
	if err != nil {
		c.ends(down)
		return false
	}
	server := s.(*net.TCPConn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aborted {
		reset(server)
		return false
	}
	c.server = server
	c.pipes[up].src, c.pipes[up].dst = c.client, server
	c.pipes[down].src, c.pipes[down].dst = server, c.client
	if c.pipes[up].finished.Load() {
		server.CloseWrite() // it was half closed before there was a server
	}
	return true
}

// torn reports whether a stream of the connection has a hole and goes on: some of its bytes
// were lost, and no more are.
func (c *conn) torn() bool {
	r := c.rules()
	for dir := range c.pipes {
		p, f := &c.pipes[dir], &r.flows[dir]
		if p.lost.Load() && len(f.drop) == 0 && !(f.ended && p.finished.Load()) {
			return true
		}
	}
	return false
}

// ends takes note that the stream in a direction was ended by who sends it.
func (c *conn) ends(dir int) {
	c.pipes[dir].ended.Store(true)
	c.first.CompareAndSwap(0, int32(dir)+1)
}

// meet does to the connection what a toxic does to those that exist, at once or when they are
// due, and to newer ones when these are.
func (c *conn) meet(x *toxic) {
	switch {
	case !x.hits(c.id):
	case c.id > x.newest:
		c.stop(x, x.Orderly)
	case x.Close && x.Dir == harness.Up:
		c.finish(x, up)
	case x.Close && x.Dir == harness.Down:
		c.finish(x, down)
	default:
		c.stop(x, x.Close)
	}
}

// finish ends the stream in one direction in good order, behind what has been passed on, and
// counts that for a toxic if it was still open. What comes in that direction from now on is lost.
func (c *conn) finish(by *toxic, dir int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aborted || !c.pipes[dir].finished.CompareAndSwap(false, true) {
		return
	}
	by.acted.Add(1)
	to := c.client
	if dir == up {
		to = c.server
	}
	if to != nil {
		to.CloseWrite() // an error says that it is gone: it has been told
	}
}

// stopped reports whether the connection has been ended.
func (c *conn) stopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.aborted
}

// abort ends the connection with a reset to both sides, as stop does.
func (c *conn) abort(by *toxic) { c.stop(by, false) }

// stop ends the connection with a reset to both sides, or in good order, and counts that for
// a toxic if the connection was still there. From now on no byte passes. It does not wait
// for the reset: that takes the kernel long where much is unread.
func (c *conn) stop(by *toxic, orderly bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aborted {
		return
	}
	c.aborted, c.orderly = true, orderly
	if by != nil {
		by.acted.Add(1)
		c.spared = by.Spare
	}
	c.cancel()
	for _, s := range []*net.TCPConn{c.client, c.server} {
		if s != nil {
			s.SetDeadline(past)
		}
	}
}

// quiet returns how long nothing was lost in one of the directions of t, at most since t
// is in force.
func (c *conn) quiet(t *toxic) time.Duration {
	var most time.Duration
	for dir := range c.pipes {
		if t.spares(dir) {
			continue
		}
		since := later(time.Unix(0, c.pipes[dir].lostAt.Load()), later(t.since, c.born))
		most = max(most, time.Since(since))
	}
	return most
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// past is a deadline that makes reads and writes fail at once.
var past = time.Unix(1, 0)

// part closes a connection in good order: its peer gets the end also where something is unread
// that it has sent. The kernel resets such a connection, but behind the end then, which is what
// the peer reads.
func part(s *net.TCPConn) {
	s.CloseWrite()
	s.Close()
}

// reset closes a connection so that its peer gets a RST, whatever is still unsent.
func reset(s *net.TCPConn) {
	s.SetLinger(0)
	s.Close()
}
