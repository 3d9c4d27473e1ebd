package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Refuse resets every new connection on a link. Connections that exist live on.
var Refuse = &harness.Fault{
	Name:   "net/refuse",
	Doc:    "reset every new connection",
	Needs:  harness.CapLinks,
	Effect: harness.EffectNotExecuted,
	Params: []harness.Param{onLink},
	Inject: refuse,
}

func refuse(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Refuse: true})
}
