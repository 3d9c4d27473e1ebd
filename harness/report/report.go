// Package report tells a person at a terminal, or a log, what a campaign does and what it
// came to. What a target said is never printed as it is: control characters are taken out.
package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
	"github.com/shakedown-go/shakedown/harness/gate"
)

// Clean makes a target's words harmless for a terminal.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf) || r == unicode.ReplacementChar {
			return '.'
		}
		return r
	}, s)
}

// Seen is what is printed when a bug is seen first.
func Seen(w io.Writer, b harness.Bug) {
	fmt.Fprintf(w, "seen   %s (after %s)\n", Clean(b.Signature), round(b.FirstSeen))
}

// Proof is what is printed when the proof of a bug is done: its case, how surely that
// shows it, and the command that shows it again.
func Proof(w io.Writer, b harness.Bug, replay string) {
	if !b.Proven {
		after := ""
		if b.Disturbed {
			after = "seen after faults of earlier cases, "
		}
		fmt.Fprintf(w, "unsure %s: %s%s; replay: %s\n", Clean(b.Signature), after, shown(b), replay)
		return
	}
	fmt.Fprintf(w, "BUG    %s\n       %s\n", Clean(b.Signature), Clean(b.Title))
	n := 0
	for line := range strings.Lines(b.Case.String()) {
		if n++; n <= maxLines {
			fmt.Fprintf(w, "       | %s\n", cut(Clean(strings.TrimSuffix(line, "\n")), maxWidth))
		}
	}
	if n > maxLines {
		fmt.Fprintf(w, "       | ... and %d lines more\n", n-maxLines)
	}
	fmt.Fprintf(w, "       %s; %s; %s\n       replay: %s\n", size(b), shown(b), needs(b), replay)
}

// The bounds of how much of a case is printed: the file has all of it.
const (
	maxLines = 20
	maxWidth = 200
)

// cut shortens a line.
func cut(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:width]) + fmt.Sprintf("... (%d characters)", len(r))
	}
	return s
}

// shown says how often a case showed its bug.
func shown(b harness.Bug) string {
	switch {
	case b.Replays == 0:
		return "seen once, not played again"
	case b.Others > 0:
		return fmt.Sprintf("shown %d of %d times, nor in %d replays of harder cases", b.Shown, b.Replays, b.Others)
	}
	return fmt.Sprintf("shown %d of %d times", b.Shown, b.Replays)
}

// size says how small the case of a bug is.
func size(b harness.Bug) string {
	n := strings.Count(b.Case.String(), "\n")
	if b.Minimal {
		return fmt.Sprintf("minimal, %d lines", n)
	}
	return fmt.Sprintf("%d lines, not known to be minimal", n)
}

// needs says what the case of a bug has, which is what the bug needs where that is minimal.
func needs(b harness.Bug) string {
	c, verb := b.Case, "has "
	if b.Minimal {
		verb = "needs "
	}
	parts := []string{count(len(c.Lanes()), "lane"), count(c.Calls(), "call")}
	if c.Concurrent() {
		parts[1] += " at once"
	}
	switch f := c.Faults(); {
	case len(f) == 0:
		parts = append(parts, "no fault")
	case len(f) < 4:
		parts = append(parts, strings.Join(f, " and "))
	default:
		parts = append(parts, count(len(f), "fault"))
	}
	return verb + strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Progress is one line on how far a campaign is.
func Progress(r *campaign.Result, budget time.Duration) string {
	s := max(r.Search.Seconds(), 0.001)
	line := fmt.Sprintf("%s of %s: %s (%.1f/s), %s (%.0f/s), %s, %d unsure", round(r.Search), round(budget),
		count(r.Cases, "case"), float64(r.Cases)/s, count(r.Made(), "call"), float64(r.Made())/s, count(len(r.Bugs), "bug"), len(r.Suspects))
	if r.Proving != "" {
		line += "; proving " + Clean(r.Proving)
	}
	return line
}

// Summary is what a campaign ends with.
func Summary(w io.Writer, r *campaign.Result, v gate.Verdict, why []string) {
	s := max(r.Search.Seconds(), 0.001)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "\nseed\t%d\n", r.Seed)
	if len(r.Env) > 0 {
		fmt.Fprintf(t, "environment\t%s\n", Environment(r.Env))
	}
	fmt.Fprintf(t, "cases\t%d in %s (%.1f/s), %s; %d replays in %s\n", r.Cases, round(r.Search), float64(r.Cases)/s, count(r.Epochs, "epoch"), r.Replays, round(r.Triage))
	fmt.Fprintf(t, "calls\t%d ok, %d fail, %d unknown (%.0f/s); %d skip, %d stuck\n", r.Calls[harness.OK], r.Calls[harness.Fail], r.Calls[harness.Unknown], float64(r.Made())/s, r.Calls[harness.Skip], r.Calls[harness.Stuck])
	share := func(d time.Duration) float64 { return 100 * d.Seconds() / s }
	c := r.Cost
	fmt.Fprintf(t, "time\tbuild %s before; start %.0f%%, reset %.0f%%, calls %.0f%%, quiesce %.0f%%, looking for leaks %.0f%%, judging %.0f%%\n", round(r.Built), share(c.Start), share(c.Reset), share(c.Play), share(c.Quiesce), share(c.Look), share(r.Judging))
	var lines []string
	for _, reason := range slices.Sorted(maps.Keys(r.Worn)) {
		lines = append(lines, fmt.Sprintf("%d of %d epochs: %s", r.Worn[reason], r.Epochs, reason))
	}
	list(t, "ended early", lines)
	lines = nil
	for _, aim := range r.Aims() {
		lines = append(lines, fmt.Sprintf("%s: %s", aim, r.Faults[aim]))
	}
	list(t, "faults", lines)
	lines = nil
	for _, name := range slices.Sorted(maps.Keys(r.Steady)) {
		lines = append(lines, fmt.Sprintf("%s: %s", name, r.Steady[name]))
	}
	list(t, "steady", lines)
	lines = nil
	for _, why := range slices.Sorted(maps.Keys(r.LeftOut)) {
		lines = append(lines, fmt.Sprintf("%s, %s", strings.Join(r.LeftOut[why], " "), why))
	}
	list(t, "left out", lines)
	lines = nil
	for _, name := range slices.Sorted(maps.Keys(r.Checks)) {
		k := r.Checks[name]
		switch {
		case k.Blind:
			lines = append(lines, name+": not checked")
		case k.Undeclared:
			lines = append(lines, name+": not checked, not declared")
		default:
			line := fmt.Sprintf("%s: checked %d, %d unsure", name, k.Checked, sum(k.Unsure))
			if k.Apart > 0 {
				line += fmt.Sprintf(", %d records not judged: bytes were changed on their way", k.Apart)
			}
			lines = append(lines, line)
		}
	}
	list(t, "detectors", lines)
	fmt.Fprintf(t, "bugs\t%d\n", len(r.Bugs))
	for _, b := range r.Bugs {
		fmt.Fprintf(t, "\t%s: seen after %s, %s, %s\n", Clean(b.Signature), round(b.FirstSeen), shown(*b), size(*b))
	}
	fmt.Fprintf(t, "verdict\t%s\n", v)
	list(t, "", why)
	t.Flush()
}

// list writes lines under one head.
func list(w io.Writer, head string, lines []string) {
	for _, line := range lines {
		fmt.Fprintf(w, "%s\t%s\n", head, Clean(strings.ReplaceAll(line, "\n", " ")))
		head = ""
	}
}

// Environment says what a target is had on: rung and version of each dependency, and bugs.
func Environment(env map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		out = append(out, k+"="+env[k])
	}
	return strings.Join(out, " ")
}

func sum(m map[string]int) int {
	n := 0
	for _, x := range m {
		n += x
	}
	return n
}

// round makes a duration short to read.
func round(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second)
	case d >= time.Second:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}
