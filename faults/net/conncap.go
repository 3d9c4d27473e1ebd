package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// ConnCap bounds how many connections of a link are open at once, as a server's own limit does.
// Of those that exist the newest beyond the bound are reset, the others live on. A new one
// beyond it is reset, or hangs until another has ended or the fault is healed. A service that
// needs no more connections does not feel it.
var ConnCap = &harness.Fault{
	Name:    "net/conn_cap",
	Doc:     "let no more than so many connections be open at once",
	Needs:   harness.CapLinks | harness.CapNative,
	Effect:  harness.EffectMaybe,
	Variant: true,
	Chance:  true,
	Params: []harness.Param{
		onLink,
		{Name: "n", Doc: "connections that may be open", Default: "1", Domain: harness.Ints(1, 16)},
		{Name: "over", Doc: "what becomes of new ones beyond them", Default: "reset", Domain: harness.OneOf(harness.Text("reset"), harness.Text("hang"))},
		harness.TTL,
	},
	Heals:  "new connections are served again; those that hang go on, and what was sent on them is delivered",
	Unit:   "connections",
	Inject: connCap,
}

func connCap(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	hang := args.Text("over") == "hang"
	return disturb(ctx, w, args, harness.Toxic{Over: args.Int("n"), Reset: true, Hang: hang, Refuse: !hang})
}
