// Package clock holds the faults of clocks.
package clock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Jump moves the time of day that a process reads, as when its clock is set, or its machine was
// asleep. The time since it was started goes on as it did, as it does when a clock is set:
// deadlines in a program in Go are not moved, a time that it has written down and compares is.
//
// What is stored for a while only is gone sooner or later than its writer was told: an oracle must take
// whatever a Redis gave a time to live for lost, at worst. Statements and commands that wait can
// be given up at once, since the servers measure some waits by the time of day. So the effect is
// maybe.
//
// That it acted is what the process shows of it: keys that it ended, looks at its clock, sessions
// that began a statement meanwhile. A service of its own shows nothing: what is counted are the
// processes that have the moved clock. In a Redis there may be nothing that has a time to live.
var Jump = &harness.Fault{
	Name:    "clock/jump",
	Doc:     "the clock that a process reads jumps forward or back",
	Needs:   harness.CapProcs,
	Effect:  harness.EffectMaybe,
	Variant: true,
	Chance:  true,
	Params: []harness.Param{
		{Name: "proc", Doc: "the process whose clock it is, with all its children", Of: harness.OfProc},
		{Name: "by", Doc: "how far, in whole seconds; back with a minus", Default: "1h", Domain: jumps{steps()}},
		harness.TTL,
	},
	Heals:  "the clock is right again; what has ended stays so, and what was given a time to live meanwhile ends as much later, or at once",
	Unit:   "keys ended by it and looks at its clock, or sessions, or processes",
	Inject: jump,
}

func jump(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	name := args.Text("proc")
	p, err := w.Proc(name)
	if err != nil {
		return harness.Injection{}, err
	}
	in, err := p.Jump(ctx, args.Duration("by"))
	if err != nil {
		return harness.Injection{}, fmt.Errorf("move the clock of %s: %w", name, err)
	}
	return in.Within(args.Duration(harness.TTL.Name)), nil
}

// farthest is how far a clock jumps at most: a day, as where the time zone is taken for another.
const farthest = 24 * time.Hour

// steps are the jumps that sources draw: a leap, a virtual machine that was paused, an hour of
// daylight saving, a day.
func steps() harness.Domain {
	var values []harness.Value
	for _, by := range []string{"1s", "1m", "1h", "24h", "-1s", "-1m", "-1h", "-24h"} {
		values = append(values, harness.Text(by))
	}
	return harness.OneOf(values...)
}

// jumps is the domain of all jumps, of which the embedded one draws some.
type jumps struct{ harness.Domain }

// Mutate returns another of the jumps that are drawn.
func (d jumps) Mutate(r *rand.Rand, _ harness.Value) harness.Value { return d.Draw(r) }

// Check implements harness.Checker.
func (jumps) Check(text string) error {
	by, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return errors.New("expected a duration with or without a minus, such as 1h or -30s")
	case by.Abs() > farthest:
		return fmt.Errorf("it must be from -%s to %s", farthest, farthest)
	case by == 0:
		return errors.New("that is no jump")
	case by%time.Second != 0:
		return errors.New("clocks jump by whole seconds")
	}
	return nil
}

// String says which jumps there are.
func (d jumps) String() string {
	return fmt.Sprintf("from -24h to 24h; drawn are %s", d.Domain)
}
