package campaign

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
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
	Triage    time.Duration                            // to prove one finding
	Saw       func(*harness.Record, []harness.Finding) // told of every record; nil for nobody
}

// Replay plays a case once in a fresh process and judges it, the end of the process
// included.
func (l *Lab) Replay(ctx context.Context, c harness.Case) (*harness.Record, []detect.Result, error) {
	s, err := runner.Open(ctx, l.Target, c.Env, l.Runner)
	if err != nil {
		return nil, nil, err
	}
	rec, err := s.Play(ctx, c)
	after, stop := s.Close(ctx)
	if err = errors.Join(err, stop); err != nil {
		return rec, nil, err
	}
	rec.Append(after)
	vs := detect.Judge(rec, l.Detectors)
	if l.Saw != nil {
		l.Saw(rec, detect.Findings(vs))
	}
	return rec, vs, nil
}

// Shown says how often a case showed a signature, of how many replays.
type Shown struct {
	Times, Of int
	Took      time.Duration   // the mean replay
	Record    *harness.Record // the last that showed it
	Finding   harness.Finding // as that record shows it
}

// Always reports whether every replay showed it.
func (s Shown) Always() bool { return s.Of > 0 && s.Times == s.Of }

// slow reports whether a replay takes so long that few can be made.
func (s Shown) slow() bool { return s.Took > time.Second }

// Shows replays a case up to n times. It ends early once enough replays showed the
// signature, or once so many did not that enough is out of reach.
func (l *Lab) Shows(ctx context.Context, c harness.Case, signature string, n, enough int) (Shown, error) {
	var out Shown
	start := time.Now()
	for out.Of < n && out.Times < enough && n-out.Of >= enough-out.Times {
		rec, vs, err := l.Replay(ctx, c)
		if err != nil {
			return out, err
		}
		out.Of++
		out.Took = time.Since(start) / time.Duration(out.Of)
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
	confirms = 5  // to show a finding again; three are enough
	finals   = 10 // of the minimal case
	again    = 3  // of a harder case, or one with a part of its epoch before it
)

// Prove confirms a finding, makes its case minimal, and measures how surely that shows it,
// all within the time for triage, a quarter of which is kept for the measuring. Prefix are
// the cases that the same process had played before. Running out of time, or being
// interrupted, is no error: the bug then comes back as far as it was proven. The record is
// that of the case that comes back, nil where that was not shown again.
func (l *Lab) Prove(ctx context.Context, bug harness.Bug, prefix []harness.Case) (harness.Bug, *harness.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Triage)
	defer cancel()
	reducing, enough := context.WithTimeout(ctx, l.Triage*3/4)
	defer enough()

	c, shown, err := l.confirm(ctx, bug, prefix)
	bug.Shown, bug.Replays = shown.Times, shown.Of
	if shown.Times == 0 {
		return bug, nil, failure(ctx, err)
	}
	bug.Proven, bug.Case, bug.Finding = true, c, shown.Finding
	if err != nil {
		return bug, shown.Record, failure(ctx, err)
	}
	least, minimal, err := l.reduce(reducing, c, shown)
	if err != nil {
		return bug, shown.Record, failure(reducing, err)
	}
	final, err := l.Shows(ctx, least, bug.Signature, finals, finals-1)
	if err == nil && !surely(final) {
		least, final, err = l.press(ctx, least, bug.Signature, final)
	}
	if final.Of > 0 && final.Times == 0 {
		return bug, shown.Record, failure(ctx, err)
	}
	bug.Case, bug.Minimal = least, minimal && surely(final)
	if final.Times > 0 {
		bug.Finding, bug.Shown, bug.Replays = final.Finding, final.Times, final.Of
		shown = final
	}
	return bug, shown.Record, failure(ctx, err)
}

// failure returns an error, unless it only says that the time was up.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// confirm shows a finding again: by its case alone, by a harder variant of it, or after what
// the same process had played before, as little of it as it takes.
func (l *Lab) confirm(ctx context.Context, bug harness.Bug, prefix []harness.Case) (harness.Case, Shown, error) {
	alone, err := l.Shows(ctx, bug.Case, bug.Signature, confirms, 3)
	if err != nil || alone.Times > 0 {
		return bug.Case, alone, err
	}
	for more := range harder(bug.Case, alone.slow()) {
		shown, err := l.Shows(ctx, more, bug.Signature, again, 1)
		if shown.Times > 0 {
			return more, shown, err
		}
		if alone.Of += shown.Of; err != nil {
			return bug.Case, alone, err
		}
	}
	for n := 1; n/2 < len(prefix); n *= 2 {
		last := prefix[max(len(prefix)-n, 0):]
		joined := harness.Join(append(last[:len(last):len(last)], bug.Case)...)
		shown, err := l.Shows(ctx, joined, bug.Signature, again, 2)
		if shown.Times > 1 { // once may be chance, and the prefix is no part of it
			return joined, shown, err
		}
		if alone.Of += shown.Of; err != nil {
			return bug.Case, alone, err
		}
	}
	return bug.Case, alone, nil
}

// reduce makes a case minimal. One that shows the signature only now and then is first
// pressed; if that does not help, what is surely not needed is taken away, with patience,
// and it is pressed again: what is left can be done more often.
func (l *Lab) reduce(ctx context.Context, c harness.Case, shown Shown) (harness.Case, bool, error) {
	var err error
	signature := shown.Finding.Signature
	if !shown.Always() {
		if c, shown, err = l.press(ctx, c, signature, shown); err != nil {
			return c, false, err
		}
	}
	if !surely(shown) {
		r := patient
		if shown.Times*2 > shown.Of {
			r = fair
		}
		if c, _, err = minimize.Minimize(ctx, c, l.test(signature, r), l.simpler); err != nil {
			return c, false, err
		}
		if c, shown, err = l.press(ctx, c, signature, Shown{Of: 1, Took: shown.Took}); err != nil || !surely(shown) {
			return c, false, err
		}
	}
	r := strict
	if shown.slow() {
		r = quick
	}
	test := l.test(signature, r)
	if cut := evidence(shown.Record, shown.Finding); len(cut.Steps) < len(c.Steps) {
		ok, err := test(ctx, cut, false)
		if err != nil {
			return c, false, err
		}
		if ok {
			c = cut
		}
	}
	return minimize.Minimize(ctx, c, test, l.simpler)
}

// evidence returns the case of a record with only those calls that a finding speaks of,
// what they refer to, and all faults. Where it speaks of none, that is the whole case.
func evidence(rec *harness.Record, f harness.Finding) harness.Case {
	c := rec.Case.Clone()
	keep, labels := map[int]bool{}, map[string]bool{}
	for _, seq := range f.Evidence {
		if e := rec.Event(seq); e != nil && e.Step >= 0 {
			keep[e.Step] = true
		}
	}
	if len(keep) == 0 {
		return c
	}
	var steps []harness.Step
	for i, s := range slices.Backward(c.Steps) {
		if s.Verb == harness.VerbCall && !keep[i] && !labels[s.Label] {
			continue
		}
		for _, a := range s.Args {
			for _, label := range a.Value.References() {
				labels[label] = true
			}
		}
		steps = append(steps, s)
	}
	slices.Reverse(steps)
	c.Steps = steps
	return c.Normalize()
}

// surely reports whether a case may be called reproducible: nine of ten.
func surely(s Shown) bool { return s.Of > 0 && s.Times*10 >= s.Of*9 }

// press makes a case show the signature more surely. A case that no harder variant improves
// on stays as it was.
func (l *Lab) press(ctx context.Context, c harness.Case, signature string, shown Shown) (harness.Case, Shown, error) {
	best := c
	for more := range harder(c, shown.slow()) {
		if surely(shown) || ctx.Err() != nil {
			break
		}
		got, err := l.Shows(ctx, more, signature, finals, finals-1)
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			return best, shown, err
		}
		if got.Times*max(shown.Of, 1) > shown.Times*got.Of {
			best, shown = more, got
		}
	}
	return best, shown, nil
}

// rigour says how many of how many replays make a smaller case one that still shows it.
type rigour func(c harness.Case, rarer bool) (enough, of int)

// strict wants two of two replays, three of four where calls are made at once, five of five
// where they are made less often. One would let a case drift towards one that shows it
// only now and then.
func strict(c harness.Case, rarer bool) (enough, of int) {
	switch {
	case rarer:
		return 5, 5
	case c.Concurrent():
		return 3, 4
	}
	return 2, 2
}

// quick wants one: it is for cases that surely show their signature, but slowly.
func quick(harness.Case, bool) (enough, of int) { return 1, 1 }

// fair wants two of three, and nothing done less often: it is for cases that show their
// signature more often than not, but not surely.
func fair(_ harness.Case, rarer bool) (enough, of int) {
	if rarer {
		return 5, 5
	}
	return 2, 3
}

// patient wants two of six, and nothing done less often: it is for cases that show their
// signature too seldom for anything else.
func patient(_ harness.Case, rarer bool) (enough, of int) {
	if rarer {
		return 6, 6
	}
	return 2, 6
}

// test returns the predicate for minimizing.
func (l *Lab) test(signature string, r rigour) minimize.Test {
	return func(ctx context.Context, c harness.Case, rarer bool) (bool, error) {
		if l.Check(c) != nil {
			return false, nil // it cannot be played
		}
		enough, of := r(c, rarer)
		s, err := l.Shows(ctx, c, signature, of, enough)
		if ctx.Err() != nil {
			return false, nil // out of time is not the harness's failure
		}
		return s.Times >= enough, err
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
			err = l.checkCall(s)
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

func (l *Lab) checkCall(s harness.Step) error {
	op := l.Target.Op(s.Name)
	if op == nil {
		return fmt.Errorf("the target has no op %s", s.Name)
	}
	for _, a := range s.Args {
		first, _, _ := strings.Cut(a.Key, ".")
		known := slices.ContainsFunc(op.Params, func(p harness.Param) bool { return p.Name == a.Key })
		if !known && !slices.Contains(op.Takes, first) {
			return fmt.Errorf("%s takes no %s, only what begins with %s", s.Name, a.Key, strings.Join(op.Takes, ", "))
		}
	}
	return nil
}
