package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/gate"
	"github.com/shakedown-go/shakedown/harness/report"
)

func judgeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "judge RECORD...",
		Short: "run today's detectors over records of earlier runs",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			found, checked := 0, 0
			for _, file := range args {
				f, n, err := judge(file, c.OutOrStdout())
				if err != nil {
					return err
				}
				found += f
				checked += n
			}
			switch {
			case found > 0:
				return verdict(gate.Findings)
			case checked == 0:
				return verdict(gate.Inconclusive)
			}
			return nil
		},
	}
}

// judge prints what the detectors make of one record, and returns how much they found and
// how much they looked at.
func judge(file string, stdout io.Writer) (found, checked int, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, 0, usage{err}
	}
	defer f.Close()
	rec, err := harness.ReadRecord(f)
	if err != nil {
		return 0, 0, usagef("%s: %w", file, err)
	}
	for _, v := range detect.Judge(rec, detect.All()) {
		switch {
		case v.Missing != 0:
			fmt.Fprintf(stdout, "%s: %s: not checked: the target could not show what it needs\n", file, v.Detector.Name)
		default:
			fmt.Fprintf(stdout, "%s: %s: %d findings, checked %d\n", file, v.Detector.Name, len(v.Findings), v.Checked)
		}
		for _, x := range v.Findings {
			found++
			fmt.Fprintf(stdout, "  %s\n  %s\n", report.Clean(x.Signature), report.Clean(x.Title))
		}
		checked += v.Checked
		for _, u := range v.Unsure {
			fmt.Fprintf(stdout, "  unsure: %s\n", report.Clean(u))
		}
	}
	return found, checked, nil
}
