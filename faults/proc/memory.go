package proc

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Memory lets a process take only a few MiB of memory more, and leaves it to the system what
// becomes of it beyond that, as in a container with a limit: what was read from files is given
// up, and where that does not do, it is ended, whatever it was about to do. One that stays within
// is not touched.
var Memory = &harness.Fault{
	Name:    "proc/memory",
	Doc:     "let a process take only so much memory more; the system ends one that takes more than that",
	Needs:   harness.CapProcs,
	Effect:  harness.EffectUndone,
	Variant: true,
	Chance:  true,
	Params: []harness.Param{
		onProc,
		{Name: "more", Doc: "MiB that it can still take, with all its children", Default: "1", Domain: harness.Ints(1, 64)},
		harness.TTL,
	},
	Heals:  "it can take what it wants, and is started again where it was ended",
	Unit:   "times at the limit",
	Inject: memory,
}

func memory(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return confine(ctx, w, args, harness.Quota{Memory: args.Int("more") << 20}, "times at the limit")
}
