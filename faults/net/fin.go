package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// FIN closes every connection that exists on a link in good order, once: a server that has
// tired of them. New ones are served. There is nothing to heal. A connection that is picked
// from a pool before its end was read fails with its first request.
var FIN = &harness.Fault{
	Name:    "net/fin",
	Doc:     "close every connection that exists in good order, once",
	Needs:   harness.CapLinks | harness.CapNative,
	Effect:  harness.EffectMaybe,
	Variant: true,
	Params:  []harness.Param{onLink},
	Heals:   "there is nothing to heal",
	Unit:    "connections",
	Inject:  fin,
}

func fin(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Close: true})
}
