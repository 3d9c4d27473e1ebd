package link

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// deaf skips the test where links cannot be deaf.
func deaf(t testing.TB) {
	t.Helper()
	l := listen(t, "127.0.0.1:1")
	inj, err := l.Disturb(t.Context(), harness.Toxic{Deaf: true})
	if errors.Is(err, harness.ErrNotHere) && runtime.GOOS != "linux" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	heal(t, inj)
}

// unanswered wants that a connect does not come about.
func unanswered(t testing.TB, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, while)
	if err == nil {
		c.Close()
	}
	if !timedOut(err) {
		t.Fatalf("the connect came to %v, want no answer", err)
	}
}

// timedOut reports whether an error says that time was up.
func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// connecting is a connect that is under way.
type connecting chan *net.TCPConn

func connect(t testing.TB, addr string) connecting {
	c := make(connecting, 1)
	go func() {
		defer close(c)
		if s, err := net.DialTimeout("tcp", addr, soon); err == nil {
			c <- s.(*net.TCPConn)
		}
	}()
	t.Cleanup(func() {
		if s := <-c; s != nil {
			s.Close()
		}
	})
	return c
}

// Who connects while a link is deaf connects when it hears again: the kernel asks once more.
func TestDeaf(t *testing.T) {
	t.Parallel()
	deaf(t)
	upstream, conns := counted(t)
	l := listen(t, upstream)
	old := dial(t, l.Addr())
	roundTrip(t, old, "warm")
	inj := disturb(t, l, harness.Toxic{Deaf: true})
	acted(t, inj, 0, "SYNs and connections")
	unanswered(t, l.Addr())
	acted(t, inj, 1, "SYNs and connections")
	roundTrip(t, old, "lives on")
	pending := connect(t, l.Addr())
	eventually(t, "its SYN is lost", func() bool { return inj.Acted() == 2 })
	heal(t, inj)
	roundTrip(t, dial(t, l.Addr()), "new")
	asked := <-pending
	if asked == nil {
		t.Fatal("the connect has failed")
	}
	t.Cleanup(func() { asked.Close() })
	roundTrip(t, asked, "late")
	if n := inj.Acted(); n < 2 { // a slow machine has let the kernel ask again
		t.Errorf("%d SYNs were lost", n)
	}
	if n, s := conns.Load(), l.Stats(); n != 3 || s.Conns != 3 || s.Open != 3 {
		t.Errorf("the server has seen %d connections, and the link %+v: want 3", n, s)
	}
}

func TestDeafOnOtherAddresses(t *testing.T) {
	t.Parallel()
	deaf(t)
	upstream := serve(t, echo)
	for _, at := range []string{"127.0.0.1:0", "[::1]:0", ":0", "0.0.0.0:0", "[::]:0"} {
		l, err := ListenAt(at, "dep", upstream)
		if err != nil && strings.HasPrefix(at, "[") {
			t.Logf("%s: %v", at, err) // a machine without it
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		inj := disturb(t, l, harness.Toxic{Deaf: true})
		unanswered(t, l.Addr())
		acted(t, inj, 1, "SYNs and connections")
		heal(t, inj)
		roundTrip(t, dial(t, l.Addr()), "hello")
	}
}

// Several toxics that make a link deaf count the same SYNs, each while it is in force.
func TestDeafTwice(t *testing.T) {
	t.Parallel()
	deaf(t)
	l := listen(t, serve(t, echo))
	first := disturb(t, l, harness.Toxic{Deaf: true})
	unanswered(t, l.Addr())
	second := disturb(t, l, harness.Toxic{Deaf: true})
	unanswered(t, l.Addr())
	heal(t, first)
	unanswered(t, l.Addr())
	heal(t, second)
	roundTrip(t, dial(t, l.Addr()), "hello")
	acted(t, first, 2, "SYNs and connections")
	acted(t, second, 2, "SYNs and connections")
}

// Nothing that is done to connections is done to those that do not come about.
func TestDeafBesideOthers(t *testing.T) {
	t.Parallel()
	deaf(t)
	for name, x := range map[string]harness.Toxic{
		"refuse": {Refuse: true},
		"hang":   {Hang: true},
		"over":   {Refuse: true, Over: 1},
		"flap":   {Refuse: true, Reset: true, On: 2 * time.Millisecond, Off: 2 * time.Millisecond},
		"slow":   {Delay: time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := listen(t, serve(t, echo))
			other := disturb(t, l, x)
			inj := disturb(t, l, harness.Toxic{Deaf: true})
			unanswered(t, l.Addr())
			acted(t, inj, 1, "SYNs and connections")
			if n := other.Acted(); n != 0 {
				t.Errorf("%s acted on %d %s", name, n, other.Unit)
			}
			heal(t, other)
			unanswered(t, l.Addr())
			heal(t, inj)
			roundTrip(t, dial(t, l.Addr()), "hello")
		})
	}
}

// Those who had connected before are served, though nobody had accepted them yet.
func TestWhoConnectedBeforeALinkIsDeafIsServed(t *testing.T) {
	t.Parallel()
	deaf(t)
	l := listen(t, serve(t, echo))
	var clients sync.WaitGroup
	stop := make(chan struct{})
	var served, lost, silentOnes atomic.Int64
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := net.DialTimeout("tcp", l.Addr(), 20*time.Millisecond)
				if err != nil {
					lost.Add(1)
					continue
				}
				c.SetDeadline(time.Now().Add(soon))
				io.WriteString(c, "x")
				if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
					served.Add(1)
				} else {
					silentOnes.Add(1)
				}
				c.(*net.TCPConn).SetLinger(0) // no port is to wait
				c.Close()
			}
		})
	}
	for range 200 {
		inj := disturb(t, l, harness.Toxic{Deaf: true})
		time.Sleep(time.Millisecond)
		heal(t, inj)
		before := served.Load()
		eventually(t, "somebody is served", func() bool { return served.Load() > before })
	}
	close(stop)
	clients.Wait()
	if silentOnes.Load() > 0 || lost.Load() == 0 {
		t.Errorf("%d were served, %d connects were lost, %d connections got no reply", served.Load(), lost.Load(), silentOnes.Load())
	}
	eventually(t, "all are gone", func() bool { return l.Stats().Open == 0 })
	if n := l.Stats().Conns; n < served.Load() {
		t.Errorf("%d connections came, and %d were served", n, served.Load())
	}
}

func TestDeafByTheClock(t *testing.T) {
	t.Parallel()
	deaf(t)
	l := listen(t, serve(t, echo))
	inj := disturb(t, l, harness.Toxic{Deaf: true, TTL: 4 * while})
	unanswered(t, l.Addr())
	eventually(t, "it hears again", func() bool {
		c, err := net.DialTimeout("tcp", l.Addr(), while)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if err := inj.Heal(context.Background()); !errors.Is(err, harness.ErrExpired) {
		t.Errorf("got %v, want %v", err, harness.ErrExpired)
	}

	inj = disturb(t, l, harness.Toxic{Deaf: true, On: while, Off: while})
	heard := func(want bool) func() bool {
		return func() bool {
			c, err := net.DialTimeout("tcp", l.Addr(), while/5)
			if err == nil {
				c.Close()
			}
			return (err == nil) == want
		}
	}
	for range 3 {
		eventually(t, "it is deaf", heard(false))
		eventually(t, "it hears", heard(true))
	}
	heal(t, inj)
	roundTrip(t, dial(t, l.Addr()), "hello")
}

func TestDeafAndReset(t *testing.T) {
	t.Parallel()
	deaf(t)
	l := listen(t, serve(t, echo))
	old := dial(t, l.Addr())
	roundTrip(t, old, "warm")
	inj := disturb(t, l, harness.Toxic{Deaf: true, Reset: true})
	wantReset(t, old)
	acted(t, inj, 1, "SYNs and connections")
	unanswered(t, l.Addr())
	acted(t, inj, 2, "SYNs and connections")
	if err := l.Reset(); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, dial(t, l.Addr()), "hello")
	heal(t, inj)
	acted(t, inj, 2, "SYNs and connections")
}

func TestDeafLinkCanBeClosed(t *testing.T) {
	deaf(t)
	upstream := serve(t, echo)
	had := count(t)
	l := listen(t, upstream)
	inj := disturb(t, l, harness.Toxic{Deaf: true, TTL: time.Minute})
	unanswered(t, l.Addr())
	start := time.Now()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > soon/4 {
		t.Errorf("the close took %s", took)
	}
	heal(t, inj)
	acted(t, inj, 1, "SYNs and connections")
	if c, err := net.DialTimeout("tcp", l.Addr(), soon); err == nil || timedOut(err) {
		if c != nil {
			c.Close()
		}
		t.Errorf("a connect to a closed link came to %v, want a refusal", err)
	}
	if _, err := l.Disturb(t.Context(), harness.Toxic{Deaf: true}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want %v", err, net.ErrClosed)
	}
	nothingLeft(t, had)
}

// TestDeafStorm makes a link deaf and lets it hear again from many sides.
func TestDeafStorm(t *testing.T) {
	deaf(t)
	upstream := serve(t, echo)
	had := count(t)
	l := listen(t, upstream)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for n := range 100 {
				inj, err := l.Disturb(context.Background(), harness.Toxic{Deaf: true, Reset: n%3 == 0, TTL: time.Duration(n%5) * time.Millisecond})
				if err != nil {
					t.Error(err)
					return
				}
				if n%4 == i {
					if err := l.Reset(); err != nil {
						t.Error(err)
					}
				}
				if err := inj.Heal(context.Background()); err != nil && !errors.Is(err, harness.ErrExpired) {
					t.Error(err)
				}
				inj.Acted()
			}
		})
	}
	all.Wait()
	c := dial(t, l.Addr())
	roundTrip(t, c, "hello")
	if n := l.Stats().Conns; n != 1 {
		t.Errorf("%d connections came, want 1: ours are none", n)
	}
	c.Close()
	l.Close()
	nothingLeft(t, had)
}
