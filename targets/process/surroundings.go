package process

import (
	"context"
	"errors"
	"fmt"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// Surroundings are what a service would run on, without one: the dependencies of a
// description, each behind a link, and a directory. They are a harness.World.
type Surroundings struct {
	// Target names the links and processes that there are. It has no ops and no start.
	Target *harness.Target
	// Dir is a directory for whatever needs one, removed by Close.
	Dir string

	s *System
}

// Surround brings the dependencies of a description up; one that has none, or that is the
// zero File, needs no more than the directory. The caller closes it. What harnesses that
// have died left on this machine is swept away.
func Surround(ctx context.Context, f *spec.File, o Options) (*Surroundings, error) {
	s := &System{file: f, opts: o}
	fail := func(err error) (*Surroundings, error) {
		err = interrupted(ctx, err, "bringing up the dependencies")
		return nil, errors.Join(err, s.Close(ctx))
	}
	if err := s.prepare(ctx); err != nil {
		return fail(err)
	}
	if err := s.choose(ctx); err != nil {
		return fail(err)
	}
	if err := s.engage(); err != nil {
		return fail(err)
	}
	var err error
	if s.env, err = bringUp(ctx, s.deps, s.scratch.dir, s.tap.emit); err != nil {
		return fail(err)
	}
	s.describe(built{})
	t := s.Target
	t.Procs = t.Procs[1:] // without the service
	t.Caps &= harness.CapLinks | harness.CapNative
	if len(t.Procs) > 0 {
		t.Caps |= harness.CapProcs
	}
	if len(t.Stores) > 0 {
		t.Caps |= harness.CapStores
	}
	return &Surroundings{Target: t, Dir: s.scratch.dir, s: s}, nil
}

// Addr is where the link of a dependency listens.
func (s *Surroundings) Addr(name string) string {
	if l := s.s.env.links[name]; l != nil {
		return l.Addr()
	}
	return ""
}

// Reset lifts what is in force on the links and brings the stores back to where they were
// at the first Reset.
func (s *Surroundings) Reset(ctx context.Context) error { return s.s.env.reset(ctx) }

// Link implements harness.World.
func (s *Surroundings) Link(name string) (harness.Link, error) {
	if l, ok := s.s.env.links[name]; ok {
		return l, nil
	}
	return nil, fmt.Errorf("no link is called %q; there are: %s", name, list(s.Target.Links))
}

// Proc implements harness.World.
func (s *Surroundings) Proc(name string) (harness.Proc, error) {
	if _, ok := s.s.env.stores[name]; ok {
		return s.s.env.proc(name)
	}
	return nil, fmt.Errorf("no process is called %q; there are: %s", name, list(s.Target.Procs))
}

// Store implements harness.World.
func (s *Surroundings) Store(name string) (harness.Store, error) {
	return s.s.env.store(name, s.Target)
}

// Agent implements harness.World: there is none.
func (s *Surroundings) Agent(string) (harness.Agent, error) {
	return nil, errors.New("there is no service, and so no agent")
}

// Close ends the dependencies and removes the directory. It may be called twice, and a
// cancelled ctx does not leave anything behind.
func (s *Surroundings) Close(ctx context.Context) error { return s.s.Close(ctx) }
