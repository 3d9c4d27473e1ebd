package providers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/container"
	"github.com/shakedown-go/shakedown/targets/spec"
)

const (
	autoTime      = time.Second      // for an engine to answer, where there are other rungs
	containerTime = 90 * time.Second // until a server in a container must serve: some fill a data directory first
	againTime     = 30 * time.Second // the same, from the second start on
	containerGap  = 50 * time.Millisecond
)

// image says how a store is had in a container. The command lines and the environment are
// those that the official images take.
type image struct {
	engine   string
	names    []string // official images, with the version that is taken where none is wanted
	stand    string   // stands in for these where they are not there, and is taken on demand only
	port     int
	versions []string // variables of the image's environment that may tell its version
	env      map[string]string
	args     []string
	ready    func(ctx context.Context, addr string) error
	// depend makes a dependency of a server that runs, and fills it.
	depend func(context.Context, *server) (Dependency, error)
}

// choose looks for an image. Settled is false where another rung is to be looked for.
func (i image) choose(ctx context.Context, name string, dep spec.Dependency) (p Provider, settled bool, err error) {
	switch dep.Provide {
	case "docker":
		e, err := container.Connect(ctx, 0)
		if err != nil {
			return nil, true, fmt.Errorf("%w; start one, or say by DOCKER_HOST where one is%s", err, i.others())
		}
		defer e.Close()
		p, err := i.find(ctx, e, name, dep)
		return p, true, err
	case "auto":
		// A place that is not this machine is taken on demand only.
		if host, err := container.Host(); err != nil || !container.Local(host) {
			return nil, false, nil
		}
		e, err := container.Connect(ctx, autoTime)
		if err != nil {
			return nil, ctx.Err() != nil, ctx.Err()
		}
		defer e.Close()
		p, err := i.find(ctx, e, name, dep)
		switch {
		case err == nil:
			return p, true, nil
		case dep.Image != "": // no other rung has what was asked for by name
			return nil, true, err
		}
		return nil, ctx.Err() != nil, ctx.Err()
	}
	return nil, false, nil
}

// find returns the first image that is there, or gets one where it may.
func (i image) find(ctx context.Context, e *container.Engine, name string, dep spec.Dependency) (Provider, error) {
	images := i.candidates(dep)
	for _, image := range images {
		got, err := e.Image(ctx, image)
		if err == nil {
			return i.take(name, dep, got)
		}
		if missing := new(container.MissingError); !errors.As(err, &missing) {
			return nil, err
		}
	}
	if dep.Pull {
		got, err := e.Pull(ctx, images[0])
		if err != nil {
			return nil, err
		}
		return i.take(name, dep, got)
	}
	return nil, fmt.Errorf("there is no image %s; pull: true gets %s from its registry, testdata/images/build of shakedown's source makes %s from Debian's packages%s", strings.Join(images, " or "), images[0], i.stand, i.others())
}

// candidates returns the names of the images that will do, the best first.
func (i image) candidates(dep spec.Dependency) []string {
	if dep.Image != "" {
		return []string{dep.Image}
	}
	names := i.names
	if dep.Provide == "docker" {
		names = append(slices.Clone(names), i.stand)
	}
	var out []string
	for _, name := range names {
		name, tag, _ := strings.Cut(name, ":")
		out = append(out, name+":"+cmp.Or(dep.Version, tag))
	}
	return out
}

// others names the ways out that are left without a container.
func (i image) others() string {
	var rungs []string
	for _, rung := range spec.Rungs(i.engine) {
		if rung != "docker" && rung != "auto" {
			rungs = append(rungs, "provide: "+rung)
		}
	}
	if len(rungs) == 0 {
		return ""
	}
	return ", or take another rung: " + strings.Join(rungs, ", ")
}

func (i image) take(name string, dep spec.Dependency, got container.Image) (Provider, error) {
	d := docker{name: name, image: i, of: got, version: i.version(got)}
	if !isVersion(d.version, dep.Version) {
		return nil, fmt.Errorf("version %s is wanted, but the image %s is %s", dep.Version, got.Name, d.version)
	}
	return d, nil
}

var dotted = regexp.MustCompile(`\d+(\.\d+)+`)

// version returns what an image tells about its version: in its environment, else in its
// tag; else it is the image's id.
func (i image) version(got container.Image) string {
	for _, v := range i.versions {
		if version := dotted.FindString(got.Env[v]); version != "" {
			return version
		}
	}
	if at := strings.LastIndexByte(got.Name, ':'); at > strings.LastIndexByte(got.Name, '/') { // not a registry's port
		if version := digits.FindString(got.Name[at:]); version != "" {
			return version
		}
	}
	return got.Digest()[:12]
}

// docker is a store in a container, of an image that is there.
type docker struct {
	name string
	image
	of      container.Image
	version string
}

// Rung implements Provider.
func (d docker) Rung() string { return "docker@" + d.version }

// Start implements Provider.
func (d docker) Start(ctx context.Context, dir string, emit func(harness.Event)) (Dependency, error) {
	s, err := d.serve(ctx, dir, emit)
	if err != nil {
		return nil, err
	}
	s.twin = func(ctx context.Context) (*server, error) { return d.serve(ctx, dir, emit) }
	dep, err := d.depend(ctx, s)
	if err != nil {
		return nil, errors.Join(err, dep.Stop(ctx))
	}
	return dep, nil
}

// serve brings up the server in a container of its own.
func (d docker) serve(ctx context.Context, dir string, emit func(harness.Event)) (*server, error) {
	e, err := container.Connect(ctx, 0)
	if err != nil {
		return nil, err
	}
	c, err := e.Create(ctx, container.Options{
		Name: d.name, Image: d.of.ID, Dir: dir, Env: maps.Clone(d.env), Args: d.args, Port: d.port, Emit: emit,
	})
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	s := &server{name: d.name, within: containerTime, gap: containerGap, ready: d.ready, inside: c.Inside, fixed: container.ClockFixed()}
	s.bury = func(ctx context.Context) error { return errors.Join(c.Remove(ctx), e.Close()) }
	s.launch = func(ctx context.Context) (unit, string, error) {
		l, err := c.Start(ctx)
		if err != nil {
			return nil, "", err
		}
		addr, err := c.Addr(ctx)
		if err != nil {
			_, killed := l.Kill(ctx)
			return nil, "", errors.Join(err, killed)
		}
		return l, addr, nil
	}
	if err := s.up(ctx); err != nil {
		return nil, errors.Join(err, s.bury(ctx))
	}
	s.within = againTime
	return s, nil
}
