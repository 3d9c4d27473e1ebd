package proc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Slow lets a process run for a part of the time only, as where it has to share a machine: it
// is stopped and goes on by turns, ten times a second, as cpulimit does it. That needs no
// privileges, and works for whatever can be paused.
var Slow = &harness.Fault{
	Name:   "proc/slow",
	Doc:    "let a process run only a part of the time",
	Needs:  harness.CapProcs,
	Effect: harness.EffectNone,
	Params: []harness.Param{
		onProc,
		{Name: "share", Doc: "of the time that it runs, in percent", Default: "20", Domain: harness.Ints(1, 90)},
	},
	Inject: slow,
}

// period is the time of one stop and one go.
const period = 100 * time.Millisecond

func slow(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	name := args.Text("proc")
	p, err := w.Proc(name)
	if err != nil {
		return harness.Injection{}, err
	}
	run := period * time.Duration(args.Int("share")) / 100
	var stops atomic.Int64
	stop := func(ctx context.Context) (resume func(context.Context) error, err error) {
		n, resume, err := p.Pause(ctx)
		if err != nil {
			return nil, fmt.Errorf("pause %s: %w", name, err)
		}
		if n > 0 {
			stops.Add(1)
		}
		return resume, nil
	}
	resume, err := stop(ctx)
	if err != nil {
		return harness.Injection{}, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() {
		for {
			sleep(ctx, period-run)
			err := resume(context.WithoutCancel(ctx))
			sleep(ctx, run)
			if err == nil && ctx.Err() == nil {
				resume, err = stop(ctx)
				if err == nil {
					continue
				}
				if ctx.Err() != nil { // healed meanwhile: nothing is stopped
					err = nil
				}
			}
			done <- err
			return
		}
	}()
	return harness.Injection{
		Heal: func(ctx context.Context) error {
			cancel()
			select {
			case err := <-done:
				return err
			case <-ctx.Done():
				return errors.Join(ctx.Err(), errors.New("it may be stopped still"))
			}
		},
		Acted: stops.Load,
		Unit:  "pauses",
	}, nil
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
