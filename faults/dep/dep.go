// Package dep holds the faults of dependencies: states that a real Redis or Postgres gets
// into, brought about by an administrator's commands. What they do, the server itself does.
package dep

import (
	"context"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// on is the parameter that all faults of an engine have.
func on(engine string) harness.Param {
	return harness.Param{Name: "store", Doc: "the " + engine + " to disturb", Of: harness.OfStore, Engine: engine}
}

// either is a parameter that is true or false.
func either(name, doc, value string) harness.Param {
	return harness.Param{
		Name: name, Doc: doc + ": true or false", Default: value,
		Domain: harness.OneOf(harness.Text("true"), harness.Text("false")),
	}
}

const (
	lookTime  = 2 * time.Second       // for one look at a counter
	followGap = 25 * time.Millisecond // between two, where a meter is followed
)

// meter follows a counter of a server from when a fault came into force until its heal.
type meter struct {
	read       func(context.Context) (int64, error) // one call at a time
	end, ended chan struct{}                        // of what follows it; nil for nothing
	once       sync.Once                            // it is closed

	mu     sync.Mutex // guards the rest
	from   int64
	most   int64 // that the counter has risen
	closed bool
}

// newMeter reads the counter for the first time.
func newMeter(ctx context.Context, read func(context.Context) (int64, error)) (*meter, error) {
	from, err := read(ctx)
	return &meter{read: read, from: from}, err
}

// look reads the counter, unless the meter is closed. Where that cannot be done, as when
// another fault has ended the server, what was seen before stands.
func (m *meter) look(ctx context.Context) int64 {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return m.most
	}
	if now, err := m.read(ctx); err == nil {
		m.most = max(m.most, now-m.from)
	}
	return m.most
}

// follow looks again and again until the meter is closed, which is then done once, for what
// can be seen for a while only.
func (m *meter) follow() {
	m.end, m.ended = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(m.ended)
		again := time.NewTicker(followGap)
		defer again.Stop()
		for {
			select {
			case <-again.C:
				m.look(context.Background())
			case <-m.end:
				return
			}
		}
	}()
}

// close looks for the last time. It may be called again: a heal that fails is tried again.
func (m *meter) close() {
	m.once.Do(func() {
		if m.end != nil {
			close(m.end)
			<-m.ended
		}
		m.look(context.Background())
		m.mu.Lock()
		defer m.mu.Unlock()
		m.closed = true
	})
}

// acted returns how far the counter has risen.
func (m *meter) acted() int64 { return m.look(context.Background()) }

// closing returns a heal that looks for the last time before anything is undone.
func (m *meter) closing(heal func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		m.close()
		return heal(ctx)
	}
}

// conns returns what counts the connections that the target has had on a link: those that are
// open now, and those that come. At the server others may have some, too.
func conns(l harness.Link) func() int64 {
	was := l.Stats()
	return func() int64 { return was.Open + l.Stats().Conns - was.Conns }
}

// within gives what is in force the time to live that args say.
func within(args harness.Args, in harness.Injection, err error) (harness.Injection, error) {
	if err != nil {
		return in, err
	}
	return in.Within(args.Duration(harness.TTL.Name)), nil
}

// over is what the faults say whose heal is done.
const over = "there is nothing to heal"

// done is the heal of a fault that is over when it is in force.
func done(context.Context) error { return nil }
