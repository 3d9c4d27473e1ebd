package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/gate"
	"github.com/shakedown-go/shakedown/harness/report"
	"github.com/shakedown-go/shakedown/harness/store"
)

// minimizeFlags are the flags of minimize.
type minimizeFlags struct {
	settings
	signature, out string
	triage         time.Duration
}

func minimizeCommand() *cobra.Command {
	var f minimizeFlags
	c := &cobra.Command{
		Use:   "minimize FILE",
		Short: "make a case as small as it can be while it shows the same finding",
		Long: `Minimize plays smaller and smaller variants of a case, each in fresh processes, and writes
the smallest that surely shows the finding.

Exit codes: 1 where it was shown and the case written, 4 where it was not shown, 3 where the
case could not be played, 2 usage.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if f.triage <= 0 {
				return usagef("--triage %s: more than nothing", f.triage)
			}
			return f.run(c.Context(), args[0], c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().StringVar(&f.signature, "signature", "", "the finding to keep (default: the first that the case shows)")
	c.Flags().StringVar(&f.out, "out", "", "file for the minimal case (default: FILE.min)")
	c.Flags().DurationVar(&f.triage, "triage", 10*time.Minute, "how long at most")
	f.flags(c)
	return c
}

func (f minimizeFlags) run(ctx context.Context, file string, stdout, stderr io.Writer) (err error) {
	c, sys, lab, err := f.assembleCase(ctx, file, stdout, stderr)
	if err != nil {
		return err
	}
	defer closing(ctx, sys, &err)
	defer notes(stdout, sys)
	ctx, stop := abortable(ctx, &lab, stderr)
	defer stop()
	lab.Triage = f.triage
	bug := harness.Bug{Finding: harness.Finding{Signature: f.signature}, First: c, Case: c}
	for range 10 {
		if bug.Signature != "" {
			break
		}
		_, vs, err := lab.Replay(ctx, c)
		if err != nil {
			return err
		}
		if found := detect.Findings(vs); len(found) > 0 {
			bug.Finding = found[0]
		}
	}
	if bug.Signature == "" {
		fmt.Fprintf(stdout, "%s shows nothing in 10 replays\n", file)
		return verdict(gate.Inconclusive)
	}
	bug, _, failure := lab.Prove(ctx, bug, nil)
	switch {
	case bug.Proven: // as far as that came, whatever the failure was
	case failure != nil:
		return failure
	case ctx.Err() != nil:
		return ctx.Err()
	case bug.Replays == 0:
		fmt.Fprintf(stdout, "%s: no time to play it within --triage %s\n", file, f.triage)
		return verdict(gate.Inconclusive)
	default:
		fmt.Fprintf(stdout, "%s does not show it: %s (0 of %d)\n", file, report.Clean(bug.Signature), bug.Replays)
		return verdict(gate.Inconclusive)
	}
	if f.out == "" {
		f.out = file + ".min"
	}
	if err := store.Write(f.out, []byte(bug.Case.String())); err != nil {
		return fmt.Errorf("%w; the case that would stand there:\n%s", err, bug.Case)
	}
	report.Proof(stdout, bug, replayLine(f.out))
	if failure != nil {
		return failure
	}
	return verdict(gate.Findings)
}
