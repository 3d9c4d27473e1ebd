package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// AcceptHang accepts every new connection on a link and then neither reads nor writes: a server
// that has stopped to accept, as far as its callers can tell: the connect itself succeeds, as it
// does not with SynDrop. Connections that exist live on, unless they are reset first. At the heal those that hang go on: what was sent on them meanwhile is executed then,
// whether or not somebody still waits for it. Beyond a thousand that hang, further ones are
// reset. A service that keeps its connections may never ask for a new one: then the fault has no
// effect.
var AcceptHang = &harness.Fault{
	Name:    "net/accept_hang",
	Doc:     "accept new connections, and leave them alone until the heal",
	Needs:   harness.CapLinks | harness.CapNative,
	Effect:  harness.EffectMaybe,
	Variant: true,
	Chance:  true,
	Params: []harness.Param{
		onLink,
		choice("existing", "reset connections that exist", "false"),
		harness.TTL,
	},
	Heals:  "connections that hang go on, and what was sent on them is delivered",
	Unit:   "connections",
	Inject: acceptHang,
}

func acceptHang(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Hang: true, Reset: args.Text("existing") == "true"})
}
