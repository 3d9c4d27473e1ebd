package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// RST resets every connection that exists on a link, once. There is nothing to heal. One side can be
// kept from the reset: it gets an end in good order, as from a peer that is done.
var RST = &harness.Fault{
	Name:   "net/rst",
	Doc:    "reset every connection that exists, once",
	Needs:  harness.CapLinks,
	Effect: harness.EffectMaybe,
	Params: []harness.Param{onLink, {
		Name: "side", Doc: "who gets the reset: both, or the client alone, or the server", Default: "both",
		Given: harness.OneOf(harness.Text("both"), harness.Text("client"), harness.Text("server")),
	}},
	Heals:  "there is nothing to heal",
	Unit:   "connections",
	Inject: rst,
}

func rst(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	spare := map[string]harness.Dir{"client": harness.Up, "server": harness.Down}[args.Text("side")]
	return disturb(ctx, w, args, harness.Toxic{Reset: true, Spare: spare})
}
