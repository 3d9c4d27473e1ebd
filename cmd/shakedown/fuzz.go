package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shakedown-go/shakedown/fuzz/engine"
	"github.com/shakedown-go/shakedown/fuzz/nemesis"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/report"
	"github.com/shakedown-go/shakedown/harness/store"
	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/function"
	"github.com/shakedown-go/shakedown/targets/process"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// fuzzFlags are the flags of fuzz.
type fuzzFlags struct {
	name, config, out string
	budget, triage    time.Duration
	race              bool
	faults            string
	seed              uint64
	replay, under     string
	times, calls      int
}

func fuzzCommand() *cobra.Command {
	var f fuzzFlags
	c := &cobra.Command{
		Use:   "fuzz PACKAGE",
		Short: "fuzz the functions of a Go package, and prove what they fail on",
		Long: `Fuzz finds the fuzz functions of a package and fuzzes one after another: func
FuzzX([]byte) int with github.com/dvyukov/go-fuzz, func FuzzX(*testing.F) with the engine of
the go command. Each failure is shown again in a build as the module has it, and made
small. With a shakedown.yaml that has dependencies, those are brought up behind links, and
faults are injected meanwhile.

With --replay, one input is run again, in fresh processes.

Exit codes: 0 pass, 1 findings, 4 inconclusive, 3 the harness failed, 2 usage or a package
that does not compile, 70 internal error, 130 aborted.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !c.Flags().Changed("seed") {
				f.seed = rand.Uint64N(1_000_000)
			}
			return f.run(c.Context(), args[0], c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.name, "func", "", "the function (default: all of the package)")
	fl.DurationVar(&f.budget, "budget", time.Minute, "how long to fuzz, all functions together; building and proving come on top")
	fl.DurationVar(&f.triage, "triage", 30*time.Second, "how long to prove each failure; 0 proves none")
	fl.BoolVar(&f.race, "race", false, "fuzz a build with the race detector, which is slower")
	fl.StringVar(&f.config, "config", "", "description of the dependencies (default: the shakedown.yaml of the package, or one above it in the module that has a fuzz section)")
	fl.StringVar(&f.faults, "faults", "all", "faults to inject into the dependencies: all, none, or names and prefixes, such as net/,proc/kill")
	fl.StringVar(&f.out, "out", "shakedown-out", "directory for the results and the corpora")
	fl.Uint64Var(&f.seed, "seed", 0, "of the faults; the engines have chance of their own (default: a random one)")
	fl.StringVar(&f.replay, "replay", "", "run this input again instead: a file of raw bytes or of the go command's format, or one of f.Add, such as seed#0")
	fl.IntVarP(&f.times, "times", "n", 1, "with --replay: how often")
	fl.IntVar(&f.calls, "calls", 1, "with --replay: how often the function is called in each process")
	fl.StringVar(&f.under, "under", "", `with --replay: a fault that is in force meanwhile, such as "net/stall link=db"`)
	return c
}

func (f fuzzFlags) check() error {
	switch {
	case f.budget <= 0:
		return usagef("--budget %s: more than nothing", f.budget)
	case f.triage < 0:
		return usagef("--triage %s: not less than nothing", f.triage)
	case f.times < 1:
		return usagef("-n %d: at least once", f.times)
	case f.calls < 1:
		return usagef("--calls %d: at least once", f.calls)
	case f.replay == "" && (f.under != "" || f.calls != 1 || f.times != 1):
		return usagef("-n, --calls and --under are for --replay")
	case f.replay != "" && f.name == "":
		return usagef("--replay needs --func")
	}
	return nil
}

func (f fuzzFlags) run(ctx context.Context, path string, stdout, stderr io.Writer) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	var input engine.Input
	if f.replay != "" {
		if strings.HasPrefix(f.replay, "seed#") {
			input = engine.Input{engine.Own(f.replay)}
		} else if input, err = engine.Read(f.replay); err != nil {
			return usage{err}
		}
	}
	l, err := f.prepare(ctx, path)
	if err != nil {
		return mistaken(err)
	}
	l.stdout, l.stderr = stdout, stderr
	if f.replay != "" {
		return l.open(ctx, func() error { return l.replay(ctx, input) })
	}
	if l.dir, err = store.Create(f.out, f.seed, time.Now()); err != nil {
		return usagef("--out %s: %w", f.out, err)
	}
	if err := l.open(ctx, func() error { return l.campaign(ctx) }); err != nil {
		var v verdict
		if !errors.As(err, &v) && len(l.rows) == 0 { // nothing was fuzzed: there is nothing to keep
			err = errors.Join(err, l.dir.Discard())
		}
		return mistaken(err)
	}
	return nil
}

// mistaken says whose mistake an error is: a package that does not compile is its author's.
func mistaken(err error) error {
	var bad *function.Error
	var rung *process.RungError
	if errors.As(err, &bad) || errors.As(err, &rung) {
		return usage{err}
	}
	return err
}

// fuzzLab is what fuzzing a package needs, and what it has come to so far.
type fuzzLab struct {
	fuzzFlags
	path  string // the package as it was named
	pkg   *function.Package
	funcs []function.Func
	file  *spec.File // without dependencies where there is none
	aims  []nemesis.Aim
	cache string

	stdout, stderr io.Writer
	progress       *progress
	dir            *store.Run
	around         *process.Surroundings
	builder        function.Builder
	replays        map[string]function.Replayer // by sort and race
	rows           []*fuzzRow
	bugs           []*fuzzBug
	suspects       []*suspect // those that could not be shown
	tallies        map[string]nemesis.Tally
	raceless       string        // why there is no build with the race detector; "" where there is one
	spent          time.Duration // fuzzing
}

// prepare finds what there is to fuzz, and refuses what cannot be.
func (f fuzzFlags) prepare(ctx context.Context, path string) (*fuzzLab, error) {
	l := &fuzzLab{fuzzFlags: f, path: path, file: &spec.File{}, replays: map[string]function.Replayer{}, tallies: map[string]nemesis.Tally{}}
	var err error
	if l.pkg, err = function.Discover(ctx, path); err != nil {
		return nil, err
	}
	if l.funcs, err = l.pkg.Select(f.name); err != nil {
		return nil, err
	}
	chosen, err := chooseFaults(f.faults)
	if err != nil {
		return nil, err
	}
	for _, x := range chosen {
		if x.Effect == harness.EffectCorrupt {
			return nil, usagef("--faults: %s changes what a function reads, and nothing that the function says of it would be a finding; it is for: shakedown run", x.Name)
		}
	}
	if l.cache, err = os.UserCacheDir(); err != nil {
		return nil, fmt.Errorf("no directory for the cache: %w", err)
	}
	l.cache = filepath.Join(l.cache, "shakedown")
	switch file, err := l.describe(); {
	case err != nil:
		return nil, err
	case file != nil:
		l.file = file
	}
	return l, nil
}

// describe reads the description of the dependencies, nil where there is none.
func (l *fuzzLab) describe() (*spec.File, error) {
	if l.config != "" {
		return spec.LoadFunctions(l.config)
	}
	for dir := l.pkg.Dir; ; dir = filepath.Dir(dir) {
		if described(dir) != nil {
			file, err := spec.LoadFunctions(dir)
			if err != nil || dir == l.pkg.Dir || file.Fuzz != nil {
				return file, err
			}
		}
		if dir == l.pkg.Root || dir == filepath.Dir(dir) {
			return nil, nil
		}
	}
}

// open brings up what the functions depend on, builds the package as the module has it,
// and does something with that.
func (l *fuzzLab) open(ctx context.Context, do func() error) (err error) {
	if l.around, err = process.Surround(ctx, l.file, process.Options{Name: l.path, Supervisor: supervisor(), Say: saying(l.stderr)}); err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if left := l.around.Close(ctx); left != nil {
			err = &unclean{before: err, left: left}
		}
	}()
	chosen, err := chooseFaults(l.faults)
	if err != nil {
		return err
	}
	l.aims = nemesis.Aims(chosen, l.around.Target)
	if len(l.aims) == 0 && l.faults != "all" && l.faults != "none" {
		return usagef("--faults %s: there is nothing to disturb: no dependency is described that they are for", l.faults)
	}
	if len(l.file.Dependencies) > 0 {
		if err := l.around.Reset(ctx); err != nil {
			return err
		}
		fmt.Fprintf(l.stdout, "environment %s\n", report.Environment(l.around.Target.Env))
	}
	l.builder = function.Builder{Package: l.pkg}
	if l.builder.Dir, err = l.scratch("build"); err != nil {
		return err
	}
	return do()
}

// scratch makes a directory that is removed at the end.
func (l *fuzzLab) scratch(name string) (string, error) {
	dir := filepath.Join(l.around.Dir, name)
	return dir, os.MkdirAll(dir, 0o700)
}

// env is what the functions get of an environment.
func (l *fuzzLab) env() []string {
	var out []string
	for key, value := range l.file.FuzzEnv(func(name string) string {
		if dep, ok := strings.CutPrefix(name, "link."); ok {
			return l.around.Addr(dep)
		}
		if name == "dir" {
			return l.file.Dir
		}
		return ""
	}) {
		out = append(out, key+"="+value)
	}
	slices.Sort(out)
	return out
}

// engineEnv is the whole environment of an engine.
func (l *fuzzLab) engineEnv() []string { return append(child.Environ(), l.env()...) }

// engineRun runs the processes of engines as children of the harness.
func engineRun(ctx context.Context, p engine.Program, line func(string)) (int, error) {
	c := function.Command{Name: p.Name, Path: p.Path, Args: p.Args, Env: p.Env, Dir: p.Dir}
	return function.Run(ctx, c, func(_, text string) { line(text) })
}

// replayer returns what replays a function, built when it is first asked for.
func (l *fuzzLab) replayer(ctx context.Context, fn function.Func, race bool) (function.Replayer, error) {
	key := fmt.Sprint(fn, race)
	if r, ok := l.replays[key]; ok {
		return r, nil
	}
	r := function.Replayer{Package: l.pkg, Func: fn, Race: race, Env: l.env()}
	var err error
	if r.Dir, err = l.home(fn, fmt.Sprintf("replay-race=%v", race)); err != nil {
		return r, err
	}
	if r.Binary, err = l.builder.Build(ctx, fn.Sort, race); err != nil {
		return r, err
	}
	l.replays[key] = r
	return r, nil
}

// home makes the directory that a function runs in.
func (l *fuzzLab) home(fn function.Func, purpose string) (string, error) {
	dir, err := l.scratch(fn.Name + "-" + string(fn.Sort) + "-" + purpose)
	if err != nil || fn.Sort != function.Native {
		return dir, err
	}
	return l.pkg.Mirror(dir)
}
