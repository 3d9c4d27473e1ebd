// Command shakedown shakes a Go service down: it brings the service up with its stores
// behind proxies, lets concurrent callers press on it while faults are injected, and
// proves every bug that it finds with a minimal case that replays.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/gate"
	"github.com/shakedown-go/shakedown/harness/report"
	"github.com/shakedown-go/shakedown/targets/process"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// Exit codes beside those of the gate.
const (
	exitUsage    = 2
	exitInternal = 70
	exitAborted  = 130
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// verdict ends a command with an exit code of its own; what it has to say was said.
type verdict gate.Verdict

func (v verdict) Error() string { return gate.Verdict(v).String() }

// usage is a mistake of the caller's.
type usage struct{ error }

func usagef(format string, args ...any) error { return usage{fmt.Errorf(format, args...)} }

func (u usage) Unwrap() error { return u.error }

// run is main without the process: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) (code int) {
	defer func() {
		if r := recover(); r != nil {
			fmt.Fprintf(stderr, "shakedown: internal error: %v\n%s", r, debug.Stack())
			code = exitInternal
			if err := process.Abort(); err != nil {
				fmt.Fprintf(stderr, "shakedown: %v\n", err)
			}
		}
	}()
	ctx, stop := interruptible(context.Background(), stderr)
	defer stop()
	root := &cobra.Command{
		Use:           "shakedown",
		Short:         "find the bugs of a Go service that show only when its dependencies misbehave",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage{err} })
	root.AddCommand(runCommand(), replayCommand(), minimizeCommand(), judgeCommand(), benchCommand(), listCommand(), versionCommand())
	for _, c := range root.Commands() {
		if check := c.Args; check != nil {
			c.Args = func(c *cobra.Command, args []string) error {
				if err := check(c, args); err != nil {
					return usagef("%w\n\n%s", err, c.UsageString())
				}
				return nil
			}
		}
	}
	return exitCode(root.ExecuteContext(ctx), stderr)
}

// exitCode says what an error means for the caller, and prints it where that is news.
func exitCode(err error, stderr io.Writer) int {
	var v verdict
	if err == nil {
		return int(gate.Pass)
	}
	if errors.As(err, &v) {
		return int(v)
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(stderr, "shakedown: interrupted")
		return int(gate.Inconclusive)
	}
	fmt.Fprintf(stderr, "shakedown: %s\n", report.Clean(err.Error()))
	var u usage
	var yaml *spec.Error
	var syntax *harness.SyntaxError
	if errors.As(err, &u) || errors.As(err, &yaml) || errors.As(err, &syntax) || strings.HasPrefix(err.Error(), "unknown command") {
		return exitUsage
	}
	return int(gate.Failed)
}

// interruptible returns a context that the first signal ends: what is in force is then
// healed and what was found reported. A second interrupt ends everything at once; a second
// SIGTERM does not, since some senders signal a process and then its group.
func interruptible(ctx context.Context, stderr io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case s := <-signals:
				if ctx.Err() != nil && s == os.Interrupt {
					if err := process.Abort(); err != nil {
						fmt.Fprintf(stderr, "shakedown: %v\n", err)
					}
					os.Exit(exitAborted)
				}
			}
			fmt.Fprintln(stderr, "shakedown: healing and stopping; interrupt again to abort")
			cancel()
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		cancel()
	}
}
