package net

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// AcceptClose accepts every new connection on a link and ends it again: a load balancer without a
// server behind it, or a server that is starting or shutting down. To connect succeeds, and what
// comes is no reply but the end. At once the dependency sees nothing of the connection; after a
// while requests have passed, and one that is under way then may have been executed. A service
// that keeps its connections may never ask for a new one: then the fault has no effect.
var AcceptClose = &harness.Fault{
	Name:    "net/accept_close",
	Doc:     "accept new connections, and end them at once or soon after",
	Needs:   harness.CapLinks | harness.CapNative,
	Effect:  harness.EffectMaybe,
	Variant: true,
	Chance:  true,
	Params: []harness.Param{
		onLink,
		{Name: "after", Doc: "how long after it came a connection is ended; until then it is served", Default: "0s", Domain: harness.Durations(0, 5*time.Second)},
		ending("fin"),
		choice("existing", "end connections that exist in the same way, so long after the fault came", "false"),
		harness.TTL,
	},
	Heals:  "new connections are served again, and those that were not ended yet go on",
	Unit:   "connections",
	Inject: acceptClose,
}

func acceptClose(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	existing := args.Text("existing") == "true"
	return disturb(ctx, w, args, harness.Toxic{
		Refuse:  true,
		Age:     args.Duration("after"),
		Orderly: orderly(args),
		Close:   existing && orderly(args),
		Reset:   existing && !orderly(args),
	})
}
