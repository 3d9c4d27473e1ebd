package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/shakedown-go/shakedown/faults"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/probe"
	"github.com/shakedown-go/shakedown/harness/runner"
	"github.com/shakedown-go/shakedown/targets/process"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// assemble reads a description and puts together what plays its cases. The caller closes
// the system.
func assemble(ctx context.Context, path string, env map[string]string, stderr io.Writer) (*process.System, campaign.Lab, error) {
	file, err := spec.Load(path)
	if err != nil {
		return nil, campaign.Lab{}, err
	}
	if len(file.API.Ops) == 0 {
		return nil, campaign.Lab{}, usagef("%s: api.ops is empty: there is nothing to ask of the service", file.Path)
	}
	rungs := maps.Clone(env)
	delete(rungs, "bugs")
	sys, err := process.Open(ctx, file, process.Options{Name: path, Bugs: env["bugs"], Rungs: rungs})
	if err != nil {
		return nil, campaign.Lab{}, err
	}
	how := "built"
	if sys.Binary.Cached {
		how = "up to date"
	}
	fmt.Fprintf(stderr, "%s: %s in %s, %s\n", file.Service.Build, how, sys.Binary.Took.Round(time.Millisecond), sys.Target.Build.Go)
	lab := campaign.Lab{
		Target:    sys.Target,
		Detectors: detect.All(),
		Runner:    runner.Options{Fault: faults.ByName, Probes: probe.All(), Timeout: time.Duration(file.Service.Timeout)},
	}
	return sys, lab, nil
}

// closing joins the error of closing a system to that of what was done with it.
func closing(ctx context.Context, sys *process.System, err *error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	*err = errors.Join(*err, sys.Close(ctx))
}

// assembleCase reads a case file and puts together what plays it, in the environment that
// the case names where that can be had. The caller closes the system.
func assembleCase(ctx context.Context, file string, stdout, stderr io.Writer) (harness.Case, *process.System, campaign.Lab, error) {
	c, err := readCase(file)
	if err != nil {
		return c, nil, campaign.Lab{}, err
	}
	sys, lab, err := assemble(ctx, c.Target, c.Env, stderr)
	if err != nil {
		return c, nil, lab, err
	}
	if err := lab.Check(c); err != nil {
		err = usagef("%s: %w", file, err)
		closing(ctx, sys, &err)
		return c, nil, lab, err
	}
	for _, d := range sys.Differs {
		fmt.Fprintf(stdout, "note: %s\n", d)
	}
	return c, sys, lab, nil
}

// readCase reads a case file and finds its target: as the file names it, or beside one of
// the directories that the file stands in.
func readCase(path string) (harness.Case, error) {
	f, err := os.Open(path)
	if err != nil {
		return harness.Case{}, usage{err}
	}
	defer f.Close()
	c, err := harness.ReadCase(f)
	if err != nil {
		return c, usagef("%s:%w", path, err)
	}
	if filepath.IsAbs(c.Target) || exists(c.Target) {
		return c, nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return c, err
	}
	for dir := filepath.Dir(abs); ; dir = filepath.Dir(dir) {
		if at := filepath.Join(dir, c.Target); exists(at) {
			c.Target = at
			return c, nil
		}
		if dir == filepath.Dir(dir) {
			return c, usagef("%s: its target %s is neither here nor beside the file", path, c.Target)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
