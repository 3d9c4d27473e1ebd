package process

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/providers"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// resetTime is how long a store may take to come back to its first state.
const resetTime = 10 * time.Second

// dependency is a store that was chosen but is not started.
type dependency struct {
	name  string
	allow []string // hosts beyond loopback
	providers.Provider
	listen func(name, upstream string) (edge, error) // starts its link; nil is native
}

// RungError says that Options.Rungs wants a rung that cannot be had.
type RungError struct {
	Name, Rung string // of the dependency
	Err        error
}

func (e *RungError) Error() string {
	return fmt.Sprintf("env %s=%s: %v; take %s= out of env to have it as the description says", e.Name, e.Rung, e.Err, e.Name)
}

// Unwrap returns why it cannot be had.
func (e *RungError) Unwrap() error { return e.Err }

// choose picks the rung of every dependency, and refuses those that are elsewhere.
func (s *System) choose(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(s.file.Dependencies)) {
		d := s.file.Dependencies[name]
		want := s.opts.Rungs[name]
		way, _, _ := strings.Cut(want, "@")
		taken := way != "" && (d.Provide == "" || d.Provide == "auto")
		if taken {
			d = d.Provided(way)
		}
		host, err := providers.Host(d)
		if err != nil && taken {
			return &RungError{name, want, err}
		}
		path := []string{"dependencies", name, "url"}
		if err != nil {
			return s.file.Mistake(path, "dependency %s: %v", name, err)
		}
		if !spec.Allowed(s.file.Allow, host) {
			return s.file.Mistake(path, "dependency %s is at %s, which is not this machine: what is done to it is done for real; if it may be, add %q to allow", name, host, host)
		}
		p, err := providers.Choose(ctx, name, d, s.file.Dir)
		if err != nil && taken {
			return &RungError{name, want, err}
		}
		if err != nil {
			return err
		}
		if want != "" && want != p.Rung() {
			s.Differs = append(s.Differs, fmt.Sprintf("%s is %s, not %s", name, p.Rung(), want))
		}
		s.deps = append(s.deps, dependency{name: name, allow: s.file.Allow, Provider: p})
	}
	return nil
}

// environment is what a service runs on: its dependencies, each behind a link.
type environment struct {
	stores map[string]providers.Dependency
	links  map[string]edge
	used   bool // a first reset has fixed the state that every case starts from
}

// bringUp starts all dependencies at once, with their data below dir. A failure leaves
// nothing running.
func bringUp(ctx context.Context, deps []dependency, dir string, emit func(harness.Event)) (*environment, error) {
	e := &environment{stores: map[string]providers.Dependency{}, links: map[string]edge{}}
	var mu sync.Mutex // guards e's maps
	err := together(deps, func(d dependency) error {
		store, err := d.Start(ctx, dir, emit)
		if err != nil {
			return fmt.Errorf("dependency %s (%s): %w", d.name, d.Rung(), err)
		}
		mu.Lock()
		defer mu.Unlock()
		e.stores[d.name] = store
		// The address is the store's own claim: a link never leads elsewhere.
		if host := store.Addr(); !spec.Allowed(d.allow, host) {
			return fmt.Errorf("dependency %s: it is at %s, which is neither this machine nor allowed", d.name, host)
		}
		listen := d.listen
		if listen == nil {
			listen = native
		}
		l, err := listen(d.name, store.Addr())
		if err != nil {
			return err
		}
		e.links[d.name] = l
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, e.close(ctx))
	}
	return e, nil
}

// proc returns the process tree of a store.
func (e *environment) proc(name string) (harness.Proc, error) {
	p, err := e.stores[name].Proc()
	if err != nil {
		return nil, err
	}
	return moving{p, e.stores[name], e.links[name]}, nil
}

// store returns what an administrator's commands reach of a store.
func (e *environment) store(name string, t *harness.Target) (harness.Store, error) {
	d, ok := e.stores[name]
	if !ok {
		return nil, fmt.Errorf("no store is called %q; there are: %s", name, list(slices.Sorted(maps.Keys(t.Stores))))
	}
	s, err := d.Store()
	if err != nil {
		return nil, err
	}
	return movingStore{s, d, e.links[name]}, nil
}

// moving is a store that may listen elsewhere once it has been restarted: the link then
// leads there, and the service sees no difference.
type moving struct {
	harness.Proc
	store providers.Dependency
	link  edge
}

// Kill implements harness.Proc.
func (m moving) Kill(ctx context.Context) (int, func(context.Context) error, error) {
	n, restart, err := m.Proc.Kill(ctx)
	return n, func(ctx context.Context) error {
		err := restart(ctx)
		m.link.SetUpstream(m.store.Addr())
		return err
	}, err
}

// movingStore is a store whose server a replica can take the place of: the link then leads
// there.
type movingStore struct {
	harness.Store
	store providers.Dependency
	link  edge
}

// Replicate implements harness.Store.
func (m movingStore) Replicate(ctx context.Context) (harness.Replica, error) {
	r, err := m.Store.Replicate(ctx)
	if err != nil {
		return nil, err
	}
	return movingReplica{r, m}, nil
}

type movingReplica struct {
	harness.Replica
	of movingStore
}

// Promote implements harness.Replica.
func (r movingReplica) Promote(ctx context.Context) (lost int64, promoted bool, err error) {
	lost, promoted, err = r.Replica.Promote(ctx)
	if promoted {
		r.of.link.SetUpstream(r.of.store.Addr())
	}
	return lost, promoted, err
}

// Confine implements harness.Proc. What starves is restarted, too.
func (m moving) Confine(ctx context.Context, q harness.Quota) (harness.Injection, error) {
	in, err := m.Proc.Confine(ctx, q)
	if err != nil {
		return in, err
	}
	lift := in.Heal
	in.Heal = func(ctx context.Context) error {
		was := m.store.Addr()
		err := lift(ctx)
		if at := m.store.Addr(); at != was {
			m.link.SetUpstream(at)
		}
		return err
	}
	return in, nil
}

// The bounds of settling.
const (
	restTime   = 20 * time.Millisecond  // nothing passes the links for so long
	settleTime = 200 * time.Millisecond // waited for that at most: some are never at rest
)

// settle waits until nothing passes the links. A service that has just become ready still
// fills its pools, and a case that races with that shows something else each time.
func (e *environment) settle(ctx context.Context) {
	stats := func() map[string]harness.LinkStats {
		out := map[string]harness.LinkStats{}
		for name, l := range e.links {
			out[name] = l.Stats()
		}
		return out
	}
	end := time.NewTimer(settleTime)
	defer end.Stop()
	for was := stats(); ; {
		select {
		case <-ctx.Done():
			return
		case <-end.C:
			return
		case <-time.After(restTime):
		}
		now := stats()
		if maps.Equal(was, now) {
			return
		}
		was = now
	}
}

// reset lifts whatever is in force on the links, and then brings the stores back, so that
// nothing that a link held is delivered behind that.
func (e *environment) reset(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, resetTime)
	defer cancel()
	e.used = true
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(e.links)) {
		if err := e.links[name].Reset(); err != nil {
			errs = append(errs, fmt.Errorf("reset link %s: %w", name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return together(slices.Sorted(maps.Keys(e.stores)), func(name string) error {
		if err := e.stores[name].Reset(ctx); err != nil {
			return fmt.Errorf("reset %s: %w", name, err)
		}
		return nil
	})
}

// close ends links and stores. A cancelled ctx does not leave any behind.
func (e *environment) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(e.links)) {
		errs = append(errs, e.links[name].Close())
	}
	return errors.Join(append(errs, together(slices.Sorted(maps.Keys(e.stores)), func(name string) error {
		if err := e.stores[name].Stop(ctx); err != nil {
			return fmt.Errorf("stop %s: %w", name, err)
		}
		return nil
	}))...)
}

// together calls f for all, at once, and waits for all.
func together[T any](all []T, f func(T) error) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, x := range all {
		wg.Go(func() { errs[i] = f(x) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
