package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// play is one case under way.
type play struct {
	*Session
	c       harness.Case
	rec     *recorder
	trail   *trail
	clients map[string]harness.Client // by lane; changed only between turns

	mu       sync.Mutex
	replies  map[string]harness.Reply // of what was labelled
	inForce  []*injected              // the stack of heals
	trouble  error                    // the harness's first failure
	over     bool                     // nothing further is asked: a call was stuck, say
	stuck    sync.Once                // the stuck probes have looked
	again    sync.Once                // and have looked once more
	unsteady bool                     // the steady state was not reached before the first step
	touched  bool                     // something was injected since the last reset, whatever has become of it
	armed    []*armed                 // faults whose trigger may still come, or has just come
	flying   map[string]int64         // calls that are under way, by op
	firing   sync.WaitGroup           // faults being injected by their trigger
	expiries sync.WaitGroup           // faults waiting for their for= to run out
}

// injected is a fault in force.
type injected struct {
	step   int
	label  string
	on     part
	in     harness.Injection
	once   sync.Once
	healed chan struct{}
}

func (p *play) run(ctx context.Context) error {
	err := p.begin(ctx)
	if err == nil {
		apart := p.cost.Reset + p.cost.Quiesce
		err = timed(&p.cost.Play, func() error { return p.turns(ctx) })
		p.cost.Play -= p.cost.Reset + p.cost.Quiesce - apart // what the case's own resets took
	}
	p.end(ctx)
	if err != nil {
		return errors.Join(err, p.trouble)
	}
	p.sample(ctx, harness.AtQuiesced)
	return p.trouble
}

// begin brings stores and sessions to the start of a case.
func (p *play) begin(ctx context.Context) error {
	if err := timed(&p.cost.Reset, func() error { return p.in.Reset(ctx) }); err != nil {
		p.wear("it could not be reset")
		return fmt.Errorf("reset: %w", err)
	}
	p.trail.begin(ctx)
	if err := p.login(ctx); err != nil {
		return err
	}
	_ = timed(&p.cost.Quiesce, func() error { p.steadyBefore(ctx); return nil })
	p.sample(ctx, harness.AtStart)
	return ctx.Err()
}

// login opens a client for every lane, all at once.
func (p *play) login(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*p.opts.Timeout)
	defer cancel()
	lanes := p.c.Lanes()
	clients, errs := make([]harness.Client, len(lanes)), make([]error, len(lanes))
	var wg sync.WaitGroup
	for i, lane := range lanes {
		wg.Go(func() { clients[i], errs[i] = p.in.Client(ctx, lane) })
	}
	wg.Wait()
	for i, lane := range lanes {
		if errs[i] == nil {
			p.clients[lane] = clients[i]
		}
	}
	return errors.Join(errs...)
}

// turns does the steps: one after another, or a whole group at once.
func (p *play) turns(ctx context.Context) error {
	for _, t := range p.c.Turns() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.stopped() {
			return nil
		}
		scripts := p.scripts(t[0], t[1])
		release := make(chan struct{})
		var released time.Time
		var wg sync.WaitGroup
		for _, script := range scripts {
			wg.Go(func() {
				<-release
				for _, i := range script {
					p.step(ctx, i, released)
				}
			})
		}
		for i := t[0]; i < t[1]; i++ { // before the calls that they wait for
			if p.c.Steps[i].When != (harness.Trigger{}) {
				p.arm(ctx, i)
			}
		}
		released = time.Now()
		close(release)
		wg.Wait()
	}
	return ctx.Err()
}

// scripts splits the steps of a turn by who does them: each lane, and the nemesis.
func (p *play) scripts(from, to int) [][]int {
	var out [][]int
	at := map[string]int{}
	for i := from; i < to; i++ {
		lane := p.c.Steps[i].Lane // "" is the nemesis
		n, known := at[lane]
		if !known {
			n = len(out)
			at[lane] = n
			out = append(out, nil)
		}
		out[n] = append(out[n], i)
	}
	return out
}

func (p *play) step(ctx context.Context, i int, released time.Time) {
	s := p.c.Steps[i]
	switch s.Verb {
	case harness.VerbCall:
		began := time.Now()
		atMost := cmp.Or(s.For, p.opts.Timeout) // repeats may take as long together as one call may
		for n := 0; n < s.Times() || s.For > 0; n++ {
			if ctx.Err() != nil || p.stopped() || n > 0 && time.Since(began) > atMost {
				return
			}
			p.call(ctx, i)
		}
	case harness.VerbInject:
		p.inject(ctx, i, released)
	case harness.VerbHeal:
		p.healLabel(ctx, s.Name)
	case harness.VerbReset:
		p.reset(ctx)
	case harness.VerbWait:
		if !p.stopped() {
			sleep(ctx, s.For)
		}
	}
}

// call makes one call and records how it ended.
func (p *play) call(ctx context.Context, i int) {
	s := p.c.Steps[i]
	args, missing := p.resolve(s.Args)
	if missing != "" {
		p.emit(i, harness.Event{Kind: harness.Skip, Text: "cannot resolve " + missing})
		return
	}
	p.emit(i, harness.Event{Kind: harness.Invoke, Args: args})
	reply, err := p.await(ctx, i, args)
	switch {
	case errors.Is(err, errIgnored):
		p.wear("a call ignored that it was cancelled")
		p.emit(i, harness.Event{Kind: harness.Stuck, Args: harness.Args{{Key: "ignored", Value: yes}}})
		return
	case err != nil && ctx.Err() == nil:
		p.fail(fmt.Errorf("call %s: %w", s.Name, err))
		return
	}
	if s.Label != "" && reply.Outcome == harness.OK {
		p.mu.Lock()
		p.replies[s.Label] = reply
		p.mu.Unlock()
	}
}

var (
	errIgnored = errors.New("a call ignored that it was cancelled")
	yes        = harness.Value{Form: harness.FormJSON, Text: "true"}
)

// await makes a call in a goroutine of its own, so that one that ignores its context
// cannot hold up the case. While a call has passed its deadline and is still under way,
// the probes for that moment look; only then is it cancelled. Where nothing was injected
// it may just be slow: it gets as long again, and the probes look once more.
func (p *play) await(ctx context.Context, i int, args harness.Args) (harness.Reply, error) {
	s := p.c.Steps[i]
	type result struct {
		reply harness.Reply
		err   error
	}
	done := make(chan result, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := p.clients[s.Lane]
	go func() {
		var flies sync.Once
		off := false
		r, err := client.Call(ctx, s.Name, args, func(e harness.Event) {
			if e.Kind == harness.Forwarded {
				flies.Do(func() { p.takeoff(s.Name); off = true })
			}
			p.emit(i, e)
		})
		if flies.Do(func() {}); off {
			p.landing(s.Name)
		}
		done <- result{r, err}
	}()

	var got result
	late, began := false, time.Now()
	deadline := time.NewTimer(p.opts.Timeout)
	defer deadline.Stop()
	select {
	case got = <-done:
	case <-ctx.Done():
		got.err = errIgnored
	case <-deadline.C:
		late = true
		p.emit(i, harness.Event{Kind: harness.Stuck, Args: harness.Args{{Key: "after", Value: harness.Text(p.opts.Timeout.String())}}})
		p.stop()
		p.stuck.Do(func() { p.sample(ctx, harness.AtStuck) })
		got.err = errIgnored
		if !p.disturbed() {
			deadline.Reset(p.opts.Timeout)
			select {
			case got = <-done:
			case <-ctx.Done():
			case <-deadline.C:
				p.again.Do(func() { p.sample(ctx, harness.AtStuck) })
			}
		}
		cancel()
	}
	p.pace.add(time.Since(began))
	if got.err == errIgnored {
		grace := time.NewTimer(p.opts.Grace)
		defer grace.Stop()
		select {
		case got = <-done:
		case <-grace.C:
			return got.reply, errIgnored
		}
	}
	if got.err == nil {
		p.emit(i, returned(got.reply, late))
	}
	return got.reply, got.err
}

// The bounds of how much of a reply an event holds.
const (
	maxText    = 2 << 10
	maxPrivate = 16 << 10 // of one that is looked through
)

// returned is the event that ends a call.
func returned(r harness.Reply, late bool) harness.Event {
	most := maxText
	if r.Private {
		most = maxPrivate
	}
	e := harness.Event{Kind: r.Outcome, Text: string(r.Body[:min(len(r.Body), most)])}
	if r.Status != 0 {
		expect := yes
		if !r.Expect {
			expect.Text = "false"
		}
		e.Args = harness.Args{{Key: "status", Value: harness.Int(int64(r.Status))}, {Key: "expect", Value: expect}}
	}
	if r.Error != "" {
		e.Args = append(e.Args, harness.Arg{Key: "error", Value: harness.Text(r.Error)})
	}
	if late {
		e.Args = append(e.Args, harness.Arg{Key: "timeout", Value: yes})
	}
	if r.Reused {
		e.Args = append(e.Args, harness.Arg{Key: "reused", Value: yes})
	}
	if r.Private {
		e.Args = append(e.Args, harness.Arg{Key: "private", Value: yes})
		if len(r.Body) > most {
			e.Args = append(e.Args, harness.Arg{Key: "cut", Value: yes})
		}
	}
	return e
}

// resolve replaces references by what earlier replies hold. Missing names one that
// cannot be replaced.
func (p *play) resolve(args harness.Args) (out harness.Args, missing string) {
	out = make(harness.Args, 0, len(args))
	for _, a := range args {
		v, ok := a.Value.Resolve(p.lookup)
		if !ok {
			return nil, a.Key + "=" + a.Value.String()
		}
		out = append(out, harness.Arg{Key: a.Key, Value: v})
	}
	return out, ""
}

func (p *play) lookup(path string) (harness.Value, bool) {
	label, field, _ := strings.Cut(path, ".")
	p.mu.Lock()
	reply, ok := p.replies[label]
	p.mu.Unlock()
	if !ok {
		return harness.Value{}, false
	}
	return reply.Lookup(field)
}

// healTime bounds how long a fault may take to be injected, and to be healed.
const healTime = 30 * time.Second

// inject puts a fault in force when its time has come. One that waits for a trigger was armed
// before.
func (p *play) inject(ctx context.Context, i int, released time.Time) {
	s := p.c.Steps[i]
	if s.When == (harness.Trigger{}) && sleep(ctx, s.At-time.Since(released)) {
		p.put(ctx, i)
	}
}

// put puts a fault in force. One that cannot be is recorded with the reason, and has no
// effect.
func (p *play) put(ctx context.Context, i int) {
	if p.stopped() {
		return
	}
	s := p.c.Steps[i]
	f := p.opts.Fault(s.Name)
	if f == nil {
		p.fail(fmt.Errorf("no fault is called %s", s.Name))
		return
	}
	args := f.Fill(s.Args)
	p.mu.Lock()
	p.touched = true
	p.mu.Unlock()
	p.emit(i, harness.Event{Kind: harness.Inject, Lane: s.Label, Args: args, Text: f.Effect.String()})
	limited, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	in, err := f.Inject(limited, p.in, args, random(p.c.Seed, i))
	if err != nil {
		e := harness.Event{Kind: harness.Acted, Lane: s.Label, Text: err.Error()}
		if errors.Is(err, harness.ErrNotHere) {
			e.Args = harness.Args{{Key: "never", Value: yes}}
		}
		p.emit(i, e)
		return
	}
	x := &injected{step: i, label: s.Label, on: on(f, args), in: in, healed: make(chan struct{})}
	p.mu.Lock()
	p.inForce = append(p.inForce, x)
	p.mu.Unlock()
	if s.For > 0 {
		p.expiries.Go(func() {
			t := time.NewTimer(s.For)
			defer t.Stop()
			select {
			case <-t.C:
				p.heal(ctx, x)
			case <-x.healed:
			}
		})
	}
}

// part is what a fault is on, in the order in which all is healed.
type part int

const (
	onLink part = iota
	onDependency
	onService
)

func on(f *harness.Fault, args harness.Args) part {
	is := onDependency
	for _, p := range f.Params {
		switch {
		case p.Of == harness.OfLink:
			is = onLink
		case p.Of == harness.OfProc && args.Text(p.Name) == harness.Service:
			return onService
		}
	}
	return is
}

func (p *play) healLabel(ctx context.Context, label string) {
	p.disarm(func(s harness.Step) bool { return s.Label == label })
	p.mu.Lock()
	var found *injected
	for _, x := range p.inForce {
		if x.label == label {
			found = x
		}
	}
	p.mu.Unlock()
	if found == nil {
		return
	}
	// What is brought back may take long: where all is to end, what else is in force is
	// healed meanwhile.
	p.expiries.Go(func() { p.heal(ctx, found) })
	select {
	case <-found.healed:
	case <-ctx.Done():
	}
}

// heal ends a fault, whatever has become of the context, and records what it touched. One
// that cannot be ended is the harness's failure; a service that is brought back and does
// not get ready is not, nor is a fault that has ended by itself.
func (p *play) heal(ctx context.Context, x *injected) {
	x.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healTime)
		defer cancel()
		err := x.in.Heal(ctx)
		e := harness.Event{Kind: harness.Heal, Lane: x.label}
		if err != nil {
			e.Text = err.Error()
		}
		switch {
		case err == nil:
		case errors.Is(err, harness.ErrNotReady):
			e.Args = harness.Args{{Key: "unready", Value: yes}}
		case errors.Is(err, harness.ErrExpired):
			e.Args = harness.Args{{Key: "expired", Value: yes}}
		default:
			p.wear("a fault could not be healed")
			p.fail(fmt.Errorf("heal %s: %w", p.c.Steps[x.step].Name, err))
		}
		p.emit(x.step, e)
		p.emit(x.step, harness.Event{Kind: harness.Acted, Lane: x.label, Text: x.in.Unit, Value: float64(x.in.Acted())})
		close(x.healed)
	})
}

// unwind has nothing wait for a trigger any more and heals everything that is in force, the
// latest first: first what is on links, which is quick, and what is on the service's own
// process at the very end. A service that is started while its dependency is still away may
// die of that, and the order would be to blame.
func (p *play) unwind(ctx context.Context) {
	p.disarm(func(harness.Step) bool { return true })
	p.firing.Wait()
	p.mu.Lock()
	stack := p.inForce
	p.inForce = nil
	p.mu.Unlock()
	slices.Reverse(stack)
	for turn := onLink; turn <= onService; turn++ {
		for _, x := range stack {
			if x.on == turn {
				p.heal(ctx, x)
			}
		}
	}
	p.expiries.Wait()
}

// settle heals what is in force and looks whether the target comes back to its steady state.
func (p *play) settle(ctx context.Context) {
	p.unwind(ctx)
	_ = timed(&p.cost.Quiesce, func() error { p.steadyAgain(ctx); return nil })
}

// reset does within a case what happens between two.
func (p *play) reset(ctx context.Context) {
	p.settle(ctx)
	p.logout()
	p.mu.Lock()
	clear(p.replies)
	p.touched = false
	p.mu.Unlock()
	var worn string
	err := timed(&p.cost.Quiesce, func() (err error) {
		worn, err = p.in.Quiesce(ctx)
		return err
	})
	if worn != "" {
		p.wear(worn)
		p.stop() // what comes next wants a process that can serve it
		return
	}
	if err == nil {
		err = p.begin(ctx)
	}
	if err != nil {
		p.fail(err)
		return
	}
	p.emit(-1, harness.Event{Kind: harness.Reset})
}

// end heals, lets go of the clients and waits until the target is at rest.
func (p *play) end(ctx context.Context) {
	p.settle(ctx)
	p.logout()
	if p.rec.ended() {
		p.wear("a process ended by itself")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	err := timed(&p.cost.Quiesce, func() error {
		worn, err := p.in.Quiesce(ctx)
		p.wear(worn)
		return err
	})
	if err != nil {
		p.wear("it did not come to rest")
		p.fail(fmt.Errorf("quiesce: %w", err))
	}
}

func (p *play) logout() {
	for lane, c := range p.clients {
		c.Close()
		delete(p.clients, lane)
	}
}

// sample asks the probes of one moment. A probe that cannot see is an event too.
func (p *play) sample(ctx context.Context, when harness.When) {
	for _, pr := range p.opts.Probes {
		if pr.When != when || !p.target.Build.Caps.Has(pr.Needs) {
			continue
		}
		for n := range max(pr.Times, 1) {
			if n > 0 && !sleep(ctx, pr.Every) {
				return
			}
			pctx, cancel := context.WithTimeout(ctx, time.Second)
			events, err := pr.Sample(pctx, p.in)
			cancel()
			if err != nil {
				events = []harness.Event{{Kind: harness.Sample, Name: pr.Name, Args: harness.Args{{Key: "error", Value: harness.Text(err.Error())}}}}
			}
			for _, e := range events {
				e.Step = -1
				p.rec.emit(e)
			}
			if err != nil {
				break
			}
		}
	}
}

// emit records an event of a step; lane and name are the step's unless they are given.
func (p *play) emit(i int, e harness.Event) {
	e.Step = i
	if i >= 0 {
		s := p.c.Steps[i]
		if e.Lane == "" {
			e.Lane = s.Lane
		}
		if e.Name == "" {
			e.Name = s.Name
		}
	}
	p.rec.emit(e)
}

// fail notes the harness's first failure and ends the case.
func (p *play) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trouble == nil {
		p.trouble = err
	}
	p.over = true
}

// wear notes why the session can serve no further case. The first reason counts.
func (p *play) wear(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.worn == "" {
		p.worn = why
	}
}

// stop lets no further step begin.
func (p *play) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

// disturbed reports whether anything was injected since the case began, or since its last reset.
func (p *play) disturbed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.touched
}

func (p *play) stopped() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over || p.rec.ended()
}

// sleep waits for d and reports whether the context was still good then.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
