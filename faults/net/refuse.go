package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Refuse resets every new connection on a link. Connections that exist live on, unless they
// are reset first, as when a server goes down. A service that keeps its connections may
// never ask for a new one meanwhile: then the fault has no effect.
var Refuse = &harness.Fault{
	Name:   "net/refuse",
	Doc:    "reset every new connection",
	Needs:  harness.CapLinks,
	Effect: harness.EffectMaybe,
	Params: []harness.Param{
		onLink,
		choice("existing", "reset connections that exist, too", "true"),
		harness.TTL,
	},
	Heals:  "new connections are served again",
	Unit:   "connections",
	Inject: refuse,
}

func refuse(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Refuse: true, Reset: args.Text("existing") == "true"})
}
