package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Bandwidth lets so many bytes pass in a second, on each connection and in each direction by
// itself. At a rate of 0 it is a stall: all bytes are held until the heal, and a request
// that its caller has long given up may be executed then.
var Bandwidth = &harness.Fault{
	Name:   "net/bandwidth",
	Doc:    "let so many bytes pass in a second, and the rest wait",
	Needs:  harness.CapLinks,
	Effect: harness.EffectMaybe,
	Params: []harness.Param{
		onLink,
		direction("down", "up", "both"),
		{Name: "rate", Doc: "kB per second, for each connection; 0 holds all", Default: "10", Domain: harness.Ints(0, 1000)},
		harness.TTL,
	},
	Heals:  "what waits is passed on",
	Unit:   "bytes",
	Inject: bandwidth,
}

func bandwidth(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	rate := args.Int("rate")
	return disturb(ctx, w, args, harness.Toxic{Rate: rate, Hold: rate == 0})
}
