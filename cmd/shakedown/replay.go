package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/gate"
	"github.com/shakedown-go/shakedown/harness/report"
	"github.com/shakedown-go/shakedown/harness/steady"
)

func replayCommand() *cobra.Command {
	var n int
	var s settings
	c := &cobra.Command{
		Use:   "replay FILE",
		Short: "play a case again in fresh processes, and say how often it shows what",
		Long: `Replay plays a case n times, each time in a fresh process.

Exit codes: 1 where a finding was shown, 0 where none was, 4 where none was but not
everything could be seen or a fault took no effect, 3 where the case could not be played.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if n < 1 {
				return usagef("-n %d: at least once", n)
			}
			return s.replay(c.Context(), args[0], n, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().IntVarP(&n, "times", "n", 1, "how often")
	s.flags(c)
	return c
}

func (s settings) replay(ctx context.Context, file string, n int, stdout, stderr io.Writer) (err error) {
	c, sys, lab, err := s.assembleCase(ctx, file, stdout, stderr)
	if err != nil {
		return err
	}
	defer closing(ctx, sys, &err)
	defer notes(stdout, sys)
	ctx, stop := abortable(ctx, &lab, stderr)
	defer stop()
	return tally(ctx, lab, c, n, stdout)
}

// tally replays a case, prints how often it showed each finding, and what of it could not be
// seen.
func tally(ctx context.Context, lab campaign.Lab, c harness.Case, n int, stdout io.Writer) error {
	shown, doubts := map[string]int{}, map[string]int{} // replays, by signature and by reason
	checked := 0
	for i := range n {
		rec, vs, err := lab.Replay(ctx, c)
		if err := campaign.Failure(ctx, err); err != nil {
			return fmt.Errorf("replay %d of %d: %w", i+1, n, err)
		}
		if ctx.Err() != nil {
			if cause := context.Cause(ctx); errors.Is(cause, harness.ErrAborted) {
				_, why, _ := strings.Cut(cause.Error(), ": ")
				fmt.Fprintf(stdout, "aborted after %d of %d replays: %s\n", i, n, report.Clean(why))
			} else {
				fmt.Fprintf(stdout, "interrupted after %d of %d replays\n", i, n)
			}
			return verdict(gate.Inconclusive)
		}
		found := map[string]bool{}
		for _, f := range detect.Findings(vs) {
			if shown[f.Signature] == 0 && !found[f.Signature] {
				fmt.Fprintf(stdout, "%s\n%s\n", report.Clean(f.Title), report.Clean(f.Detail))
			}
			found[f.Signature] = true
		}
		for s := range found {
			shown[s]++
		}
		for reason := range unseen(rec, vs) {
			doubts[reason]++
		}
		for _, v := range vs {
			checked += v.Checked
		}
	}
	if checked == 0 {
		doubts["no detector had anything to look at"] = n
	}
	for _, s := range slices.Sorted(maps.Keys(shown)) {
		fmt.Fprintf(stdout, "shown %d of %d: %s\n", shown[s], n, report.Clean(s))
	}
	if len(shown) == 0 {
		fmt.Fprintf(stdout, "shown 0 of %d\n", n)
	}
	for _, reason := range slices.Sorted(maps.Keys(doubts)) {
		fmt.Fprintf(stdout, "but in %d of %d: %s\n", doubts[reason], n, report.Clean(reason))
	}
	switch {
	case len(shown) > 0:
		return verdict(gate.Findings)
	case len(doubts) > 0:
		return verdict(gate.Inconclusive)
	}
	return nil
}

// noEffect tells of the faults of a record that took no effect, with the reason where there is
// one.
func noEffect(rec *harness.Record, out map[string]bool) {
	healed := map[int]bool{}
	for _, e := range rec.Events {
		switch {
		case e.Kind == harness.Heal:
			healed[e.Step] = true
		case e.Kind == harness.Acted && !healed[e.Step]:
			out[e.Name+" could not be injected: "+e.Text] = true
		case e.Kind == harness.Skip && rec.Case.Steps[e.Step].Verb == harness.VerbInject:
			out[e.Name+" was not injected: "+e.Text] = true
		}
	}
	if len(out) == 0 && campaign.Idle(rec) {
		out["a fault took no effect"] = true
	}
}

// unseen returns what a replay could not show, each reason once.
func unseen(rec *harness.Record, vs []detect.Result) map[string]bool {
	out := map[string]bool{}
	noEffect(rec, out)
	for _, e := range rec.Events {
		if e.Kind == harness.Reset { // what was seen before it tells why it is not steady any more
			break
		}
		if seen, is := steady.Parse(e); is && seen.Moment == steady.Before && !seen.Held {
			out["it was not in its steady state before the case: "+seen.Why] = true
		}
	}
	if rec.Truncated {
		out["more was printed than could be kept"] = true
	}
	for _, v := range vs {
		if v.Missing != 0 && !v.Undeclared() {
			out[v.Detector.Name+" was not checked: the target cannot show what it needs"] = true
		}
		if v.Apart {
			out[v.Detector.Name+" did not judge: bytes were changed on their way"] = true
		}
		for _, reason := range v.Unsure {
			out[v.Detector.Name+" is unsure: "+reason] = true
		}
	}
	return out
}
