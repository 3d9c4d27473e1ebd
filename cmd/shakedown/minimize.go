package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/gate"
	"github.com/shakedown-go/shakedown/harness/report"
)

// minimizeFlags are the flags of minimize.
type minimizeFlags struct {
	signature, out string
	triage         time.Duration
}

func minimizeCommand() *cobra.Command {
	var f minimizeFlags
	c := &cobra.Command{
		Use:   "minimize FILE",
		Short: "make a case as small as it can be while it shows the same finding",
		Args:  cobra.ExactArgs(1),
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
	return c
}

func (f minimizeFlags) run(ctx context.Context, file string, stdout, stderr io.Writer) (err error) {
	c, sys, lab, err := assembleCase(ctx, file, stdout, stderr)
	if err != nil {
		return err
	}
	defer closing(ctx, sys, &err)
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
	bug, _, err = lab.Prove(ctx, bug, nil)
	if err != nil {
		return err
	}
	if !bug.Proven {
		fmt.Fprintf(stdout, "%s does not show it: %s (0 of %d)\n", file, report.Clean(bug.Signature), bug.Replays)
		return verdict(gate.Inconclusive)
	}
	if f.out == "" {
		f.out = file + ".min"
	}
	report.Proof(stdout, bug, replayLine(f.out))
	if err := os.WriteFile(f.out, []byte(bug.Case.String()), 0o644); err != nil {
		return err
	}
	return verdict(gate.Findings)
}
