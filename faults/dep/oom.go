package dep

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// OOM has a Redis refuse what would take memory, as one that is full and may not evict
// does. Nothing is evicted: reads, and what frees memory, go on.
var OOM = &harness.Fault{
	Name:   "dep/oom",
	Doc:    "a redis that is full: it refuses what takes memory (-OOM)",
	Needs:  harness.CapStores | harness.CapLinks,
	Effect: harness.EffectNotExecuted,
	Params: []harness.Param{on(redis), harness.TTL},
	Heals:  "its limit is set back",
	Unit:   "commands refused with OOM",
	Inject: oom,
}

func oom(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	// The policy first, or data would be evicted; so it is set back last.
	return configure(ctx, w, args, []string{"OOM"}, []setting{{"maxmemory-policy", "noeviction"}, {"maxmemory", "1"}}, harness.Change{})
}
