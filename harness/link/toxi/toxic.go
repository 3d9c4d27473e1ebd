package toxi

import (
	"errors"
	"fmt"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// toxic is one of toxiproxy's own.
type toxic struct {
	Name       string           `json:"name"`
	Type       string           `json:"type"`
	Stream     string           `json:"stream"`
	Toxicity   float32          `json:"toxicity"`
	Attributes map[string]int64 `json:"attributes"`
}

// The longest that a toxic may last, and the largest number that it may have: toxiproxy
// takes any, and computes with them as they come.
const (
	longest = time.Hour
	most    = 1 << 30
)

// translate returns the toxics that do what t says, without names, or whether the proxy is to
// be stopped instead. What toxiproxy has nothing for is an error.
func translate(t harness.Toxic) (toxics []toxic, down bool, err error) {
	if err := check(t); err != nil {
		return nil, false, err
	}
	if t.Refuse {
		return nil, true, nil
	}
	for _, stream := range streams(t.Dir) {
		add := func(kind string, attributes map[string]int64) {
			toxics = append(toxics, toxic{Type: kind, Stream: stream, Toxicity: 1, Attributes: attributes})
		}
		if t.Delay > 0 || t.Jitter > 0 {
			add("latency", map[string]int64{"latency": ms(t.Delay), "jitter": ms(t.Jitter)})
		}
		if t.Rate > 0 {
			add("bandwidth", map[string]int64{"rate": t.Rate})
		}
		if t.Slice > 0 {
			add("slicer", map[string]int64{"average_size": t.Slice, "size_variation": t.Vary, "delay": t.Gap.Microseconds()})
		}
		if t.Linger > 0 {
			add("slow_close", map[string]int64{"delay": ms(t.Linger)})
		}
		if t.Hold {
			add("bandwidth", map[string]int64{"rate": 0})
		}
		if t.Drop {
			add("timeout", map[string]int64{"timeout": ms(t.Expire)})
		}
		if t.Cut { // it closes in good order, whether or not that is asked for
			add("limit_data", map[string]int64{"bytes": t.CutAfter})
		}
		if t.Reset {
			// Its timeout is always 0: the removal of one that waits takes as long as that.
			add("reset_peer", map[string]int64{"timeout": 0})
		}
	}
	return toxics, false, nil
}

func check(t harness.Toxic) error {
	for _, d := range []time.Duration{t.Delay, t.Jitter, t.Gap, t.Linger, t.Expire} {
		if d < 0 || d > longest {
			return fmt.Errorf("%s: a duration must be from 0 to %s", d, longest)
		}
	}
	for _, n := range []int64{t.Rate, t.Slice, t.Vary, t.CutAfter} {
		if n < 0 || n > most {
			return fmt.Errorf("%d: a number must be from 0 to %d", n, most)
		}
	}
	bytes, conns := touches(t)
	switch {
	case t.Dir > harness.Down:
		return fmt.Errorf("direction %d is not known", t.Dir)
	case !(t.Share >= 0 && t.Share <= 1):
		return fmt.Errorf("a share of %v: it must be from 0 to 1", t.Share)
	case t.Vary > 0 && t.Vary >= t.Slice:
		return fmt.Errorf("pieces of %d bytes, give or take %d: that must be less", t.Slice, t.Vary)
	case t.Spare != harness.Both:
		return errors.New("toxiproxy cannot reset one side of a connection and close the other in good order")
	case t.Age != 0:
		return errors.New("toxiproxy cannot end connections of an age so that it can be healed in time")
	case t.TTL < 0 || t.TTL > harness.MaxTTL:
		return fmt.Errorf("a time to live of %s: it must be from 0, which is none, to %s", t.TTL, harness.MaxTTL)
	case t.On != 0 || t.Off != 0:
		return errors.New("toxiproxy's toxics do not come and go by themselves")
	case t.Dist != harness.Uniform:
		return errors.New("toxiproxy's jitter is uniform")
	case t.Loss != 0 || t.RTO != 0:
		return errors.New("toxiproxy cannot lose segments that are sent again")
	case t.Corr != 0:
		return errors.New("toxiproxy draws each jitter anew")
	case t.Burst != 0:
		return errors.New("toxiproxy saves nothing up for a burst")
	case t.Joint:
		return errors.New("toxiproxy bounds the rate of each connection by itself")
	case t.Orderly && t.Refuse:
		return errors.New("toxiproxy cannot accept new connections and close them in good order")
	case t.Hang:
		return errors.New("toxiproxy cannot let new connections hang")
	case t.Over != 0:
		return errors.New("toxiproxy does not count connections")
	case t.Close && t.Dir != harness.Both:
		return errors.New("toxiproxy cannot close one direction of a connection")
	case t.Corrupt != 0 || t.Bits != 0:
		return errors.New("toxiproxy cannot change bytes")
	case t.Deaf:
		return errors.New("toxiproxy cannot leave connects without an answer")
	case t.Share > 0 && t.Share < 1:
		return errors.New("toxiproxy draws anew which connections are meant, and by no seed")
	case !bytes && !conns:
		return errors.New("the toxic does nothing")
	case t.Expire > 0 && !t.Drop:
		return errors.New("connections are to be closed where nothing comes, but nothing is dropped")
	case t.Refuse && !t.Reset && !t.Close:
		return errors.New("toxiproxy cannot refuse new connections without ending those that exist")
	case t.Refuse && (bytes || t.Cut || t.Linger > 0):
		return errors.New("toxiproxy cannot refuse new connections and do something else, too")
	case t.Close && !t.Refuse:
		return errors.New("toxiproxy cannot close the connections that exist without refusing new ones")
	}
	return nil
}

// touches reports what a toxic can act on. Of ends and of connections that are ended it is
// connections, of everything else bytes.
func touches(t harness.Toxic) (bytes, conns bool) {
	bytes = t.Delay > 0 || t.Jitter > 0 || t.Rate > 0 || t.Slice > 0 || t.Hold || t.Drop
	conns = t.Refuse || t.Reset || t.Close || t.Cut || t.Linger > 0 || t.Expire > 0
	return bytes, conns
}

func streams(d harness.Dir) []string {
	switch d {
	case harness.Up:
		return []string{"upstream"}
	case harness.Down:
		return []string{"downstream"}
	}
	return []string{"upstream", "downstream"}
}

// ms is a duration in the unit that toxiproxy counts in, rounded up: what is longer than
// nothing stays so.
func ms(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }
