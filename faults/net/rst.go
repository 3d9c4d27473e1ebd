package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// RST resets every connection that exists on a link, once. There is nothing to heal.
var RST = &harness.Fault{
	Name:   "net/rst",
	Doc:    "reset every connection that exists, once",
	Needs:  harness.CapLinks,
	Effect: harness.EffectMaybe,
	Params: []harness.Param{onLink},
	Heals:  "there is nothing to heal",
	Unit:   "connections",
	Inject: rst,
}

func rst(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Reset: true})
}
