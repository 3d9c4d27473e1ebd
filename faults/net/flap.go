package net

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Flap takes a link down and up again by the link's own clock, down first. Whenever it goes
// down, connections that exist are reset, and new ones are until it comes up.
var Flap = &harness.Fault{
	Name:    "net/flap",
	Doc:     "go down and come up again, periodically",
	Needs:   harness.CapLinks | harness.CapNative,
	Effect:  harness.EffectMaybe,
	Variant: true,
	Params: []harness.Param{
		onLink,
		{Name: "down", Doc: "how long it is down each time", Default: "200ms", Domain: harness.Durations(10*time.Millisecond, 5*time.Second)},
		{Name: "up", Doc: "how long it is up each time", Default: "2s", Domain: harness.Durations(10*time.Millisecond, 5*time.Second)},
		harness.TTL,
	},
	Heals:  "the link is up, and stays so",
	Unit:   "connections",
	Inject: flap,
}

func flap(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Refuse: true, Reset: true, On: args.Duration("down"), Off: args.Duration("up")})
}
