package providers

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	SetClock(ctx context.Context, ahead time.Duration) (n int, err error)
	Confine(context.Context, harness.Quota) (harness.Injection, error)
	Starved() bool
}

// server is a store that the harness runs, as a child or in a container.
type server struct {
	name   string
	dir    string        // of its own on this machine; "" for none
	within time.Duration // until it must serve
	gap    time.Duration // between two questions whether it does
	launch func(context.Context) (life unit, addr string, err error)
	ready  func(ctx context.Context, addr string) error // nil when it serves
	// bury removes what a dead server has left. It may be called twice.
	bury  func(context.Context) error
	gauge gauge // of its clock; set by its engine
	fixed error // why its clock cannot be moved; nil where it can
	// twin brings up another server like this one; inside is where that one reaches it:
	// host:port.
	twin   func(context.Context) (*server, error)
	inside func(context.Context) (string, error)

	addr atomic.Pointer[string] // where it listens

	paying sync.Mutex // held while what is owed is done, by one at a time; never locked by who holds mu

	mu     sync.Mutex                    // guards the rest
	now    unit                          // nil while it is down
	pauses int                           // in force on now
	limits int                           // on its files, in force on now
	ahead  time.Duration                 // of the machine's clock
	dying  bool                          // now was killed, and was still there when last looked at
	ended  bool                          // Stop was called
	owed   []func(context.Context) error // to be done as soon as it is back
	second *server                       // a twin that may take its place; nil for none
	stop   context.CancelCauseFunc       // ends what is just being done of what is owed; nil for nothing
}

// up starts a life and waits until it serves. The caller holds mu, or is alone.
func (s *server) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.within)
	defer cancel()
	began := time.Now()
	c, addr, err := s.launch(ctx)
	if err != nil {
		return err
	}
	s.addr.Store(&addr)
	if s.ahead != 0 {
		if _, err := c.SetClock(ctx, s.ahead); err != nil {
			_, killed := c.Kill(ctx)
			return errors.Join(err, killed)
		}
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
	s.interrupt()
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
	if err := s.revive(ctx); err != nil {
		return err
	}
	return s.pay(ctx)
}

// revive starts the server, unless it runs or is ended for good.
func (s *server) revive(ctx context.Context) error {
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
	s.interrupt()
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
		resumed, err := s.resume(ctx, c)
		if resumed {
			err = errors.Join(err, s.pay(ctx))
		}
		return err
	}, nil
}

// resume takes a pause of a life back, and reports whether that has gone on by it.
func (s *server) resume(ctx context.Context, c unit) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != c {
		return false, nil // killed meanwhile, or started anew
	}
	if s.pauses--; s.pauses > 0 {
		return false, nil
	}
	_, err := c.Resume(ctx)
	return true, err
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
	s.interrupt()
	s.limits++
	return n, func(ctx context.Context) error {
		return errors.Join(s.unlimit(c, lift), s.pay(ctx))
	}, nil
}

// unlimit takes a limit of a life back.
func (s *server) unlimit(c unit, lift func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == c { // and not killed meanwhile, or started anew
		s.limits--
	}
	return lift()
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
	return s.serving()
}

// serving is serves for whoever holds mu.
func (s *server) serving() error {
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
	s.owed = append(s.owed, do)
	s.mu.Unlock()
	return s.pay(ctx)
}

// errAway says why something that is owed was not done.
var errAway = errors.New("the server is about to be away")

// away reports whether nothing can be asked of the server. The caller holds mu.
func (s *server) away() bool {
	return s.down() || s.pauses > 0 || s.limits > 0 || s.ended
}

// interrupt has what is being done of what is owed give up: the server is about to be away, and
// nobody is to wait for it. The caller holds mu.
func (s *server) interrupt() {
	if s.stop != nil {
		s.stop(errAway)
	}
}

// pay does what is owed, the latest first, while the server serves. The server can be ended and
// paused meanwhile: what that comes in the way of stays owed to who brings it back. What fails
// otherwise is owed no longer.
func (s *server) pay(ctx context.Context) error {
	s.paying.Lock()
	defer s.paying.Unlock()
	var errs []error
	for {
		s.mu.Lock()
		n := len(s.owed) - 1
		if n < 0 || s.away() {
			s.mu.Unlock()
			return errors.Join(errs...)
		}
		do := s.owed[n]
		s.owed = s.owed[:n]
		ctx, cancel := context.WithCancelCause(ctx)
		s.stop = cancel
		s.mu.Unlock()

		err := do(ctx)

		s.mu.Lock()
		s.stop = nil
		if err != nil && context.Cause(ctx) == errAway {
			s.owed = append(s.owed, do)
		} else {
			errs = append(errs, err)
		}
		s.mu.Unlock()
		cancel(nil)
	}
}

// Stop implements Dependency. The data are thrown away, so the server is not asked to
// write them down first.
func (s *server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.interrupt()
	err := s.drop(ctx)
	if s.now != nil {
		_, killed := s.kill(ctx)
		err = errors.Join(err, killed)
	}
	return errors.Join(err, s.bury(ctx))
}

// double brings up a twin, which may take the place of the life that the server has now, and
// returns that life and the twin's address. There is one twin at a time.
func (s *server) double(ctx context.Context) (now unit, addr string, err error) {
	s.mu.Lock()
	now, err = s.now, errors.Join(s.serving(), s.drop(ctx))
	s.mu.Unlock()
	if err != nil {
		return nil, "", err
	}
	o, err := s.twin(ctx)
	if err != nil {
		return nil, "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil, "", errors.Join(fmt.Errorf("%s was stopped", s.name), o.Stop(ctx))
	}
	s.second = o
	return now, o.Addr(), nil
}

// yield gives the twin the place of the server, which is ended as a crash does. What fails
// is tried again by Stop. The caller holds mu.
func (s *server) yield(ctx context.Context) error {
	o := s.second
	o.mu.Lock()
	s.dir, o.dir = o.dir, s.dir
	s.launch, o.launch = o.launch, s.launch
	s.bury, o.bury = o.bury, s.bury
	s.inside, o.inside = o.inside, s.inside
	o.addr.Store(s.addr.Swap(o.addr.Load()))
	s.now, o.now = o.now, s.now
	s.pauses, s.limits, s.dying = 0, 0, false
	o.mu.Unlock()
	var err error
	if s.ahead != 0 && s.now != nil { // the twin has the machine's
		_, err = s.now.SetClock(ctx, s.ahead)
	}
	return errors.Join(err, s.drop(ctx))
}

// discard ends the twin, if there is one.
func (s *server) discard(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drop(ctx)
}

// drop is discard for whoever holds mu.
func (s *server) drop(ctx context.Context) error {
	if s.second == nil {
		return nil
	}
	err := s.second.Stop(context.WithoutCancel(ctx))
	if err == nil {
		s.second = nil
	}
	return err
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
	l.launch = func(context.Context) (unit, string, error) { return l.fork(dir) }
	l.bury = func(context.Context) error { return l.clear(dir) }
	l.inside = func(context.Context) (string, error) { return l.port.Addr(), nil }
	l.fixed = child.ClockFixed()
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

// fork starts a life that works in a directory.
func (l *local) fork(dir string) (unit, string, error) {
	o := l.args(l.port.Number())
	o.Name, o.Emit, o.Dir = l.name, l.emit, dir
	c, err := child.Start(o)
	if err != nil {
		return nil, "", err
	}
	return c, l.port.Addr(), nil
}

// clear removes what a dead server has left.
func (l *local) clear(dir string) error {
	if l.buried != nil {
		l.buried()
	}
	l.port.Release()
	return os.RemoveAll(dir)
}
