// Command shakedown shakes a Go service down: it brings the service up with its stores
// behind proxies, lets concurrent callers press on it while faults are injected, and
// proves every bug that it finds with a minimal case that replays.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
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
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer interruptible(ctx, cancel, stderr)()
	out := &results{w: stdout, lost: cancel}
	root := &cobra.Command{
		Use:           "shakedown",
		Short:         "find the bugs of a Go service that show only when its dependencies misbehave",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage{err} })
	root.AddCommand(runCommand(), upCommand(), fuzzCommand(), replayCommand(), minimizeCommand(), judgeCommand(), benchCommand(), listCommand(), cleanCommand(), superviseCommand(), versionCommand())
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
	code = exitCode(root.ExecuteContext(ctx), stderr)
	if err := out.failure(); err != nil {
		fmt.Fprintf(stderr, "shakedown: results: %v\n", err)
		if code == int(gate.Pass) {
			return int(gate.Failed)
		}
	}
	return code
}

// results is where results are written to. Where nobody reads them any longer, looking for
// more is of no use: the first failed write is an interrupt.
type results struct {
	w    io.Writer
	lost func()
	mu   sync.Mutex // guards err
	err  error
}

func (r *results) Write(b []byte) (int, error) {
	n, err := r.w.Write(b)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.err = cmp.Or(r.err, err)
		r.lost()
	}
	return n, err
}

// failure is that of the first write that failed.
func (r *results) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// unclean says that cleaning up has failed: whatever was found before, the harness failed.
type unclean struct {
	before error // nil where nothing was wrong before
	left   error
}

func (u *unclean) Error() string { return errors.Join(u.before, u.left).Error() }

func (u *unclean) Unwrap() []error { return []error{u.before, u.left} }

// exitCode says what an error means for the caller, and prints it where that is news.
func exitCode(err error, stderr io.Writer) int {
	var u *unclean
	if errors.As(err, &u) {
		exitCode(u.before, stderr)
		fmt.Fprintf(stderr, "shakedown: cleaning up: %s\n", report.Clean(u.left.Error()))
		return int(gate.Failed)
	}
	var v verdict
	if err == nil {
		return int(gate.Pass)
	}
	if errors.As(err, &v) {
		return int(v)
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintln(stderr, "shakedown: interrupted")
		if err = beside(err, context.Canceled); err == nil {
			return int(gate.Inconclusive)
		}
	}
	fmt.Fprintf(stderr, "shakedown: %s\n", report.Clean(err.Error()))
	var bad usage
	var yaml *spec.Error
	var syntax *harness.SyntaxError
	if errors.As(err, &bad) || errors.As(err, &yaml) || errors.As(err, &syntax) || strings.HasPrefix(err.Error(), "unknown command") {
		return exitUsage
	}
	return int(gate.Failed)
}

// beside returns what was joined to an error that is target, nil where that is all.
func beside(err, target error) error {
	if !errors.Is(err, target) {
		return err
	}
	switch x := err.(type) {
	case interface{ Unwrap() []error }:
		var rest []error
		for _, e := range x.Unwrap() {
			rest = append(rest, beside(e, target))
		}
		return errors.Join(rest...)
	case interface{ Unwrap() error }:
		return beside(x.Unwrap(), target)
	}
	return nil
}

// interruptible has the first signal cancel: what is in force is then healed and what was
// found reported. A second interrupt ends everything at once; a second SIGTERM or SIGHUP
// does not, since some senders signal a process and then its group. It returns what ends
// the listening.
func interruptible(ctx context.Context, cancel func(), stderr io.Writer) (stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP)
	}
	// A write to a pipe that nobody reads is then an error and not the end. Ignoring the
	// signal would do the same, but to the children, too.
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE)
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
	return func() {
		signal.Stop(signals)
		signal.Stop(pipe)
		close(done)
	}
}
