package link

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
	"github.com/shakedown-go/shakedown/harness/link/linktest"
)

const soon = linktest.Soon

var (
	serve, echo, dial       = linktest.Serve, linktest.Echo, linktest.Dial
	send, expect, roundTrip = linktest.Send, linktest.Expect, linktest.RoundTrip
	heal, ended, eventually = linktest.Heal, linktest.Ended, linktest.Eventually
)

func disturb(t testing.TB, l *Link, x harness.Toxic) harness.Injection {
	t.Helper()
	return linktest.Disturb(t, l, x)
}

// while is how long a test watches that something does not happen.
const while = 50 * time.Millisecond

func listen(t testing.TB, upstream string) *Link {
	t.Helper()
	l, err := Listen("dep", upstream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// silent checks that nothing comes.
func silent(t testing.TB, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(while))
	var b [64]byte
	if n, err := c.Read(b[:]); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %q, %v; want silence", b[:n], err)
	}
}

func wantReset(t testing.TB, c net.Conn) {
	t.Helper()
	if got, err := ended(c); got != "" || !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %q, %v; want a reset", got, err)
	}
}

func acted(t testing.TB, inj harness.Injection, want int64, unit string) {
	t.Helper()
	if got := inj.Acted(); got != want || inj.Unit != unit {
		t.Fatalf("acted on %d %s, want %d %s", got, inj.Unit, want, unit)
	}
}

func TestLinkCopiesAndCounts(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	roundTrip(t, c, "hello")
	want := harness.LinkStats{Conns: 1, Open: 1, Up: 5, Down: 5}
	eventually(t, "all is counted", func() bool { return l.Stats() == want })
	c.Close()
	eventually(t, "the connection is gone", func() bool { return l.Stats().Open == 0 })
}

func TestHalfCloseIsKept(t *testing.T) {
	t.Parallel()
	t.Run("by the client", func(t *testing.T) {
		t.Parallel()
		l := listen(t, serve(t, func(c *net.TCPConn) {
			b, err := io.ReadAll(c)
			fmt.Fprintf(c, "%d bytes, %v", len(b), err)
		}))
		c := dial(t, l.Addr())
		send(t, c, "request")
		c.CloseWrite()
		if got, err := ended(c); got != "7 bytes, <nil>" || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
	})
	t.Run("by the server", func(t *testing.T) {
		t.Parallel()
		late := make(chan string, 1)
		l := listen(t, serve(t, func(c *net.TCPConn) {
			io.WriteString(c, "bye")
			c.CloseWrite()
			b, _ := io.ReadAll(c)
			late <- string(b)
		}))
		c := dial(t, l.Addr())
		if got, err := ended(c); got != "bye" || err != nil {
			t.Fatalf("got %q, %v", got, err)
		}
		send(t, c, "still here")
		c.CloseWrite()
		if got := <-late; got != "still here" {
			t.Fatalf("the server got %q", got)
		}
	})
}

func TestServersLastWordsArrive(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, func(c *net.TCPConn) {
		io.WriteString(c, "-ERR max clients\r\n")
	}))
	for range 20 {
		c := dial(t, l.Addr())
		c.Write([]byte("PING\r\n"))
		if got, _ := ended(c); got != "-ERR max clients\r\n" {
			t.Fatalf("got %q", got)
		}
	}
}

func TestUpstreamThatRefusesResetsTheClient(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	l := listen(t, ln.Addr().String())
	start := time.Now()
	linktest.Refused(t, l.Addr())
	if took := time.Since(start); took > dialTimeout/2 {
		t.Fatalf("took %s", took)
	}
	l.SetUpstream(serve(t, echo))
	roundTrip(t, dial(t, l.Addr()), "hello")
}

func TestPeersResetIsPassedOn(t *testing.T) {
	t.Parallel()
	saw := make(chan error, 1)
	l := listen(t, serve(t, func(c *net.TCPConn) {
		_, err := ended(c)
		saw <- err
	}))
	c := dial(t, l.Addr())
	send(t, c, "x")
	c.SetLinger(0)
	c.Close()
	if err := <-saw; !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the server saw %v, want a reset", err)
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	old := dial(t, l.Addr())
	roundTrip(t, old, "warm")
	trip := func(c net.Conn) time.Duration {
		start := time.Now()
		roundTrip(t, c, "12345")
		return time.Since(start)
	}
	both := disturb(t, l, harness.Toxic{Delay: 20 * time.Millisecond})
	if got := trip(old); got < 40*time.Millisecond {
		t.Fatalf("existing connection: %s, want 40ms or more", got)
	}
	acted(t, both, 10, "bytes")
	one := disturb(t, l, harness.Toxic{Dir: harness.Down, Delay: 30 * time.Millisecond})
	if got := trip(dial(t, l.Addr())); got < 70*time.Millisecond {
		t.Fatalf("new connection under two toxics: %s, want 70ms or more", got)
	}
	acted(t, one, 5, "bytes")
	acted(t, both, 20, "bytes")
	heal(t, both)
	heal(t, one)
	roundTrip(t, old, "12345")
	acted(t, both, 20, "bytes")
}

func TestHealFlushesWhatIsDelayed(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	inj := disturb(t, l, harness.Toxic{Delay: longest})
	send(t, c, "hello")
	silent(t, c)
	heal(t, inj)
	expect(t, c, "hello")
}

func TestDelayDoesNotLimitThroughput(t *testing.T) {
	t.Parallel()
	const size, delay = 3 << 20, 100 * time.Millisecond
	l := listen(t, serve(t, func(c *net.TCPConn) { io.CopyN(c, c, size) }))
	c := dial(t, l.Addr())
	disturb(t, l, harness.Toxic{Delay: delay, Jitter: 20 * time.Millisecond, Seed: 1})
	sent := make([]byte, size)
	r := rand.NewChaCha8([32]byte{})
	r.Read(sent)
	go c.Write(sent)
	start := time.Now()
	got, err := ended(c)
	if err != nil || !bytes.Equal([]byte(got), sent) {
		t.Fatalf("%d of %d bytes came back, %v, in order: %t", len(got), size, err, strings.HasPrefix(string(sent), got))
	}
	// One chunk at a time would take 96 delays in each direction.
	if took := time.Since(start); took > 20*delay {
		t.Fatalf("took %s", took)
	}
}

func TestJitterIsRepeatable(t *testing.T) {
	t.Parallel()
	x := &toxic{Toxic: harness.Toxic{Delay: 50 * time.Millisecond, Jitter: 20 * time.Millisecond, Seed: 7}}
	draws := func(x *toxic, conn uint64, dir int) (out []time.Duration) {
		for n := range uint64(1000) {
			out = append(out, x.delay(conn, dir, n))
		}
		return out
	}
	base := draws(x, 1, up)
	other := &toxic{Toxic: x.Toxic}
	other.Seed = 8
	if !slices.Equal(base, draws(x, 1, up)) {
		t.Error("the same arguments gave other delays")
	}
	for name, ds := range map[string][]time.Duration{
		"connection": draws(x, 2, up), "direction": draws(x, 1, down), "seed": draws(other, 1, up),
	} {
		if slices.Equal(base, ds) {
			t.Errorf("another %s gave the same delays", name)
		}
	}
	lo, hi := slices.Min(base), slices.Max(base)
	if lo < 30*time.Millisecond || lo > 32*time.Millisecond || hi > 70*time.Millisecond || hi < 68*time.Millisecond {
		t.Errorf("delays from %s to %s, want nearly 30ms to 70ms", lo, hi)
	}
}

func TestHold(t *testing.T) {
	t.Parallel()
	for _, dir := range []harness.Dir{harness.Both, harness.Up, harness.Down} {
		t.Run(fmt.Sprint(dir), func(t *testing.T) {
			t.Parallel()
			arrived := make(chan string, 10)
			l := listen(t, serve(t, func(c *net.TCPConn) {
				var b [64]byte
				for {
					n, err := c.Read(b[:])
					if err != nil {
						return
					}
					arrived <- string(b[:n])
					c.Write(b[:n])
				}
			}))
			old := dial(t, l.Addr())
			roundTrip(t, old, "warm")
			<-arrived
			inj := disturb(t, l, harness.Toxic{Dir: dir, Hold: true})
			acted(t, inj, 0, "bytes")
			fresh := dial(t, l.Addr())
			for _, c := range []net.Conn{old, fresh} {
				send(t, c, "hello")
				silent(t, c)
			}
			eventually(t, "all is held", func() bool { return inj.Acted() == 10 })
			if dir != harness.Down && len(arrived) > 0 {
				t.Fatal("bytes reached the server")
			}
			if dir == harness.Down && len(arrived) != 2 {
				t.Fatal("bytes did not reach the server")
			}
			heal(t, inj)
			expect(t, old, "hello")
			expect(t, fresh, "hello")
			roundTrip(t, old, "again")
			acted(t, inj, 10, "bytes")
		})
	}
}

func TestHoldTakesWhatIsDelayed(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	lag := disturb(t, l, harness.Toxic{Dir: harness.Up, Delay: longest})
	send(t, c, "hello")
	eventually(t, "the request is delayed", func() bool { return lag.Acted() == 5 })
	stall := disturb(t, l, harness.Toxic{Dir: harness.Up, Hold: true})
	eventually(t, "the request is held", func() bool { return stall.Acted() == 5 })
	heal(t, lag)
	silent(t, c)
	heal(t, stall)
	expect(t, c, "hello")
}

func TestHoldIsBounded(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	inj := disturb(t, l, harness.Toxic{Dir: harness.Up, Hold: true})
	c.SetWriteDeadline(time.Now().Add(time.Second))
	var sent int
	for block := make([]byte, 64<<10); ; {
		n, err := c.Write(block)
		sent += n
		if err != nil {
			break
		}
		if sent > 64<<20 {
			t.Fatal("64 MiB were taken")
		}
	}
	if got := inj.Acted(); got < maxQueued*3/4 || got > maxQueued+bufferSize {
		t.Fatalf("held %d bytes", got)
	}
	heal(t, inj)
	c.SetReadDeadline(time.Now().Add(soon))
	if n, err := io.CopyN(io.Discard, c, int64(sent)); err != nil {
		t.Fatalf("%d of %d bytes came back: %v", n, sent, err)
	}
}

func TestDrop(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	idle, busy := dial(t, l.Addr()), dial(t, l.Addr())
	roundTrip(t, idle, "warm")
	roundTrip(t, busy, "warm")
	inj := disturb(t, l, harness.Toxic{Dir: harness.Down, Drop: true})
	fresh := dial(t, l.Addr())
	for _, c := range []net.Conn{busy, fresh} {
		send(t, c, "hello")
		silent(t, c)
	}
	eventually(t, "all is lost", func() bool { return inj.Acted() == 10 })
	heal(t, inj)
	wantReset(t, busy)
	wantReset(t, fresh)
	roundTrip(t, idle, "never hurt")
	roundTrip(t, dial(t, l.Addr()), "new")
}

func TestDropTakesTheEndOfTheStream(t *testing.T) {
	t.Parallel()
	for _, queued := range []bool{false, true} {
		t.Run(fmt.Sprintf("queued=%t", queued), func(t *testing.T) {
			t.Parallel()
			saw := make(chan error, 1)
			l := listen(t, serve(t, func(c *net.TCPConn) {
				_, err := ended(c)
				saw <- err
			}))
			c := dial(t, l.Addr())
			eventually(t, "connected", func() bool { return l.Stats().Open == 1 })
			if queued {
				lag := disturb(t, l, harness.Toxic{Delay: longest})
				defer heal(t, lag)
				send(t, c, "x")
				eventually(t, "queued", func() bool { return lag.Acted() == 1 })
			}
			inj := disturb(t, l, harness.Toxic{Drop: true})
			c.Close()
			select {
			case err := <-saw:
				t.Fatalf("the server saw %v", err)
			case <-time.After(while):
			}
			lost := int64(1) // the end
			if queued {
				lost++
			}
			acted(t, inj, lost, "bytes")
			heal(t, inj)
			if err := <-saw; !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("the server saw %v, want a reset", err)
			}
		})
	}
}

func TestOverlappingDropsResetAtTheLastHeal(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	roundTrip(t, c, "warm")
	a := disturb(t, l, harness.Toxic{Dir: harness.Up, Drop: true})
	b := disturb(t, l, harness.Toxic{Drop: true})
	send(t, c, "hello")
	eventually(t, "lost", func() bool { return a.Acted() == 5 && b.Acted() == 5 })
	heal(t, a)
	silent(t, c)
	heal(t, b)
	wantReset(t, c)
}

func TestRefuse(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	old := dial(t, l.Addr())
	roundTrip(t, old, "warm")
	inj := disturb(t, l, harness.Toxic{Refuse: true})
	acted(t, inj, 0, "connections")
	for range 3 {
		linktest.Refused(t, l.Addr())
	}
	acted(t, inj, 3, "connections")
	roundTrip(t, old, "existing connections live on")
	heal(t, inj)
	roundTrip(t, dial(t, l.Addr()), "hello")
	acted(t, inj, 3, "connections")
}

func TestReset(t *testing.T) {
	t.Parallel()
	saw := make(chan error, 1)
	l := listen(t, serve(t, func(c *net.TCPConn) {
		io.WriteString(c, "hi")
		_, err := ended(c)
		saw <- err
	}))
	c := dial(t, l.Addr())
	expect(t, c, "hi")
	inj := disturb(t, l, harness.Toxic{Reset: true})
	acted(t, inj, 1, "connections")
	wantReset(t, c)
	if err := <-saw; !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("the server saw %v, want a reset", err)
	}
	expect(t, dial(t, l.Addr()), "hi")
	acted(t, inj, 1, "connections")
}

func TestCut(t *testing.T) {
	t.Parallel()
	tests := []struct {
		after int64
		want  string // of two replies of five bytes
	}{{0, ""}, {3, "abc"}, {5, "abcde"}, {7, "abcdeab"}}
	for _, tt := range tests {
		for how, want := range map[string]error{"reset": syscall.ECONNRESET, "in good order": nil} {
			t.Run(fmt.Sprint(tt.after, " ", how), func(t *testing.T) {
				t.Parallel()
				l := listen(t, serve(t, echo))
				c := dial(t, l.Addr())
				roundTrip(t, c, "bytes before do not count")
				inj := disturb(t, l, harness.Toxic{Dir: harness.Down, Cut: true, CutAfter: tt.after, Orderly: want == nil})
				acted(t, inj, 0, "connections")
				send(t, c, "abcde")
				left := tt.want
				if tt.after >= 5 {
					expect(t, c, "abcde")
					left = tt.want[5:]
					send(t, c, "abcde")
				}
				if got, err := ended(c); got != left || !errors.Is(err, want) {
					t.Fatalf("got %q, %v; want %q and %v", got, err, left, want)
				}
				acted(t, inj, 1, "connections")
				heal(t, inj)
				roundTrip(t, dial(t, l.Addr()), "hello")
			})
		}
	}
}

func TestLinkResetHealsEverything(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	roundTrip(t, c, "warm")
	hold := disturb(t, l, harness.Toxic{Hold: true})
	refuse := disturb(t, l, harness.Toxic{Refuse: true})
	send(t, c, "hello")
	eventually(t, "held", func() bool { return hold.Acted() == 5 })
	l.Reset()
	expect(t, c, "hello")
	roundTrip(t, dial(t, l.Addr()), "new")

	again := disturb(t, l, harness.Toxic{Dir: harness.Down, Hold: true})
	heal(t, hold)
	heal(t, refuse)
	send(t, c, "hello")
	silent(t, c)
	heal(t, again)
	expect(t, c, "hello")
}

func TestDisturbRejects(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	for name, x := range map[string]harness.Toxic{
		"nothing":        {Dir: harness.Up, Seed: 1},
		"direction":      {Dir: 3, Hold: true},
		"negative delay": {Delay: -1},
		"huge jitter":    {Jitter: longest + 1},
		"negative cut":   {Cut: true, CutAfter: -1},
		"negative rate":  {Rate: -1},
		"negative slice": {Slice: -1},
		"gap alone":      {Gap: 1},
		"huge gap":       {Slice: 1, Gap: longest + 1},
		"huge linger":    {Linger: longest + 1},
		"expiry alone":   {Hold: true, Expire: 1},
		"large share":    {Hold: true, Share: 1.1},
		"no share":       {Hold: true, Share: math.NaN()},
		"age alone":      {Hold: true, Age: 1},
		"varies by all":  {Slice: 4, Vary: 4},
	} {
		if _, err := l.Disturb(t.Context(), x); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	l.Close()
	if _, err := l.Disturb(t.Context(), harness.Toxic{Hold: true}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed link: %v", err)
	}
}

func TestCloseDoesNotWaitForPeers(t *testing.T) {
	tests := map[string]struct {
		upstream string
		toxic    harness.Toxic
	}{
		"black-holed upstream":      {upstream: linktest.Deaf(t)},
		"stalled readers":           {upstream: serve(t, linktest.Flood)},
		"stalled readers, delayed":  {upstream: serve(t, linktest.Flood), toxic: harness.Toxic{Delay: time.Millisecond}},
		"stalled readers, held":     {upstream: serve(t, linktest.Flood), toxic: harness.Toxic{Hold: true}},
		"stalled readers, drop":     {upstream: serve(t, linktest.Flood), toxic: harness.Toxic{Dir: harness.Up, Drop: true}},
		"held beyond the bound, up": {upstream: serve(t, echo), toxic: harness.Toxic{Dir: harness.Up, Hold: true}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			harnesstest.Within(t, 250*time.Millisecond, func() time.Duration {
				l := listen(t, tt.upstream)
				if tt.toxic != (harness.Toxic{}) {
					disturb(t, l, tt.toxic)
				}
				for range 10 {
					c := dial(t, l.Addr())
					c.SetWriteDeadline(time.Now().Add(while))
					c.Write(make([]byte, 8<<20))
				}
				start := time.Now()
				l.Close()
				return time.Since(start)
			})
			eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before+10 }) // the server's own
		})
	}
}
