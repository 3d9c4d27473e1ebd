package providers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/child"
)

const (
	upTime      = 15 * time.Second // until a server must serve, recovery from a crash included
	probeTime   = time.Second      // for one question whether it serves
	probeGap    = 5 * time.Millisecond
	recoverTime = 5 * time.Second // for a server of which a process was ended
	lastLines   = 5               // of a server's output that an error quotes
)

// unit is one life of a server: a *child.Child or a *container.Life.
type unit interface {
	Done() <-chan struct{}
	Exited() (status string, code int)
	Tail() []string
	Refill()
	Kill(context.Context) (int, error)
	Pause(context.Context) (int, error)
	Resume(context.Context) (int, error)
	LimitFiles(more int) (n int, lift func() error, err error)
	Confine(context.Context, harness.Quota) (harness.Injection, error)
	Starved() bool
}

// server is a store that the harness runs, as a child or in a container.
type server struct {
	name   string
	dir    string        // of its own on this machine; "" for none
	within time.Duration // until it must serve
	gap    time.Duration // between two questions whether it does
	launch func(context.Context) (unit, error)
	ready  func(ctx context.Context, addr string) error // nil when it serves
	// bury removes what a dead server has left. It may be called twice.
	bury func(context.Context) error

	addr atomic.Pointer[string] // where it listens

	mu     sync.Mutex                    // guards the rest
	now    unit                          // nil while it is down
	pauses int                           // in force on now
	limits int                           // on its files, in force on now
	dying  bool                          // now was killed, and was still there when last looked at
	ended  bool                          // Stop was called
	owed   []func(context.Context) error // to be done as soon as it is back
}

// up starts a life and waits until it serves. The caller holds mu, or is alone.
func (s *server) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	began := time.Now()
	c, err := s.launch(ctx)
	if err != nil {
		return err
	}
	for {
		probe, done := context.WithTimeout(ctx, probeTime)
		err := s.ready(probe, s.Addr())
		done()
		if err == nil {
			s.now, s.pauses, s.limits, s.dying = c, 0, 0, false
			return nil
		}
		gap := time.NewTimer(s.gap)
		select {
		case <-gap.C:
			continue
		case <-c.Done():
			status, _ := c.Exited()
			err = fmt.Errorf("%s ended before it served: %s%s", s.name, status, quote(c.Tail()))
		case <-ctx.Done():
			err = fmt.Errorf("%s does not serve after %s: %w%s", s.name, time.Since(began).Round(time.Millisecond), err, quote(c.Tail()))
		}
		gap.Stop()
		_, killed := c.Kill(ctx)
		return errors.Join(err, killed)
	}
}

func quote(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return "\n\t" + strings.Join(lines[max(0, len(lines)-lastLines):], "\n\t")
}

// Addr implements Dependency.
func (s *server) Addr() string { return *s.addr.Load() }

// Proc implements Dependency.
func (s *server) Proc() (harness.Proc, error) { return s, nil }

// Kill implements harness.Proc. A server that is down already counts as no process.
func (s *server) Kill(ctx context.Context) (int, func(context.Context) error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil {
		return 0, s.restart, nil
	}
	n, err := s.kill(ctx)
	return n, s.restart, err
}

// kill ends the tree. What is there after that is not forgotten.
func (s *server) kill(ctx context.Context) (int, error) {
	n, err := s.now.Kill(ctx)
	if s.dying = err != nil; !s.dying {
		s.now = nil
	}
	return n, err
}

// restart brings the server up again on the same port. A start that fails is tried again
// while there is time: what the crash left behind can be in the way for a moment.
func (s *server) restart(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.now != nil && !s.down() {
		return nil
	}
	if s.now != nil {
		if _, err := s.kill(ctx); err != nil {
			return fmt.Errorf("restart: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	for {
		err := s.up(ctx)
		if err == nil {
			return s.pay(ctx)
		}
		again := time.NewTimer(100 * time.Millisecond)
		select {
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return fmt.Errorf("restart: %w", err)
		}
	}
}

// Pause implements harness.Proc. Of several pauses in force, the last resume counts.
func (s *server) Pause(ctx context.Context) (int, func(context.Context) error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.now
	if c == nil {
		return 0, func(context.Context) error { return nil }, nil
	}
	n, err := c.Pause(ctx)
	if err != nil {
		if s.pauses == 0 {
			_, resumed := c.Resume(ctx)
			err = errors.Join(err, resumed)
		}
		return n, nil, err
	}
	s.pauses++
	return n, func(ctx context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.now != c {
			return nil // killed meanwhile, or started anew
		}
		if s.pauses--; s.pauses > 0 {
			return nil
		}
		_, err := c.Resume(ctx)
		return errors.Join(err, s.pay(ctx))
	}, nil
}

// LimitFiles implements harness.Proc. A server that is down has no process.
func (s *server) LimitFiles(_ context.Context, more int) (int, func(context.Context) error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.now
	if c == nil {
		return 0, func(context.Context) error { return nil }, nil
	}
	n, lift, err := c.LimitFiles(more)
	if err != nil {
		return 0, nil, err
	}
	s.limits++
	return n, func(ctx context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		err := lift()
		if s.now != c {
			return err // killed meanwhile, or started anew
		}
		if s.limits--; s.limits > 0 {
			return err
		}
		return errors.Join(err, s.pay(ctx))
	}, nil
}

// Confine implements harness.Proc. A server that is down has no process.
func (s *server) Confine(ctx context.Context, q harness.Quota) (harness.Injection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.now
	if c == nil {
		return unconfined(), nil
	}
	in, err := c.Confine(ctx, q)
	if err != nil {
		return in, err
	}
	lift := in.Heal
	in.Heal = func(ctx context.Context) error {
		err := lift(ctx)
		switch {
		case c.Starved():
			err = errors.Join(err, s.restart(ctx))
		case q.Memory > 0 && in.Acted() > 0:
			s.await(ctx, c)
		}
		return err
	}
	return in, nil
}

// unconfined is a quota on what is not there.
func unconfined() harness.Injection {
	return harness.Injection{Heal: func(context.Context) error { return nil }, Acted: func() int64 { return 0 }}
}

// await waits until a server serves of which a process may have been ended, unless something else
// keeps it from that: a Postgres then serves nobody for a moment.
func (s *server) await(ctx context.Context, c unit) {
	ctx, cancel := context.WithTimeout(ctx, recoverTime)
	defer cancel()
	again := time.NewTicker(s.gap)
	defer again.Stop()
	for s.serves() == nil && s.ready(ctx, s.Addr()) != nil {
		select {
		case <-again.C:
		case <-c.Done():
			return
		case <-ctx.Done():
			return
		}
	}
}

// down reports whether the server has no process that serves: it was killed, or the
// system has ended it for want of memory. The caller holds mu.
func (s *server) down() bool { return s.now == nil || s.dying || s.now.Starved() }

// serves returns an error where the server is down or paused.
func (s *server) serves() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.down():
		return fmt.Errorf("%s is down", s.name)
	case s.pauses > 0:
		return fmt.Errorf("%s is paused", s.name)
	case s.limits > 0:
		return fmt.Errorf("%s may take no connection", s.name)
	}
	return nil
}

// back does something now where the server serves, or else as soon as it is back: whoever
// brings it back gets the error then. A server that is ended for good is past that.
func (s *server) back(ctx context.Context, do func(context.Context) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owed = append(s.owed, do)
	if s.down() || s.pauses > 0 || s.limits > 0 {
		return nil
	}
	return s.pay(ctx)
}

// pay does what is owed, the latest first. The caller holds mu.
func (s *server) pay(ctx context.Context) error {
	var errs []error
	for _, do := range slices.Backward(s.owed) {
		errs = append(errs, do(ctx))
	}
	s.owed = nil
	return errors.Join(errs...)
}

// Stop implements Dependency. The data are thrown away, so the server is not asked to
// write them down first.
func (s *server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	var err error
	if s.now != nil {
		_, err = s.kill(ctx)
	}
	return errors.Join(err, s.bury(ctx))
}

// refill lets the server print as much again as at its start. One that is being started
// is not waited for.
func (s *server) refill() {
	if !s.mu.TryLock() {
		return
	}
	defer s.mu.Unlock()
	if s.now != nil {
		s.now.Refill()
	}
}

// local is a server that runs as a child, in its directory.
type local struct {
	server
	emit func(harness.Event)
	args func(port int) child.Options
	// buried is called when the tree is gone for good, before the directory is removed.
	buried func()

	port *child.Port
}

// newLocal returns a server whose other fields are to be set.
func newLocal(name, dir string, emit func(harness.Event)) *local {
	l := &local{emit: emit}
	l.name, l.dir, l.within, l.gap = name, dir, upTime, probeGap
	l.launch, l.bury = l.fork, l.clear
	return l
}

// start brings the server up for the first time, on a port that is free.
func (l *local) start(ctx context.Context) error {
	const tries = 3
	for try := 1; ; try++ {
		p, err := child.ReservePort()
		if err != nil {
			return err
		}
		l.port = p
		addr := p.Addr()
		l.addr.Store(&addr)
		err = l.up(ctx)
		if err == nil {
			return nil
		}
		l.port.Release()
		// The words of both servers for a port that somebody took in between.
		if try == tries || !strings.Contains(err.Error(), "ddress already in use") {
			return err
		}
	}
}

func (l *local) fork(context.Context) (unit, error) {
	o := l.args(l.port.Number())
	o.Name, o.Emit, o.Dir = l.name, l.emit, l.dir
	return child.Start(o)
}

// clear removes what a dead server has left.
func (l *local) clear(context.Context) error {
	if l.buried != nil {
		l.buried()
	}
	l.port.Release()
	return os.RemoveAll(l.dir)
}
