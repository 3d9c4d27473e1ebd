package toxi

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/link"
)

// Link is a link whose toxics are toxiproxy's.
type Link struct {
	engine      *Engine
	name        string
	front, back *link.Link
	expiries    sync.WaitGroup // forces waiting for the end of their time to live

	mu      sync.Mutex // one call of toxiproxy at a time; guards what follows
	proxy   proxy      // nil where none could be had
	inForce []*force
	last    int // number of the newest force
	closed  bool
}

var _ harness.Link = (*Link)(nil)

// force is a toxic of ours that is in force.
type force struct {
	toxic  harness.Toxic
	parts  []toxic
	down   bool                 // the proxy is stopped
	before mark                 // taken before it was put in force: from here on it ends connections
	after  mark                 // ... and when that was done: from here on nothing passes untouched
	behind []string             // streams on which nothing comes to it: an earlier one lets nothing pass
	over   chan struct{}        // closed when it is in force no longer
	late   bool                 // its time to live was over
	shared atomic.Pointer[mark] // from here on another, too, may have ended what ends
	final  atomic.Pointer[mark]
}

// mark is what had come to both sides at a moment.
type mark struct{ front, back link.Traffic }

// mark reads the front first: what a dependency ends, the back counts before the front.
func (l *Link) mark() mark {
	front := l.front.Traffic()
	return mark{front, l.back.Traffic()}
}

// Addr is where the link listens: host:port. It never changes.
func (l *Link) Addr() string { return l.front.Addr() }

// SetUpstream points the link to another address. Connections that exist stay where they are.
func (l *Link) SetUpstream(addr string) { l.back.SetUpstream(addr) }

// Stats returns live counters.
func (l *Link) Stats() harness.LinkStats {
	s := l.front.Stats()
	s.Up = l.back.Stats().Up
	return s
}

// Disturb puts a toxic in force, by as many of toxiproxy's as it takes. What toxiproxy
// cannot do is an error, and so is a call that hangs: the proxy is given up then, with the
// connections through it.
//
// A toxic on bytes counts those that came to where it begins since it is in force, one on
// connections those that toxiproxy has ended, and one on the ends of streams these. What may
// have been the work of another that is in force, too, it does not count.
//
// One whose time to live is over is lifted as by Heal, which is a harness.ErrExpired then.
func (l *Link) Disturb(ctx context.Context, t harness.Toxic) (harness.Injection, error) {
	fail := func(err error) (harness.Injection, error) {
		return harness.Injection{}, fmt.Errorf("link %s: %w", l.name, err)
	}
	parts, down, err := translate(t)
	if err := errors.Join(ctx.Err(), err); err != nil {
		return fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return fail(net.ErrClosed)
	case l.proxy == nil:
		return fail(errors.New("it has no proxy: toxiproxy gave none"))
	}
	if err := l.clash(parts); err != nil {
		return fail(err)
	}
	l.last++
	for i := range parts {
		parts[i].Name = fmt.Sprintf("%s_%s_%d_%d", parts[i].Type, parts[i].Stream, l.last, i)
	}
	f := &force{toxic: t, parts: parts, down: down, before: l.mark(), over: make(chan struct{})}
	f.stand(l.inForce)
	if err := l.put(f); err != nil {
		l.engine.gaveUp(fmt.Sprintf("link %s: %v", l.name, err))
		return fail(errors.Join(fmt.Errorf("%w: its proxy was given up with the connections through it", err), l.renew(errors.Is(err, errHung))))
	}
	f.after = l.mark()
	l.inForce = append(l.inForce, f)
	if t.TTL > 0 {
		l.expiries.Go(func() { l.expire(f) })
	}
	return harness.Injection{Heal: l.heal(f), Acted: l.acted(f), Unit: f.unit()}, nil
}

// stand notes what of others' work a force must not claim, and they of its. Toxics that come
// later stand behind those that are there.
func (f *force) stand(inForce []*force) {
	for _, was := range inForce {
		if t := was.toxic; t.Hold || t.Drop || t.Reset {
			f.behind = append(f.behind, streams(t.Dir)...)
		}
		if !f.down && (was.ends() || was.toxic.Drop) { // which closes what it was in force on at its end
			f.shared.CompareAndSwap(nil, &f.before)
		}
		if !was.down && (f.ends() || f.toxic.Drop) {
			was.shared.CompareAndSwap(nil, &f.before)
		}
	}
}

// ends reports whether a force counts the connections that toxiproxy ends.
func (f *force) ends() bool {
	return f.down || f.toxic.Reset || f.toxic.Cut || f.toxic.Expire > 0
}

// clash says what toxiproxy cannot do beside what is in force. In 2.12.0, limit_data still
// reads a chunk that it has handed on, which bandwidth changes. The caller holds l.mu.
func (l *Link) clash(parts []toxic) error {
	for _, t := range parts {
		if t.Type == "bandwidth" && slices.ContainsFunc(on(t.Stream, l.inForce...), func(was toxic) bool { return was.Type == "limit_data" }) {
			return errors.New("toxiproxy cannot hold or slow down what it is to cut already: that is a data race in it")
		}
	}
	return nil
}

// put puts a force into force. The caller holds l.mu.
func (l *Link) put(f *force) error {
	p := l.proxy // a call that hangs outlives its turn as l.proxy
	if f.down && !l.down() {
		l.front.SetUpstream(nowhere) // who knows who listens at the proxy's address meanwhile
		return do(p.stop)
	}
	for _, t := range f.parts {
		if err := do(func() error { return p.add(t) }); err != nil {
			return fmt.Errorf("add %s: %w", t.Type, err)
		}
	}
	return nil
}

// down reports whether a toxic that is in force has stopped the proxy.
func (l *Link) down() bool {
	return slices.ContainsFunc(l.inForce, func(f *force) bool { return f.down })
}

// heal returns what ends a force. Where toxiproxy does not end it, the proxy is given up, so
// that it is ended all the same. Where there has been none since its time to live was over, one
// is asked for again: whether that can be had now is all that counts.
func (l *Link) heal(f *force) func(context.Context) error {
	return func(context.Context) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		err := l.lift(f)
		if f.late {
			if l.proxy == nil && !l.closed {
				err = l.renew(false)
			}
			err = cmp.Or(err, harness.ErrExpired)
		}
		if err != nil {
			return fmt.Errorf("link %s: %w", l.name, err)
		}
		return nil
	}
}

// expire ends a force when its time to live is over, unless it is ended before.
func (l *Link) expire(f *force) {
	select {
	case <-f.over:
		return
	case <-time.After(f.toxic.TTL):
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(l.inForce, f) {
		f.late = true
		_ = l.lift(f) // what it could not do the heal tries again
	}
}

// lift ends a force, unless it has been ended. The caller holds l.mu.
func (l *Link) lift(f *force) error {
	i := slices.Index(l.inForce, f)
	if i < 0 || l.closed {
		return nil
	}
	now := l.mark()
	f.final.Store(&now)
	close(f.over)
	later := slices.Clone(l.inForce[i+1:])
	l.inForce = slices.Delete(l.inForce, i, i+1)
	if l.proxy == nil {
		return l.renew(false)
	}
	if err := l.take(f, later); err != nil {
		why := fmt.Sprintf("link %s: %v", l.name, err)
		l.engine.gaveUp(why)
		if l.engine.Say != nil {
			l.engine.Say(why + ": its proxy was given up with the connections through it")
		}
		return l.renew(errors.Is(err, errHung))
	}
	return nil
}

// take takes a force back. Later ones are lifted for that moment: in 2.12.0 a toxic that is
// removed before a later one leaves a connection that is about to end in a state in which
// the next toxic that is added makes the process panic. The caller holds l.mu, and has
// removed f from what is in force.
func (l *Link) take(f *force, later []*force) error {
	p := l.proxy
	if f.down && !l.down() {
		if err := do(p.start); err != nil {
			return fmt.Errorf("start the proxy again: %w", err)
		}
		l.front.SetUpstream(l.at(p))
		return nil
	}
	for _, stream := range streams(f.toxic.Dir) {
		own, others := on(stream, f), on(stream, later...)
		if len(own) == 0 {
			continue
		}
		for _, t := range slices.Backward(slices.Concat(own, others)) {
			if err := do(func() error { return p.remove(t.Name) }); err != nil {
				return fmt.Errorf("remove %s: %w", t.Type, err)
			}
		}
		for _, t := range others {
			if err := do(func() error { return p.add(t) }); err != nil {
				return fmt.Errorf("add %s again: %w", t.Type, err)
			}
		}
	}
	return nil
}

// on returns the toxics of forces on a stream.
func on(stream string, forces ...*force) []toxic {
	var out []toxic
	for _, f := range forces {
		for _, t := range f.parts {
			if t.Stream == stream {
				out = append(out, t)
			}
		}
	}
	return out
}

// Reset heals every toxic in force. A later Heal of one of them does nothing. An error says
// that toxiproxy gives no proxy any more.
func (l *Link) Reset() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for len(l.inForce) > 0 {
		errs = append(errs, l.lift(l.inForce[len(l.inForce)-1]))
	}
	if l.proxy == nil && !l.closed {
		errs = append(errs, l.renew(false))
	}
	if l.proxy != nil { // what went wrong on the way is mended
		return nil
	}
	return errors.Join(errs...)
}

// nowhere is an address at which nothing listens.
const nowhere = "127.0.0.1:1"

// renew puts a new proxy with the toxics in force in the place of the one that there is, if
// any, and resets what passes through that one. Hung says that a call of it has not returned.
// The caller holds l.mu.
func (l *Link) renew(hung bool) error {
	old := l.proxy
	fresh, err := l.fresh()
	l.proxy = fresh
	if fresh != nil && !l.down() {
		l.front.SetUpstream(l.at(fresh))
	} else {
		l.front.SetUpstream(nowhere)
	}
	if old == nil {
		return err
	}
	ctx := context.Background()
	for _, half := range []*link.Link{l.front, l.back} {
		in, resetting := half.Disturb(ctx, harness.Toxic{Reset: true})
		if resetting == nil {
			resetting = in.Heal(ctx)
		}
		err = errors.Join(err, resetting)
	}
	go old.end(hung) // it may never return, and nobody waits for it
	return err
}

// prefix is what the names of our proxies begin with.
const prefix = "shakedown-"

// fresh makes a proxy with the toxics in force. Nothing passes it yet, so that none of its
// calls has anything to wait for.
func (l *Link) fresh() (proxy, error) {
	name := prefix + l.name + "-" + strings.ToLower(rand.Text()[:10])
	p, err := bounded(func() (proxy, error) {
		return l.engine.create(name, l.engine.listen, l.back.Addr())
	})
	if err != nil {
		return nil, fmt.Errorf("toxiproxy gives no proxy: %w", err)
	}
	set := func() error {
		for _, f := range l.inForce {
			for _, t := range f.parts {
				if err := p.add(t); err != nil {
					return err
				}
			}
		}
		if l.down() {
			return p.stop()
		}
		return nil
	}
	if err := do(set); err != nil {
		go p.end(errors.Is(err, errHung))
		return nil, fmt.Errorf("a new proxy does not take the toxics: %w", err)
	}
	return p, nil
}

// Close ends the link and resets its connections. It may be called twice.
func (l *Link) Close() error {
	defer l.expiries.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var toxics []toxic
	for _, f := range l.inForce {
		now := l.mark()
		f.final.Store(&now)
		close(f.over)
		toxics = append(toxics, f.parts...)
	}
	l.inForce = nil
	var errs []error
	for _, half := range []*link.Link{l.front, l.back} {
		if half != nil {
			errs = append(errs, half.Close())
		}
	}
	p := l.proxy
	if p == nil {
		return errors.Join(errs...)
	}
	// A toxic that holds bytes runs on after its connection, until it is removed.
	err := do(func() error {
		var errs []error
		for _, t := range slices.Backward(toxics) {
			errs = append(errs, p.remove(t.Name))
		}
		return errors.Join(append(errs, p.end(false))...)
	})
	if errors.Is(err, errHung) {
		l.engine.gaveUp(fmt.Sprintf("link %s: end its proxy: %v", l.name, err))
		err = nil // nothing passes it any more
	}
	return errors.Join(append(errs, err)...)
}

// unit names what a force counts.
func (f *force) unit() string {
	switch bytes, conns := touches(f.toxic); {
	case !conns:
		return "bytes"
	case !bytes:
		return "connections"
	}
	return "bytes and connections"
}

// acted returns what counts what a force has touched.
func (l *Link) acted(f *force) func() int64 {
	return func() int64 {
		now := f.final.Load()
		if now == nil {
			m := l.mark()
			now = &m
		}
		var n int64
		bytes, _ := touches(f.toxic)
		for _, stream := range streams(f.toxic.Dir) {
			if slices.Contains(f.behind, stream) {
				continue
			}
			if stream == "upstream" {
				n += came(bytes, now.front.Up-f.after.front.Up)
				n += came(f.toxic.Linger > 0, now.front.UpEnds-f.after.front.UpEnds)
			} else {
				n += came(bytes, now.back.Down-f.after.back.Down)
				n += came(f.toxic.Linger > 0, now.back.DownEnds-f.after.back.DownEnds)
			}
		}
		if until := f.shared.Load(); until != nil {
			now = until
		}
		// Toxiproxy ended what ended at the front and not at the back.
		ended := now.front.HungUp - f.before.front.HungUp - (now.back.HungUp - f.before.back.HungUp)
		return n + came(f.ends(), max(0, ended))
	}
}

// came returns n where that is to be counted.
func came(counts bool, n int64) int64 {
	if counts {
		return n
	}
	return 0
}
