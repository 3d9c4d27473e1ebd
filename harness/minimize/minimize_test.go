package minimize_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/minimize"
)

func parse(t *testing.T, text string) harness.Case {
	t.Helper()
	c, err := harness.ParseCase([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// shorter simplifies a text to its shorter prefixes.
func shorter(_ harness.Step, a harness.Arg) iter.Seq[harness.Value] {
	return func(yield func(harness.Value) bool) {
		for n := range len(a.Value.Text) {
			if a.Value.Form == harness.FormText && !yield(harness.Text(a.Value.Text[:n])) {
				return
			}
		}
	}
}

const big = `target test
seed 3
o1: a create sku="s1" qty=2
o2: b create sku="s2" qty=3
+ lag = net/latency link=db delay=80ms when=calls:pay>=12 at=10ms for=1s
+ cut = net/cut link=cache after=10
p1: a pay order={{o1.id}} coupon="ABC-DEF-" note="x" *7 &
b pay order={{o2.id}} coupon="ABC-DEF-" *20 &
c get id=1 *3
b list *30s
- lag
reset
d get id=2
a get id={{p1.id}}
`

func TestMinimizeKeepsOnlyWhatIsNeeded(t *testing.T) {
	t.Parallel()
	has := func(c harness.Case, name string) bool {
		return slices.ContainsFunc(c.Steps, func(s harness.Step) bool { return s.Name == name })
	}
	for _, tt := range []struct {
		name string
		test func(harness.Case) bool
		want string
	}{
		{"one call", func(c harness.Case) bool { return has(c, "get") }, "a get\n"},
		{"fault and call", func(c harness.Case) bool { return has(c, "net/cut") && has(c, "pay") }, "+ net/cut\na pay\n"},
		{
			"a value", func(c harness.Case) bool {
				return slices.ContainsFunc(c.Steps, func(s harness.Step) bool { return strings.HasPrefix(s.Args.Text("coupon"), "ABC-") })
			}, "a pay coupon=\"ABC-\"\n",
		},
		{
			"two lanes at once", func(c harness.Case) bool {
				for _, turn := range c.Turns() {
					lanes := map[string]bool{}
					for _, s := range c.Steps[turn[0]:turn[1]] {
						if s.Name == "pay" {
							lanes[s.Lane] = true
						}
					}
					if len(lanes) > 1 {
						return true
					}
				}
				return false
			}, "a pay &\nb pay\n",
		},
		{
			"a reference", func(c harness.Case) bool {
				return slices.ContainsFunc(c.Steps, func(s harness.Step) bool {
					v, _ := s.Args.Get("order")
					return v.Form == harness.FormRef && has(c, "create")
				})
			}, "o1: a create\na pay order={{o1.id}}\n",
		},
		{"many calls", func(c harness.Case) bool {
			n := 0
			for _, s := range c.Steps {
				if s.Name == "pay" {
					n += s.Times()
				}
			}
			return n >= 17
		}, "a pay *17\n"},
		{"calls for a while", func(c harness.Case) bool {
			return slices.ContainsFunc(c.Steps, func(s harness.Step) bool { return s.Name == "list" && (s.For > 0 || s.Times() >= 4) })
		}, "a list *4\n"},
		{"time between two calls", func(c harness.Case) bool {
			calls, time := 0, false
			for _, s := range c.Steps {
				time = time || calls > 0 && (s.Verb == harness.VerbHeal || s.Verb == harness.VerbWait)
				if s.Verb == harness.VerbCall && (calls == 0 || time) {
					calls++
				}
			}
			return calls > 1
		}, "a list\nwait 10ms\na get\n"},
		{"a trigger", func(c harness.Case) bool {
			return slices.ContainsFunc(c.Steps, func(s harness.Step) bool { return s.When.Least >= 3 })
		}, "+ net/latency when=calls:pay>=3\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			test := func(_ context.Context, c harness.Case, _ bool) (bool, error) { return tt.test(c), nil }
			got, minimal, err := minimize.Minimize(t.Context(), parse(t, big), test, shorter)
			if err != nil || !minimal {
				t.Fatalf("minimal %v, error %v", minimal, err)
			}
			steps := strings.TrimPrefix(got.String(), "target test\nseed 3\n")
			for _, lane := range got.Lanes() { // which lane is kept does not matter
				steps = strings.ReplaceAll("\n"+steps, "\n"+lane+" ", "\n"+string(rune('a'+slices.Index(got.Lanes(), lane)))+" ")[1:]
			}
			if tt.name == "a reference" {
				steps = strings.NewReplacer("o2", "o1", ": b", ": a", "p1", "o1").Replace(steps)
			}
			if diff := cmp.Diff(tt.want, steps); diff != "" {
				t.Errorf("minimal case (-want +got):\n%s", diff)
			}
		})
	}
}

// Who presses on a service in two ways that do the same does so in one, and what only the other
// way has needed goes with it.
func TestMinimizeHasCallsBeAlike(t *testing.T) {
	t.Parallel()
	c := parse(t, "target test\nseed 3\no1: a create sku=\"s1\"\na list *4 &\nb pay order={{o1.id}} *4\n")
	test := func(_ context.Context, c harness.Case, _ bool) (bool, error) {
		n := len(c.Steps)
		if n < 2 || c.Steps[n-2].Group == 0 || c.Steps[n-2].Group != c.Steps[n-1].Group || c.Steps[n-2].Name != "list" || len(c.Lanes()) < 2 {
			return false, nil
		}
		order, _ := c.Steps[n-1].Args.Get("order")
		return c.Steps[n-1].Name == "list" || n == 3 && order.Form == harness.FormRef, nil
	}
	got, minimal, err := minimize.Minimize(t.Context(), c, test, shorter)
	if err != nil || !minimal {
		t.Fatalf("minimal %v, error %v", minimal, err)
	}
	if diff := cmp.Diff("target test\nseed 3\na list &\nb list\n", got.String()); diff != "" {
		t.Errorf("minimal case (-want +got):\n%s", diff)
	}
}

// A minimal case shows what it must, is no larger than what it came from, and minimizing
// it again changes nothing.
func TestMinimizeReachesAFixedPoint(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		c := parse(t, big)
		var wanted []string
		for _, s := range c.Steps {
			if s.Name != "" && s.Verb != harness.VerbHeal && rng.IntN(4) == 0 {
				wanted = append(wanted, s.Name)
			}
		}
		test := func(_ context.Context, c harness.Case, _ bool) (bool, error) {
			var names []string
			for _, s := range c.Steps {
				names = append(names, s.Name)
			}
			for _, w := range wanted {
				i := slices.Index(names, w)
				if i < 0 {
					return false, nil
				}
				names = slices.Delete(names, i, i+1)
			}
			return true, nil
		}
		least, minimal, err := minimize.Minimize(t.Context(), c, test, shorter)
		if ok, _ := test(t.Context(), least, false); err != nil || !minimal || !ok {
			t.Fatalf("seed %d: minimal %v, shows it %v, error %v\n%s", seed, minimal, ok, err, least)
		}
		if got, want := len(least.Steps), len(wanted); got != want {
			t.Errorf("seed %d: %d steps, want %d\n%s", seed, got, want, least)
		}
		again, _, _ := minimize.Minimize(t.Context(), least, test, shorter)
		if diff := cmp.Diff(least.String(), again.String()); diff != "" {
			t.Errorf("seed %d: minimized again (-first +second):\n%s", seed, diff)
		}
		if _, err := harness.ParseCase([]byte(least.String())); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

func TestMinimizeStopsAtTheFirstError(t *testing.T) {
	t.Parallel()
	broken := errors.New("no process could be started")
	n := 0
	got, minimal, err := minimize.Minimize(t.Context(), parse(t, big), func(context.Context, harness.Case, bool) (bool, error) {
		n++
		return false, fmt.Errorf("replay: %w", broken)
	}, nil)
	if !errors.Is(err, broken) || minimal || n != 1 || got.String() != parse(t, big).String() {
		t.Errorf("after %d replays: minimal %v, error %v\n%s", n, minimal, err, got)
	}
}

func TestMinimizeOutOfTimeReturnsTheBestSoFar(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	got, minimal, err := minimize.Minimize(ctx, parse(t, big), func(context.Context, harness.Case, bool) (bool, error) {
		if n++; n == 1 {
			cancel()
		}
		return true, nil
	}, nil)
	if err != nil || minimal || len(got.String()) >= len(parse(t, big).String()) {
		t.Errorf("minimal %v, error %v\n%s", minimal, err, got)
	}
}
