package nemesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// fault counts what is done with it. It acts where acts says so.
type fault struct {
	injected, healed atomic.Int64
	acts             func(n int64) bool
	heals            error
}

func (f *fault) as(name string, of harness.Of) *harness.Fault {
	return &harness.Fault{
		Name: name, Needs: harness.CapLinks,
		Params: []harness.Param{{Name: "link", Of: of}, {Name: "d", Default: "1s", Domain: harness.Durations(time.Second, time.Minute)}, harness.TTL},
		Inject: func(_ context.Context, _ harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
			n := f.injected.Add(1)
			if ttl := args.Text("ttl"); ttl != harness.TTL.Default && ttl != harness.MaxTTL.String() {
				return harness.Injection{}, fmt.Errorf("a time to live of %s", args.Text("ttl"))
			}
			if args.Text("link") == "bad" {
				if n%3 == 0 {
					return harness.Injection{}, fmt.Errorf("not now: %w", harness.ErrNotHere)
				}
				return harness.Injection{}, errors.New("not now")
			}
			return harness.Injection{
				Heal: func(context.Context) error { f.healed.Add(1); return f.heals },
				Acted: func() int64 {
					if f.acts(n) {
						return 1
					}
					return 0
				},
			}, nil
		},
	}
}

func target() *harness.Target {
	return &harness.Target{Caps: harness.CapLinks, Links: []string{"a", "bad"}}
}

func TestAims(t *testing.T) {
	t.Parallel()
	f := (&fault{}).as("net/x", harness.OfLink)
	g := &harness.Fault{Name: "proc/x", Needs: harness.CapProcs, Params: []harness.Param{{Name: "proc", Of: harness.OfProc}}}
	aims := Aims([]*harness.Fault{f, g}, target())
	var names []string
	for _, a := range aims {
		names = append(names, a.String())
		if back, err := Parse(" "+a.String(), aims); err != nil || back.String() != a.String() {
			t.Errorf("%s became %s, %v", a, back, err)
		}
	}
	if want := []string{"net/x link=a", "net/x link=bad"}; !slices.Equal(names, want) {
		t.Errorf("got %q", names)
	}
	if _, err := Parse("net/y link=a", aims); err == nil || !strings.Contains(err.Error(), "net/x link=bad") {
		t.Errorf("another fault: %v", err)
	}
	if _, err := Parse("net/x link=a", nil); err == nil {
		t.Error("nothing to disturb: no error")
	}
}

func TestNemesisTriesAllAndHealsAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fault{acts: func(n int64) bool { return n%2 == 0 }}
		n := &Nemesis{Aims: Aims([]*harness.Fault{f.as("net/x", harness.OfLink)}, target()), Seed: 1}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := n.Run(ctx); err != nil {
			t.Fatal(err)
		}
		got := n.Tallies()
		good, bad := got["net/x link=a"], got["net/x link=bad"]
		if good.Injected < 20 || good.Acted == 0 || good.Acted >= good.Injected || good.Failed != 0 {
			t.Errorf("the one that works: %+v", good)
		}
		if d := good.Injected - bad.Injected; d < -1 || d > 1 || bad.Failed != bad.Injected || !strings.HasPrefix(bad.Why, "not now") {
			t.Errorf("the one that does not: %+v beside %+v", bad, good)
		}
		if good.Refused != 0 || bad.Refused == 0 || bad.Refused == bad.Injected {
			t.Errorf("refused: %d, and %d of %d", good.Refused, bad.Refused, bad.Injected)
		}
		if h := f.healed.Load(); h != int64(good.Injected) || n.Last() != "net/x link=a" {
			t.Errorf("%d healed of %d, last %q", h, good.Injected, n.Last())
		}
	})
}

func TestQuietIsWithoutFaults(t *testing.T) {
	t.Parallel()
	f := &fault{acts: func(int64) bool { return true }}
	aim := Aims([]*harness.Fault{f.as("net/x", harness.OfLink)}, target())[0]
	n := &Nemesis{}
	rng := rand.New(rand.NewPCG(1, 1))
	var running sync.WaitGroup
	start := func(ctx context.Context) { running.Go(func() { n.once(ctx, aim, time.Minute, rng) }) }
	quiet := func(do func()) {
		n.Quiet(func() {
			before := f.injected.Load()
			if before != f.healed.Load() {
				t.Error("a fault is in force")
			}
			do()
			for range 100 {
				runtime.Gosched()
			}
			if f.injected.Load() != before {
				t.Error("a fault was injected")
			}
		})
	}
	for range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		start(ctx)
		for f.injected.Load() == f.healed.Load() {
			runtime.Gosched()
		}
		running.Go(func() { quiet(func() {}) })
		runtime.Gosched()
		cancel()
		running.Wait()
		quiet(func() { start(ctx) }) // it is over at once, but not before this is
		running.Wait()
	}
}

func TestAFaultThatCannotBeHealedEndsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fault{acts: func(int64) bool { return true }, heals: errors.New("it is stuck")}
		n := &Nemesis{Aims: Aims([]*harness.Fault{f.as("net/x", harness.OfLink)}, target())[:1]}
		if err := n.Run(t.Context()); !errors.Is(err, f.heals) || f.injected.Load() != 1 {
			t.Errorf("%v after %d", err, f.injected.Load())
		}
	})
}

// A fault that has ended by itself needs no heal, and that is no failure.
func TestAFaultThatEndsByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fault{acts: func(int64) bool { return true }, heals: fmt.Errorf("link a: %w", harness.ErrExpired)}
		n := &Nemesis{Aims: Aims([]*harness.Fault{f.as("net/x", harness.OfLink)}, target())[:1]}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := n.Run(ctx); err != nil || f.injected.Load() < 20 {
			t.Errorf("%v after %d", err, f.injected.Load())
		}
		if acted, err := Under(t.Context(), nil, n.Aims[0], 1, func(context.Context) error { return nil }); !acted || err != nil {
			t.Errorf("acted %v, %v", acted, err)
		}
	})
}

func TestUnderInjectsAgainUntilItActs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fault{acts: func(n int64) bool { return n >= 3 }}
		aim := Aims([]*harness.Fault{f.as("net/x", harness.OfLink)}, target())[0]
		mine := errors.New("mine")
		acted, err := Under(t.Context(), nil, aim, 1, func(context.Context) error {
			time.Sleep(time.Second)
			return mine
		})
		if !acted || !errors.Is(err, mine) || f.injected.Load() != 3 || f.healed.Load() != 3 {
			t.Errorf("acted %v, %v, %d injected, %d healed", acted, err, f.injected.Load(), f.healed.Load())
		}
	})
}

func TestUnderWithoutEffect(t *testing.T) {
	t.Parallel()
	f := &fault{acts: func(int64) bool { return false }}
	aims := Aims([]*harness.Fault{f.as("net/x", harness.OfLink)}, target())
	if acted, err := Under(t.Context(), nil, aims[0], 1, func(context.Context) error { return nil }); acted || err != nil {
		t.Errorf("acted %v, %v", acted, err)
	}
	if _, err := Under(t.Context(), nil, aims[1], 1, func(context.Context) error { t.Error("it was done"); return nil }); err == nil {
		t.Error("a fault that cannot be injected: no error")
	}
}

// TestFaultThatActsLateHasActed has a fault that finds something to act on just before it is
// healed to make room for the next.
func TestFaultThatActsLateHasActed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fault{}
		f.acts = func(n int64) bool { return n == 1 && f.healed.Load() > 0 }
		aim := Aims([]*harness.Fault{f.as("net/x", harness.OfLink)}, target())[0]
		acted, err := Under(t.Context(), nil, aim, 1, func(context.Context) error {
			time.Sleep(3 * again)
			return nil
		})
		if !acted || err != nil || f.injected.Load() < 2 || f.healed.Load() != f.injected.Load() {
			t.Errorf("acted %v, %v; injected %d, healed %d", acted, err, f.injected.Load(), f.healed.Load())
		}
	})
}
