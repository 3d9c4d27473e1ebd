package link

import (
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
)

// TestRateIsPaid turns the clock by hand. Times are in milliseconds, in which so many bytes pass
// as the rate says.
func TestRateIsPaid(t *testing.T) {
	t.Parallel()
	type piece struct {
		ready, bytes int
		due          int
	}
	for _, tt := range []struct {
		name   string
		toxic  harness.Toxic
		pieces []piece
	}{
		{"no burst", harness.Toxic{Rate: 10}, []piece{{0, 100, 10}, {0, 100, 20}, {500, 100, 510}, {505, 50, 515}}},
		{"a burst at the beginning", harness.Toxic{Rate: 10, Burst: 1}, []piece{{1000, 600, 1000}, {1000, 400, 1000}, {1000, 100, 1010}, {1000, 100, 1020}}},
		{"a part of it is saved up", harness.Toxic{Rate: 10, Burst: 1}, []piece{{1000, 1000, 1000}, {1050, 500, 1050}, {1050, 10, 1051}}},
		{"no more than all of it is", harness.Toxic{Rate: 10, Burst: 1}, []piece{{1000, 1000, 1000}, {9000, 1000, 9000}, {9000, 100, 9010}}},
		{"more than a burst at once", harness.Toxic{Rate: 10, Burst: 1}, []piece{{1000, 3000, 1200}, {1000, 10, 1201}, {1250, 490, 1250}}},
	} {
		x := &toxic{Toxic: tt.toxic}
		begin := time.Now()
		at := func(ms int) time.Time { return begin.Add(time.Duration(ms) * time.Millisecond) }
		var paid time.Time
		for i, p := range tt.pieces {
			paid = x.pay(at(p.ready), paid, p.bytes)
			if got := later(at(p.ready), paid); !got.Equal(at(p.due)) {
				t.Errorf("%s: piece %d passes after %s, want %dms", tt.name, i, got.Sub(begin), p.due)
			}
		}
	}
}

// TestTurns lets three connections that have much to send and one that has little share a rate,
// by a clock that is turned by hand.
func TestTurns(t *testing.T) {
	t.Parallel()
	x := &toxic{Toxic: harness.Toxic{Rate: 100, Joint: true}}
	sizes := []int{2000, 2000, 10, 2000}
	pipes := make([]*pipe, len(sizes))
	for i := range pipes {
		pipes[i] = &pipe{}
		pipes[i].init(nil, down)
	}
	begin := time.Now()
	var until time.Time
	var order []int
	sum := 0
	for range 40 {
		first := -1
		for i, p := range pipes { // those that have passed come behind those that wait
			if at, mine := p.turn(x, begin, sizes[i]); mine {
				if first >= 0 {
					t.Fatalf("it is the turn of %d and of %d", first, i)
				}
				first, until = i, at
			}
		}
		sum += sizes[first]
		order = append(order, first)
		pipes[first].line.passed(until)
		pipes[first].leave()
		if next := x.lines[down].waiting[0]; len(next.wake) == 0 {
			t.Fatal("the next is not called")
		}
	}
	for round := range slices.Chunk(order, len(pipes)) {
		if !slices.Equal(round, order[:len(pipes)]) || len(slices.Compact(slices.Sorted(slices.Values(round)))) < len(pipes) {
			t.Fatalf("they do not take turns: %v", order)
		}
	}
	if got, want := until.Sub(begin), time.Duration(sum/100)*time.Millisecond; got != want {
		t.Errorf("%d bytes took %s, want %s", sum, got, want)
	}

	// Who leaves keeps nobody waiting, wherever in the queue it was.
	for i, p := range pipes {
		p.turn(x, begin, sizes[i])
	}
	waiting := slices.Clone(x.lines[down].waiting)
	waiting[1].leave()
	waiting[0].leave()
	if _, mine := waiting[2].turn(x, begin, 1); !mine {
		t.Error("it is nobody's turn")
	}
	waiting[2].leave()
	waiting[3].leave()
	if n := len(x.lines[down].waiting); n > 0 {
		t.Errorf("%d still wait", n)
	}
	waiting[3].leave() // twice is once
}

// pouring is a server that answers the first byte without end.
func pouring(c *net.TCPConn) {
	if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
		flood(c)
	}
}

// pour asks for what comes without end and counts it.
func pour(t *testing.T, l *Link) (*net.TCPConn, *atomic.Int64) {
	t.Helper()
	c, n := dial(t, l.Addr()), new(atomic.Int64)
	send(t, c, "x")
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 64<<10); ; {
			k, err := c.Read(b)
			n.Add(int64(k))
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return c, n
}

func TestConnectionsShareARate(t *testing.T) {
	t.Parallel()
	const conns, total = 5, 50_000
	harnesstest.Within(t, time.Second, func() time.Duration {
		l := listen(t, serve(t, pouring))
		defer l.Close()
		start := time.Now()
		inj := disturb(t, l, harness.Toxic{Dir: harness.Down, Rate: 100, Joint: true}) // half a second
		var counts [conns]*atomic.Int64
		for i := range counts {
			_, counts[i] = pour(t, l)
		}
		got := func() (each []int64, sum int64) {
			for _, n := range counts {
				each = append(each, n.Load())
				sum += each[len(each)-1]
			}
			return each, sum
		}
		eventually(t, "all have got something", func() bool {
			each, _ := got()
			return slices.Min(each) > 0
		})
		together := time.Now()
		was, before := got()
		var now []int64
		var sum int64
		eventually(t, "the bytes have come", func() bool {
			now, sum = got()
			return sum >= before+total
		})
		took := time.Since(together)
		if all := time.Since(start); all < time.Duration(sum/100)*time.Millisecond {
			t.Fatalf("%d bytes took %s at 100 kB/s", sum, all)
		}
		for i := range now { // a good part of what is fair: some of it may still be on the way
			if now[i]-was[i] < total/conns/4 {
				t.Errorf("the connections had got %v, and after %d bytes %v", was, total, now)
			}
		}
		if inj.Acted() < sum {
			t.Errorf("it acted on %d of %d bytes", inj.Acted(), sum)
		}
		heal(t, inj)
		most := slices.Max(now)
		eventually(t, "all go on at once", func() bool {
			each, _ := got()
			return slices.Min(each) > most+10*total
		})
		return took
	})
}

// What all send counts for nothing of what all get.
func TestDirectionsShareNoRate(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	disturb(t, l, harness.Toxic{Rate: 1, Joint: true})
	busy := dial(t, l.Addr())
	go busy.Write(make([]byte, 1<<20)) // a quarter of an hour; its echo is no faster
	start := time.Now()
	roundTrip(t, c, "hello")
	if took := time.Since(start); took > soon/2 {
		t.Errorf("five bytes took %s", took)
	}
}

// Who goes while it waits for its turn leaves no gap behind, nor does who is held.
func TestTurnsAreNotWaitedForInVain(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, pouring))
	disturb(t, l, harness.Toxic{Dir: harness.Down, Rate: 10, Joint: true})
	line := &l.toxics[0].lines[down]
	waiting := func(n int) func() bool {
		return func() bool {
			line.mu.Lock()
			defer line.mu.Unlock()
			return len(line.waiting) == n
		}
	}
	var counts []*atomic.Int64
	var conns []*net.TCPConn
	for range 4 {
		c, n := pour(t, l)
		conns, counts = append(conns, c), append(counts, n)
	}
	eventually(t, "all wait", waiting(4))
	for _, c := range conns[1:] {
		c.SetLinger(0)
		c.Close()
	}
	eventually(t, "one is left", waiting(1))
	was := counts[0].Load()
	eventually(t, "that one goes on", func() bool { return counts[0].Load() > was+1000 })

	hold := disturb(t, l, harness.Toxic{Dir: harness.Down, Hold: true})
	eventually(t, "nobody waits", waiting(0))
	was = counts[0].Load()
	heal(t, hold)
	eventually(t, "it goes on", func() bool { return counts[0].Load() > was+1000 })
}

func TestBurst(t *testing.T) {
	t.Parallel()
	for _, joint := range []bool{false, true} {
		l := listen(t, serve(t, echo))
		c := dial(t, l.Addr())
		start := time.Now()
		inj := disturb(t, l, harness.Toxic{Dir: harness.Down, Rate: 1, Burst: 1, Joint: joint})
		kilo := string(make([]byte, 1000))
		roundTrip(t, c, kilo)
		acted(t, inj, 0, "bytes") // it was as fast as ever
		roundTrip(t, c, kilo)
		if took := time.Since(start); took < time.Second {
			t.Errorf("joint %t: 2000 bytes took %s at 1 kB/s, 1 kB of them at once", joint, took)
		}
		if n := inj.Acted(); n < 1 || n > 1000 {
			t.Errorf("joint %t: acted on %d bytes, want some of the second thousand", joint, n)
		}
		heal(t, inj)
		roundTrip(t, c, kilo)
	}
}

// A reader that did not read for a while has saved nothing up.
func TestWhoDoesNotReadSavesNothingUp(t *testing.T) {
	t.Parallel()
	for _, joint := range []bool{false, true} {
		x := &toxic{Toxic: harness.Toxic{Rate: 1, Joint: joint}}
		f := &newRules([]*toxic{x}).flows[down]
		p := &pipe{}
		p.init(&conn{id: 1}, down)
		begin := time.Now()
		came := chunk{at: begin, bytes: make([]byte, 10), size: 10}
		p.since = begin.Add(time.Hour) // the piece before it took so long to write
		if s := p.plan(f, came, 10, begin.Add(2*time.Hour)); s.due.Sub(p.since) != 10*time.Millisecond {
			t.Errorf("joint %t: due %s after that, want 10ms", joint, s.due.Sub(p.since))
		}
	}
}
