package dep

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// NoReplicas has a Redis refuse writes because too few replicas would get them.
var NoReplicas = &harness.Fault{
	Name:    "dep/noreplicas",
	Doc:     "a redis that misses its replicas: it refuses writes (-NOREPLICAS)",
	Needs:   harness.CapStores | harness.CapLinks,
	Effect:  harness.EffectNotExecuted,
	Variant: true,
	Params:  []harness.Param{on(redis), harness.TTL},
	Heals:   "it asks for no replicas",
	Unit:    "commands refused with NOREPLICAS",
	Inject:  noReplicas,
}

func noReplicas(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return configure(ctx, w, args, []string{"NOREPLICAS"}, []setting{{"min-replicas-max-lag", "10"}, {"min-replicas-to-write", "1"}}, harness.Change{})
}
