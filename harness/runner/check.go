package runner

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/steady"
)

const (
	steadyGap = 5 * time.Millisecond // between two looks at the steady state
	anewTime  = time.Second          // for it to hold once the stores are reset
)

// steadyBefore waits until the target is in its steady state. Where a check does not hold
// within its time nothing further is done.
func (p *play) steadyBefore(ctx context.Context) {
	if name, err := p.holds(ctx, steady.Before); err != nil {
		p.wear(fmt.Sprintf("not in the steady state before a case: %s: %v", name, err))
		p.unsteady = true
		p.stop()
	}
}

// steadyAgain looks whether the target comes back to its steady state now that everything is
// healed. Where it does not, the stores are reset and it is looked at once more: what a check
// asks for may have been taken away by a call, or lost with a store.
func (p *play) steadyAgain(ctx context.Context) {
	if !p.disturbed() || p.unsteady || p.rec.ended() {
		return
	}
	if _, err := p.holds(ctx, steady.After); err != nil && p.in.Reset(ctx) == nil {
		p.holds(ctx, steady.Anew)
	}
}

// holds waits until the steady state holds, each check of it for its time from now on, and
// records how long that took. It returns the last that does not hold. What is cut short by
// the end of ctx has shown nothing.
func (p *play) holds(ctx context.Context, when steady.Moment) (name string, missing error) {
	began := time.Now()
	for _, s := range p.target.Steady {
		within := s.Within
		if when == steady.Anew {
			within = min(within, anewTime)
		}
		end := began.Add(within)
		var err error
		for {
			// A look that hangs must leave time for others.
			look, cancel := context.WithDeadline(ctx, earlier(end, time.Now().Add(max(within/4, steadyGap))))
			got := s.Look(look, p.in)
			if got == nil || err == nil || look.Err() == nil { // one that was cut short says little
				err = got
			}
			cancel()
			if err == nil || ctx.Err() != nil || !time.Now().Before(end) {
				break
			}
			sleep(ctx, steadyGap)
		}
		if ctx.Err() != nil {
			return "", nil
		}
		p.emit(-1, steady.Event(s.Name, when, time.Since(began), err))
		if err != nil {
			name, missing = s.Name, err
		}
	}
	return name, missing
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// guard watches the limits of the target until stop is called.
func (s *Session) guard(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	for _, l := range s.target.Limits {
		look := l.Look
		if l.Median > 0 {
			look = func(context.Context, harness.World) error { return s.pace.exceeds(l.Median) }
		}
		watching.Go(func() {
			t := time.NewTicker(cmp.Or(l.Every, limitEvery))
			defer t.Stop()
			for times := 0; times < max(l.Times, 1); {
				select {
				case <-ctx.Done():
					return
				case <-t.C:
				}
				err := look(ctx, s.in)
				switch {
				case ctx.Err() != nil:
					return
				case err == nil:
					times = 0
				default:
					if times++; times >= max(l.Times, 1) {
						s.opts.Abort(fmt.Errorf("%w: %s: %w", harness.ErrAborted, l.Name, err))
					}
				}
			}
		})
	}
	return func() {
		cancel()
		watching.Wait()
	}
}

// limitEvery is between two looks at a limit that does not say.
const limitEvery = 100 * time.Millisecond

// pace holds how long the last calls took.
type pace struct {
	mu   sync.Mutex
	last [harness.LimitCalls]time.Duration
	n    int
}

func (p *pace) add(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[p.n%len(p.last)] = d
	p.n++
}

// exceeds returns an error where half of the last calls took longer.
func (p *pace) exceeds(limit time.Duration) error {
	p.mu.Lock()
	last, n := p.last, p.n
	p.mu.Unlock()
	if n < len(last) {
		return nil
	}
	slices.Sort(last[:])
	if m := last[len(last)/2]; m > limit {
		return fmt.Errorf("the median of the last %d calls is %s", len(last), m.Round(time.Millisecond))
	}
	return nil
}
