// Package child runs programs as children of the harness. A child has its own process
// group, so that a terminal's Ctrl-C does not reach it first; every line it prints becomes
// an event; and what is done to it is done to its whole tree of processes, whatever
// sessions and groups they have moved to.
package child

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

const (
	// treeVar marks the members of a tree, so that they are found when their parents
	// are gone: it is inherited by everything that the child starts. Its value is the
	// identity of the harness, a point, and something random.
	treeVar = "SHAKEDOWN_TREE"

	// home is what the names of a harness's directories begin with.
	home = "shakedown-"

	// drainTime is how long a stream may stay open after the child itself has ended:
	// something that it started may hold it and outlive it.
	drainTime = time.Second

	// killTime bounds the wait for killed processes to be gone, and for stopped ones to
	// have stopped. It goes on when the caller's context is cancelled.
	killTime = 10 * time.Second

	poll = time.Millisecond
)

// Options say what to start.
type Options struct {
	Name       string              // of the events; zero means the last element of Path
	Path       string              // of the program; a bare name is looked up in PATH
	Args       []string            // without the program's name
	Env        []string            // the whole environment; nil means Environ()
	Dir        string              // zero means the harness's own
	Files      []*os.File          // inherited as descriptors 3, 4, ...; the caller closes its own
	Streams    []string            // lanes of further output pipes, inherited after Files
	Credential *syscall.Credential // the user to run as; nil means the harness's own

	// Emit takes an Output event for each line and one Exit event at the end. It is
	// called from several goroutines. Nil drops them.
	Emit func(harness.Event)
}

// Child is a started program and all that it started.
type Child struct {
	name  string
	emit  func(harness.Event)
	out   *Output
	cmd   *exec.Cmd
	mark  string // the entry of the environment that marks the tree
	root  member
	pumps []pump
	done  chan struct{}

	limiting sync.Mutex // guards files
	files    files

	confining sync.Mutex // guards groups; taken before mu
	groups    groups

	mu      sync.Mutex // guards the rest
	sent    syscall.Signal
	code    int
	status  string
	starved bool
	known   map[int]member // the members seen by the last scan, by pid
}

// Environ returns what a child gets of the harness's environment: who and where it is,
// the language, the time zone, the certificates, and what the Go runtime looks at. The
// rest may well be addresses and secrets of some other place, exported in the shell.
func Environ() []string {
	var out []string
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "LC_") || slices.Contains(inherited(), name) {
			out = append(out, e)
		}
	}
	return out
}

func inherited() []string {
	return []string{
		"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
		"LANG", "LANGUAGE", "TZ", "TZDIR", "ZONEINFO", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK",
	}
}

// treeMark is what the marks of all trees of a harness begin with.
func treeMark(harness string) string { return treeVar + "=" + harness + "." }

// identities are what Harness returns.
var identities = regexp.MustCompile(`^[0-9]+-[0-9]+$`)

// Home is what the names of this harness's directories begin with; a number follows. What
// works below such a directory and has no mark any more is known by that.
func Home() string { return home + Harness() + "-" }

// Mark returns an entry for the environment of a program that something else than Start
// starts, and all that this one starts: by it they are found when the harness has died.
func Mark() string { return treeMark(Harness()) + rand.Text() }

// Start starts a program. Where the system allows it, the child dies with the harness.
func Start(o Options) (*Child, error) {
	if o.Name == "" {
		o.Name = o.Path[strings.LastIndexByte(o.Path, '/')+1:]
	}
	if o.Emit == nil {
		o.Emit = func(harness.Event) {}
	}
	if o.Env == nil {
		o.Env = Environ()
	}
	c := &Child{
		name:  o.Name,
		emit:  o.Emit,
		cmd:   exec.Command(o.Path, o.Args...),
		mark:  Mark(),
		done:  make(chan struct{}),
		known: map[int]member{},
	}
	c.cmd.Dir = o.Dir
	c.cmd.Env = append(o.Env[:len(o.Env):len(o.Env)], c.mark)
	c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, o.Files...)
	c.cmd.SysProcAttr = attributes(o.Credential)

	var ends []*os.File // the child's ends of the pipes
	closeAll := func(fs []*os.File) {
		for _, f := range fs {
			f.Close()
		}
	}
	lanes := append([]string{"stdout", "stderr"}, o.Streams...)
	c.out = NewOutput(o.Name, o.Emit, lanes...)
	for i, lane := range lanes {
		r, w, err := os.Pipe()
		if err != nil {
			for _, p := range c.pumps {
				p.r.Close()
			}
			closeAll(ends)
			return nil, fmt.Errorf("start %s: %w", o.Name, err)
		}
		ends = append(ends, w)
		c.pumps = append(c.pumps, pump{lane, r})
		switch i {
		case 0:
			c.cmd.Stdout = w
		case 1:
			c.cmd.Stderr = w
		default:
			c.cmd.ExtraFiles = append(c.cmd.ExtraFiles, w)
		}
	}
	started := make(chan error, 1)
	go c.live(started)
	err := <-started
	closeAll(ends)
	if o.Credential != nil && errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w: it runs as user %d, who must be able to enter the scratch directory: TMPDIR says where that is", err, o.Credential.Uid)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", o.Name, err)
	}
	return c, nil
}

// live starts the program, waits for it and reports its end. The signal that the system
// sends a child at its parent's death is sent at the death of the parent's thread, so
// the thread that started it stays.
func (c *Child) live(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := c.cmd.Start(); err != nil {
		for _, p := range c.pumps {
			p.r.Close()
		}
		started <- err
		return
	}
	c.root = rootMember(c.cmd.Process.Pid)
	started <- nil
	var streams sync.WaitGroup
	for _, p := range c.pumps {
		streams.Go(func() { p.run(c.out) })
	}
	_ = c.cmd.Wait() // what it says is in the state, too
	c.mu.Lock()
	sent := c.sent
	c.mu.Unlock()
	for _, p := range c.pumps {
		p.r.SetReadDeadline(time.Now().Add(drainTime))
	}
	streams.Wait()

	e := harness.Event{Kind: harness.Exit, Step: -1, Name: c.name}
	e.Text, e.Value = "its end was not seen", 255
	var killed bool
	if st := c.cmd.ProcessState; st != nil {
		e.Text, e.Value = st.String(), float64(st.ExitCode())
		if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Value = float64(128 + int(ws.Signal()))
			killed = ws.Signal() == syscall.SIGKILL
		}
	}
	starved := killed && sent == 0 && c.starving()
	if starved {
		e.Text += ", for want of memory"
	}
	// A child that crashes while it is about to be killed has crashed.
	if sent == syscall.SIGTERM || sent == syscall.SIGKILL && killed || starved {
		e.Args = harness.Args{{Key: "expected", Value: harness.Value{Form: harness.FormJSON, Text: "true"}}}
	}
	c.mu.Lock()
	c.status, c.code, c.starved = e.Text, int(e.Value), starved
	c.mu.Unlock()
	c.emit(e)
	close(c.done)
}

// Pid returns the process id of the program itself.
func (c *Child) Pid() int { return c.root.pid }

// Done is closed when the program has ended and its output and its Exit event have been
// handed over. What it started may still run: see Kill.
func (c *Child) Done() <-chan struct{} { return c.done }

// Exited returns how the program ended, as "exit status 1", and its exit code, or 128
// and the signal. It waits for Done.
func (c *Child) Exited() (status string, code int) {
	<-c.done
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status, c.code
}

// Starved reports whether the program has ended because the quota of Confine left it no
// memory.
func (c *Child) Starved() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.starved
}

// Tail returns the last lines that the child has printed, on all its streams.
func (c *Child) Tail() []string { return c.out.Tail() }

// Refill lets each stream pass on as much again as at the start.
func (c *Child) Refill() { c.out.Refill() }

// Await returns a channel that is closed when a line that ends in token has been read: see
// Output.Await.
func (c *Child) Await(lane, token string) (seen <-chan struct{}, forget func()) {
	return c.out.Await(lane, token)
}

// terminate sends SIGTERM to the program itself. One that has ended before has not ended
// because of it.
func (c *Child) terminate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err == nil && c.sent == 0 {
		c.sent = syscall.SIGTERM
	}
}

// Tree returns the process ids of the program, while it runs, and of all that it
// started, in ascending order.
func (c *Child) Tree() []int {
	var out []int
	for _, m := range c.members() {
		out = append(out, m.pid)
	}
	return out
}

// Resident returns how many bytes of memory the tree has resident; what its processes share
// counts for each. An error says that this system does not tell.
func (c *Child) Resident() (int64, error) {
	var sum int64
	for _, m := range c.members() {
		n, err := m.resident()
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}

// Signal sends a signal to the whole tree until no member is left that has not had it,
// and returns how many processes had it.
func (c *Child) Signal(sig syscall.Signal) int {
	had := map[member]bool{}
	for {
		n := len(had)
		for _, m := range c.members() {
			if !had[m.identity()] && m.signal(sig) == nil {
				had[m.identity()] = true
			}
		}
		if len(had) == n {
			return n
		}
	}
}

// Pause stops the whole tree and returns how many processes were then seen stopped.
func (c *Child) Pause(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	for {
		c.Signal(syscall.SIGSTOP)
		stopped, all := 0, true
		for _, m := range c.members() {
			if m.stopped() {
				stopped++
			} else {
				all = false
			}
		}
		if all {
			return stopped, nil
		}
		if err := wait(ctx, poll); err != nil {
			return stopped, fmt.Errorf("pause %s: only %d of %d processes have stopped", c.name, stopped, len(c.Tree()))
		}
	}
}

// Resume lets a paused tree go on, and returns how many processes were told to. It does
// not fail.
func (c *Child) Resume(context.Context) (int, error) { return c.Signal(syscall.SIGCONT), nil }

// Kill ends the whole tree at once, waits until all of it is gone and Done is closed,
// and returns how many processes it ended. A cancelled ctx does not leave any behind.
func (c *Child) Kill(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer cancel()
	c.mu.Lock()
	if c.sent == 0 {
		c.sent = syscall.SIGKILL
	}
	c.mu.Unlock()
	// What is stopped starts nothing: without this, a process that was started in
	// between would lose its parent, and with it the trace that leads here.
	still, enough := context.WithTimeout(ctx, 50*time.Millisecond)
	defer enough()
	_, _ = c.Pause(still)
	had := map[member]bool{}
	for {
		ms := c.members()
		for _, m := range ms {
			if m.signal(syscall.SIGKILL) == nil {
				had[m.identity()] = true
			}
		}
		if len(ms) == 0 {
			break
		}
		if wait(ctx, poll) != nil {
			return len(had), fmt.Errorf("kill %s: processes %v are still there after %s", c.name, c.Tree(), killTime)
		}
	}
	select {
	case <-c.done:
		return len(had), c.dissolve(ctx)
	case <-ctx.Done():
		return len(had), errors.Join(fmt.Errorf("kill %s: its output did not end within %s", c.name, killTime), c.dissolve(ctx))
	}
}

// Stop asks the program to end with SIGTERM, gives it so much grace, and then kills what
// is left of its tree. It may be called twice.
func (c *Child) Stop(ctx context.Context, grace time.Duration) error {
	select {
	case <-c.done:
	default:
		c.terminate()
		c.Signal(syscall.SIGCONT) // a stopped process takes no SIGTERM
		t := time.NewTimer(grace)
		defer t.Stop()
		select {
		case <-c.done:
		case <-t.C:
		case <-ctx.Done():
		}
	}
	_, err := c.Kill(ctx)
	return err
}

// wait waits a moment, or fails because ctx has ended.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
