package providers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/child"
)

const (
	upTime    = 15 * time.Second // until a server must serve, recovery from a crash included
	probeTime = time.Second      // for one question whether it serves
	probeGap  = 5 * time.Millisecond
	lastLines = 5 // of a server's output that an error quotes
)

// server is a store that runs as a child of the harness, in a directory of its own.
type server struct {
	name  string
	dir   string // removed at the end
	emit  func(harness.Event)
	args  func(port int) child.Options
	ready func(ctx context.Context, addr string) error // nil when it serves
	// buried is called when the tree is gone for good, before dir is removed.
	buried func()

	port *child.Port

	mu     sync.Mutex   // guards the rest
	now    *child.Child // nil while it is down
	pauses int          // in force on now
	dying  bool         // now was killed, and was still there when last looked at
	ended  bool         // Stop was called
}

// start brings the server up for the first time, on a port that is free.
func (s *server) start(ctx context.Context) error {
	const tries = 3
	for try := 1; ; try++ {
		p, err := child.ReservePort()
		if err != nil {
			return err
		}
		s.port = p
		err = s.up(ctx)
		if err == nil {
			return nil
		}
		s.port.Release()
		// The words of both servers for a port that somebody took in between.
		if try == tries || !strings.Contains(err.Error(), "ddress already in use") {
			return err
		}
	}
}

// up starts the child and waits until it serves. The caller holds mu, or is alone.
func (s *server) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upTime)
	defer cancel()
	began := time.Now()
	o := s.args(s.port.Number())
	o.Name, o.Emit, o.Dir = s.name, s.emit, s.dir
	c, err := child.Start(o)
	if err != nil {
		return err
	}
	for {
		probe, done := context.WithTimeout(ctx, probeTime)
		err := s.ready(probe, s.port.Addr())
		done()
		if err == nil {
			s.now, s.pauses, s.dying = c, 0, false
			return nil
		}
		gap := time.NewTimer(probeGap)
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
func (s *server) Addr() string { return s.port.Addr() }

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
	if s.ended || s.now != nil && !s.dying {
		return nil
	}
	if s.now != nil {
		if _, err := s.kill(ctx); err != nil {
			return fmt.Errorf("restart: %w", err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, upTime)
	defer cancel()
	for {
		err := s.up(ctx)
		if err == nil {
			return nil
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
			c.Resume()
		}
		return n, nil, err
	}
	s.pauses++
	return n, func(context.Context) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.now != c {
			return nil // killed meanwhile, or started anew
		}
		if s.pauses--; s.pauses == 0 {
			c.Resume()
		}
		return nil
	}, nil
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
	return errors.Join(err, s.bury())
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

// bury removes what a dead server has left.
func (s *server) bury() error {
	if s.buried != nil {
		s.buried()
	}
	s.port.Release()
	return os.RemoveAll(s.dir)
}
