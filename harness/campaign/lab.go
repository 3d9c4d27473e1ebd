package campaign

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/minimize"
	"github.com/shakedown-go/shakedown/harness/runner"
)

// Lab plays cases in fresh processes: to confirm, to minimize, to replay.
type Lab struct {
	Target    *harness.Target
	Detectors []*harness.Detector
	Runner    runner.Options
	Saw       func(*harness.Record, []harness.Finding) // told of every record; nil for nobody
}

// Replay plays a case once in a fresh process and judges it.
func (l *Lab) Replay(ctx context.Context, c harness.Case) (*harness.Record, []detect.Result, error) {
	s, err := runner.Open(ctx, l.Target, c.Env, l.Runner)
	if err != nil {
		return nil, nil, err
	}
	rec, err := s.Play(ctx, c)
	err = errors.Join(err, s.Close(ctx))
	if err != nil {
		return rec, nil, err
	}
	vs := detect.Judge(rec, l.Detectors)
	if l.Saw != nil {
		l.Saw(rec, detect.Findings(vs))
	}
	return rec, vs, nil
}

// Shown says how often a case showed a signature, of how many replays.
type Shown struct {
	Times, Of int
	Record    *harness.Record // the last that showed it
	Finding   harness.Finding // as that record shows it
}

// Always reports whether every replay showed it.
func (s Shown) Always() bool { return s.Of > 0 && s.Times == s.Of }

// Shows replays a case up to n times. It ends early once enough replays showed the
// signature, or once so many did not that enough is out of reach.
func (l *Lab) Shows(ctx context.Context, c harness.Case, signature string, n, enough int) (Shown, error) {
	var out Shown
	for out.Of < n && out.Times < enough && n-out.Of >= enough-out.Times {
		rec, vs, err := l.Replay(ctx, c)
		if err != nil {
			return out, err
		}
		out.Of++
		for _, f := range detect.Findings(vs) {
			if f.Signature == signature {
				out.Times++
				out.Record, out.Finding = rec, f
				break
			}
		}
	}
	return out, nil
}

// The numbers of replays behind a proof.
const (
	confirms  = 5  // to show a finding again; three are enough
	finals    = 10 // of the minimal case
	joinLimit = 2  // of a whole epoch
)

// Prove confirms a finding, makes its case minimal and measures how surely that shows it.
// Prefix are the cases that the same process had played before. A finding that cannot be
// shown again comes back as it was, Proven only if its detector needs no second sighting.
func (l *Lab) Prove(ctx context.Context, bug harness.Bug, prefix []harness.Case, proof bool) (harness.Bug, *harness.Record, error) {
	bug.Proven = proof
	c := bug.Case
	shown, err := l.Shows(ctx, c, bug.Signature, confirms, 3)
	if err == nil && shown.Times == 0 && len(prefix) > 0 {
		c = harness.Join(append(prefix[:len(prefix):len(prefix)], c)...)
		shown, err = l.Shows(ctx, c, bug.Signature, joinLimit, 1)
	}
	bug.Shown, bug.Replays = shown.Times, shown.Of
	if err != nil || shown.Times == 0 {
		return bug, nil, err
	}
	bug.Proven, bug.Case = true, c

	if !shown.Always() {
		if c, shown, err = l.press(ctx, c, bug.Signature, shown); err != nil {
			return bug, nil, err
		}
	}
	least, minimal, err := minimize.Minimize(ctx, c, l.test(bug.Signature), l.simpler)
	if err != nil {
		return bug, nil, err
	}
	// The proof of a case found just before the time ran out must not be cut short.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	final, err := l.Shows(ctx, least, bug.Signature, finals, finals-1)
	if err == nil && !surely(final) {
		least, final, err = l.press(ctx, least, bug.Signature, final)
	}
	if final.Times > 0 {
		bug.Case, bug.Minimal = least, minimal
		bug.Shown, bug.Replays = final.Times, final.Of
		bug.Finding = final.Finding
		shown = final
	}
	return bug, shown.Record, err
}

// surely reports whether a case may be called reproducible: nine of ten.
func surely(s Shown) bool { return s.Of > 0 && s.Times*10 >= s.Of*9 }

// press asks more often for what is done at once, until a case shows the signature surely.
// What never becomes sure stays as it was.
func (l *Lab) press(ctx context.Context, c harness.Case, signature string, shown Shown) (harness.Case, Shown, error) {
	best := c
	for _, times := range []int{4, 16, 64} {
		more := c.Clone()
		for i, s := range more.Steps {
			if s.Verb == harness.VerbCall && (s.Group != 0 || s.Repeat > 1) {
				more.Steps[i].Repeat = min(s.Times()*times, 256)
			}
		}
		if more.String() == c.String() {
			break
		}
		got, err := l.Shows(ctx, more, signature, finals, finals-1)
		if err != nil {
			return best, shown, err
		}
		if got.Times*shown.Of > shown.Times*got.Of {
			best, shown = more, got
		}
		if surely(shown) {
			break
		}
	}
	return best, shown, nil
}

// test returns the predicate for minimizing: every one of two replays shows the
// signature, of three where calls are made at once. One replay would let a case drift
// towards one that shows it only now and then.
func (l *Lab) test(signature string) minimize.Test {
	return func(ctx context.Context, c harness.Case) (bool, error) {
		n := 2
		for _, s := range c.Steps {
			if s.Group != 0 {
				n = 3
			}
		}
		s, err := l.Shows(ctx, c, signature, n, n)
		if ctx.Err() != nil {
			return false, nil // out of time is not the harness's failure
		}
		return s.Always() && s.Of == n, err
	}
}

// simpler finds the domain of an argument.
func (l *Lab) simpler(step harness.Step, arg harness.Arg) iter.Seq[harness.Value] {
	var params []harness.Param
	switch step.Verb {
	case harness.VerbCall:
		if op := l.Target.Op(step.Name); op != nil {
			params = op.Params
		}
	case harness.VerbInject:
		if f := l.Runner.Fault(step.Name); f != nil {
			params = f.Params
		}
	}
	for _, p := range params {
		if p.Name == arg.Key && p.Domain != nil {
			return p.Domain.Simpler(arg.Value)
		}
	}
	return func(func(harness.Value) bool) {}
}

// Check reports what of a case the target or the harness does not have.
func (l *Lab) Check(c harness.Case) error {
	for i, s := range c.Steps {
		var err error
		switch s.Verb {
		case harness.VerbCall:
			if l.Target.Op(s.Name) == nil {
				err = fmt.Errorf("the target has no op %s", s.Name)
			}
		case harness.VerbInject:
			if f := l.Runner.Fault(s.Name); f == nil {
				err = fmt.Errorf("no fault is called %s; see: shakedown list faults", s.Name)
			} else {
				err = f.Check(s.Args, l.Target)
			}
		}
		if err != nil {
			return fmt.Errorf("step %d, %q: %w", i+1, s, err)
		}
	}
	return nil
}
