// Package faulttest is the kit that tests faults: it plays one against a real server
// behind a real link of either engine, and reports what the two ends saw.
package faulttest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/link"
	"github.com/shakedown-go/shakedown/harness/link/toxi"
)

// patience is how long a client of the bench waits before it calls a server silent.
const patience = 400 * time.Millisecond

// soon bounds what must happen.
const soon = 10 * time.Second

// Link is a link of a bench.
type Link interface {
	harness.Link
	Addr() string
	Reset() error
	Close() error
}

// Engine makes the links of benches.
type Engine struct {
	Name   string
	Listen func(name, upstream string) (Link, error)
}

// Native is our own proxy.
func Native() Engine {
	return Engine{"native", func(name, upstream string) (Link, error) { return link.Listen(name, upstream) }}
}

// Toxiproxy is the toxiproxy in this process.
func Toxiproxy() Engine {
	e := toxi.Embedded()
	return Engine{"toxiproxy", func(name, upstream string) (Link, error) { return e.Listen(name, upstream) }}
}

// Bench is a world with one link, "dep", to a server that counts requests and says so. A
// request is a line, a reply is the count in nine bytes. What becomes of the connection
// depends on the request.
type Bench struct {
	Link     Link
	t        testing.TB
	executed atomic.Int64
}

// The requests.
const (
	inc = "inc\n" // the connection lives on
	bye = "bye\n" // the server closes it behind the reply
	eof = "eof\n" // the client has closed its half, and the reply comes behind that
)

// New starts a bench on an engine that ends with the test.
func New(t testing.TB, e Engine) *Bench {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &Bench{t: t}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { b.count(c) })
		}
	})
	if b.Link, err = e.Listen("dep", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the link first: its end is the end of the server's connections
		b.Link.Close()
		ln.Close()
		serving.Wait()
	})
	return b
}

// count serves one connection.
func (b *Bench) count(c net.Conn) {
	defer c.Close()
	for in := bufio.NewReader(c); ; {
		line, _ := in.ReadString('\n')
		switch line {
		case inc, bye:
		case eof:
			if _, err := in.ReadByte(); err != io.EOF {
				return
			}
		default:
			return
		}
		if _, err := fmt.Fprintf(c, "%08d\n", b.executed.Add(1)); err != nil || line != inc {
			return
		}
	}
}

// World returns the world that faults see.
func (b *Bench) World() harness.World { return world{b} }

// Target describes the bench, to check arguments against.
func (b *Bench) Target() *harness.Target {
	return &harness.Target{Name: "bench", Caps: harness.CapLinks | harness.CapNative, Links: []string{"dep"}}
}

type world struct{ *Bench }

func (w world) Link(name string) (harness.Link, error) {
	if name != "dep" {
		return nil, fmt.Errorf("no link %s", name)
	}
	return w.Bench.Link, nil
}

func (world) Proc(name string) (harness.Proc, error) { return nil, fmt.Errorf("no process %s", name) }

func (world) Store(name string) (harness.Store, error) { return nil, fmt.Errorf("no store %s", name) }
func (world) Agent(proc string) (harness.Agent, error) {
	return nil, fmt.Errorf("no agent in %s", proc)
}

// Args returns the arguments that inject f on the bench: those given as case text, in
// pairs of key and value, with the link and the defaults.
func (b *Bench) Args(f *harness.Fault, pairs ...string) harness.Args {
	b.t.Helper()
	args := harness.Args{{Key: "link", Value: harness.Text("dep")}}
	for i := 0; i+1 < len(pairs); i += 2 {
		args = args.Set(pairs[i], harness.Text(pairs[i+1]))
	}
	if err := f.Check(args, b.Target()); err != nil {
		b.t.Fatal(err)
	}
	return f.Fill(args)
}

// Executed returns how many requests the server has executed.
func (b *Bench) Executed() int64 { return b.executed.Load() }

// TryInject injects f with arguments from Args, where the engine can.
func (b *Bench) TryInject(f *harness.Fault, args harness.Args) (harness.Injection, error) {
	return f.Inject(b.t.Context(), b.World(), args, rand.New(rand.NewPCG(1, 2)))
}

// Inject is TryInject for what must be possible.
func (b *Bench) Inject(f *harness.Fault, args harness.Args) harness.Injection {
	b.t.Helper()
	inj, err := b.TryInject(f, args)
	if err != nil {
		b.t.Fatal(err)
	}
	return inj
}

// Heal heals what was injected.
func (b *Bench) Heal(inj harness.Injection) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	if err := inj.Heal(ctx); err != nil {
		b.t.Fatal(err)
	}
}

// Outcome is what a client saw of a request, or of an idle connection.
type Outcome string

// The outcomes.
const (
	Replied  Outcome = "reply"
	Torn     Outcome = "torn reply, reset"  // a part of the reply, and then a reset
	TornEnd  Outcome = "torn reply, closed" // ... and then an orderly end
	Reset    Outcome = "reset"              // no reply, and a reset
	Closed   Outcome = "closed"             // no reply, and an orderly end
	Silent   Outcome = "silence"            // nothing until the client lost patience
	Finished Outcome = "reply, closed"      // where the server closes the connection, or the fault does
	Broken   Outcome = "reply, reset"       // where the fault resets it
	Lingers  Outcome = "reply, not closed"  // ... and the client does not see that
)

// What is seen of connects, and of what comes.
const (
	Unanswered Outcome = "no connect"    // until the client lost patience
	Altered    Outcome = "corrupt reply" // of the right length, and no count
)

// Life is what became of a connection.
type Life struct {
	During Outcome // of its request while the fault was in force, or of the idle connection
	After  Outcome // of that request or connect if it was still open, and then of one more request
}

// Report is what a fault did.
type Report struct {
	Idle     int64  // what it had touched before anything passed
	Acted    int64  // what it had touched in the end
	Unit     string // of what it touches
	Old, New Life   // a connection made before the fault, and one made while it was in force
	Unused   Life   // a connection made before the fault, idle while it was in force
	Next     Outcome
	Took     time.Duration // the round trip on the old connection during the fault
	Executed int64         // requests sent during the fault that were executed during it
	Late     int64         // ... that were executed after the heal
}

// Play injects a fault on a bench with two idle connections, sends a request on one of them
// and at once one on a new connection, heals the fault, and looks at all of it again.
func (b *Bench) Play(f *harness.Fault, args harness.Args) Report {
	b.t.Helper()
	return b.play(f, args, (*Conn).Request)
}

// PlayLast is Play with requests behind which the server closes the connection. No idle
// connection is looked at.
func (b *Bench) PlayLast(f *harness.Fault, args harness.Args) Report {
	b.t.Helper()
	return b.play(f, args, (*Conn).last)
}

func (b *Bench) play(f *harness.Fault, args harness.Args, request func(*Conn) Outcome) Report {
	b.t.Helper()
	var r Report
	old, unused := b.Dial(), b.Dial()
	for _, c := range []*Conn{old, unused} {
		if got := c.Request(); got != Replied {
			b.t.Fatalf("before the fault: %s", got)
		}
	}
	before := b.executed.Load()

	inj := b.Inject(f, args)
	r.Idle, r.Unit = inj.Acted(), inj.Unit
	fresh := b.connect()
	var all sync.WaitGroup
	all.Go(func() {
		old.watch()
		start := time.Now()
		r.Old.During = request(old)
		r.Took = time.Since(start)
	})
	all.Go(func() {
		if r.New.During = Unanswered; fresh.connected(patience) {
			r.New.During = request(fresh)
		}
	})
	all.Go(func() { r.Unused.During = unused.reply(patience) })
	all.Wait()
	r.Old.During, r.New.During = old.still(r.Old.During), fresh.still(r.New.During)
	r.Executed = b.executed.Load() - before

	b.Heal(inj)
	r.Old.After, r.New.After, r.Unused.After = old.settle(r.Old.During), fresh.settle(r.New.During), r.Unused.During
	r.Late = b.executed.Load() - before - r.Executed
	r.Old.After, r.New.After = old.again(r.Old.After), fresh.again(r.New.After)
	if r.Unused.During == Silent {
		r.Unused.After = unused.Request()
	}
	r.Next = b.Dial().Request()
	r.Acted = inj.Acted()
	return r
}

// Effect returns the class of what was seen.
func (r Report) Effect() harness.Effect {
	var answered int64
	for _, l := range []Life{r.Old, r.New} {
		switch {
		case l.During == Replied, l.During == Finished, l.During == Broken, l.During == Lingers, l.During == Silent && l.After == Replied:
			answered++
		}
		if l.During == Altered {
			return harness.EffectCorrupt
		}
	}
	switch executed := r.Executed + r.Late; {
	case answered == 2 && r.Late == 0:
		return harness.EffectNone
	case executed == answered && r.Late == 0:
		return harness.EffectNotExecuted
	case executed == 2 && r.Late == 0:
		return harness.EffectAckLost
	}
	return harness.EffectMaybe
}

// Conn is a client's connection through the link.
type Conn struct {
	there chan struct{} // closed when the connect has come to something
	c     net.Conn
	err   error // why there is none
}

// Dial connects to the link. A connection that is refused fails at its first request.
func (b *Bench) Dial() *Conn {
	c := b.connect()
	<-c.there
	return c
}

// connect begins to connect to the link, which fails soon where nobody answers.
func (b *Bench) connect() *Conn {
	c := &Conn{there: make(chan struct{})}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	go func() {
		defer close(c.there)
		var d net.Dialer
		c.c, c.err = d.DialContext(ctx, "tcp", b.Link.Addr())
	}()
	b.t.Cleanup(func() {
		cancel()
		c.Close()
	})
	return c
}

// connected reports whether the connect comes to something within a time.
func (c *Conn) connected(wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-c.there:
		return true
	case <-t.C:
		return false
	}
}

// Request sends a request and waits for the reply.
func (c *Conn) Request() Outcome {
	if !c.connected(patience) {
		return Unanswered
	}
	c.Send()
	return c.reply(patience)
}

// Send sends a request and waits for nothing.
func (c *Conn) Send() { c.send(inc) }

// HalfClosed sends a request, closes the client's half of the connection, and waits for the
// reply.
func (c *Conn) HalfClosed() Outcome {
	if c.send(eof); c.err == nil {
		c.err = c.c.(*net.TCPConn).CloseWrite()
	}
	return c.reply(patience)
}

// last sends a request behind which the server closes the connection, and waits for both.
func (c *Conn) last() Outcome {
	c.send(bye)
	if got := c.reply(patience); got != Replied {
		return got
	}
	return c.finish(patience)
}

// watch gives the end of the connection the time to be seen before a request is sent: what
// a client sees otherwise is a matter of luck.
func (c *Conn) watch() {
	if c.err != nil {
		return
	}
	c.c.SetDeadline(time.Now().Add(patience / 8))
	_, err := c.c.Read(make([]byte, 1))
	if late, ok := errors.AsType[net.Error](err); !ok || !late.Timeout() {
		c.err = err
	}
}

// still looks whether a connection that got a reply has been ended since.
func (c *Conn) still(so Outcome) Outcome {
	if so != Replied {
		return so
	}
	if got := c.finish(patience / 8); got != Lingers {
		return got
	}
	return so
}

// finish waits for the end of a connection behind its reply.
func (c *Conn) finish(wait time.Duration) Outcome {
	switch got := c.reply(wait); got {
	case Silent:
		return Lingers
	case Closed:
		return Finished
	case Reset:
		return Broken
	default:
		return got
	}
}

func (c *Conn) send(request string) {
	if c.err == nil {
		c.c.SetDeadline(time.Now().Add(patience))
		_, c.err = io.WriteString(c.c, request)
	}
}

// Close closes the connection.
func (c *Conn) Close() {
	if <-c.there; c.c != nil {
		c.c.Close()
	}
}

// reply waits for a reply.
func (c *Conn) reply(wait time.Duration) Outcome {
	n := 0
	var line [9]byte
	if c.err == nil {
		c.c.SetDeadline(time.Now().Add(wait))
		n, c.err = io.ReadFull(c.c, line[:])
	}
	var late net.Error
	switch {
	case c.err == nil && !count(line):
		return Altered
	case c.err == nil:
		return Replied
	case n > 0 && errors.Is(c.err, io.ErrUnexpectedEOF):
		return TornEnd
	case n > 0:
		return Torn
	case c.c == nil && errors.As(c.err, &late) && late.Timeout():
		return Unanswered
	case errors.As(c.err, &late) && late.Timeout():
		c.err = nil // it may still come
		return Silent
	case errors.Is(c.err, syscall.ECONNRESET), errors.Is(c.err, syscall.EPIPE):
		return Reset
	}
	return Closed
}

// settle waits for what was missing during the fault.
func (c *Conn) settle(during Outcome) Outcome {
	switch during {
	case Silent:
		return c.reply(soon)
	case Unanswered:
		if c.connected(soon) && c.err == nil {
			return Replied // nothing was asked: what comes now is one more
		}
	case Lingers:
		return c.finish(soon)
	}
	return during
}

// again sends one more request on a connection that has survived.
func (c *Conn) again(so Outcome) Outcome {
	if so != Replied && so != Altered {
		return so
	}
	return c.Request()
}

// count reports whether a line is one that the server writes.
func count(line [9]byte) bool {
	_, err := strconv.ParseUint(string(line[:8]), 10, 64)
	return err == nil && line[8] == '\n'
}
