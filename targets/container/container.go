package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"

	"github.com/shakedown-go/shakedown/harness"
)

const (
	// RunLabel is the label of every container: its value is the directory of the run that it
	// belongs to.
	RunLabel = "shakedown.run"

	journal    = "containers" // in the directory of a run that has containers
	createTime = 30 * time.Second
	removeTime = 20 * time.Second // goes on when the caller's context is cancelled
	removeGap  = 20 * time.Millisecond

	// An engine goes on making a container when nobody waits for it any more.
	underWayTime = 5 * time.Second
)

// Options say what to run.
type Options struct {
	Name  string            // of the events
	Image string            // its ID: of a name, testcontainers would pull what is not there
	Dir   string            // of the run; no other one has had it, and none will
	Env   map[string]string // on top of the image's
	Args  []string          // instead of the image's command; nil leaves that
	Port  int               // that is published on the loopback address; zero means none
	// HostNetwork has the container use this machine's network as a process does. It takes
	// an engine that runs on this machine's own kernel.
	HostNetwork bool

	// Emit takes an Output event for each line, and one Exit event at the end of each life.
	// It is called from several goroutines. Nil drops them.
	Emit func(harness.Event)
}

// Container is a container that was made. It can be started any number of times, one life
// after another, and keeps its files from one to the next.
type Container struct {
	engine *Engine
	opts   Options
	tc     testcontainers.Container

	confining sync.Mutex       // guards held; taken before a life's
	held      map[string]*hold // quotas in force, by what they are of
}

// Create makes a container of an image that is there. The caller removes it.
func (e *Engine) Create(ctx context.Context, o Options) (*Container, error) {
	if o.Emit == nil {
		o.Emit = func(harness.Event) {}
	}
	if err := note(o.Dir, asked); err != nil {
		return nil, err
	}
	// An engine goes on with what it is no longer asked for: then nobody knew the container.
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), createTime)
	defer cancel()
	req := testcontainers.ContainerRequest{
		Image:  o.Image,
		Cmd:    o.Args,
		Env:    o.Env,
		Labels: map[string]string{RunLabel: o.Dir},
	}
	if o.Port > 0 {
		req.ExposedPorts = []string{strconv.Itoa(o.Port) + "/tcp"}
	}
	req.HostConfigModifier = func(h *container.HostConfig) {
		if o.HostNetwork {
			h.NetworkMode = network.NetworkHost
		}
		if o.Port > 0 {
			// Published elsewhere than here, the port is for whoever may reach that place.
			at := netip.IPv4Unspecified()
			if Local(e.host) {
				at = netip.AddrFrom4([4]byte{127, 0, 0, 1})
			}
			h.PortBindings = network.PortMap{network.MustParsePort(req.ExposedPorts[0]): {{HostIP: at}}}
		}
	}
	tc, err := e.provider.CreateContainer(whole, req)
	if err == nil { // otherwise there may be one, or come one
		err = note(o.Dir, answered)
	}
	c := &Container{engine: e, opts: o, tc: tc}
	if err != nil {
		err = fmt.Errorf("create the container of %s: %w", o.Name, err)
	}
	if err = errors.Join(err, ctx.Err()); err == nil {
		return c, nil
	}
	if tc != nil {
		err = errors.Join(err, c.Remove(ctx))
	}
	return nil, err
}

// Addr returns where the published port is: host:port. It is another one after each start.
func (c *Container) Addr(ctx context.Context) (string, error) {
	port, err := c.tc.MappedPort(ctx, strconv.Itoa(c.opts.Port))
	if err != nil {
		return "", fmt.Errorf("port %d of %s: %w", c.opts.Port, c.opts.Name, err)
	}
	return net.JoinHostPort(c.engine.host, port.Port()), nil
}

// Inside returns where other containers of the engine reach the port, published or not:
// host:port. It is an error that is harness.ErrNotHere where they reach none.
func (c *Container) Inside(ctx context.Context) (string, error) {
	ip, err := c.tc.ContainerIP(ctx)
	if err != nil {
		return "", fmt.Errorf("the address of %s: %w", c.opts.Name, err)
	}
	if ip == "" {
		return "", fmt.Errorf("containers of this engine do not reach each other: %w", harness.ErrNotHere)
	}
	return net.JoinHostPort(ip, strconv.Itoa(c.opts.Port)), nil
}

// Remove ends the container and removes it with its volumes. It may be called twice.
func (c *Container) Remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	err := c.tc.Terminate(ctx, testcontainers.StopContext(ctx), testcontainers.StopTimeout(0))
	if err != nil {
		err = c.engine.remove(ctx, c.tc.GetContainerID()) // a paused one cannot be stopped, but can be removed
	}
	if err != nil {
		return fmt.Errorf("remove the container of %s: %w", c.opts.Name, err)
	}
	return nil
}

// remove removes a container, or waits until somebody else has done so.
func (e *Engine) remove(ctx context.Context, id string) error {
	again := time.NewTicker(removeGap)
	defer again.Stop()
	for {
		_, err := e.docker.ContainerRemove(ctx, id, client.ContainerRemoveOptions{RemoveVolumes: true, Force: true})
		if err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		if !errdefs.IsConflict(err) {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
}

// What the journal of a run says: one word a line.
const (
	asked    = "asked"    // a container is about to be made
	answered = "answered" // it was made
)

// note writes a word into the journal.
func note(dir, word string) error {
	f, err := os.OpenFile(filepath.Join(dir, journal), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(word + "\n")
	return errors.Join(err, f.Close())
}

// Bury removes the containers of a run, whose directory is given: of one that has died, or
// is about to. Where the run has had none, nobody is asked. Where it has died while it
// waited for one, Bury looks for that for a while.
func Bury(ctx context.Context, dir string) error {
	words, err := os.ReadFile(filepath.Join(dir, journal))
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	until := time.Now()
	if strings.Count(string(words), asked) > strings.Count(string(words), answered) {
		until = until.Add(underWayTime)
	}
	if err := bury(ctx, dir, until); err != nil {
		return fmt.Errorf("remove the containers of %s: %w", dir, err)
	}
	return os.Remove(filepath.Join(dir, journal))
}

// bury removes a run's containers until there are none and that time has come.
func bury(ctx context.Context, dir string, until time.Time) error {
	e, err := Connect(ctx, 0)
	if err != nil {
		return err
	}
	defer e.Close()
	for { // again, as one may have been under way
		left, err := e.of(ctx, dir)
		if err != nil || len(left) == 0 && !time.Now().Before(until) {
			return err
		}
		if len(left) == 0 {
			select {
			case <-time.After(removeGap):
			case <-ctx.Done():
				return fmt.Errorf("one may be under way: %w", ctx.Err())
			}
			continue
		}
		errs := make([]error, len(left))
		var all sync.WaitGroup
		for i, id := range left {
			all.Go(func() {
				if err := e.remove(ctx, id); err != nil {
					errs[i] = fmt.Errorf("container %.12s: %w", id, err)
				}
			})
		}
		all.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
}

// Held returns the ids of the containers that Bury would remove. As there, nobody is asked
// where the run has had none.
func Held(ctx context.Context, dir string) ([]string, error) {
	if _, err := os.Stat(filepath.Join(dir, journal)); err != nil {
		return nil, nil
	}
	return Left(ctx, dir)
}

// Left returns the ids of the containers of a run, whose directory is given, or of all runs
// whose directories are below it.
func Left(ctx context.Context, dir string) ([]string, error) {
	e, err := Connect(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer e.Close()
	return e.of(ctx, dir)
}

func (e *Engine) of(ctx context.Context, dir string) (ids []string, err error) {
	runs, err := e.runs(ctx)
	for run, of := range runs {
		if run == dir || strings.HasPrefix(run, dir+"/") {
			ids = append(ids, of...)
		}
	}
	return ids, err
}

// runs returns the ids of all containers, by the directory of their run.
func (e *Engine) runs(ctx context.Context) (map[string][]string, error) {
	list, err := e.docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", RunLabel)})
	out := map[string][]string{}
	for _, c := range list.Items {
		out[c.Labels[RunLabel]] = append(out[c.Labels[RunLabel]], c.ID)
	}
	return out, err
}

// Strays returns the ids of containers whose run's directory is not here, by that: somebody
// has removed it, or the run is one of another machine or within a container, and may go on.
// Where no engine of this machine answers at once, there are none.
func Strays(ctx context.Context) map[string][]string {
	e, err := Connect(ctx, time.Second)
	if err != nil {
		return nil
	}
	defer e.Close()
	runs, err := e.runs(ctx)
	if err != nil || !Local(e.host) {
		return nil
	}
	maps.DeleteFunc(runs, func(dir string, _ []string) bool {
		_, err := os.Lstat(dir)
		return !errors.Is(err, os.ErrNotExist)
	})
	return runs
}
