package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// HalfClose ends the stream in one direction of every connection that exists on a link, in good
// order, while the other direction goes on: down, the service reads the end of the stream, and
// what it still asks for is executed without a reply; up, the dependency reads the end. What comes
// behind the end is lost. New connections are served. A connection that lost bytes is reset at
// the heal; others stay half closed.
var HalfClose = &harness.Fault{
	Name:    "net/half_close",
	Doc:     "end one direction of every connection that exists in good order, once",
	Needs:   harness.CapLinks | harness.CapNative,
	Effect:  harness.EffectMaybe,
	Variant: true,
	Params: []harness.Param{
		onLink,
		direction("down", "up"),
		harness.TTL,
	},
	Heals:  "connections that lost bytes are reset, the others stay half closed",
	Unit:   "connections",
	Inject: halfClose,
}

func halfClose(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Close: true})
}
