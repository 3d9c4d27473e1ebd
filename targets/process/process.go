// Package process brings up a service that is described by a shakedown.yaml as a process
// of this machine, or as a container: it builds it, with the agent where it is a Go program,
// puts a link before each dependency, and starts a fresh process of it as often as it is
// asked to.
//
// Dependencies and links live as long as the System does; a start brings their state back
// and starts nothing but the service, which is what makes hundreds of fresh processes
// affordable.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/gobuild"
	"github.com/shakedown-go/shakedown/harness/link/toxi"
	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/spec"
)

const (
	readyTime = 30 * time.Second // where the description gives no ready_within
	closeTime = 20 * time.Second // for everything to end
)

// Options say how a service is built and which bugs are switched on.
type Options struct {
	Name   string            // of the target; zero means the description's directory
	Bugs   string            // what {{bugs}} stands for
	Rungs  map[string]string // wanted for each dependency, as in a case's env: "local@15.18"; zero leaves it to the description
	Engine string            // of the links, as in a case's env: "native", "toxiproxy@2.12.0"; zero leaves it to the description
	Cache  string            // of built binaries; zero means gobuild's own

	// Supervisor are arguments with which this program is started once more, to look after
	// what this process starts: it is to call Supervise with the two that come after them.
	// Without, what a process that is killed leaves behind ends with it as far as the system
	// sees to that, and the rest is there until the next one sweeps it.
	Supervisor []string

	// Say, if it is set, is told of what the caller cannot do anything about: what is left of
	// harnesses that have died. It is called before anything is started.
	Say func(string)
}

// System is a service with its dependencies.
type System struct {
	// Target is what cases are played on. One instance of it can run at a time.
	Target *harness.Target
	Took   time.Duration // to build the service
	Cached bool          // it was there already
	// Differs says where a rung or version is another one than Options.Rungs wanted.
	Differs []string

	file    *spec.File
	opts    Options
	guard   *child.Supervisor // nil for none
	scratch scratch
	maker   maker
	port    *child.Port
	deps    []dependency
	toxi    *toxi.Engine // of the links; nil: they are our own
	tap     tap

	mu      sync.Mutex // guards the rest
	env     *environment
	running *instance
	epochs  int
	closed  bool
}

// Open builds the service and brings up its dependencies, both at once. What is wrong
// with the description is a *spec.Error, what is wrong with the service's source a
// *gobuild.Error or a *container.BuildError, a rung that cannot be had a *RungError; one that
// wraps ctx's own says that it was interrupted. The caller closes the system. What harnesses
// that have died left on this machine is swept away.
func Open(ctx context.Context, f *spec.File, o Options) (*System, error) {
	s := &System{file: f, opts: o}
	if o.Bugs != "" && !f.Service.Uses("bugs") {
		return nil, f.Mistake([]string{"service", "env"}, "bugs are to be switched on (%s), but neither service.env nor service.args has {{bugs}}", o.Bugs)
	}
	for i, a := range f.Abort {
		if a.Memory > 0 && runtime.GOOS != "linux" {
			return nil, f.Mistake([]string{"abort", strconv.Itoa(i), "memory"}, "the memory of processes is measured on Linux only")
		}
	}
	if err := s.open(ctx); err != nil {
		err = interrupted(ctx, err, "building the service and bringing up what it depends on")
		return nil, errors.Join(err, s.Close(ctx))
	}
	return s, nil
}

func (s *System) open(ctx context.Context) (err error) {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	if s.port, err = child.ReservePort(); err != nil {
		return err
	}
	if s.file.Service.Build != "" {
		s.maker = &binary{Options: gobuild.Options{Dir: s.file.Dir, Package: s.file.Service.Build, Race: true, Leaks: true, Cache: s.opts.Cache, Temp: s.scratch.dir, Env: []string{child.Mark()}}}
	} else {
		s.maker = &image{file: s.file, run: s.scratch.dir}
	}
	if err := s.choose(ctx); err != nil {
		return err
	}
	if err := s.engage(); err != nil {
		return err
	}
	// Whichever fails first ends the other.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var both sync.WaitGroup
	var b built
	both.Go(func() {
		var err error
		if s.env, err = bringUp(ctx, s.deps, s.scratch.dir, s.tap.emit); err != nil {
			cancel(err)
		}
	})
	both.Go(func() {
		var err error
		if b, err = s.maker.build(ctx); err != nil {
			cancel(err)
		}
	})
	both.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	s.describe(b)
	return nil
}

// prepare makes the directory, with a supervisor that is there before anything is that it
// has to look after, and sweeps away what others have left.
func (s *System) prepare(ctx context.Context) (err error) {
	parent := scratchParent()
	if len(s.opts.Supervisor) > 0 {
		if s.guard, err = child.StartSupervisor(append(slices.Clone(s.opts.Supervisor), child.Harness(), parent)...); err != nil {
			return err
		}
	}
	if err := sweep(ctx, parent); err != nil && s.opts.Say != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		s.opts.Say("runs that have died have left something, which shakedown clean tells of: " + first)
	}
	s.scratch, err = newScratch(parent)
	return err
}

// interrupted returns err, and where that came of the end of ctx, says what it came in the
// way of.
func interrupted(ctx context.Context, err error, what string) error {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("interrupted while %s: %w", what, err)
}

// describe fills in the target.
func (s *System) describe(b built) {
	s.Took, s.Cached = b.took, b.cached
	t := &harness.Target{Name: s.opts.Name, Ops: s.file.HarnessOps(), Start: s.start, Env: map[string]string{}, Stores: map[string]string{}}
	if t.Name == "" {
		t.Name = s.file.Dir
	}
	t.Caps = b.Caps | s.file.Declares()
	t.Procs = []string{harness.Service}
	for _, d := range s.deps {
		t.Env[d.name] = d.Rung()
		t.Links = append(t.Links, d.name)
		t.Caps |= harness.CapLinks
		if s.toxi == nil {
			t.Caps |= harness.CapNative
		}
		if _, err := s.env.stores[d.name].Proc(); err == nil {
			t.Procs = append(t.Procs, d.name)
		}
		if _, err := s.env.stores[d.name].Store(); err == nil {
			t.Stores[d.name] = s.file.Dependencies[d.name].Engine
			t.Caps |= harness.CapStores
		}
	}
	if s.opts.Bugs != "" {
		t.Env["bugs"] = s.opts.Bugs
	}
	if s.toxi != nil {
		t.Env["engine"] = s.toxi.Name()
	}
	t.Build = b.Build
	t.Build.Caps = t.Caps
	t.Steady, t.Limits = s.steady(), s.limits()
	s.Target = t
}

// start starts a fresh process of the service.
func (s *System) start(ctx context.Context, setup harness.Setup) (harness.Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, errors.New("the system is closed")
	case s.running != nil:
		return nil, errors.New("an instance runs already: stop it first")
	}
	if setup.Env == nil {
		setup.Env = s.Target.Env
	}
	if setup.Emit == nil {
		setup.Emit = func(harness.Event) {}
	}
	s.tap.to(setup.Emit)
	i, err := s.begin(ctx, setup)
	if err != nil {
		s.tap.to(nil)
		return nil, err
	}
	s.running = i
	return i, nil
}

func (s *System) begin(ctx context.Context, setup harness.Setup) (*instance, error) {
	if err := s.restore(ctx); err != nil {
		return nil, interrupted(ctx, err, "bringing the stores back")
	}
	i := newInstance(s, setup)
	if err := i.launch(ctx); err != nil {
		err = interrupted(ctx, err, "starting the service")
		return nil, errors.Join(err, i.end(ctx))
	}
	// What the handshake says stands in every record from here on.
	s.Target.Build.Caps = s.Target.Caps
	if i.now.agent.Load() == nil {
		s.Target.Build.Caps &^= harness.CapAgent
	}
	return i, nil
}

// restore brings dependencies and links back to where they were when the first instance
// began. Where that cannot be done, because a store was killed and never healed, say,
// new ones take their place.
func (s *System) restore(ctx context.Context) error {
	if s.env != nil {
		if !s.env.used || s.env.reset(ctx) == nil {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		old := s.env
		s.env = nil
		if err := old.close(ctx); err != nil {
			return err
		}
	}
	var err error
	s.env, err = bringUp(ctx, s.deps, s.scratch.dir, s.tap.emit)
	return err
}

// release lets the next instance start.
func (s *System) release(i *instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == i {
		s.running = nil
		s.tap.to(nil)
	}
}

// Addr is where the service listens: host:port. It is the same after every start.
func (s *System) Addr() string { return s.port.Addr() }

// Reports hands over what the race detector has reported until now of the instance that runs.
func (s *System) Reports() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return
	}
	if l, _ := s.running.life(); l != nil {
		l.races.read()
	}
}

// Close ends the instance that runs, the links and the dependencies. It may be called
// twice, and a cancelled ctx does not leave anything behind.
func (s *System) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	s.mu.Lock()
	running := s.running
	s.closed = true
	s.mu.Unlock()
	var errs []error
	if running != nil {
		errs = append(errs, running.Stop(ctx))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.env != nil {
		errs = append(errs, s.env.close(ctx))
		s.env = nil
	}
	if s.port != nil {
		s.port.Release()
	}
	if s.maker != nil {
		errs = append(errs, s.maker.close())
	}
	err := errors.Join(append(errs, s.scratch.remove(ctx))...)
	if err == nil { // otherwise the supervisor sees to the rest once this process has ended
		err = s.guard.Release()
		s.guard = nil
	}
	return err
}

// epoch makes the directory of a new process life.
func (s *System) epoch() (string, error) {
	s.epochs++
	dir := filepath.Join(s.scratch.dir, fmt.Sprint(s.epochs))
	return dir, os.Mkdir(dir, 0o700)
}

// tap passes on what the dependencies emit to whoever runs on them now.
type tap struct {
	mu sync.Mutex
	f  func(harness.Event)
}

func (t *tap) to(f func(harness.Event)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.f = f
}

func (t *tap) emit(e harness.Event) {
	t.mu.Lock()
	f := t.f
	t.mu.Unlock()
	if f != nil {
		f(e)
	}
}

// tail returns the last lines of an output, indented, for an error.
func tail(lines []string) string {
	if len(lines) == 0 {
		return "\n\t(it printed nothing)"
	}
	return "\n\t" + strings.Join(lines, "\n\t")
}
