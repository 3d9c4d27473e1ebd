package link

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
	"github.com/shakedown-go/shakedown/harness/link/linktest"
)

// A rate bounds each connection from below by itself, and is used up to a good part.
func TestRate(t *testing.T) {
	t.Parallel()
	const size = 30_000
	l := listen(t, serve(t, func(c *net.TCPConn) {
		var b [1]byte
		for {
			if _, err := c.Read(b[:]); err != nil {
				return
			}
			c.Write(make([]byte, size))
		}
	}))
	c := dial(t, l.Addr())
	harnesstest.Within(t, 600*time.Millisecond, func() time.Duration {
		inj := disturb(t, l, harness.Toxic{Dir: harness.Down, Rate: 100}) // 300ms
		start := time.Now()
		send(t, c, "x")
		c.SetReadDeadline(time.Now().Add(soon))
		if _, err := io.CopyN(io.Discard, c, size); err != nil {
			t.Fatal(err)
		}
		took := time.Since(start)
		if took < 290*time.Millisecond {
			t.Fatalf("%d bytes took %s at 100 kB/s", size, took)
		}
		acted(t, inj, size, "bytes")
		heal(t, inj)
		return took
	})
}

// A connection that was idle has saved nothing up: the first reply is slow, too.
func TestRateGivesNoCredit(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	roundTrip(t, c, "warm")
	disturb(t, l, harness.Toxic{Dir: harness.Down, Rate: 1})
	for range 3 {
		time.Sleep(while)
		start := time.Now()
		roundTrip(t, c, strings.Repeat("x", 40))
		if took := time.Since(start); took < 40*time.Millisecond {
			t.Fatalf("40 bytes took %s at 1 kB/s", took)
		}
	}
}

func TestRateHealsAtOnce(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	inj := disturb(t, l, harness.Toxic{Rate: 1})
	sent := strings.Repeat("x", 1<<20) // a quarter of an hour
	go io.WriteString(c, sent)
	eventually(t, "the queue is full", func() bool { return inj.Acted() > 100_000 })
	heal(t, inj)
	expect(t, c, sent)
}

func TestSlice(t *testing.T) {
	t.Parallel()
	const gap = 10 * time.Millisecond
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	roundTrip(t, c, "warm")
	inj := disturb(t, l, harness.Toxic{Dir: harness.Down, Slice: 3, Gap: gap})
	start := time.Now()
	send(t, c, "1234567")
	// A reader that is always there sees the pieces. On a busy machine it may see two as one.
	var got []string
	for n := 0; n < 7; {
		var b [64]byte
		c.SetReadDeadline(time.Now().Add(soon))
		k, err := c.Read(b[:])
		if err != nil {
			t.Fatal(err)
		}
		got, n = append(got, string(b[:k])), n+k
	}
	if strings.Join(got, "") != "1234567" || len(got[0])%3 != 0 {
		t.Errorf("got %q, want pieces of 3 bytes", got)
	}
	if took := time.Since(start); took < 2*gap {
		t.Errorf("3 pieces took %s, want two gaps of %s", took, gap)
	}
	acted(t, inj, 7, "bytes")
	heal(t, inj)
	roundTrip(t, c, "1234567")
	acted(t, inj, 7, "bytes")
}

// TestWhatPassesInOnePieceIsNotSliced: nor is it counted as if it were.
func TestWhatPassesInOnePieceIsNotSliced(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	only := disturb(t, l, harness.Toxic{Dir: harness.Down, Slice: 7, Gap: time.Millisecond})
	slow := disturb(t, l, harness.Toxic{Dir: harness.Down, Slice: 7, Delay: time.Millisecond})
	roundTrip(t, c, "1234567")
	acted(t, only, 0, "bytes")
	acted(t, slow, 7, "bytes")
	heal(t, only)
	heal(t, slow)
}

// TestSlowLinksKeepOrder sends much through everything that slows a link down, all at once.
func TestSlowLinksKeepOrder(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	disturb(t, l, harness.Toxic{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond})
	disturb(t, l, harness.Toxic{Rate: 2000})
	disturb(t, l, harness.Toxic{Rate: 4000, Joint: true, Burst: 1})
	disturb(t, l, harness.Toxic{Dir: harness.Up, Slice: 1000, Linger: time.Millisecond})
	sent := make([]byte, 200_000)
	rand.NewChaCha8([32]byte{}).Read(sent)
	go func() {
		c.Write(sent)
		c.CloseWrite()
	}()
	if got, err := ended(c); err != nil || !bytes.Equal([]byte(got), sent) {
		t.Fatalf("%d of %d bytes came back, %v; a prefix: %t", len(got), len(sent), err, strings.HasPrefix(string(sent), got))
	}
}

func TestLinger(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, func(c *net.TCPConn) {
		var b [3]byte
		io.ReadFull(c, b[:])
		c.Write(b[:])
	}))
	for _, healed := range []bool{false, true} {
		delay := 60 * time.Millisecond
		if healed {
			delay = longest
		}
		c := dial(t, l.Addr())
		inj := disturb(t, l, harness.Toxic{Dir: harness.Down, Linger: delay})
		start := time.Now()
		roundTrip(t, c, "bye") // bytes are not held
		eventually(t, "the end is held", func() bool { return inj.Acted() == 1 })
		acted(t, inj, 1, "connections")
		if healed {
			silent(t, c)
			heal(t, inj)
		}
		if got, err := ended(c); got != "" || err != nil {
			t.Errorf("healed %t: got %q, %v; want the end", healed, got, err)
		}
		if took := time.Since(start); !healed && took < delay {
			t.Errorf("the end came after %s, want %s", took, delay)
		}
		if !healed {
			heal(t, inj)
		}
	}
}

func TestExpire(t *testing.T) {
	t.Parallel()
	const after = 100 * time.Millisecond
	l := listen(t, serve(t, echo))
	idle, busy := dial(t, l.Addr()), dial(t, l.Addr())
	roundTrip(t, idle, "warm")
	roundTrip(t, busy, "warm")
	start := time.Now()
	inj := disturb(t, l, harness.Toxic{Dir: harness.Up, Drop: true, Expire: after})
	if inj.Unit != "bytes and connections" {
		t.Errorf("it counts %s", inj.Unit)
	}
	fresh := dial(t, l.Addr())
	send(t, busy, "hello")
	send(t, fresh, "hello")
	for _, c := range []net.Conn{idle, busy, fresh} {
		if got, err := ended(c); got != "" || err != nil {
			t.Errorf("got %q, %v; want the end", got, err)
		}
		if took := time.Since(start); took < after {
			t.Errorf("closed after %s, want %s", took, after)
		}
	}
	eventually(t, "all is counted", func() bool { return inj.Acted() == 10+3 })
	heal(t, inj)
	roundTrip(t, dial(t, l.Addr()), "new")
}

// What comes puts the close off.
func TestExpireWaitsForSilence(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	inj := disturb(t, l, harness.Toxic{Dir: harness.Up, Drop: true, Expire: time.Second})
	for range 15 {
		send(t, c, "x")
		time.Sleep(100 * time.Millisecond)
	}
	if inj.Acted() != 15 {
		t.Errorf("%d bytes were lost and connections closed, want 15 bytes", inj.Acted())
	}
	heal(t, inj)
	wantReset(t, c)
}

func TestCloseEndsConnectionsInGoodOrder(t *testing.T) {
	t.Parallel()
	saw := make(chan error, 1)
	l := listen(t, serve(t, func(c *net.TCPConn) {
		io.WriteString(c, "hi")
		_, err := ended(c)
		saw <- err
	}))
	c := dial(t, l.Addr())
	expect(t, c, "hi")
	inj := disturb(t, l, harness.Toxic{Refuse: true, Close: true})
	acted(t, inj, 1, "connections")
	if got, err := ended(c); got != "" || err != nil {
		t.Errorf("the client got %q, %v; want the end", got, err)
	}
	if err := <-saw; err != nil {
		t.Errorf("the server saw %v, want the end", err)
	}
	linktest.Refused(t, l.Addr())
	acted(t, inj, 2, "connections")
	heal(t, inj)
	expect(t, dial(t, l.Addr()), "hi")
}

func TestTraffic(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, func(c *net.TCPConn) {
		var b [5]byte
		io.ReadFull(c, b[:])
		c.Write(b[:4])
	}))
	c := dial(t, l.Addr())
	send(t, c, "hello")
	expect(t, c, "hell")
	if got, err := ended(c); got != "" || err != nil {
		t.Fatal(got, err)
	}
	want := Traffic{Up: 5, Down: 4, DownEnds: 1, HungUp: 1}
	if got := l.Traffic(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	c.Close()
	want.UpEnds = 1
	eventually(t, "the client's end is counted", func() bool { return l.Traffic() == want })
	eventually(t, "the connection is gone", func() bool { return l.Stats().Open == 0 })
	if got := l.Traffic(); got != want {
		t.Errorf("afterwards %+v, want %+v", got, want)
	}
	l.SetUpstream("127.0.0.1:1")
	linktest.Refused(t, l.Addr())
	want.HungUp++
	if got := l.Traffic(); got.HungUp != 2 {
		t.Errorf("a dependency that is not there: %+v, want %+v", got, want)
	}
}

func TestCloseEndsWhatWaits(t *testing.T) {
	before := runtime.NumGoroutine()
	l := listen(t, "127.0.0.1:1")
	disturb(t, l, harness.Toxic{Drop: true, Expire: longest})
	l.Close()
	l.Reset()
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
	if _, err := net.Dial("tcp", l.Addr()); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("the link still listens: %v", err)
	}
}

// The verdict on a connection is drawn once, by the seed: what else comes and goes on the
// link does not change it.
func TestShare(t *testing.T) {
	t.Parallel()
	const conns = 60
	verdicts := func(seed uint64) string {
		l := listen(t, serve(t, echo))
		var all []*net.TCPConn
		for range conns / 2 {
			all = append(all, dial(t, l.Addr()))
			roundTrip(t, all[len(all)-1], "x")
		}
		inj := disturb(t, l, harness.Toxic{Dir: harness.Up, Hold: true, Share: 0.5, Seed: seed})
		other := disturb(t, l, harness.Toxic{Delay: time.Millisecond})
		for range conns / 2 {
			all = append(all, dial(t, l.Addr()))
		}
		heard := func() string {
			b := bytes.Repeat([]byte("#"), len(all))
			var reading sync.WaitGroup
			for i, c := range all {
				reading.Go(func() {
					c.SetReadDeadline(time.Now().Add(10 * while))
					if n, _ := c.Read(make([]byte, 9)); n > 0 {
						b[i] = '.'
					}
				})
			}
			reading.Wait()
			return string(b)
		}
		before := l.Stats().Down
		for _, c := range all {
			send(t, c, "hello")
		}
		eventually(t, "all is held or back", func() bool { return l.Stats().Down-before+inj.Acted() == 5*conns })
		b := heard()
		heal(t, other)
		if late := heard(); strings.Contains(late, ".") {
			t.Errorf("another toxic has changed the verdicts %s: %s", b, late)
		}
		heal(t, inj)
		held := strings.Count(b, "#")
		if held < conns/5 || held > conns*4/5 || inj.Acted() != int64(5*held) {
			t.Errorf("seed %d: %d of %d connections are held, %d bytes: %s", seed, held, conns, inj.Acted(), b)
		}
		return b
	}
	first := verdicts(1)
	if again := verdicts(1); again != first {
		t.Errorf("not repeatable: %s and %s", first, again)
	}
	pairs := 0 // neighbours with different verdicts
	for i := 1; i+1 < len(first); i += 2 {
		if first[i] != first[i+1] {
			pairs++
		}
	}
	if pairs < conns/10 || pairs > conns*2/5 {
		t.Errorf("of %d pairs of neighbours %d differ: %s", conns/2-1, pairs, first)
	}
	if other := verdicts(2); other == first {
		t.Errorf("another seed is no other: %s", other)
	}
}

func TestShareOfNewConnectionsIsRefused(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	inj := disturb(t, l, harness.Toxic{Refuse: true, Share: 0.5, Seed: 3})
	refused := 0
	for range 60 {
		c, err := net.DialTimeout("tcp", l.Addr(), soon)
		if err == nil {
			defer c.Close()
			c.Write([]byte("x"))
			c.SetReadDeadline(time.Now().Add(soon))
			_, err = c.Read(make([]byte, 1))
		}
		if err != nil {
			refused++
		}
	}
	if refused < 12 || refused > 48 || inj.Acted() != int64(refused) {
		t.Errorf("%d of 60 connections were refused, %d counted", refused, inj.Acted())
	}
}

func TestResetSparesASide(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		spare          harness.Dir
		client, server bool // gets a reset
	}{"nobody": {harness.Both, true, true}, "the dependency": {harness.Up, true, false}, "the client": {harness.Down, false, true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seen := make(chan error, 1)
			l := listen(t, serve(t, func(c *net.TCPConn) {
				b := make([]byte, 1)
				c.Read(b)
				c.Write(b)
				_, err := c.Read(b)
				seen <- err
			}))
			c := dial(t, l.Addr())
			roundTrip(t, c, "x")
			acted(t, disturb(t, l, harness.Toxic{Reset: true, Spare: tt.spare}), 1, "connections")
			_, err := ended(c)
			if got := errors.Is(err, syscall.ECONNRESET); got != tt.client || !got && err != nil {
				t.Errorf("the client sees %v", err)
			}
			if err := <-seen; errors.Is(err, syscall.ECONNRESET) != tt.server || !tt.server && err != io.EOF {
				t.Errorf("the dependency sees %v", err)
			}
		})
	}
}

func TestConnectionsOfAnAgeAreEnded(t *testing.T) {
	t.Parallel()
	const age = time.Second // of which the test takes little
	const lives, reset, closed = "it lives on", "a reset", "an end"
	for _, tt := range []struct {
		toxic      harness.Toxic
		old, fresh string
	}{
		{harness.Toxic{Reset: true}, reset, lives},
		{harness.Toxic{Close: true}, closed, lives},
		{harness.Toxic{Refuse: true}, lives, reset},
		{harness.Toxic{Refuse: true, Orderly: true}, lives, closed},
		{harness.Toxic{Refuse: true, Reset: true}, reset, reset},
		{harness.Toxic{Refuse: true, Close: true, Orderly: true}, closed, closed},
		{harness.Toxic{Refuse: true, Close: true}, closed, reset},
		{harness.Toxic{Refuse: true, Reset: true, Orderly: true}, reset, closed},
	} {
		t.Run(fmt.Sprintf("old %s, new %s", tt.old, tt.fresh), func(t *testing.T) {
			t.Parallel()
			l := listen(t, serve(t, echo))
			old := dial(t, l.Addr())
			roundTrip(t, old, "x")
			start := time.Now()
			tt.toxic.Age = age
			inj := disturb(t, l, tt.toxic)
			acted(t, inj, 0, "connections")
			fresh := dial(t, l.Addr())
			var ends int64
			for what, want := range map[*net.TCPConn]string{old: tt.old, fresh: tt.fresh} {
				if want == lives {
					continue
				}
				ends++
				got := closed
				if _, err := ended(what); errors.Is(err, syscall.ECONNRESET) {
					got = reset
				} else if err != nil {
					t.Error(err)
				}
				if took := time.Since(start); got != want || took < age {
					t.Errorf("got %s after %s, want %s after %s", got, took, want, age)
				}
			}
			acted(t, inj, ends, "connections")
			for what, want := range map[*net.TCPConn]string{old: tt.old, fresh: tt.fresh} {
				if want == lives {
					roundTrip(t, what, lives)
				}
			}
			last := dial(t, l.Addr())
			heal(t, inj)
			time.Sleep(age + while)
			roundTrip(t, last, lives)
			acted(t, inj, ends, "connections")
		})
	}
}

// Until it is old enough, a new connection is served.
func TestNewConnectionsAreServedForAWhile(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	inj := disturb(t, l, harness.Toxic{Refuse: true, Orderly: true, Age: longest})
	roundTrip(t, dial(t, l.Addr()), "hello")
	acted(t, inj, 0, "connections")
}

func TestPiecesVary(t *testing.T) {
	t.Parallel()
	f := newRules([]*toxic{{Toxic: harness.Toxic{Slice: 8, Vary: 4, Seed: 5}}}).flows[up]
	sizes := map[int]bool{}
	for n := range uint64(200) {
		c := chunk{bytes: make([]byte, 100), n: n}
		size := f.piece(1, up, c)
		if again := f.piece(1, up, c); again != size || size < 4 || size > 12 {
			t.Fatalf("a piece of %d bytes, then of %d", size, again)
		}
		sizes[size] = true
	}
	if len(sizes) != 9 {
		t.Errorf("%d sizes, want those from 4 to 12", len(sizes))
	}
}
