package runner

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

const (
	// heed is how long a call waits at most for the faults that it has triggered, if a
	// quarter of its time is not less. One that takes longer comes while the call is under
	// way.
	heed = 250 * time.Millisecond
	// glance is between two looks at the counters of a link.
	glance = time.Millisecond
)

// armed is a fault that waits for its trigger.
type armed struct {
	step   int
	when   harness.Trigger
	inject func()        // in a goroutine of play.firing
	count  int64         // of what the trigger counts, the most that it was
	fired  bool          // it is being injected, or has been
	off    chan struct{} // closed when it shall wait no longer
	done   chan struct{} // closed when it has been injected, if it was fired
}

// arm lets a fault wait for its trigger. The case goes on meanwhile.
func (p *play) arm(ctx context.Context, i int) {
	s := p.c.Steps[i]
	a := &armed{step: i, when: s.When, off: make(chan struct{}), done: make(chan struct{})}
	a.inject = func() {
		defer close(a.done)
		delay := time.NewTimer(s.At)
		defer delay.Stop()
		select {
		case <-delay.C:
			p.put(ctx, i)
		case <-a.off:
			p.miss(a, "it was to be healed before it was injected")
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	p.armed = append(p.armed, a)
	p.check(a)
	p.mu.Unlock()
	if a.when.Counter == harness.CountBytes {
		p.watch(ctx, a)
	}
}

// check fires a fault whose trigger has come. The caller holds p.mu.
func (p *play) check(a *armed) bool {
	if a.when.Counter == harness.CountInFlight {
		var now int64
		for op, n := range p.flying {
			if a.when.Counts(p.op(op)) {
				now += n
			}
		}
		a.count = max(a.count, now)
	}
	if a.fired || a.count < a.when.Least {
		return false
	}
	a.fired = true
	p.firing.Go(a.inject)
	return true
}

// op returns the op of that name, also where the target does not say that it has one.
func (p *play) op(name string) *harness.Op {
	if op := p.target.Op(name); op != nil {
		return op
	}
	return &harness.Op{Name: name}
}

// takeoff counts a call that is about to be written and fires what has waited for it. It
// returns when that is in force, so that the call meets it.
func (p *play) takeoff(name string) {
	var fired []*armed
	p.mu.Lock()
	p.flying[name]++
	for _, a := range p.armed {
		if !a.when.Counts(p.op(name)) {
			continue
		}
		if a.when.Counter == harness.CountCalls {
			a.count++
		}
		if p.check(a) && p.c.Steps[a.step].At == 0 {
			fired = append(fired, a)
		}
	}
	p.mu.Unlock()
	if len(fired) == 0 {
		return
	}
	enough := time.NewTimer(min(heed, p.opts.Timeout/4))
	defer enough.Stop()
	for _, a := range fired {
		select {
		case <-a.done:
		case <-enough.C:
			return
		}
	}
}

// landing counts a call that is no longer under way.
func (p *play) landing(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flying[name]--
}

// watch fires a fault when so many bytes have passed a link.
func (p *play) watch(ctx context.Context, a *armed) {
	l, err := p.in.Link(a.when.Of)
	if err != nil {
		p.fail(fmt.Errorf("when=%s: %w", a.when, err))
		return
	}
	passed := func() int64 {
		s := l.Stats()
		return s.Up + s.Down
	}
	first := passed()
	p.firing.Go(func() {
		t := time.NewTicker(glance)
		defer t.Stop()
		for {
			select {
			case <-t.C:
			case <-a.off:
				return
			case <-ctx.Done():
				return
			}
			p.mu.Lock()
			if !a.fired {
				a.count = passed() - first
				p.check(a)
			}
			over := a.fired
			p.mu.Unlock()
			if over {
				return
			}
		}
	})
}

// disarm has the faults of some steps wait no longer. One whose trigger has not come is
// recorded as skipped; one that is being injected is in force when disarm returns.
func (p *play) disarm(which func(harness.Step) bool) {
	var waiting, fired []*armed
	p.mu.Lock()
	p.armed = slices.DeleteFunc(p.armed, func(a *armed) bool {
		switch {
		case !which(p.c.Steps[a.step]):
			return false
		case a.fired:
			fired = append(fired, a)
		default:
			a.fired = true // nobody else does it any more
			waiting = append(waiting, a)
		}
		close(a.off)
		return true
	})
	p.mu.Unlock()
	for _, a := range waiting {
		p.miss(a, fmt.Sprintf("its trigger %s did not come: it came to %d", a.when, a.count))
	}
	for _, a := range fired {
		<-a.done
	}
}

// miss records that a fault was not injected.
func (p *play) miss(a *armed, why string) {
	p.emit(a.step, harness.Event{Kind: harness.Skip, Lane: p.c.Steps[a.step].Label, Text: why})
}
