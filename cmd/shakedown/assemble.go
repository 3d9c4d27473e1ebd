package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shakedown-go/shakedown/faults"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/probe"
	"github.com/shakedown-go/shakedown/harness/report"
	"github.com/shakedown-go/shakedown/harness/runner"
	"github.com/shakedown-go/shakedown/targets/process"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// maxLanes bounds what --lanes may ask for.
const maxLanes = 64

func checkLanes(n int) error {
	if n < 1 || n > maxLanes {
		return usagef("--lanes %d: from 1 to %d", n, maxLanes)
	}
	return nil
}

// settings are the flags by which every command that plays something changes what a
// description says.
type settings struct {
	provide []string // a rung for every dependency that has it, or name=rung for one
	engine  string   // what disturbs the links; "" leaves it to the description or the case
}

func (s *settings) flags(c *cobra.Command) {
	c.Flags().StringSliceVar(&s.provide, "provide", nil, "how to have the dependencies, instead of what the description says: docker, local or embedded for each that can be had so, cache=embedded,db=docker for some")
	c.Flags().StringVar(&s.engine, "engine", "", "what disturbs the links, instead of what the description or the case says: native or toxiproxy")
}

// apply changes a description.
func (s settings) apply(file *spec.File) error {
	for _, p := range s.provide {
		if err := override(file, p); err != nil {
			return usagef("--provide %s: %w", p, err)
		}
	}
	return nil
}

// override has one dependency provided in another way, or every one that can be.
func override(file *spec.File, provide string) error {
	name, rung, one := strings.Cut(provide, "=")
	if !one {
		rung = name
	} else if _, known := file.Dependencies[name]; !known {
		return fmt.Errorf("no dependency is called %q; there are: %s", name, strings.Join(slices.Sorted(maps.Keys(file.Dependencies)), ", "))
	}
	known := false
	for _, engine := range spec.Engines() {
		known = known || slices.Contains(spec.Rungs(engine), rung)
	}
	if !known {
		return fmt.Errorf("nothing is provided so: docker, local, embedded, url or auto")
	}
	for _, dep := range slices.Sorted(maps.Keys(file.Dependencies)) {
		if one && dep != name {
			continue
		}
		d := file.Dependencies[dep].Provided(rung)
		if _, err := d.Check(); err == nil {
			file.Dependencies[dep] = d
		} else if one {
			return err
		}
	}
	return nil
}

// plan is what a description and an environment come to before anything is built or
// started. Its lab can check cases, and once it is assembled play them: every command that
// plays something begins so.
type plan struct {
	file *spec.File
	opts process.Options
	lab  campaign.Lab
}

// nativeEngine is what disturbs links where nothing else is said.
const nativeEngine = "native"

// switchedOn is the env in which planted bugs are switched on; "" is none.
func switchedOn(bugs string) map[string]string {
	env := map[string]string{}
	if bugs != "" {
		env["bugs"] = bugs
	}
	return env
}

// prepare reads a description. Env is that of a case; without an engine in it the
// description's is taken.
func (s settings) prepare(path string, env map[string]string) (plan, error) {
	file, err := spec.Load(path)
	if err != nil {
		return plan{}, err
	}
	if err := s.apply(file); err != nil {
		return plan{}, err
	}
	env = maps.Clone(env)
	if s.engine != "" {
		if !slices.Contains(spec.LinkEngines(), s.engine) {
			return plan{}, usagef("--engine %s: one of %s", s.engine, strings.Join(spec.LinkEngines(), ", "))
		}
		env["engine"] = s.engine
	}
	deps := slices.Sorted(maps.Keys(file.Dependencies))
	rungs := maps.Clone(env)
	delete(rungs, "bugs")
	delete(rungs, "engine")
	if engine, _, _ := strings.Cut(env["engine"], "@"); engine != "" && !slices.Contains(spec.LinkEngines(), engine) {
		return plan{}, usagef("env engine=%s: no engine is called that; there are %s", env["engine"], strings.Join(spec.LinkEngines(), ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(rungs)) {
		if !slices.Contains(deps, name) {
			return plan{}, usagef("env %s=%s: there is nothing of that name in %s, only %s", name, rungs[name], path, strings.Join(append([]string{"bugs", "engine"}, deps...), ", "))
		}
	}
	stores := map[string]string{}
	for name, d := range file.Dependencies {
		if d.Provide != "embedded" {
			stores[name] = d.Engine
		}
	}
	return plan{
		file: file,
		opts: process.Options{Name: path, Bugs: env["bugs"], Engine: env["engine"], Rungs: rungs, Supervisor: supervisor()},
		lab: campaign.Lab{
			Target:    &harness.Target{Name: path, Ops: file.HarnessOps(), Links: deps, Procs: append([]string{harness.Service}, deps...), Stores: stores},
			Detectors: detect.All(),
			Runner:    runner.Options{Fault: faults.ByName, Probes: probe.All(), Timeout: time.Duration(file.Service.Timeout)},
		},
	}, nil
}

// saying prints what a process.Options.Say is told.
func saying(stderr io.Writer) func(string) {
	return func(what string) { fmt.Fprintf(stderr, "shakedown: %s\n", report.Clean(what)) }
}

// assemble builds the service and brings up what it depends on. The caller closes the
// system.
func (p plan) assemble(ctx context.Context, stderr io.Writer) (*process.System, campaign.Lab, error) {
	source := p.file.Service.Source()
	fmt.Fprintf(stderr, "%s: building ...\n", source)
	p.opts.Say = saying(stderr)
	sys, err := process.Open(ctx, p.file, p.opts)
	if err != nil {
		var rung *process.RungError
		if errors.As(err, &rung) {
			err = usage{err}
		}
		return nil, p.lab, err
	}
	how := "built"
	if sys.Cached {
		how = "up to date"
	}
	what := sys.Target.Build.Go
	if !sys.Target.Caps.Has(harness.CapAgent) {
		what = "black box: neither the agent nor the race detector is in it, and what needs them is not checked"
	}
	fmt.Fprintf(stderr, "%s: %s in %s, %s\n", source, how, sys.Took.Round(time.Millisecond), what)
	if engine := sys.Target.Env["engine"]; engine != "" {
		fmt.Fprintf(stderr, "links: %s\n", engine)
	}
	p.lab.Target = sys.Target
	return sys, p.lab, nil
}

// assembleCase reads a case file and puts together what plays it, in the environment that
// the case names where that can be had, but on another engine if one is given. The case says
// that then. Each replay is told of on stderr. The caller closes the system.
func (s settings) assembleCase(ctx context.Context, file string, stdout, stderr io.Writer) (harness.Case, *process.System, campaign.Lab, error) {
	c, module, err := readCase(file)
	if err != nil {
		return c, nil, campaign.Lab{}, err
	}
	wanted := cmp.Or(c.Env["engine"], nativeEngine)
	c.Env = maps.Clone(c.Env)
	if c.Env == nil {
		c.Env = map[string]string{}
	}
	// A case that says nothing was made on the native engine, whatever the description says.
	c.Env["engine"] = wanted
	sys, lab, err := s.assembleFor(ctx, c, module, stderr)
	if err != nil {
		var u usage
		if errors.As(err, &u) {
			err = usagef("%s: %w", file, err)
		}
		return c, nil, lab, err
	}
	if env := sys.Target.Env; len(env) > 0 {
		fmt.Fprintf(stdout, "environment %s\n", report.Environment(env))
	}
	lab.Saw = narrate(stderr)
	delete(c.Env, "engine")
	is, links := sys.Target.Env["engine"]
	if links {
		c.Env["engine"] = is
	}
	if is = cmp.Or(is, nativeEngine); is != wanted && len(sys.Target.Links) > 0 {
		fmt.Fprintf(stdout, "note: engine is %s, not %s\n", is, wanted)
	}
	for _, d := range sys.Differs {
		fmt.Fprintf(stdout, "note: %s\n", d)
	}
	return c, sys, lab, nil
}

// assembleFor puts together what plays a case. What does not fit the target is an error
// of usage, found before anything is built where that can be; so is a target that is
// another module than the case was recorded with, unless that is "".
func (s settings) assembleFor(ctx context.Context, c harness.Case, module string, stderr io.Writer) (*process.System, campaign.Lab, error) {
	p, err := s.prepare(c.Target, c.Env)
	if err != nil {
		return nil, p.lab, err
	}
	if err := p.lab.Check(c); err != nil {
		return nil, p.lab, usage{err}
	}
	sys, lab, err := p.assemble(ctx, stderr)
	if err != nil {
		return nil, lab, err
	}
	if err := lab.Check(c); err != nil { // again: now it is known which processes there are
		err = usage{err}
		closing(ctx, sys, &err)
		return nil, lab, err
	}
	if is := sys.Target.Build.Module; module != "" && is != module {
		err := usagef("its target %s is module %s here, but the record beside it is of %s: write the path of that one into its target line", c.Target, is, module)
		closing(ctx, sys, &err)
		return nil, lab, err
	}
	return sys, lab, nil
}

// abortable returns a context that is cancelled where a limit of the target is exceeded while
// something is played in the lab. Stop lets go of it.
func abortable(ctx context.Context, lab *campaign.Lab, stderr io.Writer) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	lab.Runner.Abort = func(why error) {
		fmt.Fprintf(stderr, "shakedown: %s; healing and stopping\n", report.Clean(why.Error()))
		cancel(why)
	}
	return ctx, func() { cancel(nil) }
}

// notes prints what went wrong with what the system stands on.
func notes(w io.Writer, sys *process.System) {
	for _, n := range sys.Notes() {
		fmt.Fprintf(w, "note: %s\n", n)
	}
}

// closing closes a system, and joins an error of that to the one of what was done with it.
func closing(ctx context.Context, sys *process.System, err *error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if left := sys.Close(ctx); left != nil {
		*err = &unclean{before: *err, left: left}
	}
}

// readCase reads a case file and finds its target. Module is that of the service which the
// record beside the file is of, "" where there is none.
func readCase(path string) (c harness.Case, module string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return c, "", usage{err}
	}
	defer f.Close()
	if c, err = harness.ReadCase(f); err != nil {
		return c, "", usagef("%s:%w", path, err)
	}
	module = recorded(filepath.Join(filepath.Dir(path), "record.jsonl"), c.Target)
	if c.Target, err = locate(c.Target, path, module != ""); err != nil {
		return c, "", usagef("%s: %w", path, err)
	}
	return c, module, nil
}

// recorded returns the module of the service that a record is of, or "" where there is no
// record of that target.
func recorded(file, target string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	rec, err := harness.ReadRecord(f)
	if err != nil || rec.Case.Target != target {
		return ""
	}
	return rec.Build.Module
}

// locate finds the target that a case file names: beside one of the directories that the
// file stands in, as results stand beside what they are of, or from here. Where both lead
// to a description, or where the name says nothing and nothing else would tell that this is
// another service, it is not guessed.
func locate(target, file string, told bool) (string, error) {
	if filepath.IsAbs(target) {
		return target, nil
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return "", err
	}
	beside := ""
	for dir := filepath.Dir(abs); beside == ""; dir = filepath.Dir(dir) {
		if at := filepath.Join(dir, target); described(at) != nil {
			beside = at
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	here := described(target)
	switch {
	case beside == "" && here == nil:
		return "", fmt.Errorf("its target %s has no description, neither here nor beside the file: write its path into the target line", target)
	case here == nil:
		return beside, nil
	case beside == "" && filepath.Clean(target) == "." && !told:
		return "", fmt.Errorf("its target is the directory that it was made in, and nothing tells whether that is this one: write the path into its target line")
	case beside != "" && !os.SameFile(here, described(beside)):
		return "", fmt.Errorf("its target %s is here, and another one is at %s: write the path of the one that is meant into its target line", target, beside)
	}
	return target, nil
}

// described returns the description that path leads to, nil where there is none.
func described(path string) os.FileInfo {
	file, err := spec.Find(path)
	if err != nil {
		return nil
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil
	}
	return info
}
