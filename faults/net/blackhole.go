package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Blackhole loses all bytes on a link, the ends of connections included. Connections that
// lost some are reset at the heal.
var Blackhole = &harness.Fault{
	Name:   "net/blackhole",
	Doc:    "lose all bytes, and reset the connections that lost some at the heal",
	Needs:  harness.CapLinks,
	Effect: harness.EffectMaybe,
	Params: []harness.Param{onLink, direction("both", "down", "up"), harness.TTL},
	Heals:  "connections that lost bytes are reset",
	Unit:   "bytes",
	Inject: blackhole,
}

func blackhole(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Drop: true})
}
