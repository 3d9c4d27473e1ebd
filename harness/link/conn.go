package link

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// dialTimeout bounds how long a new connection waits for the dependency.
const dialTimeout = time.Second

// conn is one client's connection and the one to the dependency that belongs to it.
type conn struct {
	link   *Link
	id     uint64 // ordinal on the link, from one
	client *net.TCPConn
	pipes  [2]pipe
	lost   atomic.Bool     // some of its bytes were dropped
	ctx    context.Context // done when the connection is aborted or closed
	cancel context.CancelFunc

	mu      sync.Mutex   // guards what follows
	server  *net.TCPConn // nil until the dependency has answered
	aborted bool         // both sides get a reset, or are closed already
}

func newConn(l *Link, client *net.TCPConn, id uint64) *conn {
	ctx, cancel := context.WithCancel(context.Background())
	c := &conn{link: l, id: id, client: client, ctx: ctx, cancel: cancel}
	for dir := range c.pipes {
		c.pipes[dir].init(c, dir)
	}
	return c
}

// serve connects to the dependency, copies both ways until both directions have ended, and
// closes both sides. Nobody else closes them.
func (c *conn) serve() {
	if c.dial() {
		var other sync.WaitGroup
		other.Go(c.pipes[down].run)
		c.pipes[up].run()
		other.Wait()
	}
	c.mu.Lock()
	rst := c.aborted || !c.pipes[up].finished || !c.pipes[down].finished
	c.aborted = true
	c.mu.Unlock() // whoever aborts must not wait for the kernel
	c.cancel()
	for _, s := range []*net.TCPConn{c.client, c.server} {
		switch {
		case s == nil:
		case rst:
			reset(s)
		default:
			s.Close()
		}
	}
}

// dial reports whether there is now something to copy to.
func (c *conn) dial() bool {
	d := net.Dialer{Timeout: dialTimeout, KeepAlive: -1}
	s, err := d.DialContext(c.ctx, "tcp", *c.link.upstream.Load())
	if err != nil {
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
	return true
}

// abort ends the connection with a reset to both sides, and counts that for a toxic if the
// connection was still there. From now on no byte passes. It does not wait for the reset:
// that takes the kernel long where much is unread.
func (c *conn) abort(by *toxic) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.aborted {
		return
	}
	c.aborted = true
	if by != nil {
		by.acted.Add(1)
	}
	c.cancel()
	for _, s := range []*net.TCPConn{c.client, c.server} {
		if s != nil {
			s.SetDeadline(past)
		}
	}
}

// past is a deadline that makes reads and writes fail at once.
var past = time.Unix(1, 0)

// reset closes a connection so that its peer gets a RST, whatever is still unsent.
func reset(s *net.TCPConn) {
	s.SetLinger(0)
	s.Close()
}
