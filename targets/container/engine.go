// Package container runs programs as containers of a Docker engine, as package child runs
// them as processes: every line that a container prints becomes an event, and what is done
// to it is done to all its processes.
//
// Containers belong to a run, which has a directory of its own. Before the first one is
// made, the directory says so; so whoever finds the directory of a run that has died, or is
// about to, knows that there are containers to remove, and nobody else asks an engine.
package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/log"
)

// connectTime bounds what is asked of an engine at the start.
const connectTime = 10 * time.Second

// Engine is a Docker engine that has answered.
type Engine struct {
	docker   client.APIClient
	provider testcontainers.GenericProvider
	host     string // where published ports are
}

// Connect finds the engine that the environment names, or this machine's. It must answer
// within a time; zero means ten seconds. An error says what was asked.
func Connect(ctx context.Context, within time.Duration) (*Engine, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(within, connectTime))
	defer cancel()
	at := os.Getenv(client.EnvOverrideHost)
	docker, err := client.New(client.FromEnv)
	if err != nil {
		return nil, fmt.Errorf("%s=%s: %w", client.EnvOverrideHost, at, err)
	}
	defer docker.Close()
	if _, err := docker.Ping(ctx, client.PingOptions{}); err != nil {
		return nil, fmt.Errorf("no Docker engine answers at %s: %w", docker.DaemonHost(), err)
	}
	if err := besides(ctx, docker); err != nil {
		return nil, err
	}
	configure(func() bool {
		//lint:ignore SA1019 Nothing else tells which image that is.
		_, err := docker.ImageInspect(ctx, testcontainers.ReaperDefaultImage)
		return err == nil && !confined()
	})
	p, err := testcontainers.ProviderDocker.GetProvider(testcontainers.WithLogger(log.NewNoopLogger()))
	if err != nil {
		return nil, err
	}
	d, ok := p.(*testcontainers.DockerProvider)
	if !ok {
		return nil, fmt.Errorf("testcontainers has a provider of another kind: %T", p)
	}
	e := &Engine{docker: d.Client(), provider: p}
	if e.host, err = portHost(e.docker.DaemonHost()); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return e, nil
}

// Close lets go of the connections.
func (e *Engine) Close() error { return e.provider.Close() }

// Host returns the host that published ports are at: what TESTCONTAINERS_HOST_OVERRIDE says,
// else where the engine of DOCKER_HOST is, else this machine.
func Host() (string, error) {
	return portHost(cmp.Or(os.Getenv(client.EnvOverrideHost), client.DefaultDockerHost))
}

func portHost(daemon string) (string, error) {
	if host := os.Getenv("TESTCONTAINERS_HOST_OVERRIDE"); host != "" {
		return host, nil
	}
	u, err := url.Parse(daemon)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", client.EnvOverrideHost, err)
	case u.Scheme == "unix" || u.Scheme == "npipe":
		return "127.0.0.1", nil
	case u.Hostname() == "":
		return "", fmt.Errorf("%s=%s names no host", client.EnvOverrideHost, daemon)
	}
	return u.Hostname(), nil
}

// Local reports whether a host is this machine.
func Local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// confined reports whether this process runs in a container itself, where testcontainers
// looks for published ports at the gateway unless it is told otherwise.
func confined() bool {
	_, err := os.Stat("/.dockerenv")
	return err == nil && os.Getenv("TESTCONTAINERS_HOST_OVERRIDE") == ""
}

// besides refuses an engine that this process runs in a container of: the loopback address
// that it publishes ports at is another one. An override says where they are to be found.
func besides(ctx context.Context, docker *client.Client) error {
	if !confined() {
		return nil
	}
	own, err := os.Hostname() // as the engine sets it
	if err != nil {
		return err
	}
	c, err := docker.ContainerInspect(ctx, own, client.ContainerInspectOptions{})
	if err != nil || c.Container.HostConfig.NetworkMode.IsHost() {
		return nil
	}
	return fmt.Errorf("this process runs in a container of the engine at %s, whose loopback address is another one: "+
		"TESTCONTAINERS_HOST_OVERRIDE says at which address of its machine ports are to be found", docker.DaemonHost())
}

// once guards the settings of testcontainers, which are the process's.
var once sync.Once

// configure has testcontainers print nothing, take images by the names that they have, and
// start its reaper, which removes what a harness that dies leaves, only where that one's
// image is there: it would be pulled otherwise. Testcontainers takes this from the
// environment alone, and reads it once; afterwards the environment is what it was.
func configure(reaper func() bool) {
	once.Do(func() {
		log.SetDefault(log.NewNoopLogger())
		set := map[string]string{"TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX": ""}
		if os.Getenv(reaperOff) == "" && !reaper() {
			set[reaperOff] = "true"
		}
		for name, value := range set {
			if was, there := os.LookupEnv(name); there {
				defer os.Setenv(name, was)
			} else {
				defer os.Unsetenv(name)
			}
			os.Setenv(name, value)
		}
		testcontainers.SessionID()
	})
}

const reaperOff = "TESTCONTAINERS_RYUK_DISABLED"

// Image is an image that an engine has.
type Image struct {
	Name string            // as it was asked for
	ID   string            // "sha256:..."
	Env  map[string]string // that its containers have
}

// MissingError says that an engine has no image of a name.
type MissingError struct{ Image string }

func (e *MissingError) Error() string { return fmt.Sprintf("there is no image %s", e.Image) }

// Image returns the image of a name, or a *MissingError.
func (e *Engine) Image(ctx context.Context, name string) (Image, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	got, err := e.docker.ImageInspect(ctx, name)
	if errdefs.IsNotFound(err) {
		return Image{}, &MissingError{name}
	}
	if err != nil {
		return Image{}, fmt.Errorf("image %s: %w", name, err)
	}
	i := Image{Name: name, ID: got.ID, Env: map[string]string{}}
	if got.Config != nil {
		for _, entry := range got.Config.Env {
			key, value, _ := strings.Cut(entry, "=")
			i.Env[key] = value
		}
	}
	return i, nil
}

// pullTime bounds the pull of an image.
const pullTime = 10 * time.Minute

// Pull gets an image from its registry.
func (e *Engine) Pull(ctx context.Context, name string) (Image, error) {
	bounded, cancel := context.WithTimeout(ctx, pullTime)
	defer cancel()
	r, err := e.docker.ImagePull(bounded, name, client.ImagePullOptions{})
	if err == nil {
		err = errors.Join(r.Wait(bounded), r.Close())
	}
	if err != nil {
		return Image{}, fmt.Errorf("pull %s: %w", name, err)
	}
	return e.Image(ctx, name)
}
