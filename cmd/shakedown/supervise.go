package main

import (
	"github.com/spf13/cobra"

	"github.com/shakedown-go/shakedown/targets/process"
)

// supervisor is what this program is started with to look after another process of it.
func supervisor() []string { return []string{"supervise"} }

// superviseCommand is for this program itself.
func superviseCommand() *cobra.Command {
	return &cobra.Command{
		Use:    supervisor()[0] + " HARNESS DIRECTORY",
		Short:  "end and remove what a harness leaves that dies",
		Hidden: true,
		Args:   cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return process.Supervise(args[0], args[1], c.InOrStdin())
		},
	}
}
