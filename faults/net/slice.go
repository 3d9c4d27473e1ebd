package net

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Slice passes bytes on in small pieces with gaps between them, so that no message comes in
// one read.
var Slice = &harness.Fault{
	Name:   "net/slice",
	Doc:    "pass bytes on in small pieces, with gaps between them",
	Needs:  harness.CapLinks,
	Effect: harness.EffectNone,
	Params: []harness.Param{
		onLink,
		direction("down", "up", "both"),
		// The shortest replies are of four or five bytes.
		{Name: "size", Doc: "bytes of a piece at most", Default: "4", Domain: harness.Ints(1, 1<<12)},
		{Name: "gap", Doc: "between two pieces", Default: "200us", Domain: harness.Durations(0, 20*time.Millisecond)},
		harness.TTL,
	},
	Heals:  "what waits is passed on",
	Unit:   "bytes",
	Inject: slice,
}

func slice(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Slice: args.Int("size"), Gap: args.Duration("gap")})
}
