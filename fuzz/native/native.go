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

// least is how much time must be left for another start to be worth it.
const least = time.Second

// Fuzz fuzzes a function until ctx ends, which must have a deadline.
func Fuzz(ctx context.Context, run engine.Run, o Options) (Result, error) {
	var res Result
	f := fuzzer{Options: o, seeds: filepath.Join(o.Dir, "testdata", "fuzz", o.Func), known: map[string]bool{}}
	if err := errors.Join(os.MkdirAll(f.seeds, 0o700), os.MkdirAll(o.Cache, 0o700)); err != nil {
		return res, err
	}
	for _, seed := range o.Seeds {
		f.known[seed.Name()] = true
		if err := os.WriteFile(filepath.Join(f.seeds, seed.Name()), seed.Text(), 0o600); err != nil {
			return res, err
		}
	}
	barren := 0 // starts in a row that have neither executed nor found anything
	for ctx.Err() == nil {
		until, ok := ctx.Deadline()
		if !ok {
			return res, errors.New("native fuzzing needs a deadline")
		}
		if time.Until(until) < least {
			break
		}
		once, err := f.start(ctx, run, res.Stats)
		res.Stats = res.Stats.Add(once.stats)
		if err != nil {
			return res, err
		}
		n, err := f.crashers(once.lines)
		if err != nil {
			return res, err
		}
		if once.code == 0 || ctx.Err() != nil {
			break
		}
		if n > 0 || once.stats.Execs > 0 {
			barren = 0
		} else if barren++; barren == 3 {
			res.Blocked = blocked(once.lines)
			break
		}
	}
	corpus, err := engine.ReadAll(filepath.Join(o.Cache, o.Func))
	res.Corpus = append(slices.Clone(o.Seeds), corpus...)
	res.Stats.Corpus, res.Stats.Grown = max(res.Stats.Corpus, len(res.Corpus)), len(corpus)
	return res, err
}

type fuzzer struct {
	Options
	seeds string
	known map[string]bool // files that are no crashers
}

// started is one run of the engine.
type started struct {
	stats engine.Stats
	lines []string // the last that it printed
	code  int
}

// maxLines bounds how much is kept of what a run printed.
const maxLines = 2000

// start runs the engine until it fails or ctx ends.
func (f *fuzzer) start(ctx context.Context, run engine.Run, before engine.Stats) (started, error) {
	var s started
	p := engine.Program{Name: "go test -fuzz", Path: f.Binary, Env: f.Env, Dir: f.Dir, Args: []string{
		"-test.run=^$", "-test.fuzz=^" + f.Func + "$", "-test.fuzzcachedir=" + f.Cache, "-test.fuzzminimizetime=1x", "-test.timeout=0",
	}}
	if f.Procs > 0 {
		p.Args = append(p.Args, "-test.parallel="+strconv.Itoa(f.Procs))
	}
	var err error
	s.code, err = run(ctx, p, func(text string) {
		if now, ok := parseStats(text); ok {
			if now.Execs == 0 {
				now.Execs = s.stats.Execs
			}
			now.Seeds = max(now.Seeds, s.stats.Seeds)
			if s.stats = now; f.Tick != nil {
				f.Tick(before.Add(now))
			}
			return
		}
		if s.lines = append(s.lines, text); len(s.lines) > maxLines {
			s.lines = s.lines[len(s.lines)-maxLines/2:]
		}
	})
	return s, err
}

// crashers reports the inputs that the engine has written beside the seeds, and takes them
// away: it would fail on them at once.
func (f *fuzzer) crashers(lines []string) (n int, err error) {
	entries, err := os.ReadDir(f.seeds)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		file := filepath.Join(f.seeds, e.Name())
		if f.known[e.Name()] && !slices.ContainsFunc(lines, f.fails(e.Name())) {
			continue
		}
		in, err := engine.Read(file)
		if err = errors.Join(err, os.Remove(file)); err != nil {
			return n, err
		}
		n++
		if f.Crash != nil {
			f.Crash(engine.Crasher{Input: in, Output: lines})
		}
	}
	return n, nil
}

// fails tells the line that says a seed fails.
func (f *fuzzer) fails(seed string) func(string) bool {
	return func(line string) bool {
		return strings.Contains(line, "failure while testing seed corpus entry: "+f.Func+"/"+seed)
	}
}

var (
	// fuzz: elapsed: 3s, execs: 325017 (108336/sec), new interesting: 11 (total: 12)
	progress = regexp.MustCompile(`^fuzz: elapsed: \S+, execs: (\d+) \(\d+/sec\), new interesting: (\d+) \(total: (\d+)\)`)
	// fuzz: elapsed: 0s, gathering baseline coverage: 1/1 completed, now fuzzing with 2 workers
	baseline = regexp.MustCompile(`^fuzz: elapsed: \S+, gathering baseline coverage: (\d+)/\d+ completed`)
)

func parseStats(line string) (engine.Stats, bool) {
	if m := progress.FindStringSubmatch(line); m != nil {
		execs, err := strconv.ParseInt(m[1], 10, 64)
		grown, _ := strconv.Atoi(m[2])
		corpus, _ := strconv.Atoi(m[3])
		return engine.Stats{Execs: execs, Corpus: corpus, Grown: grown}, err == nil
	}
	if m := baseline.FindStringSubmatch(line); m != nil {
		seeds, _ := strconv.Atoi(m[1])
		return engine.Stats{Seeds: seeds}, true
	}
	return engine.Stats{}, false
}

// blocked is why the engine does not go on, as it says it.
func blocked(lines []string) string {
	for _, l := range lines {
		if _, entry, ok := strings.Cut(l, "failure while testing seed corpus entry: "); ok {
			return fmt.Sprintf("it fails on its own seed %s, and fuzzing starts only where all seeds pass", entry)
		}
	}
	return "the engine ends at once: " + strings.Join(lines[max(0, len(lines)-3):], " / ")
}
