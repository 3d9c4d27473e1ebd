package main

import (
	"context"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/fuzz/engine"
	"github.com/shakedown-go/shakedown/fuzz/nemesis"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/function"
)

// proving proves a suspect by replays that a test makes up.
func proving(t *testing.T, in engine.Input, play func(n int, in engine.Input, w way) played) (p *prover, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	aim := nemesis.Aim{Fault: &harness.Fault{Name: "net/x"}}
	n := 0
	return &prover{
		lab: &fuzzLab{
			fuzzFlags: fuzzFlags{triage: time.Hour}, pkg: &function.Package{},
			aims: []nemesis.Aim{aim}, tallies: map[string]nemesis.Tally{"net/x": {Injected: 1, Acted: 1}},
		},
		s: &suspect{Signature: "panic: x", inputs: []engine.Input{in}},
		play: func(ctx context.Context, _ function.Func, in engine.Input, w way) (played, error) {
			n++
			if err := ctx.Err(); err != nil {
				return played{}, err
			}
			return play(n, in, w), nil
		},
		ctx: ctx, want: "panic: x",
	}, cancel
}

var shown = []harness.Finding{{Detector: "panic", Signature: "panic: x"}}

// TestFaultThatDidNothingIsNotNeeded: what shows by chance while a fault without effect is in
// force has not been shown to need it.
func TestFaultThatDidNothingIsNotNeeded(t *testing.T) {
	t.Parallel()
	for _, acted := range []bool{true, false} {
		p, _ := proving(t, engine.Input{"a"}, func(_ int, _ engine.Input, w way) played {
			if w.Needs == "" {
				return played{}
			}
			return played{found: shown, acted: acted}
		})
		b, err := p.show()
		if err != nil || b == nil {
			t.Fatalf("not shown: %v", err)
		}
		if needs := b.Way.Needs == "net/x"; needs != acted {
			t.Errorf("the fault took effect: %v; the bug %s", acted, b.needs())
		}
	}
}

// TestFaultThatOnlyHelpsIsNotNeeded: a bug that its fault makes frequent is shown without it
// when that is tried often enough.
func TestFaultThatOnlyHelpsIsNotNeeded(t *testing.T) {
	t.Parallel()
	p, _ := proving(t, engine.Input{true}, func(n int, _ engine.Input, w way) played {
		if w.Needs == "" && (n < 20 || n%5 != 0) {
			return played{}
		}
		return played{found: shown, acted: w.Needs != ""}
	})
	b, err := p.show()
	if err != nil || b == nil {
		t.Fatalf("not shown: %v", err)
	}
	if err := p.refine(b); err != nil {
		t.Fatal(err)
	}
	if got, want := b.proof()+"; "+b.needs(), "shown 10 of 10 times without -race, 2 of 10 without the fault; needs 1 call, no fault"; got != want || b.Way.Needs != "net/x" {
		t.Errorf("got %q in the way %+v\nwant %q", got, b.Way, want)
	}
}

// TestReplaysOfAnotherInputDoNotCount: when the time is up before the small input is
// measured, what is known of it is that it showed the bug once.
func TestReplaysOfAnotherInputDoNotCount(t *testing.T) {
	t.Parallel()
	var stop func()
	p, stop := proving(t, engine.Input{"aaaa"}, func(_ int, in engine.Input, _ way) played {
		if in[0] == "" {
			stop()
		}
		return played{found: shown}
	})
	b, err := p.show()
	if err != nil || b == nil {
		t.Fatalf("not shown: %v", err)
	}
	if err := p.refine(b); err == nil {
		t.Error("no error")
	}
	if b.Shown != 1 || b.Replays != 1 || b.Size != 0 {
		t.Errorf("%d of %d, %d bytes", b.Shown, b.Replays, b.Size)
	}
}
