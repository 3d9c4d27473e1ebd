package runner

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/steady"
)

const (
	steadyGap = 5 * time.Millisecond // between two looks
	steadyTry = time.Second          // for one look
)

// steady waits until the target is in its steady state, and records how long that took. It
// is not in it where a check does not hold within its time, and then nothing further is done.
func (p *play) steady(ctx context.Context, when steady.Moment) {
	for _, s := range p.target.Steady {
		if ctx.Err() != nil {
			return
		}
		took, err := await(ctx, s, p.in)
		p.emit(-1, steady.Event(s.Name, when, took, err))
		if err != nil && when == steady.Before {
			p.wear(fmt.Sprintf("not in the steady state before a case: %s: %v", s.Name, err))
			p.unsteady = true
			p.stop()
			return
		}
	}
}

// await looks until a check holds, and returns how long that took.
func await(ctx context.Context, s harness.Steady, w harness.World) (time.Duration, error) {
	began := time.Now()
	for {
		one, cancel := context.WithTimeout(ctx, steadyTry)
		err := s.Look(one, w)
		cancel()
		if took := time.Since(began); err == nil || ctx.Err() != nil || took >= s.Within {
			return took, err
		}
		sleep(ctx, steadyGap)
	}
}

// guard watches the limits of the target for as long as the session is open.
func (s *Session) guard(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	for _, l := range s.target.Limits {
		look := l.Look
		if l.Median > 0 {
			look = func(context.Context, harness.World) error { return s.pace.exceeds(l.Median) }
		}
		watching.Go(func() {
			t := time.NewTicker(l.Every)
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
