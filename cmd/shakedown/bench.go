package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/shakedown-go/shakedown/faults"
	"github.com/shakedown-go/shakedown/fuzz/generate"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
)

// planted is a bug of a sample service, as its bugs.yaml describes it.
type planted struct {
	ID    string `yaml:"id"`
	Row   string `yaml:"row"`
	Title string `yaml:"title"`
	Needs string `yaml:"needs"`
	Shows []struct {
		Detector  string `yaml:"detector"`
		Signature string `yaml:"signature"` // a regular expression
	} `yaml:"shows"`
}

// shownBy reports whether a finding shows the bug.
func (p planted) shownBy(f harness.Finding) bool {
	for _, s := range p.Shows {
		if ok, err := regexp.MatchString(s.Signature, f.Signature); s.Detector == f.Detector && err == nil && ok {
			return true
		}
	}
	return false
}

// mode is a way to look for bugs.
type mode struct {
	name   string
	faults []*harness.Fault
	fixed  bool
}

// modes are compared over equal lanes and budgets: what faults find without fuzzing, what
// fuzzing finds without faults, and what only the two together do.
func modes() []mode {
	return []mode{
		{"inputs alone", nil, false},
		{"faults alone", faults.All(), true},
		{"both", faults.All(), false},
	}
}

// benchFlags are the flags of bench.
type benchFlags struct {
	seeds  int
	budget time.Duration
	lanes  int
	bugs   []string
}

func benchCommand() *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use:   "bench TARGET",
		Short: "measure which planted bugs are found by inputs, by faults, and by both together",
		Long: `Bench switches on each bug of the target's bugs.yaml alone, and looks for it without faults,
with faults over one fixed valid workload, and with both, over several seeds. A run ends at
the first sight of the bug. A sighting that nothing planted explains is printed, too.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if f.seeds < 1 || f.budget <= 0 || f.lanes < 1 {
				return usagef("--seeds, --budget and --lanes must be positive")
			}
			return f.run(c.Context(), args[0], c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().IntVar(&f.seeds, "seeds", 5, "seeds 1 to N")
	c.Flags().DurationVar(&f.budget, "budget", 2*time.Minute, "search time for each run")
	c.Flags().IntVar(&f.lanes, "lanes", 4, "logical clients at most")
	c.Flags().StringSliceVar(&f.bugs, "bugs", nil, "ids of bugs (default: all)")
	return c
}

func (f benchFlags) run(ctx context.Context, path string, stdout, stderr io.Writer) error {
	bugs, err := readPlanted(path)
	if err != nil {
		return err
	}
	for _, id := range f.bugs {
		if !slices.ContainsFunc(bugs, func(b planted) bool { return b.ID == id }) {
			return usagef("--bugs: bugs.yaml has no %q", id)
		}
	}
	t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "bug")
	for _, m := range modes() {
		fmt.Fprintf(t, "\t%s", m.name)
	}
	fmt.Fprintln(t)
	for _, b := range bugs {
		if len(f.bugs) > 0 && !slices.Contains(f.bugs, b.ID) {
			continue
		}
		cells, err := f.bug(ctx, path, b, stderr)
		if err != nil {
			return fmt.Errorf("%s: %w", b.ID, err)
		}
		fmt.Fprintf(t, "%s\t%s\n", b.ID, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

// bug measures one bug in every mode.
func (f benchFlags) bug(ctx context.Context, path string, b planted, stderr io.Writer) (cells []string, err error) {
	sys, lab, err := assemble(ctx, path, map[string]string{"bugs": b.ID}, stderr)
	if err != nil {
		return nil, err
	}
	defer closing(ctx, sys, &err)
	lab.Triage = -1
	for _, m := range modes() {
		var took []time.Duration
		for seed := range uint64(f.seeds) {
			d, err := f.once(ctx, lab, b, m, seed+1, stderr)
			if err != nil {
				return nil, err
			}
			if d >= 0 {
				took = append(took, d)
			}
		}
		cell := fmt.Sprintf("%d of %d", len(took), f.seeds)
		if slices.Sort(took); len(took) > 0 {
			cell += fmt.Sprintf(", median %.1fs", took[len(took)/2].Seconds())
		}
		cells = append(cells, cell)
	}
	return cells, nil
}

// once looks for a bug in one mode with one seed. It returns the search time until the
// first sighting, or less than zero.
func (f benchFlags) once(ctx context.Context, lab campaign.Lab, b planted, m mode, seed uint64, stderr io.Writer) (time.Duration, error) {
	sighted := func(r *campaign.Result) (time.Duration, bool) {
		for _, x := range slices.Concat(r.Bugs, r.Suspects) {
			if b.shownBy(x.Finding) {
				return x.FirstSeen, true
			}
		}
		return -1, false
	}
	res, err := campaign.Run(ctx, campaign.Options{
		Lab:    lab,
		Source: generate.New(generate.Options{Target: lab.Target, Faults: m.faults, Lanes: f.lanes, Seed: seed, Fixed: m.fixed}),
		Seed:   seed, Time: f.budget,
		Until: func(r *campaign.Result) bool { _, ok := sighted(r); return ok },
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return 0, err
	}
	for _, x := range slices.Concat(res.Bugs, res.Suspects) {
		if !b.shownBy(x.Finding) {
			fmt.Fprintf(stderr, "%s, %s, seed %d: not explained: %s\n", b.ID, m.name, seed, x.Signature)
		}
	}
	d, _ := sighted(res)
	fmt.Fprintf(stderr, "%s, %s, seed %d: %.1fs, %d cases\n", b.ID, m.name, seed, d.Seconds(), res.Cases)
	return d, nil
}

// readPlanted reads the bugs.yaml beside a description.
func readPlanted(path string) ([]planted, error) {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		path = filepath.Dir(path)
	}
	file := filepath.Join(path, "bugs.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, usagef("bench needs a list of planted bugs: %w", err)
	}
	var out []planted
	if err := yaml.UnmarshalWithOptions(data, &out, yaml.Strict()); err != nil {
		return nil, usagef("%s: %w", file, err)
	}
	return out, nil
}
