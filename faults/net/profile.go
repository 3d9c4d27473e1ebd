package net

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Profile makes a link as slow and as lossy as a network of some grade, in both directions.
// Connecting takes no longer than before.
var Profile = &harness.Fault{
	Name:    "net/profile",
	Doc:     "be a network of a grade: round trip, jitter and loss",
	Needs:   harness.CapLinks | harness.CapNative,
	Effect:  harness.EffectNone,
	Variant: true,
	Params: []harness.Param{
		onLink,
		{
			Name:    "grade",
			Doc:     "round trip and loss: backbone 2ms ± 0.3ms, 0.0001 %; good 50ms ± 10ms, 0.1 %; medium 150ms to 800ms, 2 %; weak 0.8s to 1.6s, 10 %",
			Default: "good",
			Domain:  harness.OneOf(harness.Text("backbone"), harness.Text("good"), harness.Text("medium"), harness.Text("weak")),
		},
		harness.TTL,
	},
	Heals:  "what waits is passed on",
	Unit:   "bytes",
	Inject: profile,
}

// grades are networks by name: half of a round trip, and the loss of each direction. Medium
// spans the whole grade that heartbeats on mobile networks are tuned to: 150 to 800 ms with 0.5
// to 5 % loss; weak begins where it ends.
var grades = map[string]harness.Toxic{
	"backbone": {Delay: time.Millisecond, Jitter: 150 * time.Microsecond, Loss: 1e-6},
	"good":     {Delay: 25 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.001},
	"medium":   {Delay: 237500 * time.Microsecond, Jitter: 162500 * time.Microsecond, Loss: 0.02},
	"weak":     {Delay: 600 * time.Millisecond, Jitter: 200 * time.Millisecond, Loss: 0.1},
}

// profileRTO is the least retransmission timeout of Linux; on a slow network it is longer.
const profileRTO = 200 * time.Millisecond

func profile(ctx context.Context, w harness.World, args harness.Args, rng *rand.Rand) (harness.Injection, error) {
	t := grades[args.Text("grade")]
	t.RTO = max(profileRTO, 2*(t.Delay+t.Jitter))
	t.Seed = rng.Uint64()
	return disturb(ctx, w, args, t)
}
