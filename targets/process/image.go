package process

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/container"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// image is a service that comes as an image, or as a Dockerfile that one is built from. It
// is a black box: what it prints, how it ends and what it answers is all that is seen of it.
//
// Each process is a container of its own, with the files of the image, on the network of
// this machine: so it listens and finds its links at the addresses where a process would.
type image struct {
	file   *spec.File
	run    string // the directory of the run
	engine *container.Engine
	of     container.Image
}

func (m *image) build(ctx context.Context) (out built, err error) {
	began := time.Now()
	if host, err := container.Host(); err != nil || runtime.GOOS != "linux" || !container.Local(host) {
		return out, errors.Join(err, errors.New("a service that is a container needs a Docker engine on this very machine, which must be a Linux"))
	}
	if m.engine, err = container.Connect(ctx, 0); err != nil {
		return out, fmt.Errorf("service: %w; start one, or say by DOCKER_HOST where one is, or build the service from its source (service.build)", err)
	}
	s := m.file.Service
	if s.Dockerfile != "" {
		m.of, err = m.engine.Build(ctx, container.BuildOptions{Dir: m.file.Dir, Dockerfile: filepath.Join(m.file.Dir, s.Dockerfile), Pull: s.Pull})
	} else {
		m.of, err = m.image(ctx, s)
	}
	if err != nil {
		return out, fmt.Errorf("service: %w", err)
	}
	return built{
		Build: harness.Build{SHA256: m.of.Digest(), Caps: harness.CapProcs | harness.CapOutput},
		took:  time.Since(began), cached: s.Dockerfile == "",
	}, nil
}

func (m *image) image(ctx context.Context, s spec.Service) (container.Image, error) {
	got, err := m.engine.Image(ctx, s.Image)
	missing := new(container.MissingError)
	switch {
	case errors.As(err, &missing) && s.Pull:
		return m.engine.Pull(ctx, s.Image)
	case errors.As(err, &missing):
		return got, fmt.Errorf("%w; pull: true gets it from its registry, or build it first (docker build -t %s .), or give its dockerfile", err, s.Image)
	}
	return got, err
}

func (m *image) start(ctx context.Context, i *instance, l *life) error {
	s := m.file.Service
	o := container.Options{Name: harness.Service, Image: m.of.ID, Dir: m.run, Env: map[string]string{}, HostNetwork: true, Emit: i.take}
	for _, arg := range s.Args {
		o.Args = append(o.Args, i.fill(arg))
	}
	for name, value := range s.Env {
		o.Env[name] = i.fill(value)
	}
	c, err := m.engine.Create(ctx, o)
	if err != nil {
		return err
	}
	unit, err := c.Start(ctx)
	if err != nil {
		return errors.Join(err, c.Remove(ctx))
	}
	l.unit, l.let = unit, c.Remove
	return nil
}

func (m *image) close() error {
	if m.engine == nil {
		return nil
	}
	return m.engine.Close()
}
