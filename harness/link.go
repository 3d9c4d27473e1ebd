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
	Dir    Dir
	Share  float64       // of the connections, drawn once for each by Seed; 0 is all of them
	Delay  time.Duration // every chunk is passed on so much later
	Jitter time.Duration // give or take so much, uniformly, order kept
	Seed   uint64        // of the jitter, of what varies, and of the share
	Rate   int64         // so many thousand bytes a second pass, per connection and direction; 0 bounds nothing
	Slice  int64         // bytes pass in pieces of so many at most; 0 slices nothing
	Vary   int64         // a piece has up to so many bytes less or more, drawn by Seed; less than Slice
	Gap    time.Duration // between two pieces
	Linger time.Duration // the end of a stream is passed on so much later
	Hold   bool          // bytes are held, and delivered on the same connection after the heal
	Drop   bool          // bytes are lost; a connection that lost some is closed at the heal
	Expire time.Duration // with Drop: a connection on which nothing came for so long is closed; 0 closes none
	Refuse bool          // new connections are refused
	Reset  bool          // connections that exist are reset now
	Age    time.Duration // with Reset: not now, but so long after they came and the toxic did; so are new ones
	Close  bool          // connections that exist are closed now, in good order
	Cut    bool          // a connection is reset after CutAfter more bytes in Dir
	// CutAfter is counted per connection, from the moment the toxic is in force.
	CutAfter int64
}

// LinkStats are the counters of a link since it was started.
type LinkStats struct {
	Conns int64 // connections accepted
	Open  int64 // connections open now
	Up    int64 // bytes passed on towards the dependency
	Down  int64 // bytes passed on to the client
}
