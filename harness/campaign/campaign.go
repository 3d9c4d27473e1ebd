// Package campaign looks for bugs and proves them: source, runner, detectors, and for
// every new finding the same runner again, in fresh processes, until the case that shows
// it is minimal.
package campaign

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/runner"
)

// Options say what a campaign works on and how long.
type Options struct {
	Lab    Lab // zero Triage means 2m, less than zero that nothing is proven; its Saw is taken
	Source harness.Source
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
	if o.Lab.Triage == 0 {
		o.Lab.Triage = 2 * time.Minute
	}
	if o.Epoch == 0 {
		o.Epoch = 50
	}
	t := o.Lab.Target
	c := &campaign{Options: o, known: map[string]*harness.Bug{}, res: &Result{
		Target: t.Name, Seed: o.Seed, Env: t.Env, Build: t.Build, Started: time.Now(),
		Calls: map[harness.Kind]int{}, Faults: map[string]Tally{}, Checks: map[string]*Checks{},
	}}
	c.Lab.Saw = c.replayed
	err := c.search(ctx)
	c.res.Stopped = ctx.Err() != nil
	return c.res, err
}

type campaign struct {
	Options
	res     *Result
	known   map[string]*harness.Bug // by signature
	queue   []suspect               // findings that wait for their proof
	session *runner.Session
	epoch   []harness.Case // what the session has played
	trouble int            // failures of the harness in a row
}

// suspect is a finding as it was first seen.
type suspect struct {
	bug    *harness.Bug
	rec    *harness.Record
	prefix []harness.Case
}

// search plays cases until the budget is spent. Proving has a clock of its own.
func (c *campaign) search(ctx context.Context) error {
	for ctx.Err() == nil && c.res.Search < c.Time && (c.Cases == 0 || c.res.Cases < c.Cases) {
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
			return errors.Join(err, c.close(ctx))
		}
		if err := c.triage(ctx); err != nil {
			return errors.Join(err, c.close(ctx))
		}
		if c.Tick != nil {
			c.Tick(c.res)
		}
		if c.Until != nil && c.Until(c.res) {
			break
		}
	}
	return c.close(ctx)
}

// explore plays one case on the session that is open, or on a new one.
func (c *campaign) explore(ctx context.Context, next harness.Case) error {
	if c.session == nil {
		s, err := runner.Open(ctx, c.Lab.Target, next.Env, c.Lab.Runner)
		if err != nil {
			return err
		}
		c.session, c.epoch = s, nil
		c.res.Epochs++
	}
	rec, err := c.session.Play(ctx, next)
	if err == nil || ctx.Err() != nil {
		c.look(rec)
	}
	c.epoch = append(c.epoch, next)
	if err != nil || c.session.Worn() != "" || len(c.epoch) >= c.Epoch || len(c.queue) > 0 {
		err = errors.Join(err, c.close(ctx))
	}
	return err
}

// look counts and judges a record of the search.
func (c *campaign) look(rec *harness.Record) {
	start := time.Now()
	vs := detect.Judge(rec, c.Lab.Detectors)
	c.res.Judging += time.Since(start)
	c.res.count(rec)
	c.res.judged(vs)
	c.suspect(rec, detect.Findings(vs), c.epoch)
	c.Source.Learn(rec, nil)
}

// replayed takes note of what else a replay shows.
func (c *campaign) replayed(rec *harness.Record, found []harness.Finding) {
	c.res.Replays++
	c.suspect(rec, found, nil)
}

// suspect queues the findings that are new.
func (c *campaign) suspect(rec *harness.Record, found []harness.Finding, prefix []harness.Case) {
	for _, f := range found {
		if b := c.known[f.Signature]; b != nil {
			b.Seen++
			continue
		}
		b := &harness.Bug{Finding: f, First: rec.Case, Case: rec.Case, Seen: 1, FirstSeen: c.res.Search}
		c.known[f.Signature] = b
		c.queue = append(c.queue, suspect{b, rec, append([]harness.Case(nil), prefix...)})
	}
}

// triage proves what is new, one after another. It is saved before it is proven, so that
// an interruption loses nothing.
func (c *campaign) triage(ctx context.Context) error {
	for len(c.queue) > 0 {
		s := c.queue[0]
		c.queue = c.queue[1:]
		proof := c.proof(s.bug.Detector)
		s.bug.Proven = proof && c.Lab.Triage < 0
		if err := c.put(ctx, *s.bug, s.rec); err != nil {
			return err
		}
		if c.Lab.Triage < 0 || ctx.Err() != nil {
			s.bug.Proven = proof
			c.settle(s.bug)
			continue
		}
		if err := c.prove(ctx, s, proof); err != nil {
			return err
		}
	}
	return nil
}

func (c *campaign) prove(ctx context.Context, s suspect, proof bool) error {
	start := time.Now()
	defer func() { c.res.Triage += time.Since(start) }()
	got, rec, err := c.Lab.Prove(ctx, *s.bug, s.prefix, proof)
	got.Seen = s.bug.Seen
	*s.bug = got
	c.settle(s.bug)
	if rec != nil {
		c.Source.Learn(rec, []harness.Finding{got.Finding})
	} else {
		rec = s.rec
	}
	if err := c.put(ctx, got, rec); err != nil {
		return err
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return c.failed(ctx, fmt.Errorf("prove %s: %w", s.bug.Signature, err))
	}
	return nil
}

// settle files a bug under what is known of it by now.
func (c *campaign) settle(b *harness.Bug) {
	if b.Proven {
		c.res.Bugs = append(c.res.Bugs, b)
	} else {
		c.res.Suspects = append(c.res.Suspects, b)
	}
}

func (c *campaign) proof(name string) bool {
	for _, d := range c.Lab.Detectors {
		if d.Name == name {
			return d.Proof
		}
	}
	return false
}

func (c *campaign) put(ctx context.Context, b harness.Bug, rec *harness.Record) error {
	for _, s := range c.Sinks {
		if err := s.Put(context.WithoutCancel(ctx), b, rec); err != nil {
			return err
		}
	}
	return nil
}

// failed takes note of a failure of the harness. It returns it once there were too many.
func (c *campaign) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	c.res.Errors = append(c.res.Errors, err.Error())
	if c.trouble++; c.trouble >= maxTrouble || c.res.Cases == 0 {
		return err
	}
	return nil
}

// close ends the epoch.
func (c *campaign) close(ctx context.Context) error {
	if c.session == nil {
		return nil
	}
	s := c.session
	c.session = nil
	err := s.Close(ctx)
	c.res.Cost = c.res.Cost.Add(s.Cost())
	return err
}
