package net

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Latency holds back every byte on a link for a while. What is held back when it heals is
// passed on at once. A jitter depends on the seed, the connection, the direction, and how many
// reads came before in it.
var Latency = &harness.Fault{
	Name:   "net/latency",
	Doc:    "hold back every byte for a while",
	Needs:  harness.CapLinks,
	Effect: harness.EffectNone,
	Params: []harness.Param{
		onLink,
		direction("down", "up", "both"),
		{Name: "delay", Doc: "how long", Default: "100ms", Domain: harness.Durations(time.Millisecond, 5*time.Second)},
		{Name: "jitter", Doc: "give or take so much; bytes stay in order", Default: "0s", Domain: harness.Durations(0, 5*time.Second)},
		{Name: "dist", Doc: "how the jitter is distributed: of the last two, it is the standard deviation", Default: "uniform",
			Given: harness.OneOf(harness.Text("uniform"), harness.Text("normal"), harness.Text("pareto"))},
		{Name: "corr", Doc: "how likely what is read at once has the jitter of what came before it, as a fraction", Default: "0", Given: harness.Fractions(0, 0.95)},
		harness.TTL,
	},
	Heals:  "what waits is passed on",
	Unit:   "bytes",
	Inject: latency,
}

func latency(ctx context.Context, w harness.World, args harness.Args, rng *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{
		Delay:  args.Duration("delay"),
		Jitter: args.Duration("jitter"),
		Dist:   map[string]harness.Dist{"normal": harness.Normal, "pareto": harness.Pareto}[args.Text("dist")],
		Corr:   args.Float("corr"),
		Seed:   rng.Uint64(),
	})
}
