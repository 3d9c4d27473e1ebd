package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shakedown-go/shakedown/faults"
	"github.com/shakedown-go/shakedown/fuzz/generate"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
	"github.com/shakedown-go/shakedown/harness/gate"
	"github.com/shakedown-go/shakedown/harness/report"
	"github.com/shakedown-go/shakedown/harness/store"
)

// runFlags are the flags of run.
type runFlags struct {
	settings
	seed           uint64
	budget, out    string
	bugs           string
	triage         time.Duration
	lanes          int
	faults, inputs string
}

func runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run TARGET",
		Short: "look for bugs and prove them",
		Long: `Run brings up the service that TARGET describes (a directory with a shakedown.yaml,
or the file itself), looks for bugs until the budget is spent, and proves each one.

Exit codes: 0 pass, 1 findings, 4 inconclusive, 3 the harness failed, 2 usage,
70 internal error, 130 aborted.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !c.Flags().Changed("seed") {
				f.seed = rand.Uint64N(1_000_000)
			}
			return f.run(c.Context(), args[0], c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	fl := c.Flags()
	fl.Uint64Var(&f.seed, "seed", 0, "all chance comes from it (default: a random one)")
	fl.StringVar(&f.budget, "budget", "2m", "how long to look: a duration or a number of cases, such as 2m or 500cases; a case that has begun is played to its end")
	fl.DurationVar(&f.triage, "triage", 2*time.Minute, "how long to prove each bug, its measuring included; 0 proves none")
	fl.IntVar(&f.lanes, "lanes", 4, "logical clients at most")
	fl.StringVar(&f.out, "out", "shakedown-out", "directory for the results")
	fl.StringVar(&f.faults, "faults", "all", "faults to inject: all, none, or names and prefixes, such as net/,proc/kill")
	fl.StringVar(&f.inputs, "inputs", "drawn", "calls to make: drawn, or fixed for one valid workload in every case")
	fl.StringVar(&f.bugs, "bugs", "", "planted bugs to switch on, for services that have some: the service sees it as {{bugs}}")
	f.flags(c)
	return c
}

func (f runFlags) run(ctx context.Context, path string, stdout, stderr io.Writer) (err error) {
	opts, err := f.options()
	if err != nil {
		return err
	}
	chosen, err := chooseFaults(f.faults)
	if err != nil {
		return err
	}
	p, err := f.prepare(path, switchedOn(f.bugs))
	if err != nil {
		return err
	}
	dir, err := store.Create(f.out, f.seed, time.Now())
	if err != nil {
		return usagef("--out %s: %w", f.out, err)
	}
	sys, lab, err := p.assemble(ctx, stderr)
	if err != nil {
		return errors.Join(err, dir.Discard())
	}
	defer closing(ctx, sys, &err)
	ctx, stop := abortable(ctx, &lab, stderr)
	defer stop()
	progress := newProgress(stderr, opts.Time)
	opts.Lab = lab
	if opts.Lab.Triage = f.triage; f.triage <= 0 {
		opts.Lab.Triage = -1
	}
	opts.Source = generate.New(generate.Options{Target: lab.Target, Faults: chosen, Lanes: f.lanes, Seed: f.seed, Fixed: f.inputs == "fixed"})
	opts.Faults = chosen
	opts.Sinks = []harness.Sink{dir, printer{stdout, dir, progress}}
	opts.Tick = progress.tick
	for _, line := range remarks(p.file) {
		fmt.Fprintln(stdout, line)
	}
	fmt.Fprintf(stdout, "seed %d\n", f.seed)
	finish := progress.start()
	res, failure := campaign.Run(ctx, opts)
	finish()
	if failure != nil && res.Cases == 0 { // nothing was played: there is nothing to keep
		return errors.Join(failure, dir.Discard())
	}
	res.Built = sys.Took
	v, why := gate.Check(res, failure)
	report.Summary(stdout, res, v, why)
	notes(stdout, sys)
	fmt.Fprintf(stdout, "results in %s\n", dir.Dir)
	if err := dir.Campaign(struct {
		*campaign.Result
		Verdict string   `json:"verdict"`
		Why     []string `json:"why,omitempty"`
	}{res, v.String(), why}); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	if v != gate.Pass {
		return verdict(v)
	}
	return nil
}

// options checks the flags that need no target.
func (f runFlags) options() (campaign.Options, error) {
	o := campaign.Options{Seed: f.seed}
	if err := checkLanes(f.lanes); err != nil {
		return o, err
	}
	if f.inputs != "drawn" && f.inputs != "fixed" {
		return o, usagef("--inputs %s: drawn or fixed", f.inputs)
	}
	if m := regexp.MustCompile(`^([0-9]+) ?cases?$`).FindStringSubmatch(f.budget); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n == 0 {
			return o, usagef("--budget %s: too many or too few cases", f.budget)
		}
		o.Cases, o.Time = n, 24*time.Hour
		return o, nil
	}
	d, err := time.ParseDuration(f.budget)
	if err != nil || d <= 0 {
		return o, usagef("--budget %s: a duration such as 2m, or a number of cases such as 500cases", f.budget)
	}
	o.Time = d
	return o, nil
}

// chooseFaults returns the faults that a list of names and prefixes names. What is injected only
// where it is asked for by its name, all and prefixes leave out.
func chooseFaults(list string) ([]*harness.Fault, error) {
	switch list {
	case "all":
		return drawn(), nil
	case "none":
		return nil, nil
	}
	var out []*harness.Fault
	for _, want := range strings.Split(list, ",") {
		n := len(out)
		for _, f := range faults.All() {
			if f.Name == want || !f.Named && strings.HasSuffix(want, "/") && strings.HasPrefix(f.Name, want) {
				out = append(out, f)
			}
		}
		if len(out) == n {
			return nil, usagef("--faults: no fault is called %q; see: shakedown list faults", want)
		}
	}
	return out, nil
}

// drawn returns the faults that are injected where none is asked for by its name.
func drawn() []*harness.Fault {
	return slices.DeleteFunc(faults.All(), func(f *harness.Fault) bool { return f.Named })
}

// printer prints bugs as they are seen and proven. It is a harness.Sink.
type printer struct {
	w        io.Writer
	dir      *store.Run
	progress *progress
}

func (p printer) Put(b harness.Bug, _ *harness.Record) error {
	p.progress.around(func() {
		if b.Settled {
			report.Proof(p.w, b, replayLine(p.dir.CaseFile(b.Signature)))
		} else {
			report.Seen(p.w, b)
		}
	})
	return nil
}

// replayLine is the command that plays a case again.
func replayLine(file string) string {
	if strings.ContainsAny(file, " '\"$") {
		file = "'" + strings.ReplaceAll(file, "'", `'\''`) + "'"
	}
	return os.Args[0] + " replay " + file + " -n 10"
}
