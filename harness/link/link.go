// Package link is the proxy that stands on an edge from a service to a dependency.
//
// While no toxic is in force, a link copies bytes and nothing else. Toxics are published
// as one immutable set of rules that every connection consults for every chunk, so that
// a control operation takes effect at once, on connections that exist and on new ones,
// and never waits for a peer:
//
//	          Disturb, Heal, Reset
//	                   |
//	                 rules                 one atomic pointer
//	                   |
//	client -> read -> free? ------------> write -> dependency
//	                   |                    ^
//	                   '-> queue -> drain --'      delayed, held or dropped
//
// Connects get no answer while the backlog of the listening socket is full: the kernel drops
// SYNs then, and counts those of each socket.
//
// New connections are refused by accepting and resetting them, or closing them where a toxic
// says so: the client sees a reset at its connect or at its first read, or an end there. If
// the listening socket were closed, the kernel would refuse them, but nobody can count what
// the kernel refuses, and a fault that cannot show that it acted proves nothing; besides,
// somebody else could take the port before the heal. So do new connections hang: they are
// accepted, and nothing more is done with them.
package link

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Link is a TCP proxy with a stable address in front of one dependency.
type Link struct {
	name     string
	listener *net.TCPListener
	upstream atomic.Pointer[string]
	rules    atomic.Pointer[rules]
	buffers  sync.Pool
	running  sync.WaitGroup // the accept loop and the connections
	ear      ear

	accepted, open atomic.Int64
	passed         [2]atomic.Int64 // bytes, by direction

	mu      sync.Mutex // guards what follows; held only for as long as the processor needs
	toxics  []*toxic
	last    uint64 // id of the newest toxic
	came    uint64 // ordinal of the newest connection
	conns   map[*conn]struct{}
	hanging []*conn // those of them that hang, the oldest first
	gone    Traffic // of connections that have ended
	dropped uint32  // SYNs, as the kernel counts them, when it was asked last
	closed  bool
}

var _ harness.Link = (*Link)(nil)

// Listen starts a link to upstream, a host:port that need not answer yet. Name stands in
// error messages. The link listens on a free port of 127.0.0.1 until Close.
func Listen(name, upstream string) (*Link, error) { return ListenAt("127.0.0.1:0", name, upstream) }

// ListenAt is Listen at another host:port of this machine; port 0 takes a free one.
func ListenAt(addr, name, upstream string) (*Link, error) {
	lc := net.ListenConfig{KeepAlive: -1} // on loopback nobody vanishes silently
	lc.SetMultipathTCP(false)             // a socket of that kind cannot be asked for what ear needs
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("link %s: %w", name, err)
	}
	l := &Link{name: name, listener: ln.(*net.TCPListener), conns: map[*conn]struct{}{}}
	l.ear.asks, l.ear.closed = make(chan chan error), make(chan struct{})
	l.buffers.New = func() any { return new([bufferSize]byte) }
	l.upstream.Store(&upstream)
	l.rules.Store(newRules(nil))
	l.running.Go(l.accept)
	return l, nil
}

// Addr is where the link listens: host:port. It never changes.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Upstream is where new connections lead.
func (l *Link) Upstream() string { return *l.upstream.Load() }

// SetUpstream points the link to another address. Connections that exist stay where they are.
func (l *Link) SetUpstream(addr string) { l.upstream.Store(&addr) }

// Stats returns live counters.
func (l *Link) Stats() harness.LinkStats {
	return harness.LinkStats{
		Conns: l.accepted.Load(),
		Open:  l.open.Load(),
		Up:    l.passed[up].Load(),
		Down:  l.passed[down].Load(),
	}
}

// Disturb puts a toxic in force. Every chunk and connection that comes after it has
// returned meets the toxic, and on a connection that a reset is for no byte passes any more.
//
// Of several toxics in force delays add up. Of the others the strongest wins: what is
// dropped is not held, what is held is not delayed further and not counted by a cut; bytes
// pass at the lowest rate of each connection and the lowest of all together, in the smallest
// pieces and with the longest gap. A toxic counts the bytes that it delayed, slowed down,
// sliced, held or lost, the lost end of a stream as one, of segments that are sent again their
// bytes, the ends that it delayed, and the connections that it reset, closed, half closed,
// refused or let hang.
//
// One that corrupts counts the bytes that it changed, one that is deaf the SYNs that were lost,
// those that were sent again included.
//
// A toxic whose time to live is over is lifted as by Heal, which is a harness.ErrExpired then.
func (l *Link) Disturb(ctx context.Context, t harness.Toxic) (harness.Injection, error) {
	if err := errors.Join(ctx.Err(), check(t)); err != nil {
		return harness.Injection{}, fmt.Errorf("link %s: %w", l.name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return harness.Injection{}, fmt.Errorf("link %s: %w", l.name, net.ErrClosed)
	}
	l.last++
	x := &toxic{Toxic: t, id: l.last, since: time.Now(), done: make(chan struct{})}
	l.publish(append(slices.Clone(l.toxics), x))
	if t.Deaf {
		if err := l.deafen(x); err != nil {
			return harness.Injection{}, fmt.Errorf("link %s: %w", l.name, err)
		}
	}
	if slices.Contains(l.toxics, x) { // else it was lifted meanwhile
		l.strike(x)
	}
	if t.TTL > 0 || t.On > 0 || t.Expire > 0 || t.Age > 0 {
		l.running.Go(func() { l.watch(x) })
	}
	heal := func(context.Context) error {
		l.mu.Lock()
		l.lift(x.is)
		l.mu.Unlock()
		l.settle(x)
		l.mu.Lock()
		defer l.mu.Unlock()
		switch {
		case x.failed != nil:
			return fmt.Errorf("link %s: %w", l.name, x.failed)
		case x.expired:
			return fmt.Errorf("link %s: %w", l.name, harness.ErrExpired)
		}
		return nil
	}
	acted := x.acted.Load
	if t.Deaf {
		acted = func() int64 { return l.lost(x) }
	}
	return harness.Injection{Heal: heal, Acted: acted, Unit: x.unit()}, nil
}

// Reset heals every toxic in force. A later Heal of one of them does nothing. An error says that
// connects still get no answer; the links of other engines may have further reasons.
func (l *Link) Reset() error {
	l.mu.Lock()
	l.lift(func(*toxic) bool { return true })
	l.mu.Unlock()
	if err := l.heed(); err != nil {
		return fmt.Errorf("link %s: %w", l.name, err)
	}
	return nil
}

// strike ends what a toxic ends at once. It is called whenever the toxic comes into force. The
// caller holds l.mu.
func (l *Link) strike(x *toxic) {
	x.newest = l.came
	if x.Age > 0 || !x.Close && !x.Reset {
		return
	}
	if x.Over > 0 {
		served := l.served()
		for _, c := range served[min(x.Over, int64(len(served))):] {
			c.meet(x)
		}
		return
	}
	for c := range l.conns {
		c.meet(x)
	}
}

// served returns the connections that are open and do not hang, the oldest first. The caller
// holds l.mu.
func (l *Link) served() []*conn {
	var out []*conn
	for c := range l.conns {
		if !c.hangs && !c.stopped() {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *conn) int { return cmp.Compare(a.id, b.id) })
	return out
}

// watch does what a toxic does by the clock, until it is lifted.
func (l *Link) watch(x *toxic) {
	var over, turn, due <-chan time.Time
	if x.TTL > 0 {
		over = time.After(x.TTL)
	}
	if x.On > 0 {
		turn = time.After(x.On)
	}
	if x.Expire > 0 || x.Age > 0 {
		due = time.After(least(x.Expire, x.Age))
	}
	for {
		select {
		case <-x.done:
			return
		case <-over:
			l.mu.Lock()
			x.expired = slices.Contains(l.toxics, x)
			l.lift(x.is)
			l.mu.Unlock()
			l.settle(x)
			return
		case <-turn:
			turn = time.After(l.turn(x))
			l.settle(x)
		case <-due:
			due = time.After(l.expireNow(x))
		}
	}
}

// turn suspends a toxic, or puts it in force again, and returns for how long.
func (l *Link) turn(x *toxic) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.toxics, x) { // it was lifted meanwhile
		return x.On
	}
	x.off = !x.off
	l.publish(l.toxics)
	if x.off {
		l.abandon()
		return x.Off
	}
	l.strike(x)
	return x.On
}

// tick is how often connections are looked at, at most, to see which are due.
const tick = time.Millisecond

// expireNow ends what is due and returns when to look again: it closes connections on which
// nothing came for so long as the toxic says, and ends those that are old enough.
func (l *Link) expireNow(x *toxic) time.Duration {
	next := least(x.Expire, x.Age) // for those that come meanwhile
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.toxics, x) { // it was lifted meanwhile
		return max(next, tick)
	}
	for c := range l.conns {
		if x.Expire > 0 && x.hits(c.id) {
			if left := x.Expire - c.quiet(x); left > 0 {
				next = min(next, left)
			} else {
				c.stop(x, true)
			}
		}
		if x.ages(c.id) {
			if left := x.Age - time.Since(later(x.since, c.born)); left > 0 {
				next = min(next, left)
			} else {
				c.meet(x)
			}
		}
	}
	return max(next, tick)
}

// lift ends the toxics that match. Connections that lost bytes end with the last toxic
// that drops any: their streams have holes, and no TCP connection comes back with one. The
// caller holds l.mu.
func (l *Link) lift(match func(*toxic) bool) {
	if !slices.ContainsFunc(l.toxics, match) {
		return
	}
	l.publish(slices.DeleteFunc(slices.Clone(l.toxics), func(t *toxic) bool {
		if !match(t) {
			return false
		}
		t.end()
		return true
	}))
	l.abandon()
}

// abandon resets the connections that have lost bytes, where none are lost any more. The
// caller holds l.mu.
func (l *Link) abandon() {
	for c := range l.conns {
		if c.torn() {
			c.abort(nil)
		}
	}
}

// publish puts toxics in force, and only these, but for those that are suspended, and wakes
// whoever waits under the old rules. The caller holds l.mu.
func (l *Link) publish(toxics []*toxic) {
	l.toxics = toxics
	r := newRules(slices.DeleteFunc(slices.Clone(toxics), func(t *toxic) bool { return t.off }))
	if len(r.deaf)+len(l.rules.Load().deaf) > 0 {
		l.tally()
	}
	l.rules.Store(r)
	for c := range l.conns {
		for i := range c.pipes {
			signal(c.pipes[i].wake)
		}
	}
	l.release()
}

// release lets those go on that hang no longer, as new ones. The caller holds l.mu.
func (l *Link) release() {
	if len(l.hanging) == 0 || l.closed {
		return
	}
	r, open := l.rules.Load(), len(l.served())
	l.hanging = slices.DeleteFunc(l.hanging, func(c *conn) bool {
		if len(among(r.hang, c.id, open)) > 0 {
			return false
		}
		refuse := among(r.refuse, c.id, open)
		for _, t := range refuse {
			c.stop(t, orderly(refuse))
		}
		c.hangs = false
		if len(refuse) == 0 {
			close(c.free)
			open++
		}
		return true
	})
}

// Close ends the link and resets its connections. It may be called twice.
func (l *Link) Close() error {
	l.mu.Lock()
	var err error
	if !l.closed {
		if len(l.rules.Load().deaf) > 0 {
			l.tally()
		}
		l.closed = true
		err = l.listener.Close()
		close(l.ear.closed)
		for c := range l.conns {
			c.abort(nil)
		}
		for _, t := range l.toxics {
			t.end()
		}
	}
	l.mu.Unlock()
	l.running.Wait()
	return err
}

// accept takes connections until the listener is closed.
func (l *Link) accept() {
	var b backlog
	defer b.close()
	for {
		client, err := l.listener.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, os.ErrDeadlineExceeded): // that is how heed calls
			l.attend(&b, l.admit)
		case err != nil:
			time.Sleep(5 * time.Millisecond) // no descriptor is free: some will be
		case !b.discard(client):
			l.admit(client)
		}
	}
}

// maxHanging bounds how many connections hang: nobody is told that their clients have gone, and
// further ones are reset.
const maxHanging = 1 << 10

// admit starts to serve a connection, lets it hang, or refuses it. That is decided under mu: a
// toxic that ends connections finds it, or it finds the toxic.
func (l *Link) admit(client *net.TCPConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.came++
	if l.closed {
		reset(client)
		return
	}
	r, nth, open := l.rules.Load(), l.came, 0
	if r.counts {
		open = len(l.served())
	}
	refuse, hang := among(r.refuse, nth, open), among(r.hang, nth, open)
	by := refuse
	if len(refuse) == 0 {
		by = hang
	}
	for _, t := range by {
		t.acted.Add(1)
	}
	switch {
	case len(refuse) > 0 && orderly(refuse):
		part(client)
		return
	case len(refuse) > 0, len(hang) > 0 && len(l.hanging) >= maxHanging:
		reset(client)
		return
	}
	l.accepted.Add(1)
	c := newConn(l, client, nth)
	if c.hangs = len(hang) > 0; c.hangs {
		l.hanging = append(l.hanging, c)
	} else {
		close(c.free)
	}
	l.conns[c] = struct{}{}
	l.open.Add(1)
	l.running.Go(func() {
		c.serve()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, c)
		l.hanging = slices.DeleteFunc(l.hanging, func(x *conn) bool { return x == c })
		l.gone.add(c)
		l.open.Add(-1)
		l.release()
	})
}

// signal leaves a token in a channel of capacity one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
