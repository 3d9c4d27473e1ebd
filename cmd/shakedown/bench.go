package main

import (
	"cmp"
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

	"github.com/shakedown-go/shakedown/fuzz/generate"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// planted is a bug of a sample service, as its bugs.yaml describes it.
type planted struct {
	ID    string `yaml:"id"`
	Row   string `yaml:"row"`
	Title string `yaml:"title"`
	Needs string `yaml:"needs"`
	Shows []struct {
		Detector  string         `yaml:"detector"`
		Signature *regexp.Regexp `yaml:"signature"`
	} `yaml:"shows"`
}

// shownBy reports whether a finding shows the bug.
func (p planted) shownBy(f harness.Finding) bool {
	for _, s := range p.Shows {
		if s.Detector == f.Detector && s.Signature.MatchString(f.Signature) {
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

// modes are compared over equal lanes and budgets: what fuzzing finds without faults, what
// faults find over one fixed valid workload, and what only the two together do.
func modes() []mode {
	return []mode{
		{"inputs", nil, false},
		{"faults", drawn(), true},
		{"both", drawn(), false},
	}
}

// benchFlags are the flags of bench.
type benchFlags struct {
	settings
	seeds          int
	budget, triage time.Duration
	lanes          int
	bugs, modes    []string
	environments   []string
}

func benchCommand() *cobra.Command {
	var f benchFlags
	c := &cobra.Command{
		Use:   "bench TARGET",
		Short: "measure which planted bugs are found by inputs, by faults, and by both together",
		Long: `Bench switches on each bug of the target's bugs.yaml alone, and looks for it without faults,
with faults over one fixed valid workload, and with both, over several seeds. A run ends at
the first sight of the bug, or once it is proven where --triage gives the time for that.
A sighting that nothing planted explains is printed, too, and each row when it is done.

Exit codes: 0 measured, whatever was found, 4 interrupted, 3 the harness failed, 2 usage.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if f.seeds < 1 || f.budget <= 0 {
				return usagef("--seeds and --budget must be positive")
			}
			if err := checkLanes(f.lanes); err != nil {
				return err
			}
			return f.run(c.Context(), args[0], c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().IntVar(&f.seeds, "seeds", 5, "seeds 1 to N")
	c.Flags().DurationVar(&f.budget, "budget", 2*time.Minute, "search time for each run; a case that has begun is played to its end")
	c.Flags().DurationVar(&f.triage, "triage", 0, "how long to prove each bug; 0 proves none")
	c.Flags().StringSliceVar(&f.modes, "modes", nil, "inputs, faults, both (default: all)")
	c.Flags().IntVar(&f.lanes, "lanes", 4, "logical clients at most")
	c.Flags().StringSliceVar(&f.bugs, "bugs", nil, "ids of bugs (default: all)")
	c.Flags().StringSliceVar(&f.environments, "environments", nil, "measure in each of these: a rung, as of --provide, or an engine of links (default: as it is)")
	f.flags(c)
	return c
}

// column is where and how bugs are looked for.
type column struct {
	name string
	settings
	mode
}

// columns returns every environment with every mode, and refuses those that the description
// cannot have.
func (f benchFlags) columns(path string) ([]column, error) {
	ms, err := only(modes(), f.modes, func(m mode) string { return m.name })
	if err != nil {
		return nil, usagef("--modes: %w", err)
	}
	names := f.environments
	if len(names) == 0 {
		names = []string{""} // as it is
	}
	var out []column
	for _, name := range names {
		set := f.settings
		switch {
		case slices.Contains(spec.LinkEngines(), name):
			set.engine = name
		case name != "":
			set.provide = append(slices.Clone(set.provide), name)
		}
		if _, err := set.prepare(path, map[string]string{}); err != nil {
			return nil, err
		}
		for _, m := range ms {
			head := name
			if name == "" || len(ms) > 1 {
				head = strings.TrimSpace(name + " " + m.name)
			}
			out = append(out, column{head, set, m})
		}
	}
	return out, nil
}

func (f benchFlags) run(ctx context.Context, path string, stdout, stderr io.Writer) error {
	bugs, err := readPlanted(path)
	if err != nil {
		return err
	}
	bugs, err = only(bugs, f.bugs, func(b planted) string { return b.ID })
	if err != nil {
		return usagef("--bugs: %w", err)
	}
	columns, err := f.columns(path)
	if err != nil {
		return err
	}
	// Rows come hours apart, so each is printed as soon as it is there.
	t := tabwriter.NewWriter(stdout, 24, 0, 2, ' ', 0)
	row := func(cells ...string) error {
		fmt.Fprintln(t, strings.Join(cells, "\t"))
		return t.Flush()
	}
	head := []string{"bug"}
	for _, x := range columns {
		head = append(head, x.name)
	}
	if err := row(head...); err != nil {
		return err
	}
	for _, b := range bugs {
		cells := []string{b.ID}
		for _, x := range columns {
			cell, err := f.measure(ctx, path, b, x, stderr)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", b.ID, x.name, err)
			}
			cells = append(cells, cell)
		}
		if err := row(cells...); err != nil {
			return err
		}
	}
	return nil
}

// only returns those of all that have one of the names, all of them where there are none.
func only[T any](all []T, names []string, name func(T) string) ([]T, error) {
	if len(names) == 0 {
		return all, nil
	}
	var out []T
	for _, n := range names {
		i := slices.IndexFunc(all, func(x T) bool { return name(x) == n })
		if i < 0 {
			return nil, fmt.Errorf("there is no %q", n)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// measure looks for one bug with every seed.
func (f benchFlags) measure(ctx context.Context, path string, b planted, x column, stderr io.Writer) (cell string, err error) {
	p, err := x.prepare(path, switchedOn(b.ID))
	if err != nil {
		return "", err
	}
	sys, lab, err := p.assemble(ctx, stderr)
	if err != nil {
		return "", err
	}
	defer closing(ctx, sys, &err)
	defer notes(stderr, sys)
	ctx, stop := abortable(ctx, &lab, stderr)
	defer stop()
	if lab.Triage = f.triage; f.triage <= 0 {
		lab.Triage = -1
	}
	var found []harness.Bug
	for seed := range uint64(f.seeds) {
		bug, err := f.once(ctx, lab, b, x, seed+1, stderr)
		if err != nil {
			return "", err
		}
		if bug != nil {
			found = append(found, *bug)
		}
	}
	return f.cell(found), nil
}

// cell sums up how a bug was found in one mode.
func (f benchFlags) cell(found []harness.Bug) string {
	out := fmt.Sprintf("%d of %d", len(found), f.seeds)
	if len(found) == 0 {
		return out
	}
	slices.SortFunc(found, func(a, b harness.Bug) int { return cmp.Compare(a.FirstSeen, b.FirstSeen) })
	out += fmt.Sprintf(", median %.1fs", found[len(found)/2].FirstSeen.Seconds())
	if f.triage <= 0 {
		return out
	}
	proven, lines, shown, replays := 0, 0, 0, 0
	for _, b := range found {
		if b.Proven && b.Shown > 0 {
			proven++
			lines = max(lines, strings.Count(b.Case.String(), "\n"))
			shown += b.Shown
			replays += b.Replays
		}
	}
	return out + fmt.Sprintf("; %d proven in %d lines or less, shown %d of %d times", proven, lines, shown, replays)
}

// once looks for a bug in one mode with one seed. It returns the bug as it was found, or
// nil.
func (f benchFlags) once(ctx context.Context, lab campaign.Lab, b planted, m column, seed uint64, stderr io.Writer) (*harness.Bug, error) {
	sighted := func(r *campaign.Result) *harness.Bug {
		all := slices.Concat(r.Bugs, r.Suspects)
		if i := slices.IndexFunc(all, func(x *harness.Bug) bool { return b.shownBy(x.Finding) }); i >= 0 {
			return all[i]
		}
		return nil
	}
	res, err := campaign.Run(ctx, campaign.Options{
		Lab:    lab,
		Source: generate.New(generate.Options{Target: lab.Target, Faults: m.faults, Lanes: f.lanes, Seed: seed, Fixed: m.fixed}),
		Seed:   seed, Time: f.budget,
		Until: func(r *campaign.Result) bool { return sighted(r) != nil },
	})
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	for _, x := range slices.Concat(res.Bugs, res.Suspects) {
		if !b.shownBy(x.Finding) {
			fmt.Fprintf(stderr, "%s, %s, seed %d: not explained: %s\n", b.ID, m.name, seed, x.Signature)
		}
	}
	found := sighted(res)
	if found == nil {
		fmt.Fprintf(stderr, "%s, %s, seed %d: not found in %d cases\n", b.ID, m.name, seed, res.Cases)
		return nil, nil
	}
	fmt.Fprintf(stderr, "%s, %s, seed %d: %s, after %.1fs, %d cases; shown %d of %d times\n%s", b.ID, m.name, seed, found.Signature, found.FirstSeen.Seconds(), res.Cases, found.Shown, found.Replays, found.Case)
	return found, nil
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
	for _, p := range out {
		for _, s := range p.Shows {
			if detect.ByName(s.Detector) == nil {
				return nil, usagef("%s: %s: no detector is called %q; see: shakedown list detectors", file, p.ID, s.Detector)
			}
			if s.Signature == nil {
				return nil, usagef("%s: %s: the signature that %s shows it with is missing", file, p.ID, s.Detector)
			}
		}
	}
	return out, nil
}
