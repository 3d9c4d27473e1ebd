package link

import (
	"bytes"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

func TestFlipsAreDrawnByTheSeed(t *testing.T) {
	t.Parallel()
	const n = 50_000
	draw := func(x harness.Toxic, conn uint64, dir int) []byte {
		out := make([]byte, n)
		for i := range out {
			out[i] = (&toxic{Toxic: x}).flips(conn, dir, uint64(i))
		}
		return out
	}
	for _, tt := range []struct {
		p    float64
		bits int
	}{{0.001, 1}, {0.1, 1}, {0.5, 3}, {1, 8}, {1, 1}} {
		x := harness.Toxic{Corrupt: tt.p, Bits: tt.bits, Seed: 7}
		got := draw(x, 1, up)
		changed, each := 0, [8]int{}
		for _, mask := range got {
			if mask == 0 {
				continue
			}
			changed++
			if bits.OnesCount8(mask) != tt.bits {
				t.Fatalf("%d bits: the mask is %08b", tt.bits, mask)
			}
			for i := range each {
				each[i] += int(mask >> i & 1)
			}
		}
		if share := float64(changed) / n; math.Abs(share-tt.p) > 0.0005+0.05*tt.p {
			t.Errorf("p=%v: %v of the bytes are changed", tt.p, share)
		}
		for i, k := range each {
			if want := float64(changed*tt.bits) / 8; changed > 1000 && math.Abs(float64(k)-want) > 0.2*want {
				t.Errorf("p=%v bits=%d: bit %d is flipped %d times, want about %v", tt.p, tt.bits, i, k, want)
			}
		}
		if !slices.Equal(got, draw(x, 1, up)) {
			t.Error("the same arguments gave other flips")
		}
		if tt.p == 1 && tt.bits == 8 {
			continue
		}
		other := x
		other.Seed = 8
		for what, masks := range map[string][]byte{"connection": draw(x, 2, up), "direction": draw(x, 1, down), "seed": draw(other, 1, up)} {
			if slices.Equal(got, masks) {
				t.Errorf("p=%v: another %s gave the same flips", tt.p, what)
			}
		}
	}
}

// What is changed depends on the place in the stream, however it comes in chunks.
func TestCorruptDoesNotDependOnChunks(t *testing.T) {
	t.Parallel()
	x := harness.Toxic{Dir: harness.Down, Corrupt: 0.01, Bits: 2, Seed: 3}
	sent := make([]byte, 200_000)
	rand.NewChaCha8([32]byte{}).Read(sent)
	want, changed := slices.Clone(sent), int64(0)
	for i := range want {
		if m := (&toxic{Toxic: x}).flips(1, down, uint64(i)); m != 0 {
			want[i] ^= m
			changed++
		}
	}
	for name, beside := range map[string]harness.Toxic{
		"alone":  {Dir: harness.Up, Delay: 1}, // another direction
		"queued": {Delay: time.Microsecond},
		"sliced": {Slice: 777, Vary: 300, Seed: 1},
	} {
		for _, size := range []int{1 << 20, 1000, 37} {
			l := listen(t, serve(t, echo))
			c := dial(t, l.Addr())
			disturb(t, l, beside)
			inj := disturb(t, l, x)
			go func() {
				for b := range slices.Chunk(sent, size) {
					if _, err := c.Write(b); err != nil {
						return
					}
				}
				c.CloseWrite()
			}()
			got, err := ended(c)
			if err != nil || !bytes.Equal([]byte(got), want) {
				t.Fatalf("%s, in writes of %d bytes: %d bytes came, %v; as sent: %t", name, size, len(got), err, got == string(sent))
			}
			acted(t, inj, changed, "bytes")
		}
	}
}

func TestCorruptIsHealed(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	old := dial(t, l.Addr())
	roundTrip(t, old, "warm")
	all := disturb(t, l, harness.Toxic{Dir: harness.Up, Corrupt: 1, Bits: 8})
	acted(t, all, 0, "bytes")
	send(t, old, "abc")
	expect(t, old, "\x9e\x9d\x9c")
	acted(t, all, 3, "bytes")

	// What two of them flip is not flipped back.
	twice := disturb(t, l, harness.Toxic{Dir: harness.Up, Corrupt: 1, Bits: 8, Seed: 1})
	send(t, old, "abc")
	expect(t, old, "\x9e\x9d\x9c")
	acted(t, all, 6, "bytes")
	acted(t, twice, 3, "bytes")
	heal(t, twice)

	// What is cut is not changed.
	cut := disturb(t, l, harness.Toxic{Dir: harness.Up, Cut: true, CutAfter: 2})
	send(t, dial(t, l.Addr()), "abc")
	eventually(t, "it is cut", func() bool { return cut.Acted() == 1 })
	acted(t, all, 8, "bytes")
	heal(t, cut)

	heal(t, all)
	roundTrip(t, old, "as it is")
	acted(t, all, 8, "bytes")
}
