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
// is stopped and goes on by turns, up to ten times a second, as cpulimit does it. That needs no
// privileges, and works for whatever can be paused; what takes long to pause, as a container
// does, runs meanwhile, and so for more than its share.
var Slow = &harness.Fault{
	Name:    "proc/slow",
	Doc:     "let a process run only a part of the time",
	Needs:   harness.CapProcs,
	Effect:  harness.EffectNone,
	Variant: true,
	Params: []harness.Param{
		onProc,
		{Name: "share", Doc: "of the time that it runs, in percent", Default: "20", Domain: harness.Ints(1, 90)},
		harness.TTL,
	},
	Heals:  "it runs all the time",
	Unit:   "pauses",
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
	// A pause that is cut short may come later: it is seen through.
	stop := func(ctx context.Context) (resume func(context.Context) error, err error) {
		n, resume, err := p.Pause(context.WithoutCancel(ctx))
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
	go func() { done <- alternate(ctx, run, resume, stop) }()
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
	}.Within(args.Duration(harness.TTL.Name)), nil
}

// alternate lets what is stopped run for a while and stops it again, by turns, until ctx ends:
// then it runs.
func alternate(ctx context.Context, run time.Duration, resume func(context.Context) error, stop func(context.Context) (func(context.Context) error, error)) error {
	for {
		turn := time.Now()
		sleep(ctx, period-run)
		if err := resume(context.WithoutCancel(ctx)); err != nil {
			return err
		}
		sleep(ctx, time.Until(turn.Add(period)))
		if ctx.Err() != nil {
			return nil
		}
		var err error
		if resume, err = stop(ctx); err != nil {
			return err
		}
	}
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
