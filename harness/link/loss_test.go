package link

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

func TestLossesAreDrawnByTheSeed(t *testing.T) {
	t.Parallel()
	const segments = 50_000
	draw := func(x harness.Toxic, conn uint64, dir int) []int {
		out := make([]int, segments)
		for n := range out {
			out[n] = (&toxic{Toxic: x}).losses(conn, dir, uint64(n))
		}
		return out
	}
	for _, tt := range []struct{ p, corr float64 }{{0.01, 0}, {0.1, 0}, {0.3, 0.25}, {0.1, 0.9}, {1, 0}, {1e-9, 0.5}} {
		x := harness.Toxic{Loss: tt.p, RTO: time.Millisecond, Corr: tt.corr, Seed: 7}
		got := draw(x, 1, up)
		var lost, twice, runs int // segments that are lost, lost again, and lost behind one that is
		for n, k := range got {
			if k > 0 {
				lost++
			}
			if k > 1 {
				twice++
			}
			if n > 0 && k > 0 && got[n-1] > 0 {
				runs++
			}
		}
		near := func(what string, n, of int, want float64) {
			t.Helper()
			if share := float64(n) / float64(max(of, 1)); math.Abs(share-want) > 0.02+0.05*want && of > 100 {
				t.Errorf("p=%v corr=%v: %s are %.3f, want %.3f", tt.p, tt.corr, what, share, want)
			}
		}
		near("losses", lost, segments, tt.p)
		near("losses of what was lost", twice, lost, tt.p)
		near("losses behind a loss", runs, lost, tt.corr+(1-tt.corr)*tt.p)
		if lost == 0 && tt.p >= 0.01 || lost > 0 && tt.p < 1e-6 {
			t.Errorf("p=%v: %d of %d are lost", tt.p, lost, segments)
		}
		if !slices.Equal(got, draw(x, 1, up)) {
			t.Error("the same arguments gave other losses")
		}
		if tt.p < 0.01 || tt.p == 1 {
			continue
		}
		other := x
		other.Seed = 8
		for what, ks := range map[string][]int{"connection": draw(x, 2, up), "direction": draw(x, 1, down), "seed": draw(other, 1, up)} {
			if slices.Equal(got, ks) {
				t.Errorf("p=%v: another %s gave the same losses", tt.p, what)
			}
		}
	}
}

// The figures are those of RFC 6298: the timeout doubles, up to a bound.
func TestResent(t *testing.T) {
	t.Parallel()
	x := &toxic{Toxic: harness.Toxic{RTO: 200 * time.Millisecond}}
	for times, want := range []time.Duration{0, 200, 600, 1400, 3000, 6200, 9400} {
		if got := x.resent(times); got != want*time.Millisecond {
			t.Errorf("lost %d times: %s later, want %s", times, got, want*time.Millisecond)
		}
	}
	slow := &toxic{Toxic: harness.Toxic{RTO: 5 * time.Second}}
	if got := slow.resent(2); got != 10*time.Second {
		t.Errorf("beyond the bound: %s, want 10s", got)
	}
}

func TestLossDelaysAndLosesNothing(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	all := disturb(t, l, harness.Toxic{Dir: harness.Down, Loss: 1, RTO: time.Millisecond})
	start := time.Now()
	roundTrip(t, c, "hello")
	if took, want := time.Since(start), 63*time.Millisecond; took < want { // 1 + 2 + 4 + ... ms
		t.Errorf("took %s, want %s", took, want)
	}
	acted(t, all, 5, "bytes")
	heal(t, all)

	some := disturb(t, l, harness.Toxic{Loss: 0.2, RTO: time.Millisecond, Corr: 0.3, Seed: 3})
	sent := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{}).Read(sent)
	go func() {
		c.Write(sent)
		c.CloseWrite()
	}()
	got, err := ended(c)
	if err != nil || !bytes.Equal([]byte(got), sent) {
		t.Fatalf("%d of %d bytes came back, %v; a prefix: %t", len(got), len(sent), err, strings.HasPrefix(string(sent), got))
	}
	if n := some.Acted(); n < 30_000 || n > 240_000 {
		t.Errorf("of %d bytes %d were in segments that were lost at 20 %%", 2*len(sent), n)
	}
	heal(t, some)
}

// Only what was lost is counted, and it is that which is drawn.
func TestLossCountsWhatItLost(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	x := harness.Toxic{Dir: harness.Up, Loss: 0.5, RTO: time.Millisecond, Seed: 11}
	inj := disturb(t, l, x)
	var want int64
	for n := range uint64(20) {
		if (&toxic{Toxic: x}).losses(1, up, n) > 0 {
			want += 5
		}
		roundTrip(t, c, "hello")
	}
	acted(t, inj, want, "bytes")
	if want == 0 || want == 100 {
		t.Errorf("of 100 bytes %d were lost", want)
	}
	heal(t, inj)
}

func TestJitterIsDistributed(t *testing.T) {
	t.Parallel()
	const delay, jitter, n = time.Second, 50 * time.Millisecond, 20_000
	for _, tt := range []struct {
		name           string
		dist           harness.Dist
		least, most    time.Duration // of all
		median, spread time.Duration // the latter as standard deviation
	}{
		{"uniform", harness.Uniform, delay - jitter, delay + jitter, delay, 29 * time.Millisecond},
		{"normal", harness.Normal, delay - 5*jitter, delay + 5*jitter, delay, jitter},
		// Nothing comes earlier than by 0.58 of the jitter, and half of all earlier than by 0.28;
		// the bound takes a part of the spread.
		{"pareto", harness.Pareto, delay - 29*time.Millisecond, delay + mostJitters*jitter, delay - 14*time.Millisecond, 43 * time.Millisecond},
	} {
		x := &toxic{Toxic: harness.Toxic{Delay: delay, Jitter: jitter, Dist: tt.dist, Seed: 5}}
		var all []time.Duration
		var sum, squares float64
		for i := range uint64(n) {
			d := x.delay(1, up, i)
			if again := x.delay(1, up, i); again != d {
				t.Fatalf("%s: %s, then %s", tt.name, d, again)
			}
			all = append(all, d)
			sum += float64(d)
			squares += float64(d-delay) * float64(d-delay)
		}
		slices.Sort(all)
		if all[0] < tt.least || all[n-1] > tt.most {
			t.Errorf("%s: from %s to %s, want within %s and %s", tt.name, all[0], all[n-1], tt.least, tt.most)
		}
		near := func(what string, got, want time.Duration) {
			if d := got - want; d < -jitter/8 || d > jitter/8 {
				t.Errorf("%s: the %s is %s, want nearly %s", tt.name, what, got, want)
			}
		}
		near("mean", time.Duration(sum/n), delay)
		near("median", all[n/2], tt.median)
		near("spread", time.Duration(math.Sqrt(squares/n)), tt.spread)
	}
}

func TestJitterIsShared(t *testing.T) {
	t.Parallel()
	const n = 20_000
	base := harness.Toxic{Delay: time.Second, Jitter: 100 * time.Millisecond, Seed: 5}
	draw := func(x harness.Toxic, conn uint64, dir int) []time.Duration {
		out := make([]time.Duration, n)
		for i := range out {
			out[i] = (&toxic{Toxic: x}).delay(conn, dir, uint64(i)+1)
		}
		return out
	}
	alone := draw(base, 1, up)
	for _, corr := range []float64{0, 0.25, 0.9, mostCorr} {
		x := base
		x.Corr = corr
		got := draw(x, 1, up)
		same := 0
		for i := 1; i < n; i++ {
			switch got[i] {
			case got[i-1]:
				same++
			case alone[i]: // drawn anew it is what it would be anyhow
			default:
				t.Fatalf("corr=%v: chunk %d has %s: neither its own %s nor that of the one before, %s", corr, i, got[i], alone[i], got[i-1])
			}
		}
		if share := float64(same) / (n - 1); math.Abs(share-corr) > 0.02 {
			t.Errorf("corr=%v: %.3f have the jitter of the one before", corr, share)
		}
		if !slices.Equal(got, draw(x, 1, up)) {
			t.Error("the same arguments gave other jitters")
		}
		other := x
		other.Seed = 8
		for what, d := range map[string][]time.Duration{"connection": draw(x, 2, up), "direction": draw(x, 1, down), "seed": draw(other, 1, up)} {
			if slices.Equal(got, d) {
				t.Errorf("corr=%v: another %s gave the same jitters", corr, what)
			}
		}
	}
}

// FuzzToxic holds toxics that are accepted to this: whatever is left of a chunk, a piece of it
// passes, after a time that has an end, and where segments are lost it holds one that is lost or
// none.
func FuzzToxic(f *testing.F) {
	f.Add(int64(0), int64(0), uint8(0), 0.3, int64(1e6), 0.5, int64(0), int64(0), false, int64(0), int64(0), uint16(9000))
	f.Add(int64(1e9), int64(1e9), uint8(2), 0.0, int64(0), 0.9, int64(3), int64(0), false, int64(100), int64(99), uint16(200))
	f.Add(int64(1), int64(1), uint8(1), 1.0, int64(1), 0.95, int64(1), int64(0), true, int64(1448), int64(1), uint16(32768))
	f.Add(int64(0), int64(0), uint8(0), 0.0, int64(0), 0.0, int64(1), int64(mostBurst), true, int64(0), int64(0), uint16(32768))
	f.Fuzz(func(t *testing.T, delay, jitter int64, dist uint8, loss float64, rto int64, corr float64, rate, burst int64, joint bool, slice, vary int64, size uint16) {
		x := harness.Toxic{
			Delay: time.Duration(delay), Jitter: time.Duration(jitter), Dist: harness.Dist(dist),
			Loss: loss, RTO: time.Duration(rto), Corr: corr, Rate: rate, Burst: burst, Joint: joint, Slice: slice, Vary: vary, Seed: 1,
		}
		if check(x) != nil {
			return
		}
		tox := &toxic{Toxic: x}
		flow := &newRules([]*toxic{tox}).flows[down]
		size = min(size, bufferSize)
		c := chunk{bytes: make([]byte, size), size: int(size), n: 3, segment: 40}
		for len(c.bytes) > 0 {
			n := flow.piece(1, down, c)
			if n < 1 || n > len(c.bytes) {
				t.Fatalf("a piece of %d of %d bytes", n, len(c.bytes))
			}
			if d := flow.delay(1, down, c); d < 0 || d > (2+mostJitters+mostLosses)*longest {
				t.Fatalf("a delay of %s", d)
			}
			if rate > 0 {
				now := time.Now()
				due := tox.pay(now, now, n).Sub(now)
				if cost := tox.cost(int64(n)); due != cost || cost < 0 || cost > time.Minute {
					t.Fatalf("%d bytes are due after %s, and cost %s", n, due, cost)
				}
				if due := tox.pay(now, time.Time{}, n).Sub(now); due > tox.cost(int64(n)) || burst == 0 && due < 0 {
					t.Fatalf("with what was saved up %d bytes are due after %s", n, due)
				}
			}
			first := uint64(c.passed() / harness.SegmentSize)
			last := uint64((c.passed() + n - 1) / harness.SegmentSize)
			for seg := first; seg <= last && loss > 0; seg++ {
				if first != last && tox.losses(1, down, c.segment+seg) > 0 {
					t.Fatalf("a piece of %d bytes with the segments %d to %d: %d is lost", n, first, last, seg)
				}
			}
			if got := tox.slows(1, down, &c); got < 0 || got > len(c.bytes) {
				t.Fatalf("it slows down %d of %d bytes", got, len(c.bytes))
			}
			c.bytes = c.bytes[n:]
		}
	})
}
