// Package toxi is the engine toxiproxy: links that disturb what passes by means of
// github.com/Shopify/toxiproxy, in this process or elsewhere, in place of our own proxy.
//
//	client -> front -> toxiproxy -> back -> dependency
//
// Front and back are links of our own without a toxic. They give what toxiproxy lacks: an
// address that stays when a proxy has to be given up, a dependency that can be elsewhere
// tomorrow without an update of the proxy (which is a data race), a bound on connecting to
// it, and live counters on both sides, from which follows what a toxic has touched.
//
// Toxiproxy 2.12.0 can hang for good in any call that changes the toxics of a proxy: the
// call waits for a chunk that nobody reads, with the lock that the end of that connection
// waits for. So every call has a deadline; when it passes, the proxy is given up with the
// connections through it, and a new one takes its place with the toxics that remain. What a
// proxy that was given up leaves in this process is a few goroutines for each of its
// connections; Notes says so.
//
// What toxiproxy does differently is left as it is: see docs/faults.md.
package toxi

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness/link"
)

// ownVersion is that of the toxiproxy in this process.
const ownVersion = "2.12.0"

// limit bounds every call of toxiproxy.
const limit = 2 * time.Second

// errHung says that toxiproxy did not answer in time.
var errHung = fmt.Errorf("toxiproxy hangs: no answer within %s", limit)

// Engine makes links. It has nothing to close but these.
type Engine struct {
	// Say is told, if it is set, of every heal for which a proxy had to be given up: what was
	// to be healed is healed, and connections are reset. It is called with locks held, and
	// returns soon.
	Say func(string)

	version string
	host    string // at which its proxies are reached
	own     string // the address of this process that its proxies lead to
	listen  string // where its proxies listen
	remote  bool
	create  func(name, listen, upstream string) (proxy, error)

	mu    sync.Mutex // guards what follows
	lost  int        // proxies that were given up
	first string     // why the first one was
}

// proxy is one proxy of toxiproxy. Each of its methods may hang, and none may be called
// while another is running.
type proxy interface {
	addr() string // where it listens
	add(toxic) error
	remove(name string) error
	start() error
	stop() error // ends its connections, too
	// end stops the proxy for good. Hung says that a call has not returned.
	end(hung bool) error
}

// Name is the engine as a case names it: toxiproxy@2.12.0.
func (e *Engine) Name() string { return "toxiproxy@" + e.version }

// Notes says, in a line or none, which proxies had to be given up so far, and what that has
// left behind.
func (e *Engine) Notes() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lost == 0 {
		return nil
	}
	left := "they are left behind there"
	if !e.remote {
		left = fmt.Sprintf("%d goroutines of toxiproxy run in this process", goroutines())
	}
	return []string{fmt.Sprintf("proxies of toxiproxy that were given up: %d, the first for this: %s; %s", e.lost, e.first, left)}
}

func (e *Engine) gaveUp(why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.lost++; e.lost == 1 {
		e.first = why
	}
}

// goroutines returns how many goroutines of toxiproxy there are in this process.
func goroutines() int {
	buf := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	n := 0
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(g, "\ngithub.com/Shopify/toxiproxy/") {
			n++
		}
	}
	return n
}

// Listen starts a link to upstream, a host:port that need not answer yet. Name stands in
// error messages. The caller closes the link.
func (e *Engine) Listen(name, upstream string) (*Link, error) {
	l := &Link{engine: e, name: name}
	if err := l.open(upstream); err != nil {
		return nil, errors.Join(fmt.Errorf("link %s: %w", name, err), l.Close())
	}
	return l, nil
}

func (l *Link) open(upstream string) (err error) {
	// The dependency comes in when it is known that toxiproxy leads to us.
	if l.back, err = link.ListenAt(net.JoinHostPort(l.engine.own, "0"), l.name, nowhere); err != nil {
		return err
	}
	if l.front, err = link.Listen(l.name, nowhere); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.renew(false); err != nil {
		return err
	}
	if l.engine.remote {
		if err := l.prove(); err != nil {
			return err
		}
	}
	l.back.SetUpstream(upstream)
	return nil
}

// prove makes sure that a connection to the proxy comes out at the back.
func (l *Link) prove() error {
	at := l.at(l.proxy)
	c, err := net.DialTimeout("tcp", at, limit)
	if err != nil {
		return fmt.Errorf("toxiproxy says that it listens at %s, but it does not answer there: where it runs in a container, let it have the host's network, or name the container's own address: %w", at, err)
	}
	defer c.Close()
	for deadline := time.Now().Add(limit); l.back.Stats().Conns == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("toxiproxy does not get through to this process at %s: where it runs in a container, let it have the host's network, or name the container's own address", l.back.Addr())
		}
	}
	return nil
}

// at is where a proxy is reached from here.
func (l *Link) at(p proxy) string {
	_, port, err := net.SplitHostPort(p.addr())
	if err != nil {
		return p.addr()
	}
	return net.JoinHostPort(l.engine.host, port)
}

// bounded calls f and waits for it no longer than limit. A call of toxiproxy cannot be ended:
// one that hangs is left behind with its goroutine.
func bounded[T any](f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-late.C:
		var none T
		return none, errHung
	}
}

// do is bounded for a call that returns nothing.
func do(f func() error) error {
	_, err := bounded(func() (struct{}, error) { return struct{}{}, f() })
	return err
}
