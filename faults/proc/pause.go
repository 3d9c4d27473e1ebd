package proc

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Pause stops a process until the heal. What it was asked meanwhile it does then, whether
// or not somebody still waits for it.
var Pause = &harness.Fault{
	Name:   "proc/pause",
	Doc:    "stop a process; the heal lets it go on",
	Needs:  harness.CapProcs,
	Effect: harness.EffectMaybe,
	Params: []harness.Param{onProc, harness.TTL},
	Heals:  "it goes on, and does what it was asked meanwhile",
	Unit:   unit,
	Inject: pause,
}

func pause(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	p, err := w.Proc(args.Text("proc"))
	if err != nil {
		return harness.Injection{}, err
	}
	n, resume, err := p.Pause(ctx)
	if err != nil {
		return harness.Injection{}, fmt.Errorf("pause %s: %w", args.Text("proc"), err)
	}
	return injection(n, resume).Within(args.Duration(harness.TTL.Name)), nil
}
