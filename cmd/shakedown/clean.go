package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/shakedown-go/shakedown/harness/report"
	"github.com/shakedown-go/shakedown/targets/container"
	"github.com/shakedown-go/shakedown/targets/process"
)

// cleanTime bounds cleaning.
const cleanTime = 2 * time.Minute

func cleanCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "clean",
		Short: "end and remove what runs that were killed have left on this machine",
		Long: `Clean ends the processes of runs that have died, undoes what they have done to stores, and
removes their containers, their shared memory and their directories, of this user. It tells of
each thing that is gone. What belongs to a run that goes on is not touched, and of containers
whose run cannot be told no more than the names are printed. A store whose settings somebody has
changed since is left as it is, and told of. It takes two minutes at most.

Exit codes: 0 all is gone, 3 something is still there, 2 usage.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return clean(c.Context(), c.OutOrStdout(), c.ErrOrStderr()) },
	}
}

func clean(ctx context.Context, stdout, stderr io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, cleanTime)
	defer cancel()
	n := 0
	tell := func(verb string) func(string) {
		return func(what string) {
			n++
			fmt.Fprintf(stdout, "%s %s\n", verb, report.Clean(what))
		}
	}
	err := process.Clean(ctx, tell("removed"), tell("left"))
	if errors.Is(ctx.Err(), context.Canceled) && err != nil {
		err = fmt.Errorf("interrupted: %v", err) // no matter why, something is still there
	}
	if n == 0 && err == nil {
		fmt.Fprintln(stdout, "nothing to clean")
	}
	// Whose those are nobody can tell, so they are told of and left.
	strays := container.Strays(ctx)
	for _, dir := range slices.Sorted(maps.Keys(strays)) {
		for _, id := range strays[dir] {
			fmt.Fprintf(stderr, "shakedown: container %.12[1]s is of the run %[2]s, which is not on this machine or has lost its directory; docker rm -fv %.12[1]s removes it\n", id, report.Clean(dir))
		}
	}
	return err
}
