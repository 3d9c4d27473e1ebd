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
		Long: `Judge reads records, the record.jsonl of a bug, and plays nothing.

Exit codes: 1 where something was found, 0 where nothing was, 4 where nothing was but not
everything could be judged, 2 for what is no record.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			found, sure := 0, true
			for _, file := range args {
				n, all, err := judge(file, c.OutOrStdout())
				if err != nil {
					return err
				}
				found += n
				sure = sure && all
			}
			switch {
			case found > 0:
				return verdict(gate.Findings)
			case !sure:
				return verdict(gate.Inconclusive)
			}
			return nil
		},
	}
}

// judge prints what the detectors make of one record, and returns how much they found and
// whether they had something to look at and could decide all of it.
func judge(file string, stdout io.Writer) (found int, sure bool, err error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, false, usage{err}
	}
	defer f.Close()
	rec, err := harness.ReadRecord(f)
	if err != nil {
		return 0, false, usagef("%s: %w", file, err)
	}
	checked, doubts := 0, 0
	for _, v := range detect.Judge(rec, detect.All()) {
		switch {
		case v.Undeclared():
			fmt.Fprintf(stdout, "%s: %s: not checked: the description does not declare what it needs\n", file, v.Detector.Name)
		case v.Missing != 0:
			doubts++
			fmt.Fprintf(stdout, "%s: %s: not checked: the target could not show what it needs\n", file, v.Detector.Name)
		case v.Apart:
			doubts++
			fmt.Fprintf(stdout, "%s: %s: not judged: bytes were changed on their way\n", file, v.Detector.Name)
		default:
			fmt.Fprintf(stdout, "%s: %s: %d findings, checked %d\n", file, v.Detector.Name, len(v.Findings), v.Checked)
		}
		for _, x := range v.Findings {
			found++
			fmt.Fprintf(stdout, "  %s\n  %s\n", report.Clean(x.Signature), report.Clean(x.Title))
		}
		checked += v.Checked
		doubts += len(v.Unsure)
		for _, u := range v.Unsure {
			fmt.Fprintf(stdout, "  unsure: %s\n", report.Clean(u))
		}
	}
	return found, checked > 0 && doubts == 0, nil
}
