package net

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Loss is packet loss as TCP lets it be felt: of all segments some are lost, with what was sent
// behind them waiting, until they are sent again after the retransmission timeout. That doubles,
// as in RFC 6298, each time the same segment is lost, here up to 3.2 s. No byte is ever lost.
// Which segments are lost depends on the seed, the connection, the direction and the segment
// alone. In little traffic none may be: then the fault has no effect.
var Loss = &harness.Fault{
	Name:    "net/loss",
	Doc:     "lose segments, each of which is sent again",
	Needs:   harness.CapLinks | harness.CapNative,
	Effect:  harness.EffectNone,
	Variant: true,
	Chance:  true,
	Params: []harness.Param{
		onLink,
		direction("down", "up", "both"),
		{Name: "p", Doc: "how many of all segments of 1448 bytes are lost, as a fraction", Default: "0.01", Domain: harness.Fractions(0.001, 0.5)},
		{Name: "rto", Doc: "how long until a segment is sent again for the first time", Default: "200ms", Given: harness.Durations(time.Millisecond, 10*time.Second)},
		{Name: "corr", Doc: "how likely a segment shares the fate of the one before it, as a fraction", Default: "0", Given: harness.Fractions(0, 0.95)},
		harness.TTL,
	},
	Heals:  "what waits is passed on",
	Unit:   "bytes",
	Inject: loss,
}

func loss(ctx context.Context, w harness.World, args harness.Args, rng *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{
		Loss: args.Float("p"),
		RTO:  args.Duration("rto"),
		Corr: args.Float("corr"),
		Seed: rng.Uint64(),
	})
}
