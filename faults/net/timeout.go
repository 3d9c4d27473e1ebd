package net

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Timeout loses all bytes on a link, and closes each connection on which nothing came for a
// while, idle ones included. Who waits for a reply sees the end of the connection and not
// silence, as with Blackhole.
var Timeout = &harness.Fault{
	Name:   "net/timeout",
	Doc:    "lose all bytes, and close the connections on which nothing comes for a while",
	Needs:  harness.CapLinks,
	Effect: harness.EffectMaybe,
	Params: []harness.Param{
		onLink,
		direction("down", "up", "both"),
		{Name: "after", Doc: "nothing came for so long", Default: "100ms", Domain: harness.Durations(time.Millisecond, 5*time.Second)},
		harness.TTL,
	},
	Heals:  "connections that lost bytes and are still open are reset",
	Unit:   "bytes and connections",
	Inject: timeout,
}

func timeout(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Drop: true, Expire: args.Duration("after")})
}
