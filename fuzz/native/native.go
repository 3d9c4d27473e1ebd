// Package native fuzzes func FuzzX(*testing.F) with the engine of the go command.
//
// That engine stops at the first input that fails. Here it goes on: what has failed is
// reported and taken out of its seeds, and it is started again on the corpus that it has.
// It is asked for no minimizing: it accepts any failure as the same one, and executes
// nothing else meanwhile.
package native

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/fuzz/engine"
)

// Options say how a function is fuzzed.
type Options struct {
	Binary string // a test binary that was built with -fuzz
	Func   string
	Dir    string // to run in: its testdata/fuzz/Func is written to
	Cache  string // for the corpus that the engine grows
	Env    []string
	Seeds  []engine.Input
	Procs  int // workers; zero means one for each processor
	Tick   func(engine.Stats)
	Crash  func(engine.Crasher)
}

// Result is what fuzzing came to.
type Result struct {
	engine.Stats
	Corpus []engine.Input
	// Blocked says why the engine could not go on: an input that the function has of its
	// own fails, say. It is "" where it could.
	Blocked string
}

const (
	// least is how much time must be left for another start to be worth it.
	least = time.Second
	// patience is how often in a row the engine may fail on its own seeds before it does
	// not go on. What fails may do so only while a dependency is disturbed.
	patience = 12
	wait     = 100 * time.Millisecond // after the first of these; it grows
)

// Fuzz fuzzes a function until ctx ends, which must have a deadline.
func Fuzz(ctx context.Context, run engine.Run, o Options) (Result, error) {
	f := fuzzer{Options: o, seeds: filepath.Join(o.Dir, "testdata", "fuzz", o.Func), known: map[string]bool{}, run: run}
	if err := errors.Join(os.MkdirAll(f.seeds, 0o700), os.MkdirAll(o.Cache, 0o700)); err != nil {
		return f.res, err
	}
	for _, seed := range o.Seeds {
		f.known[seed.Name()] = true
		if err := os.WriteFile(filepath.Join(f.seeds, seed.Name()), seed.Text(), 0o600); err != nil {
			return f.res, err
		}
	}
	err := f.fuzz(ctx)
	corpus, readErr := engine.ReadAll(f.corpus())
	f.res.Corpus = slices.Concat(o.Seeds, f.dropped, corpus)
	f.res.Grown = len(corpus)
	f.res.Stats.Corpus = len(f.res.Corpus)
	return f.res, errors.Join(err, readErr)
}

// fuzz starts the engine again and again.
func (f *fuzzer) fuzz(ctx context.Context) error {
	until, ok := ctx.Deadline()
	if !ok {
		return errors.New("native fuzzing needs a deadline")
	}
	for stuck := 0; ctx.Err() == nil && time.Until(until) >= least; {
		once, err := f.start(ctx)
		if err != nil {
			return err
		}
		found, err := f.crashers(once)
		if err != nil || once.code == 0 || ctx.Err() != nil {
			return err
		}
		if found && once.began {
			stuck = 0
			continue
		}
		if stuck++; stuck == patience {
			f.res.Blocked = blocked(once.lines)
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(stuck) * wait):
		}
	}
	return nil
}

type fuzzer struct {
	Options
	run     engine.Run
	seeds   string          // the directory of seeds, where the engine writes what fails
	known   map[string]bool // files in there that are no crashers
	dropped []engine.Input  // of the corpus, since they have failed
	res     Result
}

func (f *fuzzer) corpus() string { return filepath.Join(f.Cache, f.Func) }

// started is one run of the engine.
type started struct {
	lines []string // the last that it printed
	code  int
	began bool // its seeds have passed
}

// maxLines bounds how much is kept of what a run printed.
const maxLines = 2000

// start runs the engine until it fails or ctx ends. It says how many inputs it has executed
// every three seconds only: where it fails before, those counted are the ones known of.
func (f *fuzzer) start(ctx context.Context) (started, error) {
	var s started
	p := engine.Program{Name: "go test -fuzz", Path: f.Binary, Env: f.Env, Dir: f.Dir, Args: []string{
		"-test.run=^$", "-test.fuzz=^" + f.Func + "$", "-test.fuzzcachedir=" + f.Cache, "-test.fuzzminimizetime=1x", "-test.timeout=0",
	}}
	if f.Procs > 0 {
		p.Args = append(p.Args, "-test.parallel="+strconv.Itoa(f.Procs))
	}
	first := f.res.Execs == 0
	before, base, execs := f.res.Execs, int64(0), int64(0)
	var err error
	s.code, err = f.run(ctx, p, func(text string) {
		if m := progress.FindStringSubmatch(text); m != nil {
			execs, _ = strconv.ParseInt(m[1], 10, 64)
			f.res.Grown, _ = strconv.Atoi(m[2])
			f.res.Stats.Corpus, _ = strconv.Atoi(m[3])
			s.began = true
		} else if m := baseline.FindStringSubmatch(text); m != nil {
			base, _ = strconv.ParseInt(m[1], 10, 64)
			if s.began = m[3] != ""; first {
				f.res.Seeds = int(base)
			}
		} else if s.lines = append(s.lines, text); len(s.lines) > maxLines {
			s.lines = s.lines[len(s.lines)-maxLines/2:]
			return
		} else {
			return
		}
		f.res.Execs = before + max(execs, base)
		if f.Tick != nil {
			f.Tick(f.res.Stats)
		}
	})
	return s, err
}

// ownSeed is how the engine names an input of f.Add.
var ownSeed = regexp.MustCompile(`^seed#\d+$`)

// crashers reports what has failed: the input that the engine has written beside the
// seeds, or the seed that it names. Each is taken away, as it would fail on it at once.
func (f *fuzzer) crashers(s started) (found bool, err error) {
	report := func(in engine.Input) {
		if found = true; f.Crash != nil {
			f.Crash(engine.Crasher{Input: in, Output: plain(s.lines)})
		}
	}
	seed := failing(s.lines, f.Func)
	if ownSeed.MatchString(seed) {
		report(engine.Input{engine.Own(seed)})
	}
	entries, err := os.ReadDir(f.seeds)
	if err != nil {
		return found, err
	}
	for _, e := range entries {
		if f.known[e.Name()] && e.Name() != seed {
			continue
		}
		file := filepath.Join(f.seeds, e.Name())
		in, err := engine.Read(file)
		if err = errors.Join(err, os.Remove(file)); err != nil {
			return found, err
		}
		f.res.Execs++
		report(in)
	}
	if seed != "" && !found {
		file := filepath.Join(f.corpus(), filepath.Base(seed))
		if in, err := engine.Read(file); err == nil {
			f.dropped = append(f.dropped, in)
			report(in)
			return found, os.Remove(file)
		}
	}
	return found, nil
}

// failing returns the name of the seed that the engine says fails, or "".
func failing(lines []string, fn string) string {
	for _, l := range lines {
		if _, seed, ok := strings.Cut(l, "failure while testing seed corpus entry: "+fn+"/"); ok {
			return strings.TrimSpace(seed)
		}
	}
	return ""
}

var panicked = regexp.MustCompile(`^testing\.go:\d+: (panic: .*)$`)

// plain turns what the engine says of a panic into what the runtime prints: it indents it,
// and its stack is that of the one who recovered.
func plain(lines []string) []string {
	var out []string
	indent := -1 // of the stack
	for i := 0; i < len(lines); i++ {
		text := strings.TrimLeft(lines[i], " ")
		if m := panicked.FindStringSubmatch(text); m != nil {
			out, indent = append(out, m[1]), len(lines[i])-len(text)+4
			continue
		}
		if indent < 0 {
			out = append(out, lines[i])
			continue
		}
		if strings.HasPrefix(text, "runtime/debug.Stack(") {
			i++ // and its file
			continue
		}
		if len(lines[i]) >= indent && strings.TrimSpace(lines[i][:indent]) == "" {
			out = append(out, lines[i][indent:])
		} else {
			out = append(out, lines[i])
		}
	}
	return out
}

var (
	// fuzz: elapsed: 3s, execs: 325017 (108336/sec), new interesting: 11 (total: 12)
	progress = regexp.MustCompile(`^fuzz: elapsed: \S+, execs: (\d+) \(\d+/sec\), new interesting: (\d+) \(total: (\d+)\)`)
	// fuzz: elapsed: 0s, gathering baseline coverage: 1/1 completed, now fuzzing with 2 workers
	baseline = regexp.MustCompile(`^fuzz: elapsed: \S+, gathering baseline coverage: (\d+)/(\d+) completed(, now fuzzing)?`)
)

// blocked is why the engine does not go on, as it says it.
func blocked(lines []string) string {
	for _, l := range lines {
		if _, entry, ok := strings.Cut(l, "failure while testing seed corpus entry: "); ok {
			return fmt.Sprintf("it fails on its own seed %s, and fuzzing starts only where all seeds pass", entry)
		}
	}
	return "the engine ends at once: " + strings.Join(lines[max(0, len(lines)-3):], " / ")
}
