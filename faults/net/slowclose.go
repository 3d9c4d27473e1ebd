package net

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// SlowClose holds back the ends of streams for a while: who closes a connection is gone, and
// the other side finds out late. A service that keeps its connections may end none
// meanwhile: then the fault has no effect.
var SlowClose = &harness.Fault{
	Name:   "net/slow_close",
	Doc:    "hold back the end of a connection for a while",
	Needs:  harness.CapLinks,
	Effect: harness.EffectNone,
	Chance: true,
	Params: []harness.Param{
		onLink,
		direction("down", "up", "both"),
		{Name: "delay", Doc: "how long", Default: "500ms", Domain: harness.Durations(time.Millisecond, 5*time.Second)},
		harness.TTL,
	},
	Heals:  "ends that wait are passed on",
	Unit:   "connections",
	Inject: slowClose,
}

func slowClose(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Linger: args.Duration("delay")})
}
