package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Cut ends each connection on a link after so many more bytes, in place of the next one: the
// message that it falls in is torn, or lost whole if it would have been the first. By a reset a
// client is told that something went wrong. In good order it is not: only who knows how long the
// message should be can tell that a part is missing.
var Cut = &harness.Fault{
	Name:   "net/cut",
	Doc:    "end each connection after so many more bytes, in place of the next one",
	Needs:  harness.CapLinks,
	Effect: harness.EffectMaybe,
	Params: []harness.Param{
		onLink,
		direction("down", "up", "both"),
		{Name: "after", Doc: "bytes that still pass, per connection and direction", Default: "0", Domain: harness.Ints(0, 1<<16)},
		ending("rst"),
		harness.TTL,
	},
	Heals:  "what was not cut yet goes on",
	Unit:   "connections",
	Inject: cut,
}

func cut(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Cut: true, CutAfter: args.Int("after"), Orderly: orderly(args)})
}
