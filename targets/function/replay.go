package function

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/child"
)

// DefaultLimit is how long a replay may take before it hangs, as with both engines.
const DefaultLimit = 10 * time.Second

// replaySeed is the file name of the input that a native function is replayed with.
const replaySeed = "shakedown"

// Replayer runs inputs through one function.
type Replayer struct {
	Package *Package
	Func    Func
	Binary  string // of Builder.Build
	Race    bool   // it was built with the race detector
	Dir     string // to run in: Mirror's for a native function, and one of its own for each Replayer
	Env     []string
	Limit   time.Duration // zero means DefaultLimit
}

// Input is what a function is run with.
type Input struct {
	File  []byte   // its text as a file
	Own   string   // instead of that, the name of an input that a native function has of its own: "seed#0"
	Texts []string // within it: what is said of them belongs to no signature
}

// Replay runs an input through the function in a fresh process, so many times one after
// another, and returns what was wrong with that.
func (r Replayer) Replay(ctx context.Context, in Input, times int) (*harness.Record, []harness.Finding, error) {
	c, err := r.command(in, times)
	if err != nil {
		return nil, nil, err
	}
	limit := r.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	// With SIGQUIT, a Go program prints the stacks of all its goroutines.
	ran, err := replay(ctx, c, limit, func(p *child.Child) { _ = syscall.Kill(p.Pid(), syscall.SIGQUIT) })
	if err != nil {
		return nil, nil, err
	}
	rec := record(r.Package, r.Func, in.Texts, ran.events)
	return rec, judge(rec, r.Package, r.Func, ran.late), nil
}

// command puts together how a function is run.
func (r Replayer) command(in Input, times int) (Command, error) {
	env := append(child.Environ(), "GORACE=atexit_sleep_ms=50", "GOTRACEBACK=all")
	c := Command{Name: harness.Service, Path: r.Binary, Dir: r.Dir, Env: append(env, r.Env...)}
	input := filepath.Join(r.Dir, "input")
	if r.Func.Sort == Native {
		dir := filepath.Join(r.Dir, "testdata", "fuzz", r.Func.Name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return c, err
		}
		input = filepath.Join(dir, replaySeed)
		name := replaySeed
		if in.Own != "" {
			name = regexp.QuoteMeta(in.Own)
		}
		c.Args = []string{
			fmt.Sprintf("-test.run=^%s$/^%s$", r.Func.Name, name), "-test.count=" + strconv.Itoa(times), "-test.timeout=0",
		}
		if in.Own != "" {
			c.Args = append(c.Args, "-test.v") // so that it says whether there is such an input
			return c, nil
		}
	} else {
		c.Args = []string{r.Func.Name, input, strconv.Itoa(times)}
	}
	return c, os.WriteFile(input, in.File, 0o600)
}
