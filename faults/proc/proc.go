// Package proc holds the faults of processes: the service's own and its dependencies'.
package proc

import (
	"context"
	"errors"
	"fmt"

	"github.com/shakedown-go/shakedown/harness"
)

// onProc is the parameter that all faults of this package have.
var onProc = harness.Param{Name: "proc", Doc: "the process to disturb, with all its children", Of: harness.OfProc}

// unit is what all faults of this package count.
const unit = "processes"

// injection is a fault in force on n processes.
func injection(n int, heal func(context.Context) error) harness.Injection {
	return harness.Injection{
		Heal:  heal,
		Acted: func() int64 { return int64(n) },
		Unit:  unit,
	}
}

// end kills the process that args name, and returns how many processes that were and what
// brings it back. Where the kill has failed, but something may have ended, the latter
// reports the failure.
func end(ctx context.Context, w harness.World, args harness.Args) (int, func(context.Context) error, error) {
	name := args.Text("proc")
	p, err := w.Proc(name)
	if err != nil {
		return 0, nil, err
	}
	n, start, err := p.Kill(ctx)
	if err == nil {
		return n, start, nil
	}
	err = fmt.Errorf("kill %s: %w", name, err)
	if start == nil {
		return 0, nil, err
	}
	return n, func(ctx context.Context) error { return errors.Join(err, start(ctx)) }, nil
}

// confine leaves the process that args name no more than a quota, and counts in a unit how
// often it is held to that.
func confine(ctx context.Context, w harness.World, args harness.Args, q harness.Quota, unit string) (harness.Injection, error) {
	name := args.Text("proc")
	p, err := w.Proc(name)
	if err != nil {
		return harness.Injection{}, err
	}
	in, err := p.Confine(ctx, q)
	if err != nil {
		return harness.Injection{}, fmt.Errorf("confine %s: %w", name, err)
	}
	in.Unit = unit
	return in.Within(args.Duration(harness.TTL.Name)), nil
}
