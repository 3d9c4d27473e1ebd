// Package proc holds the faults of processes: the service's own and its dependencies'.
package proc

import (
	"context"
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

// end kills the process that args name. Start brings it back.
func end(ctx context.Context, w harness.World, args harness.Args) (n int, start func(context.Context) error, err error) {
	p, err := w.Proc(args.Text("proc"))
	if err != nil {
		return 0, nil, err
	}
	if n, start, err = p.Kill(ctx); err != nil {
		return 0, nil, fmt.Errorf("kill %s: %w", args.Text("proc"), err)
	}
	return n, start, nil
}
