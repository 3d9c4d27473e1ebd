package proc

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Restart ends a process at once, as a crash does, and starts it again. The fault is over
// when the process is ready, and there is nothing to heal, unless it does not get there in
// time: then the heal starts it once more where it is down, waits once more where it is not
// ready yet, and says what became of it.
var Restart = &harness.Fault{
	Name:   "proc/restart",
	Doc:    "end a process as a crash does and start it again at once",
	Needs:  harness.CapProcs,
	Effect: harness.EffectUndone,
	Params: []harness.Param{onProc},
	Heals:  "there is nothing to heal",
	Unit:   unit,
	Inject: restart,
}

func restart(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	n, start, err := end(ctx, w, args)
	if err != nil {
		return harness.Injection{}, err
	}
	if start(ctx) != nil {
		return injection(n, start), nil // it was ended, which an error would deny
	}
	return injection(n, func(context.Context) error { return nil }), nil
}
