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
	o := l.Runner
	if o.Growth == 0 {
		o.Growth = 1 // a case that is small leaves little behind
	}
	s, err := runner.Open(ctx, l.Target, c.Env, o)
	if err != nil {
		return nil, nil, err
	}
	rec, err := s.Play(ctx, c)
	after, stop := s.Close(ctx)
	if stop != nil {
		err = errors.Join(err, running{stop})
	}
	if err != nil {
		return rec, nil, err
	}
	rec.Append(after)
	vs := detect.Judge(rec, l.Detectors)
	if l.Saw != nil {
		l.Saw(rec, detect.Findings(vs))
	}
	return rec, vs, nil
}

// running is an error of stopping: something of a target may still run.
type running struct{ error }

func (r running) Unwrap() error { return r.error }

// Failure returns an error unless it only says that ctx is done: nothing excuses that
// something could not be stopped.
func Failure(ctx context.Context, err error) error {
	var r running
	switch {
	case ctx.Err() == nil:
		return err
	case errors.As(err, &r):
		return r
	}
	return nil
}

// Shown says how often a case showed a signature, of how many replays.
type Shown struct {
	Case      harness.Case
	Signature string
	Times, Of int
	Took      time.Duration   // the mean replay
	Record    *harness.Record // the last that showed it
	Finding   harness.Finding // as that record shows it
}

// always reports whether every replay showed it.
func (s Shown) always() bool { return s.Of > 0 && s.Times == s.Of }

// mostly reports whether more replays than not showed it.
func (s Shown) mostly() bool { return s.Times*2 > s.Of }

// slow reports whether a replay takes so long that few can be made.
func (s Shown) slow() bool { return s.Took > time.Second }

// Shows replays a case up to n times. It ends early once enough replays showed the
// signature, or once so many did not that enough is out of reach.
func (l *Lab) Shows(ctx context.Context, c harness.Case, signature string, n, enough int) (Shown, error) {
	out := Shown{Case: c, Signature: signature}
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
// interrupted, is no error, and an error loses nothing: the bug comes back as far as it was
// proven. The record is that of the case that comes back, nil where that was not shown again.
func (l *Lab) Prove(ctx context.Context, bug harness.Bug, prefix []harness.Case) (harness.Bug, *harness.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, l.Triage)
	defer cancel()
	if d := detect.ByName(bug.Detector); d != nil {
		only := *l
		if only.Runner.Follow = d.Repeats; d.Repeats == "" {
			only.Runner.Growth = -1
		}
		l = &only
	}
	shown, others, err := l.confirm(ctx, bug, prefix)
	err = Failure(ctx, err)
	bug.Shown, bug.Replays, bug.Others = shown.Times, shown.Of, others
	if shown.Times == 0 {
		return bug, nil, err
	}
	if err == nil {
		shown, bug.Minimal, err = l.least(ctx, shown)
	}
	bug.Proven, bug.Case, bug.Finding = true, shown.Case, shown.Finding
	bug.Shown, bug.Replays = shown.Times, shown.Of
	return bug, shown.Record, err
}

// confirm shows a finding again: by its case alone, by a harder variant of it, or after what
// the same process had played before, as little of it as it takes. Where none of them shows
// it, others is how many replays were not of the case alone.
func (l *Lab) confirm(ctx context.Context, bug harness.Bug, prefix []harness.Case) (shown Shown, others int, err error) {
	alone, err := l.Shows(ctx, bug.Case, bug.Signature, confirms, 3)
	if err != nil || alone.Times > 0 {
		return alone, 0, err
	}
	for more := range harder(bug.Case, alone.slow()) {
		shown, err := l.Shows(ctx, more, bug.Signature, again, 1)
		if shown.Times > 0 {
			return shown, 0, err
		}
		if others += shown.Of; err != nil {
			return alone, others, err
		}
	}
	for n := 1; n/2 < len(prefix); n *= 2 {
		last := prefix[max(len(prefix)-n, 0):]
		joined := harness.Join(append(last[:len(last):len(last)], bug.Case)...)
		shown, err := l.Shows(ctx, joined, bug.Signature, again, 2)
		if shown.Times > 1 { // once may be chance, and the prefix is no part of it
			return shown, 0, err
		}
		if others += shown.Of; err != nil {
			return alone, others, err
		}
	}
	return alone, others, nil
}

// least makes a case minimal and measures how surely that shows its signature. One that does
// not is pressed. What came of that is made minimal once more if there is time, which counts
// if it still shows its signature surely.
func (l *Lab) least(ctx context.Context, s Shown) (Shown, bool, error) {
	end, _ := ctx.Deadline()
	reducing, cancel := context.WithDeadline(ctx, end.Add(-l.Triage/4))
	defer cancel()
	least, minimal, err := l.reduce(reducing, s)
	final, failed := least, error(nil)
	if final.Of < finals-1 {
		final, failed = l.Shows(ctx, least.Case, s.Signature, finals, finals-1)
	}
	if failed == nil && !surely(final) {
		measured := final.Case.String()
		if final, failed = l.press(ctx, final); final.Case.String() != measured {
			minimal = false
			if failed == nil && surely(final) {
				final, minimal, failed = l.redo(ctx, reducing, final)
			}
		}
	}
	err = errors.Join(err, Failure(ctx, failed))
	switch {
	case final.Of == 0:
		return least, false, err // it could not be measured
	case final.Times == 0:
		return s, false, err // it was reduced to what shows it by chance
	}
	return final, minimal && surely(final), err
}

// redo makes minimal what was pressed. Where that does not surely show it, pressed stays.
func (l *Lab) redo(ctx, reducing context.Context, pressed Shown) (Shown, bool, error) {
	least, minimal, err := l.reduce(reducing, pressed)
	if err != nil || least.Case.String() == pressed.Case.String() {
		return pressed, minimal, err
	}
	final, err := l.Shows(ctx, least.Case, least.Signature, finals, finals-1)
	if err != nil || !surely(final) {
		return pressed, false, err
	}
	return final, minimal, nil
}

// reduce makes a case minimal, beginning with what the finding speaks of. One that shows the
// signature only now and then is first pressed, unless that takes long and would take more
// than it gives; if it does not help, what is surely not needed is taken away, with patience,
// and it is pressed again where that has not helped: what is left can be done more often.
// What comes back with an error is what was reached until then.
func (l *Lab) reduce(ctx context.Context, s Shown) (Shown, bool, error) {
	s, err := l.slice(ctx, s)
	if err != nil {
		return s, false, err
	}
	if !s.always() && !(s.slow() && s.mostly()) {
		if s, err = l.press(ctx, s); err != nil {
			return s, false, err
		}
	}
	if !surely(s) {
		if s, _, err = l.minimize(ctx, s, s.rigour()); err != nil {
			return s, false, err
		}
		measured, err := l.Shows(ctx, s.Case, s.Signature, finals, finals-1)
		if err == nil {
			measured, err = l.press(ctx, measured)
		}
		if measured.Times > 0 {
			s = measured
		}
		if err = Failure(ctx, err); err != nil || !surely(measured) {
			return s, false, err
		}
	}
	return l.minimize(ctx, s, s.rigour())
}

// slice leaves out the calls that the finding does not speak of, if what is left shows it, or
// else those that were over when it was printed, or else what its record says was never
// played. Where that leaves few calls at once, they are also tried with repeats.
func (l *Lab) slice(ctx context.Context, s Shown) (Shown, error) {
	cuts := []harness.Case{evidence(s.Record, s.Finding)}
	for _, echo := range echoes {
		cut := moment(s.Record, s.Finding, echo)
		cuts = append(cuts, cut)
		if cut.Concurrent() && !s.slow() {
			cuts = append(cuts, often(cut, 16))
		}
	}
	tried := map[string]bool{s.Case.Normalize().String(): true}
	for _, cut := range append(cuts, played(s.Record)) {
		if tried[cut.String()] {
			continue
		}
		tried[cut.String()] = true
		times, of, calls := s.Times, s.Of, s.Case.Calls()
		ok, err := l.test(&s, s.rigour())(ctx, cut, false)
		if ok && cut.Calls() <= calls {
			s.Times, s.Of = times, of // as before: a few replays do not tell
		}
		if ok || err != nil {
			return s, err
		}
	}
	return s, nil
}

// minimize takes away all that can be while the signature is shown with some rigour.
func (l *Lab) minimize(ctx context.Context, s Shown, r rigour) (least Shown, minimal bool, err error) {
	s.Case, minimal, err = minimize.Minimize(ctx, s.Case, l.test(&s, r), l.simpler)
	return s, minimal, err
}

// evidence returns the case of a record with only those calls that a finding speaks of,
// what they refer to, and all faults. Where it speaks of none, that is the whole case.
func evidence(rec *harness.Record, f harness.Finding) harness.Case {
	spoken := map[int]bool{}
	for _, seq := range f.Evidence {
		if e := rec.Event(seq); e != nil && e.Step >= 0 {
			spoken[e.Step] = true
		}
	}
	if len(spoken) == 0 {
		return rec.Case.Normalize()
	}
	return only(rec.Case, func(i int) bool { return spoken[i] || rec.Case.Steps[i].Verb != harness.VerbCall })
}

// echoes are how long a call is taken to be over at most when what it did is printed.
var echoes = [...]time.Duration{10 * time.Millisecond, 100 * time.Millisecond}

// moment returns the case of a record up to when the first thing was printed that a finding
// speaks of, with only those calls that were under way then or over for less than echo, what
// they refer to, and the faults that were not healed before. Where it speaks of nothing that
// was printed while calls were made, that is the whole case.
func moment(rec *harness.Record, f harness.Finding, echo time.Duration) harness.Case {
	var at *harness.Event
	for _, seq := range f.Evidence {
		e := rec.Event(seq)
		if e != nil && (e.Kind == harness.Output || e.Kind == harness.Exit) && (at == nil || e.Seq < at.Seq) {
			at = e
		}
	}
	if at == nil {
		return rec.Case.Normalize()
	}
	open, over := map[int]int{}, map[int]bool{}
	for _, e := range rec.Events {
		switch {
		case e.Seq >= at.Seq || e.Step < 0:
		case e.Kind == harness.Invoke:
			open[e.Step]++
		case e.Returned():
			open[e.Step]--
			over[e.Step] = at.At-e.At < echo
		}
	}
	steps := rec.Case.Steps
	meanwhile := func(i int) bool { return steps[i].Verb == harness.VerbCall && (open[i] > 0 || over[i]) }
	first, last := -1, -1
	for i := range steps {
		if meanwhile(i) {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	if first < 0 {
		return rec.Case.Normalize()
	}
	healed, inForce := map[int]bool{}, map[string]int{}
	for i, s := range steps[:first] {
		switch s.Verb {
		case harness.VerbInject:
			inForce[s.Label] = i
		case harness.VerbHeal:
			if f, injected := inForce[s.Name]; injected {
				healed[f], healed[i] = true, true
			}
		}
	}
	return only(rec.Case, func(i int) bool {
		return i <= last && (meanwhile(i) || steps[i].Verb != harness.VerbCall && !healed[i])
	})
}

// only returns a case with the steps that are wanted, and those whose replies they refer to.
func only(c harness.Case, wanted func(i int) bool) harness.Case {
	c = c.Clone()
	labels := map[string]bool{}
	var steps []harness.Step
	for i, s := range slices.Backward(c.Steps) {
		if !wanted(i) && !(s.Verb == harness.VerbCall && labels[s.Label]) {
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

// played returns the case of a record as far as it was played. Once a call is stuck, or the
// service has ended, nothing further is done: what would have come then is left out, and
// what was to be repeated is repeated as often as it was.
func played(rec *harness.Record) harness.Case {
	c := rec.Case.Clone()
	made, last, over := map[int]int{}, -1, false
	for _, e := range rec.Events {
		switch {
		case e.Kind == harness.Stuck, e.Kind == harness.Exit && e.Args.Text("expected") != "true":
			over = true
		case e.Kind == harness.Invoke, e.Kind == harness.Inject:
			made[e.Step]++
			last = max(last, e.Step)
		}
	}
	if !over {
		return c
	}
	var steps []harness.Step
	for i, s := range c.Steps[:last+1] {
		if s.Verb == harness.VerbCall {
			if made[i] == 0 {
				continue
			}
			if s.For > 0 {
				s.Repeat, s.For = min(made[i], maxRepeat), 0
			} else {
				s.Repeat = min(s.Times(), made[i])
			}
		}
		steps = append(steps, s)
	}
	c.Steps = steps
	return c.Normalize()
}

// surely reports whether a case may be called reproducible: nine of ten.
func surely(s Shown) bool { return s.Of > 0 && s.Times*10 >= s.Of*9 }

// press makes a case show its signature more surely. A case that no harder variant improves
// on stays as it was.
func (l *Lab) press(ctx context.Context, s Shown) (Shown, error) {
	for more := range harder(s.Case, s.slow()) {
		if surely(s) || ctx.Err() != nil {
			break
		}
		got, err := l.Shows(ctx, more, s.Signature, finals, finals-1)
		if err != nil {
			return s, Failure(ctx, err)
		}
		if got.Times*max(s.Of, 1) > s.Times*got.Of {
			s = got
		}
	}
	return s, nil
}

// rigour says how many of how many replays make a smaller case one that still shows its
// signature, and how many of as many where calls are made less often.
type rigour struct{ enough, of, rarer int }

// One of two could let a case drift towards one that shows its signature only now and then,
// and so could three of four where calls are made at once.
var (
	strict     = rigour{2, 2, 5} // for cases that surely show it
	concurrent = rigour{3, 4, 5} // for those of them that make calls at once
	quick      = rigour{1, 1, 5} // for those that take long
	fair       = rigour{2, 3, 5} // for cases that show it more often than not
	patient    = rigour{2, 6, 6} // for all others
)

// rigour chooses by how surely a case shows its signature, and how slowly.
func (s Shown) rigour() rigour {
	switch {
	case surely(s) && s.slow():
		return quick
	case surely(s):
		return strict
	case s.mostly():
		return fair
	}
	return patient
}

// test returns the predicate for minimizing. Least becomes the last case that passed.
func (l *Lab) test(least *Shown, r rigour) minimize.Test {
	return func(ctx context.Context, c harness.Case, rarer bool) (bool, error) {
		if l.Check(c) != nil {
			return false, nil // it cannot be played
		}
		r := r
		if r == strict && c.Concurrent() {
			r = concurrent
		}
		enough, of := r.enough, r.of
		if rarer {
			enough, of = r.rarer, r.rarer
		}
		s, err := l.Shows(ctx, c, least.Signature, of, enough)
		if err != nil || s.Times < enough {
			return false, Failure(ctx, err)
		}
		*least = s
		return true, nil
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
				err = f.CheckStep(s, l.Target)
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
		first, _, named := strings.Cut(a.Key, ".")
		known := slices.ContainsFunc(op.Params, func(p harness.Param) bool { return p.Name == a.Key })
		if !known && !slices.Contains(op.Takes, first) {
			return fmt.Errorf("%s takes no %s, only what begins with %s", s.Name, a.Key, strings.Join(op.Takes, ", "))
		}
		if !known && !named && first != "body" { // of the others there can be many
			return fmt.Errorf("%s takes no bare %s: name it as %s.NAME", s.Name, first, first)
		}
	}
	return nil
}
