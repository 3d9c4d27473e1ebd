// Package harnesstest has what the tests of several packages need: a target that lives in
// the test's own process, for tests of what plays, judges and minimizes cases, and a bound
// on time that holds on a busy machine.
package harnesstest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/shakedown-go/shakedown/harness"
)

// Service is a target whose calls are answered by a function.
type Service struct {
	// Handle answers a call. Life is the process life it is made in.
	Handle func(ctx context.Context, life *Life, call Call) harness.Reply
	Ops    []harness.Op // what Target says that can be asked
	// Answer is what the agent says to a question; nil repeats the question.
	Answer func(life *Life, question string) string

	Steady []harness.Steady
	Limits []harness.Limit

	Starts, Stops, Resets atomic.Int64
}

// Call is one call as the service sees it.
type Call struct {
	Lane, Op string
	Args     harness.Args
}

// Life is one process life: what it remembers is gone after the next start.
type Life struct {
	mu     sync.Mutex
	Broken map[string]bool // links that are disturbed
	passed map[string]int64
	counts map[string]int
	emit   func(harness.Event)
}

// Count adds one to a counter of this life and returns it.
func (l *Life) Count(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[name]++
	return l.counts[name]
}

// Counted returns a counter of this life.
func (l *Life) Counted(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts[name]
}

// Disturbed reports whether a fault is in force on the link.
func (l *Life) Disturbed(link string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Broken[link]
}

// Pass counts bytes that have passed a link.
func (l *Life) Pass(link string, n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passed[link] += n
}

// Print emits a line that the service printed.
func (l *Life) Print(line string) {
	l.emit(harness.Event{Kind: harness.Output, Step: -1, Name: harness.Service, Lane: "stderr", Text: line})
}

// Crash emits the end of the process.
func (l *Life) Crash() {
	l.emit(harness.Event{Kind: harness.Exit, Step: -1, Name: harness.Service, Value: 2, Text: "exit status 2"})
}

// OK is a reply that went well.
func OK(body string) harness.Reply {
	return harness.Reply{Outcome: harness.OK, Status: 200, Expect: true, Body: []byte(body)}
}

// Error is the reply of a call that failed with an unexpected status.
func Error(status int) harness.Reply {
	return harness.Reply{Outcome: harness.Outcome(status, true), Status: status}
}

// Target returns the service as a target with the links db and cache.
func (s *Service) Target() *harness.Target {
	return &harness.Target{
		Name: "test", Caps: harness.CapLinks, Links: []string{"cache", "db"}, Ops: s.Ops, Steady: s.Steady, Limits: s.Limits,
		Build: harness.Build{Module: "example.com/test", Caps: harness.CapLinks | harness.CapOutput | harness.CapRace | harness.CapAgent},
		Start: func(_ context.Context, setup harness.Setup) (harness.Instance, error) {
			s.Starts.Add(1)
			return &instance{s: s, life: &Life{emit: setup.Emit, counts: map[string]int{}, passed: map[string]int64{}, Broken: map[string]bool{}}}, nil
		},
	}
}

type instance struct {
	s    *Service
	life *Life
}

func (in *instance) Client(_ context.Context, lane string) (harness.Client, error) {
	return &client{in, lane}, nil
}

func (in *instance) Reset(context.Context) error {
	in.s.Resets.Add(1)
	return nil
}

func (in *instance) Quiesce(context.Context) (string, error) { return "", nil }

func (in *instance) Stop(context.Context) error {
	in.s.Stops.Add(1)
	return nil
}

func (in *instance) Link(name string) (harness.Link, error) { return &link{in.life, name}, nil }

func (in *instance) Proc(name string) (harness.Proc, error) {
	return nil, fmt.Errorf("no process %s", name)
}

func (in *instance) Store(name string) (harness.Store, error) {
	return nil, fmt.Errorf("no store %s", name)
}

func (in *instance) Agent(string) (harness.Agent, error) { return agent{in}, nil }

type agent struct{ in *instance }

func (a agent) Ask(_ context.Context, question string) ([]byte, error) {
	if a.in.s.Answer == nil {
		return []byte(question), nil
	}
	return []byte(a.in.s.Answer(a.in.life, question)), nil
}

type client struct {
	in   *instance
	lane string
}

func (c *client) Call(ctx context.Context, op string, args harness.Args, emit func(harness.Event)) (harness.Reply, error) {
	emit(harness.Event{Kind: harness.Forwarded})
	return c.in.s.Handle(ctx, c.in.life, Call{c.lane, op, args}), nil
}

func (c *client) Close() {}

type link struct {
	life *Life
	name string
}

func (l *link) Disturb(context.Context, harness.Toxic) (harness.Injection, error) {
	set := func(on bool) {
		l.life.mu.Lock()
		defer l.life.mu.Unlock()
		l.life.Broken[l.name] = on
	}
	set(true)
	return harness.Injection{
		Heal:  func(context.Context) error { set(false); return nil },
		Acted: func() int64 { return 1 },
		Unit:  "connections",
	}, nil
}

func (l *link) Stats() harness.LinkStats {
	l.life.mu.Lock()
	defer l.life.mu.Unlock()
	return harness.LinkStats{Down: l.life.passed[l.name]}
}

// Break is a fault that disturbs a link of the service.
var Break = &harness.Fault{
	Name: "net/break", Doc: "disturb a link", Needs: harness.CapLinks,
	Params: []harness.Param{{Name: "link", Of: harness.OfLink}},
	Inject: func(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
		l, err := w.Link(args.Text("link"))
		if err != nil {
			return harness.Injection{}, err
		}
		return l.Disturb(ctx, harness.Toxic{})
	},
}

// Fault finds Break by its name.
func Fault(name string) *harness.Fault {
	if name == Break.Name {
		return Break
	}
	return nil
}
