package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Corrupt flips bits in bytes that pass a link, as memory and network cards do that no checksum
// watches. Which bytes are changed depends on the seed, the connection, the direction and the
// byte's place in the stream alone. What is stored or answered may be wrong then, and the service
// not to blame: only what it must never do is a finding, such as to crash, to hang or to leak. In
// little traffic no byte may be changed: then the fault has no effect.
var Corrupt = &harness.Fault{
	Name:   "net/corrupt",
	Doc:    "flip bits in some of the bytes",
	Needs:  harness.CapLinks | harness.CapNative,
	Effect: harness.EffectCorrupt,
	Chance: true,
	Named:  true,
	Params: []harness.Param{
		onLink,
		direction("down", "up", "both"),
		{Name: "p", Doc: "how many of all bytes are changed, as a fraction", Default: "0.001", Domain: harness.Fractions(0.0001, 1)},
		{Name: "bits", Doc: "bits that are flipped in such a byte", Default: "1", Domain: harness.Ints(1, 8)},
		harness.TTL,
	},
	Heals:  "bytes pass as they come",
	Unit:   "bytes",
	Inject: corrupt,
}

func corrupt(ctx context.Context, w harness.World, args harness.Args, rng *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{
		Corrupt: args.Float("p"),
		Bits:    int(args.Int("bits")),
		Seed:    rng.Uint64(),
	})
}
