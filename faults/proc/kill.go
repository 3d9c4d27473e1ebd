package proc

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Kill ends a process at once, as a crash does. It is down until the heal starts it again.
var Kill = &harness.Fault{
	Name:   "proc/kill",
	Doc:    "end a process as a crash does; the heal starts it again",
	Needs:  harness.CapProcs,
	Effect: harness.EffectUndone,
	Params: []harness.Param{onProc, harness.TTL},
	Heals:  "it is started again",
	Unit:   unit,
	Inject: kill,
}

func kill(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	n, start, err := end(ctx, w, args)
	if err != nil {
		return harness.Injection{}, err
	}
	return injection(n, start).Within(args.Duration(harness.TTL.Name)), nil
}
