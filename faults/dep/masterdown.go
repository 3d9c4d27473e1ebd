package dep

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// MasterDown makes a Redis a replica whose master is gone, and which may not serve what it
// has: it refuses reads, and writes as every replica does.
var MasterDown = &harness.Fault{
	Name:    "dep/masterdown",
	Doc:     "a redis whose master is gone: it refuses reads (-MASTERDOWN) and writes",
	Needs:   harness.CapStores | harness.CapLinks,
	Effect:  harness.EffectNotExecuted,
	Variant: true,
	Params:  []harness.Param{on(redis), harness.TTL},
	Heals:   "it is a master again, with its data",
	Unit:    "commands refused with MASTERDOWN or READONLY",
	Inject:  masterDown,
}

func masterDown(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return orphan(ctx, w, args, []string{"MASTERDOWN", "READONLY"}, "no")
}
