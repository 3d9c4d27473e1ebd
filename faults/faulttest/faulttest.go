// Package faulttest is the kit that tests faults: it plays one against a real server
// behind a real link, and reports what the two ends saw.
package faulttest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/link"
)

// patience is how long a client of the bench waits before it calls a server silent.
const patience = 300 * time.Millisecond

// soon bounds what must happen.
const soon = 10 * time.Second

// Bench is a world with one link, "dep", to a server that counts requests and says so. A
// request is the line "inc", a reply is the count in nine bytes.
type Bench struct {
	Link     *link.Link
	t        testing.TB
	executed atomic.Int64
}

// New starts a bench that ends with the test.
func New(t testing.TB) *Bench {
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
	if b.Link, err = link.Listen("dep", ln.Addr().String()); err != nil {
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
		if line, _ := in.ReadString('\n'); line != "inc\n" {
			return
		}
		if _, err := fmt.Fprintf(c, "%08d\n", b.executed.Add(1)); err != nil {
			return
		}
	}
}

// World returns the world that faults see.
func (b *Bench) World() harness.World { return world{b} }

// Target describes the bench, to check arguments against.
func (b *Bench) Target() *harness.Target {
	return &harness.Target{Name: "bench", Caps: harness.CapLinks, Links: []string{"dep"}}
}

type world struct{ *Bench }

func (w world) Link(name string) (harness.Link, error) {
	if name != "dep" {
		return nil, fmt.Errorf("no link %s", name)
	}
	return w.Bench.Link, nil
}

func (world) Proc(name string) (harness.Proc, error) { return nil, fmt.Errorf("no process %s", name) }
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

// Inject injects f with arguments from Args.
func (b *Bench) Inject(f *harness.Fault, args harness.Args) harness.Injection {
	b.t.Helper()
	inj, err := f.Inject(b.t.Context(), b.World(), args, rand.New(rand.NewPCG(1, 2)))
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

// Outcome is what a client saw of a request.
type Outcome string

// The outcomes.
const (
	Replied Outcome = "replied"
	Torn    Outcome = "torn"   // a part of the reply, and then the end
	Reset   Outcome = "reset"  // no reply, and a reset
	Closed  Outcome = "closed" // no reply, and an orderly end
	Silent  Outcome = "silent" // nothing until the client lost patience
)

// Life is what became of a connection.
type Life struct {
	During Outcome // of its request while the fault was in force
	After  Outcome // of that request if it was still open, and then of one more
}

// Report is what a fault did.
type Report struct {
	Idle     int64  // what it had touched before anything passed
	Acted    int64  // what it had touched in the end
	Unit     string // of what it touches
	Old, New Life   // a connection made before the fault, and one made while it was in force
	Next     Outcome
	Took     time.Duration // the round trip on the old connection during the fault
	Executed int64         // requests sent during the fault that were executed during it
	Late     int64         // ... that were executed after the heal
}

// Play injects a fault on a bench with an idle connection, sends a request on that one
// and one on a new connection, heals the fault, and looks at all of it again.
func (b *Bench) Play(f *harness.Fault, args harness.Args) Report {
	b.t.Helper()
	var r Report
	old := b.Dial()
	if got := old.Request(); got != Replied {
		b.t.Fatalf("before the fault: %s", got)
	}
	before := b.executed.Load()

	inj := b.Inject(f, args)
	r.Idle, r.Unit = inj.Acted(), inj.Unit
	start := time.Now()
	r.Old.During = old.Request()
	r.Took = time.Since(start)
	fresh := b.Dial()
	r.New.During = fresh.Request()
	r.Executed = b.executed.Load() - before

	b.Heal(inj)
	r.Old.After, r.New.After = old.settle(r.Old.During), fresh.settle(r.New.During)
	r.Late = b.executed.Load() - before - r.Executed
	r.Old.After, r.New.After = old.again(r.Old.After), fresh.again(r.New.After)
	r.Next = b.Dial().Request()
	r.Acted = inj.Acted()
	return r
}

// Effect returns the class of what was seen.
func (r Report) Effect() harness.Effect {
	var answered int64
	for _, l := range []Life{r.Old, r.New} {
		if l.During == Replied || l.During == Silent && l.After == Replied {
			answered++
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
	c   net.Conn
	err error // why there is none
}

// Dial connects to the link. A connection that is refused fails at its first request.
func (b *Bench) Dial() *Conn {
	c, err := net.DialTimeout("tcp", b.Link.Addr(), soon)
	conn := &Conn{c, err}
	b.t.Cleanup(conn.Close)
	return conn
}

// Request sends a request and waits for the reply.
func (c *Conn) Request() Outcome {
	c.Send()
	return c.reply(patience)
}

// Send sends a request and waits for nothing.
func (c *Conn) Send() {
	if c.err == nil {
		c.c.SetDeadline(time.Now().Add(patience))
		_, c.err = io.WriteString(c.c, "inc\n")
	}
}

// Close closes the connection.
func (c *Conn) Close() {
	if c.c != nil {
		c.c.Close()
	}
}

// reply waits for a reply.
func (c *Conn) reply(wait time.Duration) Outcome {
	n := 0
	if c.err == nil {
		c.c.SetDeadline(time.Now().Add(wait))
		var line [9]byte
		n, c.err = io.ReadFull(c.c, line[:])
	}
	var late net.Error
	switch {
	case c.err == nil:
		return Replied
	case n > 0:
		return Torn
	case errors.As(c.err, &late) && late.Timeout():
		c.err = nil // it may still come
		return Silent
	case errors.Is(c.err, syscall.ECONNRESET), errors.Is(c.err, syscall.EPIPE):
		return Reset
	}
	return Closed
}

// settle waits for what was silent during the fault.
func (c *Conn) settle(during Outcome) Outcome {
	if during != Silent {
		return during
	}
	return c.reply(soon)
}

// again sends one more request on a connection that has survived.
func (c *Conn) again(so Outcome) Outcome {
	if so != Replied {
		return so
	}
	return c.Request()
}
