// Package campaign looks for bugs and proves them: source, runner, detectors, and for
// every new finding the same runner again, in fresh processes, until the case that shows
// it is minimal.
package campaign

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/runner"
)

// Options say what a campaign works on and how long.
type Options struct {
	Lab    Lab // zero Triage means 2m, less than zero that nothing is proven; its Saw is taken
	Source harness.Source
	Faults []*harness.Fault // what the source injects: what it could aim at and never does is a doubt
	Sinks  []harness.Sink
	Seed   uint64

	Time  time.Duration      // of search; zero means 2m
	Cases int                // of search; zero means no limit
	Epoch int                // cases that one process serves; zero means 50
	Until func(*Result) bool // ends the search; nil never does
	Tick  func(*Result)      // told of every case; nil for nobody
}

// maxTrouble is how often in a row the harness may fail before the campaign gives up.
const maxTrouble = 3

// Run runs a campaign to the end of its budget, or until ctx is done: then what is in
// force is healed, and what was found so far is the result. An error says that the
// harness could not go on; the result is good for what was done until then.
func Run(ctx context.Context, o Options) (*Result, error) {
	if o.Time == 0 {
		o.Time = 2 * time.Minute
	}
	if o.Epoch == 0 {
		o.Epoch = 50
	}
	t := o.Lab.Target
	c := &campaign{Options: o, known: map[string]*harness.Bug{}, res: &Result{
		Target: t.Name, Seed: o.Seed, Env: t.Env, Build: t.Build, Started: time.Now(),
		Calls: map[harness.Kind]int{}, Worn: map[string]int{}, Faults: map[string]Tally{}, Answers: map[string]Answers{}, LeftOut: map[string][]string{}, Checks: map[string]*Checks{},
	}}
	c.res.expect(o.Faults, t)
	c.Lab.Saw = c.replayed
	if c.Lab.Triage == 0 {
		c.Lab.Triage = 2 * time.Minute
	}
	err := c.search(ctx)
	c.res.Stopped = ctx.Err() != nil
	if cause := context.Cause(ctx); errors.Is(cause, harness.ErrAborted) {
		c.res.Aborted = cause.Error()
	}
	return c.res, err
}

type campaign struct {
	Options
	res     *Result
	known   map[string]*harness.Bug // by signature
	queue   []suspect               // findings that wait for their proof
	session *runner.Session
	env     map[string]string // what the session was opened for
	growth  runner.Memory     // what is known of growth
	epoch   []harness.Case    // what the session has played
	trouble int               // failures of the harness in a row
	sinking error             // the first failure of a sink
}

// suspect is a finding as it was seen.
type suspect struct {
	bug    *harness.Bug
	rec    *harness.Record
	prefix []harness.Case
}

// search plays cases until the budget is spent. Proving has a clock of its own.
func (c *campaign) search(ctx context.Context) (err error) {
	defer func() {
		err = errors.Join(err, c.close(ctx))
		if err == nil {
			err = c.triage(ctx) // of its last words
		}
		for _, s := range c.queue { // what is left was seen, at least
			c.settle(s)
		}
		err = errors.Join(err, c.sinking)
	}()
	for ctx.Err() == nil && c.sinking == nil && c.res.Search < c.Time && (c.Cases == 0 || c.res.Cases < c.Cases) {
		next, ok := c.Source.Next()
		if !ok {
			break
		}
		start := time.Now()
		err := c.explore(ctx, next)
		c.res.Search += time.Since(start)
		if err == nil {
			c.trouble = 0
		} else if err := c.failed(ctx, err); err != nil {
			return err
		}
		if err := c.triage(ctx); err != nil {
			return err
		}
		c.tick()
		if c.Until != nil && c.Until(c.res) {
			break
		}
	}
	return nil
}

func (c *campaign) tick() {
	if c.Tick != nil {
		c.Tick(c.res)
	}
}

// explore plays one case on the session that is open, or on a new one.
func (c *campaign) explore(ctx context.Context, next harness.Case) error {
	if !maps.Equal(next.Env, c.env) {
		if err := c.close(ctx); err != nil {
			return err
		}
	}
	if c.session == nil {
		o := c.Lab.Runner
		o.Memory = &c.growth
		s, err := runner.Open(ctx, c.Lab.Target, next.Env, o)
		if err != nil {
			return err
		}
		c.session, c.env, c.epoch = s, next.Env, nil
		c.res.Epochs++
	}
	rec, err := c.session.Play(ctx, next)
	worn := c.session.Worn()
	c.res.Cases++
	c.look(rec)
	if worn != "" && ctx.Err() == nil { // an interrupt wears it out, too
		c.res.wear(rec, worn)
	}
	c.epoch = append(c.epoch, next)
	if err != nil || worn != "" || len(c.epoch) >= c.span() || len(c.queue) > 0 || rec.Corrupted() { // no later case is to meet what it remembers
		err = errors.Join(err, c.close(ctx))
	}
	return err
}

// span is how many cases the current epoch serves: some are short, since much happens once
// in a process life only, at its first use; some are long, since much adds up.
func (c *campaign) span() int {
	return []int{max(c.Epoch/10, 1), max(c.Epoch/3, 1), c.Epoch}[c.res.Epochs%3]
}

// look counts and judges a record of the search.
func (c *campaign) look(rec *harness.Record) {
	c.res.count(rec)
	c.suspect(rec, c.judge(rec), c.epoch)
	c.Source.Learn(rec, nil)
}

func (c *campaign) judge(rec *harness.Record) []harness.Finding {
	start := time.Now()
	vs := detect.Judge(rec, c.Lab.Detectors)
	c.res.Judging += time.Since(start)
	c.res.judged(vs)
	return detect.Findings(vs)
}

// replayed takes note of what else a replay shows.
func (c *campaign) replayed(rec *harness.Record, found []harness.Finding) {
	c.res.Replays++
	c.suspect(rec, found, nil)
	c.tick()
}

// suspect saves and queues the findings that are new, and those that could not be shown
// again but are seen once more, at their second sighting, their fourth, and so on.
func (c *campaign) suspect(rec *harness.Record, found []harness.Finding, prefix []harness.Case) {
	for _, f := range found {
		b := c.known[f.Signature]
		if b != nil {
			b.Seen++
			if !b.Settled || b.Shown > 0 || b.Seen&(b.Seen-1) != 0 || c.Lab.Triage < 0 {
				continue
			}
			same := func(x *harness.Bug) bool { return x == b }
			c.res.Bugs = slices.DeleteFunc(c.res.Bugs, same)
			c.res.Suspects = slices.DeleteFunc(c.res.Suspects, same)
			b.Finding, b.Case, b.Settled, b.Proven, b.Disturbed = f, rec.Case, false, false, disturbed(prefix)
		} else {
			b = &harness.Bug{Finding: f, First: rec.Case, Case: rec.Case, Disturbed: disturbed(prefix), Seen: 1, FirstSeen: c.res.Search}
			c.known[f.Signature] = b
			c.put(*b, rec)
		}
		c.queue = append(c.queue, suspect{b, rec, slices.Clone(prefix)})
	}
}

// disturbed reports whether anything was injected into one of the cases.
func disturbed(cases []harness.Case) bool {
	return slices.ContainsFunc(cases, func(c harness.Case) bool { return len(c.Faults()) > 0 })
}

// triage proves what was seen, one after another.
func (c *campaign) triage(ctx context.Context) error {
	for len(c.queue) > 0 && ctx.Err() == nil {
		s := c.queue[0]
		c.queue = c.queue[1:]
		if err := c.prove(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (c *campaign) prove(ctx context.Context, s suspect) error {
	if c.Lab.Triage < 0 {
		c.settle(s)
		return nil
	}
	start := time.Now()
	c.res.Proving = s.bug.Signature
	got, rec, err := c.Lab.Prove(ctx, *s.bug, s.prefix)
	c.res.Proving = ""
	c.res.Triage += time.Since(start)
	got.Seen = s.bug.Seen
	*s.bug = got
	if rec != nil {
		s.rec = rec
		c.Source.Learn(rec, []harness.Finding{got.Finding})
	}
	c.settle(s)
	if err != nil {
		return c.failed(ctx, fmt.Errorf("prove %s: %w", s.bug.Signature, err))
	}
	return nil
}

// settle files a bug under what is known of it by now.
func (c *campaign) settle(s suspect) {
	b := s.bug
	b.Settled = true
	b.Proven = b.Proven || c.proof(b.Detector)
	if b.Proven {
		c.res.Bugs = append(c.res.Bugs, b)
	} else {
		c.res.Suspects = append(c.res.Suspects, b)
	}
	c.put(*b, s.rec)
}

// proof reports whether one sighting proves a detector's findings.
func (c *campaign) proof(name string) bool {
	return slices.ContainsFunc(c.Lab.Detectors, func(d *harness.Detector) bool { return d.Name == name && d.Proof })
}

func (c *campaign) put(b harness.Bug, rec *harness.Record) {
	for _, s := range c.Sinks {
		if err := s.Put(b, rec); err != nil && c.sinking == nil {
			c.sinking = err
		}
	}
}

// failed takes note of a failure of the harness. It returns it once there were too many, or
// where nothing comes after it.
func (c *campaign) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return Failure(ctx, err)
	}
	c.res.Errors = append(c.res.Errors, err.Error())
	if c.trouble++; c.trouble >= maxTrouble || c.res.Cases == 0 {
		return err
	}
	return nil
}

// close ends the epoch, and judges what the process did at its end.
func (c *campaign) close(ctx context.Context) error {
	if c.session == nil {
		return nil
	}
	s := c.session
	c.session = nil
	after, err := s.Close(ctx)
	c.res.Cost = c.res.Cost.Add(s.Cost())
	c.res.count(after)
	c.suspect(after, c.judge(after), c.epoch[:len(c.epoch)-1])
	if err != nil {
		return running{err}
	}
	return nil
}
