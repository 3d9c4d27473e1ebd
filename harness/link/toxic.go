package link

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// The directions, as indices.
const (
	up = iota
	down
)

// longest bounds delays, so that their sums cannot overflow.
const longest = time.Hour

// toxic is one that is or was in force.
type toxic struct {
	harness.Toxic
	id      uint64 // later ones have higher ids
	since   time.Time
	newest  uint64   // ordinal of the newest connection when it came into force; guarded by the link's mu
	off     bool     // it is suspended; guarded by the link's mu
	expired bool     // it was lifted because its time to live was over; guarded by the link's mu
	lines   [2]queue // with Joint, who waits for a turn, by direction
	acted   atomic.Int64
	once    sync.Once
	done    chan struct{} // closed when it was lifted
	failed  error         // connects could not be left unanswered, or answered, when it was time; guarded by the link's mu
}

// end is called when the toxic was lifted.
func (t *toxic) end() { t.once.Do(func() { close(t.done) }) }

func (t *toxic) is(other *toxic) bool { return t == other }

// spares reports whether the toxic leaves a direction alone.
func (t *toxic) spares(dir int) bool {
	return t.Dir == harness.Up && dir == down || t.Dir == harness.Down && dir == up
}

func check(t harness.Toxic) error {
	switch {
	case t.Dir > harness.Down:
		return fmt.Errorf("direction %d is not known", t.Dir)
	case !(t.Share >= 0 && t.Share <= 1):
		return fmt.Errorf("a share of %v: it must be from 0 to 1", t.Share)
	case t.Delay < 0 || t.Delay > longest, t.Jitter < 0 || t.Jitter > longest:
		return fmt.Errorf("delay %s with jitter %s: each must be from 0 to %s", t.Delay, t.Jitter, longest)
	case t.TTL < 0 || t.TTL > harness.MaxTTL:
		return fmt.Errorf("a time to live of %s: it must be from 0, which is none, to %s", t.TTL, harness.MaxTTL)
	case (t.On == 0) != (t.Off == 0):
		return fmt.Errorf("in force for %s, then not for %s: neither or both must be set", t.On, t.Off)
	case t.On != 0 && (min(t.On, t.Off) < time.Millisecond || max(t.On, t.Off) > longest):
		return fmt.Errorf("in force for %s, then not for %s: each must be from 1ms to %s", t.On, t.Off, longest)
	case t.On != 0 && (t.Expire > 0 || t.Age > 0 || t.Cut):
		return errors.New("connections that are to be ended after a while or some bytes, by a toxic that comes and goes")
	case t.Dist > harness.Pareto:
		return fmt.Errorf("distribution %d is not known", t.Dist)
	case t.Dist != harness.Uniform && t.Jitter == 0:
		return errors.New("a distribution of the jitter, but there is none")
	case !(t.Loss >= 0 && t.Loss <= 1), !(t.Corr >= 0 && t.Corr <= mostCorr):
		return fmt.Errorf("a loss of %v with correlation %v: it must be from 0 to 1, and the correlation from 0 to %v", t.Loss, t.Corr, mostCorr)
	case t.RTO < 0 || t.RTO > longest || (t.Loss > 0) != (t.RTO > 0):
		return fmt.Errorf("a loss of %v that is made up for after %s: neither or both must be above 0, and no time above %s", t.Loss, t.RTO, longest)
	case t.Corr > 0 && t.Loss == 0 && t.Jitter == 0:
		return errors.New("a correlation, but nothing is lost, and there is no jitter")
	case t.Refuse && t.Hang:
		return errors.New("new connections cannot be refused and hang as well")
	case t.Reset && t.Close:
		return errors.New("connections that exist cannot be reset and closed in good order as well")
	case t.Spare > harness.Down || t.Spare != harness.Both && !t.Reset:
		return fmt.Errorf("side %d is spared: it must be that of the dependency or of the client, and connections must be reset", t.Spare)
	case t.Over < 0:
		return fmt.Errorf("beyond %d connections: the number must not be negative", t.Over)
	case t.Over > 0 && (t.Age > 0 || !t.Refuse && !t.Hang && !t.Reset && !t.Close):
		return errors.New("a number of connections, but nothing is done at once to those beyond it")
	case t.Orderly && !t.Refuse && !t.Cut:
		return errors.New("an end in good order, but nothing is refused or cut")
	case t.Rate < 0:
		return fmt.Errorf("%d kB a second: the rate must not be negative", t.Rate)
	case t.Burst < 0 || t.Burst > mostBurst:
		return fmt.Errorf("%d kB at once: it must be from 0 to %d", t.Burst, mostBurst)
	case t.Rate == 0 && (t.Burst > 0 || t.Joint):
		return errors.New("a burst, or a rate of all connections together, but no rate")
	case t.Burst > 0 && (t.Delay > 0 || t.Jitter > 0 || t.Loss > 0 || t.Slice > 0 || t.Hold || t.Drop):
		return errors.New("a burst, by a toxic that does more to bytes: it could not say which of them it slowed down")
	case t.Slice < 0 || t.Gap < 0 || t.Gap > longest:
		return fmt.Errorf("pieces of %d bytes, %s apart: neither must be negative, nor the gap above %s", t.Slice, t.Gap, longest)
	case t.Vary < 0 || t.Vary > 0 && t.Vary >= t.Slice:
		return fmt.Errorf("pieces of %d bytes, give or take %d: that must be less, and not negative", t.Slice, t.Vary)
	case t.Age < 0 || t.Age > longest || t.Age > 0 && !t.Refuse && !t.Reset && !t.Close:
		return fmt.Errorf("connections that are %s old: it must be from 0 to %s, and they must be refused, reset or closed", t.Age, longest)
	case t.Gap > 0 && t.Slice == 0:
		return errors.New("a gap between pieces, but nothing is sliced")
	case !(t.Corrupt >= 0 && t.Corrupt <= 1), (t.Corrupt > 0) != (t.Bits > 0), t.Bits < 0 || t.Bits > 8:
		return fmt.Errorf("%d bits of a share of %v of all bytes are to be flipped: it must be from 1 to 8, of a share above 0 and up to 1", t.Bits, t.Corrupt)
	case t.Deaf && (t.Refuse || t.Hang):
		return errors.New("connects that get no answer cannot be refused or hang as well")
	case t.Deaf && (t.Over > 0 || t.Share > 0 && t.Share < 1):
		return errors.New("connects get no answer, for a part of the connections: whose connect it is cannot be seen")
	case t.Linger < 0 || t.Linger > longest, t.Expire < 0 || t.Expire > longest:
		return fmt.Errorf("an end that comes %s later, a close after %s: each must be from 0 to %s", t.Linger, t.Expire, longest)
	case t.Expire > 0 && !t.Drop:
		return errors.New("connections are to be closed where nothing comes, but nothing is dropped")
	case t.CutAfter < 0:
		return fmt.Errorf("a cut after %d bytes: the number must not be negative", t.CutAfter)
	case !touchesBytes(t) && !touchesConns(t):
		return errors.New("the toxic does nothing")
	}
	return nil
}

func touchesBytes(t harness.Toxic) bool { return late(t) || t.Hold || t.Drop || t.Corrupt > 0 }
func touchesConns(t harness.Toxic) bool {
	return t.Deaf || t.Refuse || t.Hang || t.Reset || t.Close || t.Cut || t.Linger > 0 || t.Expire > 0
}

// late reports whether the toxic makes bytes pass later or slower.
func late(t harness.Toxic) bool {
	return t.Delay > 0 || t.Jitter > 0 || t.Loss > 0 || t.Rate > 0 || t.Slice > 0
}

// unit names what the toxic counts.
func (t *toxic) unit() string {
	switch {
	case !touchesConns(t.Toxic):
		return "bytes"
	case !touchesBytes(t.Toxic):
		if t.Deaf {
			return "SYNs and connections"
		}
		return "connections"
	}
	return "bytes and connections"
}

// delay is how much later the n-th chunk of a connection's direction is passed on. It
// depends on its arguments alone, so that the same traffic is delayed the same way again.
func (t *toxic) delay(conn uint64, dir int, n uint64) time.Duration {
	if t.Jitter == 0 {
		return t.Delay
	}
	r := t.rng(conn, dir, t.drawn(conn, dir, n))
	if t.Dist == harness.Uniform {
		return max(0, t.Delay-t.Jitter+time.Duration(r.Int64N(2*int64(t.Jitter)+1)))
	}
	off := r.NormFloat64()
	if t.Dist == harness.Pareto { // of shape 3, with mean 0 and standard deviation 1
		off = (math.Pow(1-r.Float64(), -1.0/3) - 1.5) / math.Sqrt(0.75)
	}
	return max(0, t.Delay+time.Duration(min(off, mostJitters)*float64(t.Jitter)))
}

// drawn is which chunk's draw the n-th chunk has: its own, or that of an earlier one which all
// between them share.
func (t *toxic) drawn(conn uint64, dir int, n uint64) uint64 {
	const shares = 1 << 61 // no chunk has such an ordinal
	for ; t.Corr > 0 && n > 1; n-- {
		if r := t.pcg(conn, dir, shares|n); !likely(&r, t.Corr) {
			break
		}
	}
	return n
}

// likely draws something that is true with probability p.
func likely(r *rand.PCG, p float64) bool { return float64(r.Uint64()>>11)/(1<<53) < p }

// mostJitters bounds the tails of the distributions that have one.
const mostJitters = 10

// rng returns the randomness of the n-th of something in a connection's direction.
func (t *toxic) rng(conn uint64, dir int, n uint64) *rand.Rand {
	r := t.pcg(conn, dir, n)
	return rand.New(&r)
}

func (t *toxic) pcg(conn uint64, dir int, n uint64) (r rand.PCG) {
	const spread = 0x9e3779b97f4a7c15 // keeps the sequences of neighbouring seeds apart
	r.Seed(t.Seed^n*spread, conn<<1|uint64(dir))
	return r
}

// The bounds of losses. What RFC 6298 calls RTO doubles with each loss up to longestRTO; at a
// correlation of mostCorr losses come in runs of twenty on average.
const (
	longestRTO = 3200 * time.Millisecond
	mostLosses = 6 // of one segment
	mostCorr   = 0.95
)

// losses is how often the n-th segment of a connection's direction is lost. It depends on its
// arguments alone: a segment that shares the fate of the one before, as is drawn for it, is
// looked up there.
func (t *toxic) losses(conn uint64, dir int, n uint64) int {
	const segment, anew = 1 << 62, 3 << 62 // no chunk has such an ordinal
	for first := n; ; first-- {
		r := t.pcg(conn, dir, segment|first)
		if likely(&r, t.Corr) && first > 0 {
			continue
		}
		if !likely(&r, t.Loss) {
			return 0
		}
		break
	}
	r, again := t.pcg(conn, dir, anew|n), 1
	for again < mostLosses && likely(&r, t.Loss) {
		again++
	}
	return again
}

// resent is how much later a segment is passed on that is lost so many times.
func (t *toxic) resent(times int) (sum time.Duration) {
	for wait := t.RTO; times > 0; times-- {
		sum += wait
		if wait < longestRTO {
			wait = min(2*wait, longestRTO)
		}
	}
	return sum
}

// hits reports whether the toxic is for a connection.
func (t *toxic) hits(conn uint64) bool {
	const verdict = 1 << 63 // no chunk has this ordinal
	return t.Share == 0 || t.Share == 1 || t.rng(conn, up, verdict).Float64() < t.Share
}

// ages reports whether the toxic ends a connection when that is old enough.
func (t *toxic) ages(conn uint64) bool {
	ends := t.Reset || t.Close
	if conn > t.newest {
		ends = t.Refuse
	}
	return t.Age > 0 && ends && t.hits(conn)
}

// rules are the toxics in force, sorted by what they do. They are never changed.
type rules struct {
	toxics []*toxic
	refuse []*toxic
	hang   []*toxic
	deaf   []*toxic
	counts bool    // how many connections are open makes a difference
	flows  [2]flow // by direction
	shared bool    // some are for a part of the connections
	of     *rules  // those of the link, where these are a connection's
}

// flow is what is in force for the bytes of one direction.
type flow struct {
	free                   bool // nothing is but what corrupts
	ended                  bool // streams were ended, and what comes behind that is lost
	late, hold, drop, cuts []*toxic
	loss                   []*toxic      // those of late that lose segments
	linger                 []*toxic      // on the ends of streams
	own, joint             *toxic        // those with the lowest rate of each connection, and of all together
	slice                  *toxic        // that with the smallest pieces
	gap                    time.Duration // the longest of the toxics'
	corrupt                []*toxic      // as bytes pass
}

func newRules(toxics []*toxic) *rules {
	r := &rules{toxics: toxics}
	for _, t := range toxics {
		r.shared = r.shared || t.Share > 0 && t.Share < 1
	}
	for d := range r.flows {
		f := &r.flows[d]
		for _, t := range toxics {
			if t.spares(d) {
				continue
			}
			if late(t.Toxic) {
				f.late = append(f.late, t)
			}
			if t.Loss > 0 {
				f.loss = append(f.loss, t)
			}
			if t.Linger > 0 {
				f.linger = append(f.linger, t)
			}
			f.gap = max(f.gap, t.Gap)
			rate := &f.own
			if t.Joint {
				rate = &f.joint
			}
			if t.Rate > 0 && (*rate == nil || t.Rate < (*rate).Rate) {
				*rate = t
			}
			if t.Slice > 0 && (f.slice == nil || t.Slice < f.slice.Slice) {
				f.slice = t
			}
			if t.Corrupt > 0 {
				f.corrupt = append(f.corrupt, t)
			}
			if t.Hold {
				f.hold = append(f.hold, t)
			}
			if t.Drop {
				f.drop = append(f.drop, t)
			}
			if t.Cut {
				f.cuts = append(f.cuts, t)
			}
			f.ended = f.ended || t.Close && t.Dir != harness.Both
		}
		f.free = len(f.late)+len(f.hold)+len(f.drop)+len(f.cuts)+len(f.linger) == 0
	}
	for _, t := range toxics {
		if t.Refuse && t.Age == 0 {
			r.refuse = append(r.refuse, t)
		}
		if t.Hang {
			r.hang = append(r.hang, t)
		}
		if t.Deaf {
			r.deaf = append(r.deaf, t)
		}
		r.counts = r.counts || t.Over > 0
	}
	return r
}

// among returns those of some toxics that are for a new connection while so many are open.
func among(toxics []*toxic, conn uint64, open int) (out []*toxic) {
	for _, t := range toxics {
		if int64(open) >= t.Over && t.hits(conn) {
			out = append(out, t)
		}
	}
	return out
}

// orderly reports whether all of some toxics end connections in good order.
func orderly(toxics []*toxic) bool {
	return !slices.ContainsFunc(toxics, func(t *toxic) bool { return !t.Orderly })
}

// least returns the smaller of two numbers of which 0 is none.
func least[T int64 | time.Duration](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// delay is how much later the chunk is passed on.
func (f *flow) delay(conn uint64, dir int, c chunk) time.Duration {
	var sum time.Duration
	for _, t := range f.late {
		sum += t.delay(conn, dir, c.n)
	}
	for _, t := range f.loss {
		if c.end == nil {
			sum += t.resent(t.losses(conn, dir, c.segment+uint64(c.passed()/harness.SegmentSize)))
		}
	}
	if c.end != nil {
		for _, t := range f.linger {
			sum += t.Linger
		}
	}
	return sum
}

// grain is for how long a bounded rate lets bytes pass at once.
const grain = 20 * time.Millisecond

// piece is how many bytes of a chunk, or of what is left of it, pass at once.
func (f *flow) piece(conn uint64, dir int, c chunk) int {
	n := len(c.bytes)
	most := int64(n)
	if t := f.slice; t != nil {
		size := t.Slice
		if t.Vary > 0 { // as long as nothing passes, it is the same
			size += t.rng(conn, dir, c.n<<32|uint64(n)).Int64N(2*t.Vary+1) - t.Vary
		}
		most = min(most, size)
	}
	if len(f.loss) > 0 {
		most = min(most, int64(f.unbroken(conn, dir, c)))
	}
	for _, t := range [...]*toxic{f.own, f.joint} {
		if t != nil && t.Rate < int64(n) { // so that the product is small
			most = min(most, t.Rate*int64(grain/time.Millisecond))
		}
	}
	return int(most)
}

// passed is how many bytes of a chunk have been passed on.
func (c *chunk) passed() int { return c.size - len(c.bytes) }

// unbroken is how many bytes of what is left of a chunk come together: up to the end of the
// next segment where that one is lost, or else up to the next that is.
func (f *flow) unbroken(conn uint64, dir int, c chunk) int {
	lost := func(seg int) bool {
		return slices.ContainsFunc(f.loss, func(t *toxic) bool { return t.losses(conn, dir, c.segment+uint64(seg)) > 0 })
	}
	seg := c.passed() / harness.SegmentSize
	for !lost(seg) && (seg+1)*harness.SegmentSize < c.size && !lost(seg+1) {
		seg++
	}
	return min((seg+1)*harness.SegmentSize, c.size) - c.passed()
}

// slows is how many bytes of what is left of a chunk the toxic makes pass later. What only
// slices leaves alone what is one piece anyhow, and which bytes are none of a burst is seen when
// they pass.
func (t *toxic) slows(conn uint64, dir int, c *chunk) int {
	n := len(c.bytes)
	if t.Delay > 0 || t.Jitter > 0 || t.Rate > 0 && t.Burst == 0 || t.Hold || t.Slice > 0 && int64(n) > t.Slice-t.Vary {
		return n
	}
	sum := 0
	for at := c.passed(); t.Loss > 0 && at < c.size; {
		seg := at / harness.SegmentSize
		end := min((seg+1)*harness.SegmentSize, c.size)
		if t.losses(conn, dir, c.segment+uint64(seg)) > 0 {
			sum += end - at
		}
		at = end
	}
	return sum
}

// touch counts a chunk of a pipe for the toxics that hold it back and have not counted it yet:
// its bytes, and for those that linger its end.
func (f *flow) touch(p *pipe, c *chunk) {
	newest := c.touched
	for _, toxics := range [...][]*toxic{f.late, f.hold} {
		for _, t := range toxics {
			if t.id > c.touched {
				t.acted.Add(int64(t.slows(p.conn.id, p.dir, c)))
			}
			newest = max(newest, t.id)
		}
	}
	for _, t := range f.linger {
		if t.id > c.touched && c.end != nil {
			t.acted.Add(1)
		}
		newest = max(newest, t.id)
	}
	c.touched = newest
}
