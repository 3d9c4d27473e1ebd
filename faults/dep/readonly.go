package dep

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// ReadOnly makes a Redis a replica whose master is gone, as after a failover that the
// service has not noticed. It refuses writes and answers reads by what it has; who waits in
// a blocking command is sent away.
var ReadOnly = &harness.Fault{
	Name:    "dep/readonly",
	Doc:     "a redis that is a replica: it refuses writes (-READONLY)",
	Needs:   harness.CapStores | harness.CapLinks,
	Effect:  harness.EffectNotExecuted,
	Variant: true,
	Params:  []harness.Param{on(redis), harness.TTL},
	Heals:   "it is a master again, with its data",
	Unit:    "commands refused with READONLY",
	Inject:  readOnly,
}

func readOnly(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return orphan(ctx, w, args, []string{"READONLY"}, "yes")
}
