package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/fuzz/engine"
	"github.com/shakedown-go/shakedown/fuzz/gofuzz"
	"github.com/shakedown-go/shakedown/fuzz/native"
	"github.com/shakedown-go/shakedown/fuzz/nemesis"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/report"
	"github.com/shakedown-go/shakedown/harness/store"
	"github.com/shakedown-go/shakedown/targets/function"
)

// fuzzRow is what fuzzing one function came to.
type fuzzRow struct {
	Func     string        `json:"func"`
	Sort     function.Sort `json:"sort"`
	Execs    int64         `json:"execs"`
	Time     time.Duration `json:"time"` // fuzzing
	Corpus   int           `json:"corpus"`
	Grown    int           `json:"grown"`
	Seeds    int           `json:"seeds"`
	Crashers int           `json:"crashers"`
	Bugs     int           `json:"bugs"`
	Notes    []string      `json:"notes,omitempty"`
	Blocked  string        `json:"blocked,omitempty"`
}

// suspect is a failure that an engine reports, until it has been shown in a replay.
type suspect struct {
	Signature string `json:"signature"`
	Func      string `json:"func"`
	Seen      int    `json:"seen"`
	Replays   int    `json:"replays"`

	fn     function.Func
	found  harness.Finding // its Signature is "" where the engine's words say nothing
	inputs []engine.Input  // a few of those that showed it, the smallest first
	at     time.Duration
	during string // the fault that was then in force, or the last before
	late   bool   // the time for its proof was up
}

const (
	maxInputs = 4 // of one suspect that are kept
	maxSorts  = 4 // of suspects in one place that are told apart by their messages
)

// campaign fuzzes all functions, one after another, and proves what they fail on.
func (l *fuzzLab) campaign(ctx context.Context) error {
	fmt.Fprintf(l.stderr, "%s: building ...\n", l.pkg.ImportPath)
	l.progress = newProgress(l.stderr, l.budget)
	for _, fn := range l.funcs { // what does not compile is said before anything takes long
		if _, err := l.replayer(ctx, fn, l.race); err != nil {
			return err
		}
	}
	fmt.Fprintf(l.stdout, "seed %d\n", l.seed)
	var failure error
	for _, fn := range l.funcs {
		if failure = l.hunt(ctx, fn, l.budget/time.Duration(len(l.funcs))); failure != nil || ctx.Err() != nil {
			break
		}
	}
	if errors.Is(failure, context.Canceled) && ctx.Err() != nil {
		failure = beside(failure, context.Canceled)
	}
	if len(l.rows) == 0 && (failure != nil || ctx.Err() != nil) {
		return errors.Join(failure, ctx.Err())
	}
	return l.conclude(ctx, failure)
}

// hunt fuzzes one function and proves what it fails on.
func (l *fuzzLab) hunt(ctx context.Context, fn function.Func, budget time.Duration) error {
	row := &fuzzRow{Func: fn.Name, Sort: fn.Sort}
	h := &hunting{lab: l, fn: fn, row: row, name: fn.Name + " (" + string(fn.Sort) + ")", quiet: func(do func()) { do() }}
	fuzz, err := h.build(ctx)
	var words *gofuzz.Error
	if errors.As(err, &words) && ctx.Err() == nil { // the module's own build has compiled it
		row.Blocked = "it cannot be built for go-fuzz: " + words.Error()
		l.rows = append(l.rows, row)
		return nil
	}
	if err != nil {
		return err
	}
	l.rows = append(l.rows, row)
	seeds, err := l.seeds(fn)
	if err != nil {
		return err
	}
	fuzzing, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	var disturbing sync.WaitGroup
	var broken error // a fault that could not be healed
	if len(l.aims) > 0 {
		n := &nemesis.Nemesis{Aims: l.aims, World: l.around, Seed: l.seed}
		h.during, h.quiet = n.Last, n.Quiet
		disturbing.Go(func() {
			if broken = n.Run(fuzzing); broken != nil {
				cancel()
			}
			l.count(n.Tallies())
		})
	}
	h.began = time.Now()
	stop := l.progress.start()
	grown, err := fuzz(fuzzing, seeds)
	stop()
	row.Time = time.Since(h.began)
	l.spent += row.Time
	cancel()
	disturbing.Wait()
	err = errors.Join(err, broken, l.save(fn, grown))
	if len(l.aims) > 0 && ctx.Err() == nil {
		err = errors.Join(err, l.around.Reset(ctx))
	}
	if err != nil {
		return fmt.Errorf("fuzz %s: %w", fn.Name, err)
	}
	for _, s := range h.suspects {
		fmt.Fprintf(l.stderr, "proving %s ...\n", report.Clean(s.name()))
		if err := l.prove(ctx, s, row); err != nil {
			return fmt.Errorf("prove %s: %w", s.name(), err)
		}
	}
	return nil
}

// hunting is one function being fuzzed.
type hunting struct {
	lab      *fuzzLab
	fn       function.Func
	row      *fuzzRow
	name     string
	began    time.Time
	during   func() string // nil where no faults are injected
	quiet    func(func())  // does something while no fault is in force
	suspects []*suspect
}

// build builds what the engine of the function needs and returns what fuzzes it.
func (h *hunting) build(ctx context.Context) (func(context.Context, []engine.Input) ([]engine.Input, error), error) {
	l := h.lab
	dir, err := l.home(h.fn, "engine")
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if h.fn.Sort == function.Native {
		binary, err := l.builder.BuildEngine(ctx, l.race)
		if err != nil {
			return nil, err
		}
		cache, err := l.scratch(h.fn.Name + "-cache")
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(l.stderr, "%s: built in %s\n", h.name, time.Since(began).Round(time.Millisecond))
		return func(fuzzing context.Context, seeds []engine.Input) ([]engine.Input, error) {
			res, err := native.Fuzz(fuzzing, engineRun, native.Options{
				Binary: binary, Func: h.fn.Name, Dir: dir, Cache: cache, Env: l.engineEnv(), Seeds: seeds,
				Tick: h.tick, Crash: func(c engine.Crasher) { h.crash(ctx, c) },
			})
			h.take(res.Stats)
			h.row.Blocked = res.Blocked
			return res.Corpus, err
		}, nil
	}
	tools, err := gofuzz.Install(ctx, engineRun, l.cache)
	if err != nil {
		return nil, err
	}
	build, err := l.scratch("go-fuzz")
	if err != nil {
		return nil, err
	}
	built, err := gofuzz.Build(ctx, engineRun, gofuzz.BuildOptions{
		Tools: tools, Race: l.race, Dir: build, Cache: l.cache,
		Package: gofuzz.Package{Dir: l.pkg.Dir, ImportPath: l.pkg.ImportPath, Root: l.pkg.Root, GoVersion: l.pkg.GoVersion},
	})
	if err != nil {
		return nil, err
	}
	how := "built"
	if built.Cached {
		how = "up to date"
	}
	fmt.Fprintf(l.stderr, "%s: %s in %s\n", h.name, how, time.Since(began).Round(time.Millisecond))
	if len(built.Preserved) > 0 {
		h.row.Notes = append(h.row.Notes, fmt.Sprintf("not instrumented, since go-fuzz-build breaks them: %v", built.Preserved))
	}
	replay, err := l.replayer(ctx, h.fn, l.race)
	if err != nil {
		return nil, err
	}
	want, err := function.GODEBUG(replay.Binary)
	if err != nil {
		return nil, err
	}
	return func(fuzzing context.Context, seeds []engine.Input) ([]engine.Input, error) {
		res, err := gofuzz.Fuzz(fuzzing, engineRun, gofuzz.Options{
			Tools: tools, Archive: built.Archive, Func: h.fn.Name, Dir: dir, Race: l.race, GODEBUG: gofuzz.GODEBUG(built.GODEBUG, want),
			Env: l.engineEnv(), Seeds: engine.Bytes(seeds), Tick: h.tick, Crash: func(c engine.Crasher) { h.crash(ctx, c) },
		})
		h.take(res.Stats)
		var grown []engine.Input
		for _, b := range res.Corpus {
			grown = append(grown, engine.Input{b})
		}
		return grown, err
	}, nil
}

func (h *hunting) take(s engine.Stats) {
	h.row.Execs, h.row.Corpus, h.row.Grown, h.row.Seeds = s.Execs, s.Corpus, s.Grown, s.Seeds
}

func (h *hunting) tick(s engine.Stats) {
	took := time.Since(h.began)
	h.lab.progress.say(fmt.Sprintf("%s: %s: %d execs (%.0f/s), corpus %d, %d crashers of %d sorts", h.name,
		took.Round(time.Second), s.Execs, float64(s.Execs)/max(took.Seconds(), 1), s.Corpus, h.row.Crashers, len(h.suspects)))
}

// crash takes a crasher that the engine reports. One that shows what others have shown is
// counted, and no more.
func (h *hunting) crash(ctx context.Context, c engine.Crasher) {
	l := h.lab
	h.row.Crashers++
	during := ""
	if h.during != nil {
		during = h.during()
	}
	found := function.Judge(l.pkg, h.fn, texts(c.Input), c.Output)
	if h.fn.Sort == function.Native && !slices.ContainsFunc(found, spoken) {
		// The engine does not pass on what a worker said that died. A replay is quick.
		found = nil
		h.quiet(func() {
			p, err := l.play(ctx, h.fn, c.Input, way{Race: l.race, Calls: 1})
			if found = p.found; err != nil && ctx.Err() == nil {
				h.row.Notes = append(h.row.Notes, "a crasher was not replayed: "+err.Error())
			}
		})
	}
	s := &suspect{Func: h.fn.Name, Seen: 1, fn: h.fn, inputs: []engine.Input{c.Input}, at: l.spent + time.Since(h.began), during: during}
	if len(found) > 0 {
		s.found = found[0]
	}
	s.Signature = s.found.Signature
	for _, known := range h.suspects {
		if known.Signature == s.Signature {
			known.Seen++
			known.keep(c.Input)
			return
		}
	}
	if like := h.like(s); len(like) >= maxSorts {
		like[0].Seen++ // its message differs each time, as one does that holds a part of the input
		return
	}
	if i := slices.IndexFunc(l.bugs, func(b *fuzzBug) bool { return s.Signature != "" && b.Signature == s.Signature }); i >= 0 {
		l.bugs[i].Seen++
		return
	}
	h.suspects = append(h.suspects, s)
	if err := l.dir.Keep(s.name(), files(c.Input, s.found, c.Output)); err != nil {
		h.row.Notes = append(h.row.Notes, "not saved: "+err.Error())
	}
	l.progress.around(func() {
		fmt.Fprintf(l.stdout, "seen   %s (after %s)\n", report.Clean(s.name()), s.at.Round(time.Millisecond))
	})
}

// like returns the suspects that were found by the same detector in the same place.
func (h *hunting) like(s *suspect) []*suspect {
	place := func(s *suspect) string {
		return s.found.Detector + s.Signature[strings.LastIndex(s.Signature, ": ")+1:]
	}
	var out []*suspect
	for _, known := range h.suspects {
		if place(known) == place(s) {
			out = append(out, known)
		}
	}
	return out
}

// spoken reports whether a finding is the function's word and not the engine's own.
func spoken(f harness.Finding) bool {
	return f.Detector != "exit" && (f.Detector != "failure" ||
		!strings.HasPrefix(f.Signature, "failure: no message") && !strings.Contains(f.Detail, "race detected during execution"))
}

// name is the signature, or what stands for it where there is none.
func (s *suspect) name() string {
	if s.Signature == "" {
		return "crash of unknown kind: " + s.Func
	}
	return s.Signature
}

// keep remembers another input.
func (s *suspect) keep(in engine.Input) {
	s.inputs = append(s.inputs, in)
	slices.SortStableFunc(s.inputs, func(a, b engine.Input) int { return a.Size() - b.Size() })
	s.inputs = s.inputs[:min(len(s.inputs), maxInputs)]
}

// count adds what became of the faults.
func (l *fuzzLab) count(more map[string]nemesis.Tally) {
	for _, a := range l.aims {
		t, m := l.tallies[a.String()], more[a.String()]
		t.Injected, t.Acted, t.Failed = t.Injected+m.Injected, t.Acted+m.Acted, t.Failed+m.Failed
		if m.Why != "" {
			t.Why = m.Why
		}
		l.tallies[a.String()] = t
	}
}

// corpus is where the corpus of a function is kept from run to run: as the go command's
// files, and as raw bytes where that can be.
func (l *fuzzLab) corpus(fn function.Func) (text, raw string) {
	dir := filepath.Join(l.out, "corpus", store.Slug(l.pkg.ImportPath), fn.Name)
	return filepath.Join(dir, "text"), filepath.Join(dir, "raw")
}

// seeds are the inputs that a function is begun with: the package's, and those that earlier
// runs have found.
func (l *fuzzLab) seeds(fn function.Func) ([]engine.Input, error) {
	text, _ := l.corpus(fn)
	var out []engine.Input
	seen := map[string]bool{}
	for _, dir := range append(l.pkg.Seeds(fn), text) {
		ins, err := engine.ReadAll(dir)
		if err != nil {
			return nil, err
		}
		for _, in := range ins {
			// Where the types are hidden, those of what is meant for the function are right.
			if hidden := fn.Types == "" && filepath.Base(filepath.Dir(dir)) != "corpus" && filepath.Base(dir) != "corpus"; !hidden {
				var ok bool
				if in, ok = in.As(fn.Types); !ok {
					continue // the engine would refuse to begin
				}
			}
			if !seen[in.Name()] {
				seen[in.Name()] = true
				out = append(out, in)
			}
		}
	}
	return out, nil
}

// save keeps a corpus.
func (l *fuzzLab) save(fn function.Func, corpus []engine.Input) error {
	text, raw := l.corpus(fn)
	if err := errors.Join(os.MkdirAll(text, 0o755), os.MkdirAll(raw, 0o755)); err != nil {
		return err
	}
	write := func(path string, data []byte) error {
		if info, err := os.Stat(path); err == nil && info.Size() == int64(len(data)) {
			return nil // what has this name has these bytes
		}
		return l.dir.Write(path, data)
	}
	for _, in := range corpus {
		if err := write(filepath.Join(text, in.Name()), in.Text()); err != nil {
			return err
		}
		if b, ok := in.Raw(); ok {
			if err := write(filepath.Join(raw, in.Name()), b); err != nil {
				return err
			}
		}
	}
	return nil
}

// texts are the texts within an input, as a process prints them: what is no UTF-8 is
// replaced, and of more lines than one the first may stand alone.
func texts(in engine.Input) []string {
	var out []string
	for _, v := range in {
		var text string
		switch v := v.(type) {
		case string:
			text = v
		case []byte:
			text = string(v)
		}
		text = strings.ToValidUTF8(text, "\uFFFD")
		first, _, more := strings.Cut(text, "\n")
		if out = append(out, text); more {
			out = append(out, strings.TrimRight(first, "\r"))
		}
	}
	return out
}
