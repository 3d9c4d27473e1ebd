package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/shakedown-go/shakedown/faults"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/targets/spec"
)

func listCommand() *cobra.Command {
	return &cobra.Command{
		Use:       "list faults | list detectors | list ops TARGET",
		Short:     "list the faults, the detectors, or the ops of a target",
		ValidArgs: []string{"faults", "detectors", "ops"},
		Args:      cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			t := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
			defer t.Flush()
			switch {
			case args[0] == "faults" && len(args) == 1:
				for _, f := range faults.All() {
					about := "effect: " + f.Effect.String()
					if f.Named {
						about += "; only where it is named"
					}
					fmt.Fprintf(t, "%s\t%s\t%s\n", f.Name, f.Doc, about)
					params(t, f.Params)
				}
			case args[0] == "detectors" && len(args) == 1:
				for _, d := range detect.All() {
					fmt.Fprintf(t, "%s\t%s\tminimum: %d\n", d.Name, d.Doc, d.Minimum)
				}
			case args[0] == "ops" && len(args) == 2:
				file, err := spec.Load(args[1])
				if err != nil {
					return err
				}
				for _, o := range file.HarnessOps() {
					fmt.Fprintf(t, "%s\t%s\t\n", o.Name, o.Doc)
					params(t, o.Params)
				}
				for _, line := range remarks(file) {
					fmt.Fprintln(t, line)
				}
			default:
				return usagef("list takes faults, detectors, or ops with a target\n\n%s", c.UsageString())
			}
			return nil
		},
	}
}

// remarks says what a description leaves open and was filled in, and what of it is not made
// use of.
func remarks(f *spec.File) []string {
	var out []string
	for _, a := range f.Assumed {
		out = append(out, "assumed: "+a)
	}
	for _, n := range f.Notes {
		out = append(out, "note: "+n)
	}
	return out
}

func params(w io.Writer, all []harness.Param) {
	for _, p := range all {
		about := []string{}
		if p.Default != "" {
			about = append(about, "default "+p.Default)
		}
		if len(p.From) > 0 {
			about = append(about, "from "+strings.Join(p.From, ", "))
		}
		if p.Optional {
			about = append(about, "optional")
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", p.Name, p.Doc, strings.Join(about, ", "))
	}
}
