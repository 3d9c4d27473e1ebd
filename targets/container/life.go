package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/child"
)

const (
	killTime  = 10 * time.Second // as child's
	drainTime = time.Second      // for the last output to come out
	pauseGap  = 20 * time.Millisecond
	sigkill   = 9
	unseen    = 255 // the code of a container whose end was not seen
)

// Life is one start of a container, until its end.
type Life struct {
	c    *Container
	out  *child.Output
	done chan struct{}

	mu      sync.Mutex // guards the rest
	sent    string     // the signal by which we have ended it; "" for none
	hungry  bool       // it has had a limit of memory
	status  string
	code    int
	starved bool
}

// Start starts the container. One that ran before must have ended.
func (c *Container) Start(ctx context.Context) (*Life, error) {
	l := &Life{c: c, out: child.NewOutput(c.opts.Name, c.opts.Emit, "stdout", "stderr"), done: make(chan struct{})}
	if err := c.free(ctx); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.opts.Name, err)
	}
	docker, id := c.engine.docker, c.tc.GetContainerID()
	// Both go on until the container has ended, whatever becomes of ctx.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	stream, err := docker.ContainerAttach(life, id, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		end()
		return nil, fmt.Errorf("start %s: %w", c.opts.Name, err)
	}
	exit := docker.ContainerWait(life, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	started, cancel := context.WithTimeout(ctx, createTime)
	defer cancel()
	if err := c.tc.Start(started); err != nil {
		end()
		stream.Close()
		return nil, fmt.Errorf("start %s: %w", c.opts.Name, err)
	}
	go func() {
		defer end()
		l.live(life, stream, exit)
	}()
	return l, nil
}

// live passes on what is printed, waits for the end and reports it.
func (l *Life) live(ctx context.Context, stream client.ContainerAttachResult, exit client.ContainerWaitResult) {
	printed := make(chan struct{})
	go func() {
		defer close(printed)
		l.print(stream.Reader)
	}()
	e := harness.Event{Kind: harness.Exit, Step: -1, Name: l.c.opts.Name}
	code, lost := l.wait(ctx, exit)
	if e.Value, e.Text = float64(code), fmt.Sprintf("exit status %d", code); lost != nil {
		e.Text = fmt.Sprintf("its end was not seen: %v", lost)
	}
	late := time.NewTimer(drainTime)
	defer late.Stop()
	select {
	case <-printed:
	case <-late.C:
	}
	stream.Close()
	<-printed
	l.mu.Lock()
	hungry := l.hungry && l.sent == "" && code == 128+sigkill
	l.mu.Unlock()
	starved := hungry && l.starving(ctx)
	l.mu.Lock()
	// A container that crashes while it is about to be ended has crashed. One that was lost
	// from sight together with its engine accuses nobody.
	if lost != nil || l.sent == "SIGTERM" || l.sent == "SIGKILL" && e.Value == 128+sigkill || starved {
		e.Args = harness.Args{{Key: "expected", Value: harness.Value{Form: harness.FormJSON, Text: "true"}}}
	}
	if code == 128+sigkill {
		e.Text = "signal: killed"
	}
	if starved {
		e.Text += ", for want of memory"
	}
	l.status, l.code, l.starved = e.Text, int(e.Value), starved
	l.mu.Unlock()
	l.c.opts.Emit(e)
	close(l.done)
}

// wait waits for the container to end and returns its exit code. Where the engine stops
// answering meanwhile, the container is asked for, and waited for once more while it runs.
func (l *Life) wait(ctx context.Context, exit client.ContainerWaitResult) (code int, err error) {
	docker, id := l.c.engine.docker, l.c.tc.GetContainerID()
	for {
		select {
		case r := <-exit.Result:
			return int(r.StatusCode), nil
		case err = <-exit.Error:
		}
		asked, cancel := context.WithTimeout(ctx, killTime)
		got, failed := docker.ContainerInspect(asked, id, client.ContainerInspectOptions{})
		cancel()
		switch {
		case failed != nil:
			return unseen, fmt.Errorf("%w; %w", err, failed)
		case !got.Container.State.Running:
			return got.Container.State.ExitCode, nil
		}
		select { // an engine that refuses at once is not asked without a pause
		case <-time.After(drainTime):
		case <-ctx.Done():
			return unseen, ctx.Err()
		}
		exit = docker.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	}
}

// print splits the stream in which both outputs come.
func (l *Life) print(stream io.Reader) {
	outR, outW := io.Pipe()
	errR, errW := io.Pipe()
	var both sync.WaitGroup
	both.Go(func() { l.out.Read("stdout", outR) })
	both.Go(func() { l.out.Read("stderr", errR) })
	_, _ = stdcopy.StdCopy(outW, errW, stream) // it ends with the container
	outW.Close()
	errW.Close()
	both.Wait()
}

// Done is closed when the container has ended and its output and its Exit event have been
// handed over.
func (l *Life) Done() <-chan struct{} { return l.done }

// Exited returns how the container ended, as "exit status 1", and its exit code. It waits
// for Done.
func (l *Life) Exited() (status string, code int) {
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status, l.code
}

// Tail returns the last lines that were printed.
func (l *Life) Tail() []string { return l.out.Tail() }

// Refill lets each stream pass on as much again as at the start.
func (l *Life) Refill() { l.out.Refill() }

// Await returns a channel that is closed when a line that ends in token has been read: see
// child.Output.
func (l *Life) Await(lane, token string) (seen <-chan struct{}, forget func()) {
	return l.out.Await(lane, token)
}

// processes counts what runs in the container; 1 where the engine cannot list that.
func (l *Life) processes(ctx context.Context) int {
	top, err := l.c.engine.docker.ContainerTop(ctx, l.c.tc.GetContainerID(), client.ContainerTopOptions{})
	if err != nil {
		return 1
	}
	return max(len(top.Processes), 1)
}

// Pause stops all processes of the container and returns how many were then seen stopped.
// That it is paused already is no error.
func (l *Life) Pause(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	docker, id := l.c.engine.docker, l.c.tc.GetContainerID()
	n := l.processes(ctx)
	again := time.NewTicker(pauseGap)
	defer again.Stop()
	for {
		// On a busy machine the processes of a container do not always freeze at once: some
		// engines then give up and thaw them.
		_, failed := docker.ContainerPause(ctx, id, client.ContainerPauseOptions{})
		got, err := docker.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		switch {
		case err != nil:
			return 0, fmt.Errorf("pause %s: %w", l.c.opts.Name, errors.Join(failed, err))
		case !got.Container.State.Running:
			return 0, nil // it has ended meanwhile
		case got.Container.State.Paused:
			return n, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("pause %s: its container is %s: %w", l.c.opts.Name, got.Container.State.Status, errors.Join(failed, ctx.Err()))
		}
	}
}

// LimitFiles is not possible for a container that runs.
func (l *Life) LimitFiles(int) (n int, lift func() error, err error) {
	return 0, nil, fmt.Errorf("the files of a container that runs cannot be limited: %w", harness.ErrNotHere)
}

// ClockFixed says why the clock of a container cannot be moved.
func ClockFixed() error {
	return fmt.Errorf("the clock of a container cannot be moved: that takes a process of our own, as with provide: local: %w", harness.ErrNotHere)
}

// SetClock is not possible for a container.
func (l *Life) SetClock(context.Context, time.Duration) (n int, err error) { return 0, ClockFixed() }

// Resume lets a paused container go on, and returns how many processes that were.
func (l *Life) Resume(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	docker, id := l.c.engine.docker, l.c.tc.GetContainerID()
	got, err := docker.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) || err == nil && !got.Container.State.Paused {
		return 0, nil
	}
	n := l.processes(ctx)
	if err == nil {
		_, err = docker.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
	}
	if err != nil {
		return 0, fmt.Errorf("resume %s: %w", l.c.opts.Name, err)
	}
	return n, nil
}

// Kill ends all processes of the container at once, waits until Done is closed, and returns
// how many that were. A cancelled ctx does not leave any behind.
func (l *Life) Kill(ctx context.Context) (int, error) {
	select {
	case <-l.done:
		return 0, nil
	default:
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	n := l.processes(ctx)
	return n, l.end(ctx, "SIGKILL")
}

// Stop asks the container's program to end with SIGTERM, gives it so much grace, and then
// kills what is left. It may be called twice.
func (l *Life) Stop(ctx context.Context, grace time.Duration) error {
	soft, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if _, err := l.Resume(ctx); err == nil && l.end(soft, "SIGTERM") == nil {
		return nil
	}
	_, err := l.Kill(ctx)
	return err
}

// end sends a signal and waits for the end.
func (l *Life) end(ctx context.Context, signal string) error {
	l.mu.Lock()
	if l.sent == "" {
		l.sent = signal
	}
	l.mu.Unlock()
	docker, id := l.c.engine.docker, l.c.tc.GetContainerID()
	_, err := docker.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: signal})
	if errdefs.IsConflict(err) || errdefs.IsNotFound(err) { // it has ended
		err = nil
	}
	if err == nil && signal == "SIGKILL" {
		// One that is frozen takes the signal when it thaws.
		_, _ = docker.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
	}
	if err != nil {
		return fmt.Errorf("end %s: %w", l.c.opts.Name, err)
	}
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end %s: %w", l.c.opts.Name, errors.Join(ctx.Err(), errors.New("its container has not ended")))
	}
}
