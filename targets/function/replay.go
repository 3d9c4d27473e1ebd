package function

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/child"
)

// DefaultLimit is how long a replay may take before it hangs.
const DefaultLimit = 20 * time.Second

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

// Replay runs an input, given as a file's text, through the function in a fresh process, so
// many times one after another, and returns what was wrong with that. Sent are the texts
// within the input: what is said of them belongs to no signature.
func (r Replayer) Replay(ctx context.Context, file []byte, sent []string, times int) (*harness.Record, []harness.Finding, error) {
	c, err := r.command(file, times)
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
	rec := record(r.Package, r.Func, sent, ran.events)
	if r.Race {
		rec.Build.Caps |= harness.CapRace
	}
	return rec, judge(rec, r.Package, r.Func, ran.late), nil
}

// command puts together how a function is run.
func (r Replayer) command(file []byte, times int) (Command, error) {
	env := append(child.Environ(), "GORACE=atexit_sleep_ms=50", "GOTRACEBACK=all")
	c := Command{Name: harness.Service, Path: r.Binary, Dir: r.Dir, Env: append(env, r.Env...)}
	input := filepath.Join(r.Dir, "input")
	if r.Func.Sort == Native {
		dir := filepath.Join(r.Dir, "testdata", "fuzz", r.Func.Name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return c, err
		}
		input = filepath.Join(dir, replaySeed)
		c.Args = []string{
			fmt.Sprintf("-test.run=^%s$/^%s$", r.Func.Name, replaySeed), "-test.count=" + strconv.Itoa(times), "-test.timeout=0",
		}
	} else {
		c.Args = []string{r.Func.Name, input, strconv.Itoa(times)}
	}
	return c, os.WriteFile(input, file, 0o600)
}

// RunSeeds runs a native function with the inputs that it has of its own, its f.Add ones
// and those in its directory of seeds, and returns what was wrong with that.
func (r Replayer) RunSeeds(ctx context.Context) (*harness.Record, []harness.Finding, error) {
	c, err := r.command(nil, 1)
	if err != nil {
		return nil, nil, err
	}
	if err := os.Remove(filepath.Join(r.Dir, "testdata", "fuzz", r.Func.Name, replaySeed)); err != nil {
		return nil, nil, err
	}
	c.Args[0] = fmt.Sprintf("-test.run=^%s$", r.Func.Name)
	c.Args = append(c.Args, "-test.v")
	ran, err := replay(ctx, c, 10*DefaultLimit, func(p *child.Child) { _ = syscall.Kill(p.Pid(), syscall.SIGQUIT) })
	if err != nil {
		return nil, nil, err
	}
	rec := record(r.Package, r.Func, nil, ran.events)
	return rec, judge(rec, r.Package, r.Func, ran.late), nil
}
