package proc

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// CPU leaves a process a share of one processor, as a container with a limit gets it: in each
// tenth of a second it runs as fast as ever until it has used its share, and then waits for the next.
// So a process that does little is not touched, one that has much to do at once has pauses in the
// midst of it, and one that runs on four processors has used its share four times as soon. That is
// what Slow cannot do, which stops whatever is there, busy or not, and needs no privileges for it.
var CPU = &harness.Fault{
	Name:    "proc/cpu",
	Doc:     "let a process use only a part of one processor's time",
	Needs:   harness.CapProcs,
	Effect:  harness.EffectNone,
	Variant: true,
	Chance:  true,
	Params: []harness.Param{
		onProc,
		{Name: "share", Doc: "of one processor's time, in percent, with all its children", Default: "20", Domain: harness.Ints(1, 100)},
		harness.TTL,
	},
	Heals:  "it can use what there is",
	Unit:   "periods cut short",
	Inject: cpu,
}

func cpu(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return confine(ctx, w, args, harness.Quota{CPU: int(args.Int("share"))}, "periods cut short")
}
