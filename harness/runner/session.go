// Package runner plays cases: lanes make the calls, the nemesis injects and heals the
// faults, and everything that happens becomes events of one record.
package runner

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Options say how cases are played.
type Options struct {
	Fault   func(name string) *harness.Fault // finds a fault by name, nil where there is none
	Probes  []*harness.Probe
	Timeout time.Duration // a call that takes longer is stuck; zero means 2s
	Grace   time.Duration // for a call to return once it is cancelled; zero means 1s
	// Abort is told where one of the target's limits is exceeded, by any goroutine and
	// perhaps by several at once, but not once a session is closed; nil where nobody watches.
	Abort func(error)
	// Growth is of how many things of one sort it takes, come to stay since the process began
	// and one of them in this case, to look for a leak: the case is then played again and
	// again. Zero means 3; less than zero, that nothing is looked for.
	Growth int
	// Follow is the sort of thing whose growth is looked for, as package census names it; zero
	// means everything.
	Follow string
	// Memory is what earlier sessions know of growth; nil means that there were none.
	Memory *Memory
}

// Cost is where the time of a session went.
type Cost struct {
	Start, Reset, Play, Quiesce time.Duration
	Look                        time.Duration // at what a case has left behind
}

// Add adds up two costs.
func (c Cost) Add(d Cost) Cost {
	return Cost{c.Start + d.Start, c.Reset + d.Reset, c.Play + d.Play, c.Quiesce + d.Quiesce, c.Look + d.Look}
}

// Session is one epoch: a running instance of a target, and the tap on what it emits.
// Cases are played on it one at a time.
type Session struct {
	target *harness.Target
	in     harness.Instance
	opts   Options
	tap    tap
	last   harness.Case // what was played last
	first  life         // what the process held when it was looked at first
	played int          // cases
	worn   string
	cost   Cost
	pace   pace
	relax  func() // ends the watch on the limits
}

// Open starts an instance of the target for the env of a case; nil takes the target's own.
func Open(ctx context.Context, t *harness.Target, env map[string]string, o Options) (*Session, error) {
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	if o.Grace == 0 {
		o.Grace = time.Second
	}
	if o.Growth == 0 {
		o.Growth = 3
	}
	if o.Memory == nil {
		o.Memory = &Memory{}
	}
	s := &Session{target: t, opts: o}
	start := time.Now()
	var err error
	if s.in, err = t.Start(ctx, harness.Setup{Env: env, Emit: s.tap.emit}); err != nil {
		return nil, fmt.Errorf("start %s: %w", t.Name, err)
	}
	s.cost.Start = time.Since(start)
	s.relax = func() {}
	if o.Abort != nil {
		s.relax = s.guard(ctx)
	}
	return s, nil
}

// Worn says why no further case may be played on this session; "" means that one may.
func (s *Session) Worn() string { return s.worn }

// Cost returns where the time of the session went so far.
func (s *Session) Cost() Cost { return s.cost }

// Close stops the instance. After is the record of what it did since the last case: its
// last words.
func (s *Session) Close(ctx context.Context) (after *harness.Record, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	s.relax()
	rec := newRecorder(s.last, s.target.Build)
	s.tap.to(rec)
	if err = s.in.Stop(ctx); err != nil {
		err = fmt.Errorf("stop %s: %w", s.target.Name, err)
	}
	s.tap.to(nil)
	return rec.finish(), err
}

// Play plays one case and returns what happened. An error says that the harness could not
// play it; the record of what was seen until then comes with it where there is one.
func (s *Session) Play(ctx context.Context, c harness.Case) (*harness.Record, error) {
	rec := newRecorder(c, s.target.Build)
	s.last = c
	s.tap.to(rec)
	err := s.rounds(ctx, c, rec)
	s.tap.to(nil)
	return rec.finish(), err
}

// timed adds the time that f takes to a cost.
func timed(d *time.Duration, f func() error) error {
	start := time.Now()
	err := f()
	*d += time.Since(start)
	return err
}

// tap hands what an instance emits to the record of the case that is being played. What
// comes between two cases is kept for the next one.
type tap struct {
	mu   sync.Mutex
	rec  *recorder
	kept []harness.Event
	lost bool // there was more than is kept
}

// maxKept bounds what is kept between two cases. The end of a process is always kept.
const maxKept = 10_000

func (t *tap) emit(e harness.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.rec == nil {
		if len(t.kept) < maxKept || e.Kind == harness.Exit {
			t.kept = append(t.kept, e)
		} else {
			t.lost = true
		}
		return
	}
	t.rec.emit(e)
}

func (t *tap) to(r *recorder) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rec = r
	if r != nil {
		for _, e := range t.kept {
			r.emit(e)
		}
		if t.lost {
			r.cut()
		}
		t.kept, t.lost = nil, false
	}
}

// recorder gives every event its place.
type recorder struct {
	start time.Time

	mu      sync.Mutex
	rec     harness.Record
	bytes   int
	crashed bool
}

func newRecorder(c harness.Case, b harness.Build) *recorder {
	return &recorder{start: time.Now(), rec: harness.Record{Case: c, Build: b}}
}

func (r *recorder) emit(e harness.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Kind == harness.Exit && e.Args.Text("expected") != "true" {
		r.crashed = true
	}
	if e.Args.Text("dropped") == "true" { // the process printed more than could be kept
		r.rec.Truncated = true
	}
	if r.bytes += e.Size(); r.bytes > harness.MaxRecord {
		r.rec.Truncated = true
		return
	}
	e.Seq, e.At = uint64(len(r.rec.Events))+1, time.Since(r.start)
	r.rec.Events = append(r.rec.Events, e)
}

// cut notes that events of the record are missing.
func (r *recorder) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rec.Truncated = true
}

// roomy reports whether there is room in the record for as much as it holds.
func (r *recorder) roomy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes < harness.MaxRecord/2
}

// ended reports whether a process ended that nobody had asked to.
func (r *recorder) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.crashed
}

// finish returns the record. Events that come later are dropped.
func (r *recorder) finish() *harness.Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.rec
	r.rec.Events = nil
	r.bytes = harness.MaxRecord
	return &out
}

// random returns the randomness of one step: the same in every replay.
func random(seed uint64, step int) *rand.Rand {
	return rand.New(rand.NewPCG(seed, uint64(step)))
}
