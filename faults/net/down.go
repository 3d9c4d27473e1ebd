package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Down takes a link down as a server that shuts down in good order does: connections that
// exist are closed, and new ones are refused.
var Down = &harness.Fault{
	Name:   "net/down",
	Doc:    "close the connections that exist, and refuse new ones",
	Needs:  harness.CapLinks,
	Effect: harness.EffectMaybe,
	Params: []harness.Param{onLink, harness.TTL},
	Heals:  "new connections are served again",
	Unit:   "connections",
	Inject: down,
}

func down(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Refuse: true, Close: true})
}
