// Package nemesis disturbs dependencies at random while something else goes on, and counts
// what took effect.
package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// The bounds of how long a fault is in force and how long there is none. No call stands
// still for so long that it seems to hang.
const (
	shortest, longest = 50 * time.Millisecond, 1500 * time.Millisecond
	healTime          = 20 * time.Second
)

// Aim is a fault and what it is aimed at.
type Aim struct {
	Fault *harness.Fault
	Args  harness.Args // of the links, processes and stores only
}

// String is the fault and its aim as in a case: "net/stall link=db".
func (a Aim) String() string {
	parts := []string{a.Fault.Name}
	for _, arg := range a.Args {
		parts = append(parts, arg.Key+"="+arg.Value.Text)
	}
	return strings.Join(parts, " ")
}

// Aims returns what the faults can be aimed at on a target, in order.
func Aims(faults []*harness.Fault, t *harness.Target) []Aim {
	var out []Aim
	for _, f := range faults {
		for _, args := range f.Aims(t) {
			out = append(out, Aim{f, args})
		}
	}
	return out
}

// Parse reads what Aim.String has written.
func Parse(text string, aims []Aim) (Aim, error) {
	var names []string
	for _, a := range aims {
		if a.String() == strings.Join(strings.Fields(text), " ") {
			return a, nil
		}
		names = append(names, a.String())
	}
	if len(names) == 0 {
		return Aim{}, fmt.Errorf("%q: there is nothing to disturb: no dependency is described", text)
	}
	return Aim{}, fmt.Errorf("no fault is %q; there are: %s", text, strings.Join(names, ", "))
}

// Tally counts what came of one aim.
type Tally struct {
	Injected int    `json:"injected"`
	Acted    int    `json:"acted"`             // took effect
	Failed   int    `json:"failed,omitempty"`  // could not be injected
	Refused  int    `json:"refused,omitempty"` // of Failed: it cannot be had there, ever
	Why      string `json:"why,omitempty"`     // the last of these
}

// Nemesis injects one fault after another until it is stopped.
type Nemesis struct {
	Aims  []Aim
	World harness.World
	Seed  uint64

	turn sync.Mutex // held while a fault is in force, or while none may be

	mu      sync.Mutex // guards the rest
	tallies map[string]Tally
	now     string // the aim in force, or the last that was
}

// Last returns the aim that is in force, or else the last that was, as Aim.String; ""
// where nothing was injected yet.
func (n *Nemesis) Last() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.now
}

// Tallies returns what has been counted, by Aim.String.
func (n *Nemesis) Tallies() map[string]Tally {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := map[string]Tally{}
	for k, v := range n.tallies {
		out[k] = v
	}
	return out
}

// Run injects faults until ctx ends; the last is healed by then. They come in rounds, each
// aim once in a round. An error says that a fault could not be healed: then it has stopped.
func (n *Nemesis) Run(ctx context.Context) error {
	rng := rand.New(rand.NewPCG(n.Seed, 0x6e656d65736973))
	var round []int
	for len(n.Aims) > 0 && pause(ctx, span(rng, shortest/2, longest/4)) {
		if len(round) == 0 {
			round = rng.Perm(len(n.Aims))
		}
		a := n.Aims[round[0]]
		round = round[1:]
		if err := n.once(ctx, a, span(rng, shortest, longest), rng); err != nil {
			return err
		}
	}
	return nil
}

// Quiet does something while no fault is in force. One that is runs out before.
func (n *Nemesis) Quiet(do func()) {
	n.turn.Lock()
	defer n.turn.Unlock()
	do()
}

func (n *Nemesis) once(ctx context.Context, a Aim, d time.Duration, rng *rand.Rand) error {
	n.turn.Lock()
	defer n.turn.Unlock()
	args := slices.Clone(a.Args)
	for _, p := range a.Fault.Params {
		if p.Domain != nil && rng.IntN(2) == 0 { // else its default
			args = args.Set(p.Name, p.Domain.Draw(rng))
		}
	}
	inj, err := a.Fault.Inject(ctx, n.World, a.Fault.Fill(args), rng)
	if err != nil {
		if ctx.Err() == nil {
			t := Tally{Injected: 1, Failed: 1, Why: err.Error()}
			if errors.Is(err, harness.ErrNotHere) {
				t.Refused = 1
			}
			n.count(a, t)
		}
		return nil
	}
	n.mu.Lock()
	n.now = a.String()
	n.mu.Unlock()
	pause(ctx, d)
	err = heal(ctx, inj)
	t := Tally{Injected: 1}
	if inj.Acted() > 0 {
		t.Acted = 1
	}
	n.count(a, t)
	if err != nil {
		return fmt.Errorf("heal %s: %w", a, err)
	}
	return nil
}

func (n *Nemesis) count(a Aim, t Tally) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tallies == nil {
		n.tallies = map[string]Tally{}
	}
	s := n.tallies[a.String()]
	s.Injected, s.Acted, s.Failed, s.Refused = s.Injected+t.Injected, s.Acted+t.Acted, s.Failed+t.Failed, s.Refused+t.Refused
	if t.Why != "" {
		s.Why = t.Why
	}
	n.tallies[a.String()] = s
}

// again is how long a fault may have done nothing before it is injected once more.
const again = 100 * time.Millisecond

// Under does something while a fault is in force, with its defaults, and returns whether
// the fault took effect. One that acts on what is there when it is injected, on
// connections say, is injected again and again until it has something to act on.
func Under(ctx context.Context, w harness.World, a Aim, seed uint64, do func(context.Context) error) (acted bool, err error) {
	rng := rand.New(rand.NewPCG(seed, 0x756e646572))
	args := a.Args
	if slices.ContainsFunc(a.Fault.Params, func(p harness.Param) bool { return p.Name == harness.TTL.Name }) {
		args = args.Set(harness.TTL.Name, harness.Text(harness.MaxTTL.String())) // as long as this takes
	}
	inject := func() (harness.Injection, error) {
		inj, err := a.Fault.Inject(ctx, w, a.Fault.Fill(args), rng)
		if err != nil {
			err = fmt.Errorf("inject %s: %w", a, err)
		}
		return inj, err
	}
	inj, err := inject()
	if err != nil {
		return false, err
	}
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	t := time.NewTicker(again)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			if inj.Acted() > 0 {
				continue
			}
			healed := heal(ctx, inj)
			acted = acted || inj.Acted() > 0 // it may have found something just then
			var next harness.Injection
			if err == nil && healed == nil {
				next, err = inject()
			}
			if err = errors.Join(err, healed); err != nil {
				return acted, errors.Join(err, <-done)
			}
			inj = next
		case doing := <-done:
			err := heal(ctx, inj)
			return acted || inj.Acted() > 0, errors.Join(doing, err)
		}
	}
}

// heal ends a fault, whether or not ctx has ended, unless it has ended by itself.
func heal(ctx context.Context, inj harness.Injection) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healTime)
	defer cancel()
	if err := inj.Heal(ctx); !errors.Is(err, harness.ErrExpired) {
		return err
	}
	return nil
}

func span(rng *rand.Rand, lo, hi time.Duration) time.Duration {
	return lo + time.Duration(rng.Int64N(int64(hi-lo)))
}

// pause waits, and reports whether ctx is still there.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
