package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/shakedown-go/shakedown/harness"
)

const (
	askTime   = 2 * time.Second        // for one look at the counters of a container
	cpuPeriod = 100 * time.Millisecond // how often a share of a processor's time is handed out
	leastMem  = 6 << 20                // bytes: engines refuse a lower limit
	swap      = 1 << 20                // bytes of it: with none, Linux does not count how often the limit was met
	unlimited = 1 << 62                // bytes: engines take no limit back
)

// hold is a quota in force on a container.
type hold struct {
	l     *Life
	q     harness.Quota
	began int64 // what the counter was
	count int64 // since
}

// Confine leaves the container no more than a quota until the heal, or until it ends: see
// harness.Proc. Its engine must have limits. To what it has, what it has read from files
// counts, too, and gives way first.
func (l *Life) Confine(ctx context.Context, q harness.Quota) (harness.Injection, error) {
	c := l.c
	c.confining.Lock()
	defer c.confining.Unlock()
	h := &hold{l: l, q: q}
	in := harness.Injection{
		Heal: func(ctx context.Context) error { return c.release(ctx, h) },
		Acted: func() int64 {
			c.confining.Lock()
			defer c.confining.Unlock()
			if c.held[h.of()] == h {
				h.look(context.Background())
			}
			return h.count
		},
	}
	if c.held[h.of()] != nil {
		return harness.Injection{}, fmt.Errorf("%[2]s has a quota of %[1]s already", h.of(), c.opts.Name)
	}
	select {
	case <-l.done:
		return in, nil
	default:
	}
	about, err := c.engine.docker.Info(ctx, client.InfoOptions{})
	switch {
	case err != nil:
		return harness.Injection{}, err
	case h.memory() && !about.Info.MemoryLimit, !h.memory() && !about.Info.CPUCfsQuota:
		return harness.Injection{}, fmt.Errorf("the engine at %s cannot limit the %s of containers: %w", c.engine.docker.DaemonHost(), h.of(), harness.ErrNotHere)
	}
	now, err := l.stats(ctx)
	if err != nil {
		return harness.Injection{}, err
	}
	h.began = h.counter(now)
	most := container.Resources{CPUPeriod: cpuPeriod.Microseconds(), CPUQuota: int64(q.CPU) * cpuPeriod.Microseconds() / 100}
	if h.memory() {
		limit := max(int64(now.MemoryStats.Usage)+q.Memory, leastMem)
		most = container.Resources{Memory: limit, MemorySwap: limit + swap}
		l.mu.Lock()
		l.hungry = true
		l.mu.Unlock()
	}
	if err := c.update(ctx, most); err != nil {
		return harness.Injection{}, errors.Join(err, c.lift(ctx, h))
	}
	if c.held == nil {
		c.held = map[string]*hold{}
	}
	c.held[h.of()] = h
	return in, nil
}

func (h *hold) memory() bool { return h.q.Memory > 0 }

// of names what the quota is of.
func (h *hold) of() string {
	if h.memory() {
		return "memory"
	}
	return "cpu"
}

// counter returns how often the container has met its limit.
func (h *hold) counter(s container.StatsResponse) int64 {
	if h.memory() {
		return int64(s.MemoryStats.Failcnt)
	}
	return int64(s.CPUStats.ThrottlingData.ThrottledPeriods)
}

// look counts, for which some engines take a second. A container that has ended has no
// counters any more.
func (h *hold) look(ctx context.Context) {
	if s, err := h.l.stats(ctx); err == nil {
		h.count = max(h.count, h.counter(s)-h.began)
	}
	if h.memory() && h.l.Starved() {
		h.count = max(h.count, 1)
	}
}

// release lifts a quota. What the system is about to end for want of memory has ended then.
func (c *Container) release(ctx context.Context, h *hold) error {
	c.confining.Lock()
	if c.held[h.of()] != h {
		c.confining.Unlock()
		return nil
	}
	defer c.confining.Unlock()
	if err := c.lift(ctx, h); err != nil {
		return err
	}
	delete(c.held, h.of())
	if h.memory() {
		h.l.settle(ctx)
	}
	h.look(ctx)
	return nil
}

// lift takes a limit back, from a container that is there.
func (c *Container) lift(ctx context.Context, h *hold) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	none := container.Resources{CPUPeriod: cpuPeriod.Microseconds(), CPUQuota: -1}
	if h.memory() {
		none = container.Resources{Memory: unlimited, MemorySwap: 2*unlimited - 4096} // of both together, in whole pages
	}
	again := time.NewTicker(pauseGap)
	defer again.Stop()
	for {
		err := c.update(ctx, none)
		if err == nil || errdefs.IsNotFound(err) {
			return nil
		}
		select { // of one that is just ending nothing can be changed
		case <-again.C:
		case <-ctx.Done():
			return err
		}
	}
}

func (c *Container) update(ctx context.Context, r container.Resources) error {
	if _, err := c.engine.docker.ContainerUpdate(ctx, c.tc.GetContainerID(), client.ContainerUpdateOptions{Resources: &r}); err != nil {
		return fmt.Errorf("limit %s: %w", c.opts.Name, err)
	}
	return nil
}

// free lifts all quotas that are left of a life that has ended. The caller starts another.
func (c *Container) free(ctx context.Context) error {
	c.confining.Lock()
	defer c.confining.Unlock()
	for of, h := range c.held {
		h.look(ctx)
		if err := c.lift(ctx, h); err != nil {
			return err
		}
		delete(c.held, of)
	}
	return nil
}

// settle waits until the container runs, with no process in it whose end nobody has seen yet,
// which some never do, or has ended.
func (l *Life) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	again := time.NewTicker(pauseGap)
	defer again.Stop()
	late := time.Now().Add(drainTime)
	for {
		top, err := l.c.engine.docker.ContainerTop(ctx, l.c.tc.GetContainerID(), client.ContainerTopOptions{})
		dead := func(row []string) bool { return strings.HasSuffix(strings.Join(row, " "), "<defunct>") }
		if err == nil && (!slices.ContainsFunc(top.Processes, dead) || time.Now().After(late)) {
			return
		}
		select {
		case <-again.C:
		case <-l.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// stats returns the counters of the container.
func (l *Life) stats(ctx context.Context) (s container.StatsResponse, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	got, err := l.c.engine.docker.ContainerStats(ctx, l.c.tc.GetContainerID(), client.ContainerStatsOptions{})
	if err != nil {
		return s, fmt.Errorf("count what %s uses: %w", l.c.opts.Name, err)
	}
	defer got.Body.Close()
	if err := json.NewDecoder(got.Body).Decode(&s); err != nil {
		return s, fmt.Errorf("count what %s uses: %w", l.c.opts.Name, err)
	}
	return s, nil
}

// starving waits a moment for the engine to say that the container has ended for want of
// memory.
func (l *Life) starving(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	again := time.NewTicker(pauseGap)
	defer again.Stop()
	for {
		got, err := l.c.engine.docker.ContainerInspect(ctx, l.c.tc.GetContainerID(), client.ContainerInspectOptions{})
		if err == nil && got.Container.State.OOMKilled {
			return true
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return false
		}
	}
}

// Starved reports whether the container has ended because the quota of Confine left it no
// memory.
func (l *Life) Starved() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.starved
}
