package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/shakedown-go/shakedown/fuzz/nemesis"
	"github.com/shakedown-go/shakedown/harness/campaign"
	"github.com/shakedown-go/shakedown/harness/gate"
	"github.com/shakedown-go/shakedown/harness/report"
)

// conclude prints what fuzzing came to, keeps it, and returns the verdict.
func (l *fuzzLab) conclude(ctx context.Context, failure error) error {
	v, why := l.judge(ctx.Err() != nil, failure)
	l.table(v, why)
	fmt.Fprintf(l.stdout, "results in %s\n", l.dir.Dir)
	if err := l.dir.Campaign(struct {
		Package  string                   `json:"package"`
		Seed     uint64                   `json:"seed"`
		Env      map[string]string        `json:"env,omitempty"`
		Race     bool                     `json:"race"`
		Funcs    []*fuzzRow               `json:"funcs"`
		Bugs     []*fuzzBug               `json:"bugs"`
		Suspects []*suspect               `json:"suspects,omitempty"`
		Faults   map[string]nemesis.Tally `json:"faults,omitempty"`
		Verdict  string                   `json:"verdict"`
		Why      []string                 `json:"why,omitempty"`
	}{l.pkg.ImportPath, l.seed, l.around.Target.Env, l.race, l.rows, l.bugs, l.suspects, l.tallies, v.String(), why}); err != nil {
		return errors.Join(failure, fmt.Errorf("results: %w", err))
	}
	if v != gate.Pass {
		return verdict(v)
	}
	return nil
}

// judge is the verdict, and why it is not a pass.
func (l *fuzzLab) judge(stopped bool, failure error) (gate.Verdict, []string) {
	var why []string
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	if stopped {
		say("it was interrupted")
	}
	if n := len(l.funcs) - len(l.rows); n > 0 {
		say("%d of %d functions were not fuzzed", n, len(l.funcs))
	}
	for _, r := range l.rows {
		switch {
		case r.Execs == 0 && r.Blocked != "": // that is why
		case r.Execs == 0:
			say("%s was executed with no input: the budget is too small, or the engine could not begin", r.Func)
		case r.Grown == 0 && r.Seeds == 0:
			say("%s: no seed ran and no input was found", r.Func)
		}
		if r.Blocked != "" {
			say("%s: %s", r.Func, r.Blocked)
		}
	}
	for _, s := range l.suspects {
		say("%s: %s", s.name(), s.doubt())
	}
	for _, a := range l.aims {
		if doubt := l.tally(a).Doubt(); doubt != "" {
			say("%s %s", a, doubt)
		}
	}
	switch {
	case failure != nil:
		return gate.Failed, append([]string{failure.Error()}, why...)
	case len(l.bugs) > 0:
		return gate.Findings, why
	case len(why) > 0:
		return gate.Inconclusive, why
	}
	return gate.Pass, nil
}

// tally is what became of a fault, to be judged as it is in a campaign against a service.
func (l *fuzzLab) tally(a nemesis.Aim) campaign.Tally {
	t := l.tallies[a.String()]
	return campaign.Tally{Injected: t.Injected, Acted: t.Acted, Failed: t.Failed, Refused: t.Refused, Why: t.Why, Chance: a.Fault.Chance}
}

// table prints what fuzzing came to.
func (l *fuzzLab) table(v gate.Verdict, why []string) {
	t := tabwriter.NewWriter(l.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nseed\t%d\n", l.seed)
	if len(l.around.Target.Env) > 0 {
		fmt.Fprintf(t, "environment\t%s\n", report.Environment(l.around.Target.Env))
	}
	head := "functions"
	for _, r := range l.rows {
		fmt.Fprintf(t, "%s\t%s (%s): %d execs in %s (%.0f/s), corpus %d (%d seeds, %d found), %d crashers, %d bugs\n", head,
			r.Func, r.Sort, r.Execs, r.Time.Round(100*time.Millisecond), float64(r.Execs)/max(r.Time.Seconds(), 0.001), r.Corpus, r.Seeds, r.Grown, r.Crashers, r.Bugs)
		head = ""
		for _, note := range r.Notes {
			fmt.Fprintf(t, "\t  %s\n", report.Clean(note))
		}
	}
	head = "faults"
	for _, a := range l.aims {
		line := fmt.Sprintf("%s: %s", a, l.tally(a))
		fmt.Fprintf(t, "%s\t%s\n", head, report.Clean(strings.ReplaceAll(line, "\n", " ")))
		head = ""
	}
	fmt.Fprintf(t, "bugs\t%d\n", len(l.bugs))
	for _, b := range l.bugs {
		fmt.Fprintf(t, "\t%s: seen %d times, first after %s; %s; %s\n", report.Clean(b.Signature), b.Seen, b.FirstSeen.Round(time.Millisecond), b.proof(), b.needs())
	}
	fmt.Fprintf(t, "verdict\t%s\n", v)
	for _, line := range why {
		fmt.Fprintf(t, "\t%s\n", report.Clean(strings.ReplaceAll(line, "\n", " ")))
	}
	t.Flush()
}

// quote makes a word for a shell.
func quote(word string) string {
	if strings.ContainsAny(word, " '\"$&|;<>()*?[]\\`") {
		return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return word
}

// program is how this one was called.
func program() string { return quote(os.Args[0]) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
