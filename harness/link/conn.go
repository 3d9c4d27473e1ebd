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
	ctx    context.Context // done when the connection has ended
	cancel context.CancelFunc

	mu     sync.Mutex   // guards what follows
	server *net.TCPConn // nil until the dependency has answered
	ended  bool
}

func newConn(l *Link, client *net.TCPConn, id uint64) *conn {
	ctx, cancel := context.WithCancel(context.Background())
	c := &conn{link: l, id: id, client: client, ctx: ctx, cancel: cancel}
	for dir := range c.pipes {
		c.pipes[dir].init(c, dir)
	}
	return c
}

// serve connects to the dependency and copies both ways until both directions have ended.
func (c *conn) serve() {
	if !c.dial() {
		c.end(true)
		return
	}
	var other sync.WaitGroup
	other.Go(c.pipes[down].run)
	c.pipes[up].run()
	other.Wait()
	c.end(!c.pipes[up].finished || !c.pipes[down].finished)
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
	if c.ended {
		reset(server)
		return false
	}
	c.server = server
	c.pipes[up].src, c.pipes[up].dst = c.client, server
	c.pipes[down].src, c.pipes[down].dst = server, c.client
	return true
}

// end closes both sides, with a reset instead of an orderly end if rst is set. It
// reports whether the connection was still there. It does not wait for a peer.
func (c *conn) end(rst bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return false
	}
	c.ended = true
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
	return true
}

// reset closes a connection so that its peer gets a RST, whatever is still unsent.
func reset(s *net.TCPConn) {
	s.SetLinger(0)
	s.Close()
}
