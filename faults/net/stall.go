package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Stall partitions a link: bytes are held until the heal and then delivered on the same
// connection. A request that its caller has long given up may be executed then.
var Stall = &harness.Fault{
	Name:   "net/stall",
	Doc:    "hold all bytes until the heal, then deliver them",
	Needs:  harness.CapLinks,
	Effect: harness.EffectMaybe,
	Params: []harness.Param{onLink, direction("both", "down", "up"), harness.TTL},
	Heals:  "all that was held is delivered on the same connections",
	Unit:   "bytes",
	Inject: stall,
}

func stall(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Hold: true})
}
