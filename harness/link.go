package harness

import (
	"context"
	"time"
)

// Dir is a direction on a link, seen from the client.
type Dir uint8

// The directions.
const (
	Both Dir = iota // the zero value: no direction is spared
	Up              // towards the dependency
	Down            // back to the client
)

// Link is one edge from the service to a dependency, with a proxy on it.
type Link interface {
	// Disturb puts a toxic in force on connections that exist and on new ones.
	Disturb(ctx context.Context, t Toxic) (Injection, error)
	// Stats returns live counters.
	Stats() LinkStats
}

// Toxic is what a link can do to the bytes and connections that pass it. Several may be
// in force at once; their delays add up, and the strongest of the rest wins. A link whose
// engine cannot do what a toxic says refuses it.
type Toxic struct {
	// For whom, and when.
	Dir   Dir
	Share float64       // of the connections, drawn once for each by Seed; 0 is all of them
	Seed  uint64        // of all that is left to chance
	TTL   time.Duration // the link itself lifts it after so long; 0 is never
	On    time.Duration // with Off: it is in force for so long, then not for Off, and so on by the link's clock
	Off   time.Duration // 0 with On: it is in force all the time

	// What becomes of bytes, and of the ends of streams.
	Delay  time.Duration // every chunk is passed on so much later
	Jitter time.Duration // give or take so much, as Dist says, order kept
	Dist   Dist
	Loss   float64       // so many of all segments of SegmentSize bytes are lost and sent again after RTO, which doubles each time; no byte is lost
	RTO    time.Duration // with Loss
	Corr   float64       // with Loss or Jitter: how likely the fate of a segment, or the jitter of a chunk, is that of the one before, and not drawn anew
	Rate   int64         // so many thousand bytes a second pass, per connection and direction; 0 bounds nothing
	Burst  int64         // with Rate: so many thousand bytes pass at once, where nothing has for as long as they take; 0 saves nothing up
	Joint  bool          // with Rate: it is that of all connections together, per direction, and they take turns
	Slice  int64         // bytes pass in pieces of so many at most; 0 slices nothing
	Vary   int64         // a piece has up to so many bytes less or more, drawn by Seed; less than Slice
	Gap    time.Duration // between two pieces
	Linger time.Duration // the end of a stream is passed on so much later
	Hold   bool          // bytes are held, and delivered on the same connection after the heal
	Drop   bool          // bytes are lost; a connection that lost some is closed at the heal
	Expire time.Duration // with Drop: a connection on which nothing came for so long is closed; 0 closes none

	// What bytes become.
	Corrupt float64 // so many of all bytes are changed on their way, each drawn by Seed and its place in the stream
	Bits    int     // with Corrupt: so many bits of such a byte are flipped, from 1 to 8

	// What becomes of connects, with no Share and no Over.
	Deaf bool // they get no answer: their SYNs are lost, and sent again by who connects

	// What becomes of connections.
	Refuse  bool          // new connections are refused, which they see as a reset
	Hang    bool          // new connections are accepted and then left alone until the heal, when they go on
	Reset   bool          // connections that exist are reset now
	Close   bool          // connections that exist are closed now, in good order; with a direction, the stream in that direction alone
	Spare   Dir           // with Reset: who gets an end in good order instead, Up the dependency, Down the client; Both spares nobody
	Age     time.Duration // with Refuse, Reset or Close: not at once, but so long after they came and the toxic did
	Orderly bool          // with Refuse or Cut: in good order, and not by a reset
	Over    int64         // Refuse, Hang, Reset and Close are only for connections beyond the oldest so many that are open; 0 is for all
	Cut     bool          // a connection is reset after CutAfter more bytes in Dir
	// CutAfter is counted per connection, from the moment the toxic is in force.
	CutAfter int64
}

// SegmentSize is how many bytes a segment has that is lost, but for the last of what is written
// at once: the payload of a full Ethernet frame with TCP timestamps.
const SegmentSize = 1448

// Dist is how a jitter is distributed.
type Dist uint8

// The distributions.
const (
	Uniform Dist = iota // within the jitter
	Normal              // with the jitter as standard deviation
	Pareto              // as well, with a heavy tail
)

// LinkStats are the counters of a link since it was started.
type LinkStats struct {
	Conns int64 // connections accepted
	Open  int64 // connections open now
	Up    int64 // bytes passed on towards the dependency
	Down  int64 // bytes passed on to the client
}
