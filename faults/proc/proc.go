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

// injection is a fault in force on n processes.
func injection(n int, heal func(context.Context) error) harness.Injection {
	return harness.Injection{
		Heal:  heal,
		Acted: func() int64 { return int64(n) },
		Unit:  "processes",
	}
}

// end kills the process that args name. Start brings it back. Where the kill has failed
// when something may have ended already, start reports that once it has been tried.
func end(ctx context.Context, w harness.World, args harness.Args) (n int, start func(context.Context) error, err error) {
	name := args.Text("proc")
	p, err := w.Proc(name)
	if err != nil {
		return 0, nil, err
	}
	n, start, err = p.Kill(ctx)
	switch {
	case err == nil:
		return n, start, nil
	case start == nil:
		return 0, nil, fmt.Errorf("kill %s: %w", name, err)
	}
	return n, func(ctx context.Context) error {
		return errors.Join(fmt.Errorf("kill %s: %w", name, err), start(ctx))
	}, nil
}
