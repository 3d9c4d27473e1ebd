package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/api"
	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/container"
)

const (
	stopGrace = 2 * time.Second // for the service to end by itself
	quietTime = 5 * time.Second // for the service to be ready again after a case
	flushTime = time.Second     // for the agent to answer that all output is out
)

// instance is the service while it may be called: one process, or several one after
// another where a fault kills it.
type instance struct {
	s    *System
	env  *environment
	bugs string
	emit func(harness.Event)
	api  *api.API

	turn  sync.Mutex    // whoever starts, kills, pauses or ends a process holds it
	ahead time.Duration // of the machine's clock; guarded by turn

	mu     sync.Mutex // guards the rest
	now    *life      // nil while the service is down
	worn   string     // why this process life can serve no further case
	paused int        // pauses in force on now
	ended  bool
}

func newInstance(s *System, setup harness.Setup) *instance {
	return &instance{
		s: s, env: s.env, bugs: setup.Env["bugs"], emit: setup.Emit,
		api: api.New(s.file, "http://"+s.port.Addr()),
	}
}

// take passes an event of the service on. Its end, unless the harness brought it about,
// makes the instance worn, and so does more output than is read: the next process has
// room again.
func (i *instance) take(e harness.Event) {
	switch {
	case e.Kind == harness.Exit && e.Args.Text("expected") != "true":
		i.wear(fmt.Sprintf("the service exited: %s", e.Text))
	case e.Args.Text("dropped") == "true":
		i.wear("it has printed more than is read")
	}
	i.emit(e)
}

func (i *instance) wear(reason string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.worn == "" {
		i.worn = reason
	}
}

// life returns the process that runs, or nil, and why the instance is worn.
func (i *instance) life() (now *life, worn string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now, i.worn
}

// Client implements harness.Instance.
func (i *instance) Client(ctx context.Context, lane string) (harness.Client, error) {
	return i.api.Client(ctx, lane, i.emit)
}

// Reset implements harness.Instance.
func (i *instance) Reset(ctx context.Context) error { return i.env.reset(ctx) }

// Quiesce implements harness.Instance.
func (i *instance) Quiesce(ctx context.Context) (worn string, err error) {
	if l, _ := i.life(); l == nil || l.Starved() {
		i.wear("the service is down")
	} else {
		err = i.settle(ctx, l)
		l.races.read()
	}
	_, worn = i.life()
	return worn, err
}

// settle waits until a process is ready again and all its output has been handed over.
// One that does neither makes the instance worn; an error says that ctx has ended.
func (i *instance) settle(ctx context.Context, l *life) error {
	quiet, cancel := context.WithTimeout(ctx, quietTime)
	defer cancel()
	err := i.ready(quiet, l)
	if err == nil {
		l.shake(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errExited): // its Exit event has made the instance worn
	case err != nil:
		i.wear(fmt.Sprintf("not ready %s after the case: %v", quietTime, err))
	case !l.flush(ctx):
		i.wear("the agent does not answer")
	}
	return nil
}

// Stop implements harness.Instance.
func (i *instance) Stop(ctx context.Context) error {
	err := i.end(ctx)
	i.s.release(i)
	return err
}

// end stops the service for good.
func (i *instance) end(ctx context.Context) error {
	i.turn.Lock()
	defer i.turn.Unlock()
	i.mu.Lock()
	l := i.now
	i.now, i.ended = nil, true
	i.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.end(ctx, func() error { return l.Stop(ctx, stopGrace) })
}

// Link implements harness.World.
func (i *instance) Link(name string) (harness.Link, error) {
	if l, ok := i.env.links[name]; ok {
		return l, nil
	}
	return nil, fmt.Errorf("no link is called %q; there are: %s", name, list(i.s.Target.Links))
}

// Proc implements harness.World.
func (i *instance) Proc(name string) (harness.Proc, error) {
	if name == harness.Service {
		return proc{i}, nil
	}
	if _, ok := i.env.stores[name]; ok {
		return i.env.proc(name)
	}
	return nil, fmt.Errorf("no process is called %q; there are: %s", name, list(i.s.Target.Procs))
}

// Store implements harness.World.
func (i *instance) Store(name string) (harness.Store, error) {
	return i.env.store(name, i.s.Target)
}

// Agent implements harness.World.
func (i *instance) Agent(name string) (harness.Agent, error) {
	if name != harness.Service {
		if slices.Contains(i.s.Target.Procs, name) {
			return nil, fmt.Errorf("there is no agent in %s: only in %s", name, harness.Service)
		}
		return nil, fmt.Errorf("no process is called %q; there are: %s", name, list(i.s.Target.Procs))
	}
	l, _ := i.life()
	if l == nil || l.Starved() {
		return nil, errors.New("the service is down")
	}
	if a := l.agent.Load(); a != nil {
		return a, nil
	}
	return nil, errors.New("the agent in the service does not answer: it is a black box")
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// proc is the service's process tree as faults see it.
type proc struct{ i *instance }

// Kill implements harness.Proc.
func (p proc) Kill(ctx context.Context) (int, func(context.Context) error, error) {
	i := p.i
	i.turn.Lock()
	defer i.turn.Unlock()
	l, _ := i.life()
	if l == nil {
		return 0, i.restart, nil
	}
	var n int
	err := l.end(ctx, func() (err error) {
		n, err = l.Kill(ctx)
		return err
	})
	i.mu.Lock()
	i.now, i.paused = nil, 0
	i.mu.Unlock()
	return n, i.restart, err
}

// restart brings the service back where it is down, and waits for it where it was not ready
// in time before.
func (i *instance) restart(ctx context.Context) error {
	i.turn.Lock()
	defer i.turn.Unlock()
	i.mu.Lock()
	l, ended := i.now, i.ended
	i.mu.Unlock()
	switch {
	case ended:
		return nil
	case l == nil:
		return i.relaunch(ctx)
	case l.Starved():
		err := l.end(ctx, func() error { _, err := l.Kill(ctx); return err })
		i.set(nil)
		return errors.Join(err, i.relaunch(ctx))
	case l.late:
		return i.back(ctx, l)
	}
	return nil
}

// LimitFiles implements harness.Proc. A service that is down has no process.
func (p proc) LimitFiles(_ context.Context, more int) (int, func(context.Context) error, error) {
	p.i.turn.Lock()
	defer p.i.turn.Unlock()
	l, _ := p.i.life()
	if l == nil {
		return 0, func(context.Context) error { return nil }, nil
	}
	n, lift, err := l.LimitFiles(more)
	return n, func(context.Context) error { return lift() }, err
}

// Jump implements harness.Proc. Whether the service looks at its clock cannot be seen from
// outside: what is counted are the processes that have the moved one.
func (p proc) Jump(ctx context.Context, by time.Duration) (harness.Injection, error) {
	fixed := child.ClockFixed()
	if p.i.s.file.Service.Build == "" {
		fixed = container.ClockFixed()
	}
	if fixed != nil {
		return harness.Injection{}, fixed
	}
	n, err := p.i.move(ctx, by)
	if err == nil { // what it remembers with a time of then would meet stores that are reset
		p.i.wear(harness.Spent)
	}
	return harness.Injection{
		Heal: func(ctx context.Context) error {
			_, err := p.i.move(ctx, -by)
			return err
		},
		Acted: func() int64 { return int64(n) },
		Unit:  "processes with a moved clock",
	}, err
}

// move moves the clock by so much from what it is, and returns how many processes have it. An
// error leaves it where it was.
func (i *instance) move(ctx context.Context, by time.Duration) (n int, err error) {
	i.turn.Lock()
	defer i.turn.Unlock()
	if l, _ := i.life(); l != nil {
		if n, err = l.SetClock(ctx, i.ahead+by); err != nil {
			_, back := l.SetClock(context.WithoutCancel(ctx), i.ahead)
			return 0, errors.Join(err, back)
		}
	}
	i.ahead += by
	return n, nil
}

// Confine implements harness.Proc. A service that is down has no process.
func (p proc) Confine(ctx context.Context, q harness.Quota) (harness.Injection, error) {
	i := p.i
	i.turn.Lock()
	defer i.turn.Unlock()
	l, _ := i.life()
	if l == nil {
		return harness.Injection{Heal: func(context.Context) error { return nil }, Acted: func() int64 { return 0 }}, nil
	}
	in, err := l.Confine(ctx, q)
	if err != nil {
		return in, err
	}
	lift := in.Heal
	in.Heal = func(ctx context.Context) error {
		err := lift(ctx)
		if l.Starved() {
			err = errors.Join(err, i.restart(ctx))
		}
		return err
	}
	return in, nil
}

// Pause implements harness.Proc. Of several pauses in force, the last resume counts.
func (p proc) Pause(ctx context.Context) (int, func(context.Context) error, error) {
	i := p.i
	i.turn.Lock()
	defer i.turn.Unlock()
	l, _ := i.life()
	if l == nil {
		return 0, func(context.Context) error { return nil }, nil
	}
	n, err := l.Pause(ctx)
	i.mu.Lock()
	defer i.mu.Unlock()
	if err != nil {
		if i.paused == 0 {
			_, resumed := l.Resume(ctx)
			err = errors.Join(err, resumed)
		}
		return n, nil, err
	}
	i.paused++
	return n, func(ctx context.Context) error {
		i.turn.Lock()
		defer i.turn.Unlock()
		i.mu.Lock()
		if i.now == l { // otherwise killed meanwhile
			i.paused--
		}
		last := i.now == l && i.paused == 0
		i.mu.Unlock()
		if !last {
			return nil
		}
		_, err := l.Resume(ctx)
		return err
	}, nil
}
