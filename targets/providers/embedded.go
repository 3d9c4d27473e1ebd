package providers

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/child"
)

const (
	expireEvery = 5 * time.Millisecond
	closeTime   = 5 * time.Second
)

const miniredisModule = "github.com/alicebob/miniredis/v2"

// embeddedRedis is miniredis, in this process.
type embeddedRedis struct{ version string }

func miniredisVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "miniredis"
	}
	for _, m := range info.Deps {
		if m.Path == miniredisModule && m.Replace == nil {
			return strings.TrimPrefix(m.Version, "v")
		}
	}
	return "miniredis" // test binaries do not always know
}

func (p embeddedRedis) Rung() string { return "embedded@" + p.version }

func (p embeddedRedis) Start(context.Context, string, func(harness.Event)) (Dependency, error) {
	port, err := child.ReservePort()
	if err != nil {
		return nil, err
	}
	e := &embedded{port: port}
	e.keys = &keyspace{own: true, options: func() *redis.Options { return &redis.Options{Addr: e.Addr()} }}
	if err := e.up(); err != nil {
		e.port.Release()
		return nil, err
	}
	return e, nil
}

// embedded is a running miniredis. A restart makes a new instance: what a closed one
// leaves behind makes blocking commands hang, and a crash loses the data anyway.
type embedded struct {
	port  *child.Port
	keys  *keyspace
	looks atomic.Int64 // at the clock

	mu     sync.Mutex // guards the rest
	now    *miniredis.Miniredis
	close  func(context.Context) error // nil while it is down
	pauses int                         // in force on now
	clock  *embeddedClock              // of now
	ahead  time.Duration               // of the machine's clock
	ended  bool

	late      time.Duration // by which the clock has jumped while now is paused
	lateEnded *atomic.Int64 // takes the keys that end by that
}

// up starts an instance whose keys expire as time passes; miniredis alone expires them
// only when told so.
func (e *embedded) up() error {
	m := miniredis.NewMiniRedis()
	// The system may have lent the port to somebody's outgoing connection for a moment.
	for late := time.Now().Add(closeTime); ; time.Sleep(expireEvery) {
		err := m.StartAddr(e.Addr())
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(late) {
			return fmt.Errorf("start the embedded redis: %w", err)
		}
	}
	srv := m.Server()
	clock := &embeddedClock{m: m, last: time.Now(), ahead: e.ahead}
	srv.SetPreHook(e.asked)
	clock.tick()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		clock.run(end)
	}()
	e.now, e.pauses, e.clock, e.late = m, 0, clock, 0
	e.close = func(ctx context.Context) error {
		if e.pauses > 0 {
			m.Unlock()
		}
		close(end)
		<-ended
		// Not m.Close: an INFO that is under way then would panic on the server that
		// Close takes away.
		return shut(ctx, func() { m.CtxCancel(); srv.Close() })
	}
	return nil
}

// shut waits until an instance and its connections have ended.
func shut(ctx context.Context, end func()) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
	defer cancel()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		end()
	}()
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the embedded redis did not end within %s: a command is still under way", closeTime)
	}
}

// Addr implements Dependency.
func (e *embedded) Addr() string { return e.port.Addr() }

// Proc implements Dependency.
func (e *embedded) Proc() (harness.Proc, error) { return e, nil }

// Store implements Dependency: what it does of a server's states is not the true thing.
func (e *embedded) Store() (harness.Store, error) {
	return nil, errors.New("an embedded redis has no states of a server: use provide: local or docker")
}

// Reset implements Dependency.
func (e *embedded) Reset(ctx context.Context) error { return e.keys.reset(ctx) }

// Kill implements harness.Proc: connections end, connecting is refused, the data are lost.
func (e *embedded) Kill(ctx context.Context) (int, func(context.Context) error, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.close == nil {
		return 0, e.restart, nil
	}
	err := e.close(ctx)
	e.close = nil
	return 1, e.restart, err
}

func (e *embedded) restart(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.close != nil || e.ended {
		return nil
	}
	return e.up()
}

// Pause implements harness.Proc. There is no process to stop: it is its lock that is held,
// without which it neither carries out a command nor ends one that waits. Connections are
// taken and kept, as the system does for a process that is stopped. Of several pauses in
// force, the last resume counts.
func (e *embedded) Pause(ctx context.Context) (int, func(context.Context) error, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.close == nil {
		return 0, func(context.Context) error { return nil }, nil
	}
	m := e.now
	if e.pauses == 0 {
		if err := hold(ctx, m); err != nil {
			return 0, nil, err
		}
	}
	e.pauses++
	return 1, func(context.Context) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.close == nil || e.now != m {
			return nil // killed meanwhile, or started anew
		}
		if e.pauses--; e.pauses == 0 {
			m.Unlock()
			e.resumed()
		}
		return nil
	}, nil
}

// LimitFiles implements harness.Proc: its files are the harness's.
func (e *embedded) LimitFiles(context.Context, int) (int, func(context.Context) error, error) {
	return 0, nil, fmt.Errorf("an embedded store has no process of its own: %w", harness.ErrNotHere)
}

// Confine implements harness.Proc: its memory is the harness's, and so is its time.
func (e *embedded) Confine(context.Context, harness.Quota) (harness.Injection, error) {
	return harness.Injection{}, fmt.Errorf("an embedded store has no process of its own: %w", harness.ErrNotHere)
}

// hold takes the lock of an instance, which the command under way gives back.
func hold(ctx context.Context, m *miniredis.Miniredis) error {
	ctx, cancel := context.WithTimeout(ctx, closeTime)
	defer cancel()
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !m.TryLock() {
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("pause the embedded redis: a command is still under way: %w", ctx.Err())
		}
	}
	return nil
}

// Stop implements Dependency.
func (e *embedded) Stop(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	e.port.Release()
	if e.close == nil {
		return nil
	}
	err := e.close(ctx)
	e.close = nil
	return err
}
