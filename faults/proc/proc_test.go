package proc_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/faults/proc"
	"github.com/shakedown-go/shakedown/harness"
)

// tree is a shell with a child, in a process group of its own.
type tree struct {
	cmd    *exec.Cmd
	pids   [2]string // of the shell and of its child
	starts int
	broken error // what its methods return, and nothing is done
	late   error // what Kill returns when it has killed
	down   int   // how many starts fail
	limit  int   // of files
	quota  harness.Quota
}

// start does nothing where it runs.
func (p *tree) start(ctx context.Context) error {
	if p.cmd != nil && p.cmd.ProcessState == nil {
		return nil
	}
	if p.down > 0 {
		p.down--
		return errNotReady
	}
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), "sh", "-c", "sleep 600 & echo $$ $!; wait")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.starts++
	line, err := bufio.NewReader(out).ReadString('\n')
	copy(p.pids[:], strings.Fields(line))
	return err
}

func (p *tree) signal(s syscall.Signal) error { return syscall.Kill(-p.cmd.Process.Pid, s) }

func (p *tree) Kill(context.Context) (int, func(context.Context) error, error) {
	if p.broken != nil {
		return 0, nil, p.broken
	}
	err := errors.Join(p.late, p.signal(syscall.SIGKILL))
	p.cmd.Wait()
	return len(p.pids), p.start, err
}

func (p *tree) LimitFiles(_ context.Context, more int) (int, func(context.Context) error, error) {
	if p.broken != nil {
		return 0, nil, p.broken
	}
	p.limit = more
	return len(p.pids), func(context.Context) error { p.limit = -1; return nil }, nil
}

func (p *tree) Jump(context.Context, time.Duration) (harness.Injection, error) {
	return harness.Injection{}, harness.ErrNotHere
}

func (p *tree) Confine(_ context.Context, q harness.Quota) (harness.Injection, error) {
	if p.broken != nil {
		return harness.Injection{}, p.broken
	}
	p.quota = q
	return harness.Injection{
		Heal:  func(context.Context) error { p.quota = harness.Quota{}; return nil },
		Acted: func() int64 { return 3 },
	}, nil
}

func (p *tree) Pause(context.Context) (int, func(context.Context) error, error) {
	resume := func(context.Context) error { return p.signal(syscall.SIGCONT) }
	return len(p.pids), resume, errors.Join(p.broken, p.signal(syscall.SIGSTOP))
}

// states returns the state letters of both processes in /proc; "-" is for one that is gone.
func (p *tree) states() string {
	var out string
	for _, pid := range p.pids {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		_, rest, found := strings.Cut(string(stat), ") ")
		switch {
		case err != nil || !found || rest[0] == 'Z':
			out += "-"
		default:
			out += rest[:1]
		}
	}
	return out
}

var errNotReady = errors.New("it is not ready")

type world struct{ p harness.Proc }

func (w world) Proc(name string) (harness.Proc, error) {
	if name != "db" {
		return nil, fmt.Errorf("no process %s", name)
	}
	return w.p, nil
}
func (world) Link(string) (harness.Link, error)   { return nil, errors.New("no link") }
func (world) Store(string) (harness.Store, error) { return nil, errors.New("no store") }
func (world) Agent(string) (harness.Agent, error) { return nil, errors.New("no agent") }

func eventually(t *testing.T, p *tree, want string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); p.states() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the processes are %s, want %s", p.states(), want)
		}
	}
}

func TestProcessFaults(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("process states are read from /proc")
	}
	tests := []struct {
		fault  *harness.Fault
		during string
		starts int
	}{
		{proc.Kill, "--", 2},
		{proc.Pause, "TT", 1},
		{proc.Restart, "SS", 2},
	}
	for _, tt := range tests {
		t.Run(tt.fault.Name, func(t *testing.T) {
			t.Parallel()
			p := &tree{}
			if err := p.start(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				p.signal(syscall.SIGKILL)
				p.cmd.Wait()
			})
			first := p.pids
			args := harness.Args{{Key: "proc", Value: harness.Text("db")}}
			inj, err := tt.fault.Inject(t.Context(), world{p}, args, nil)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, p, tt.during)
			if err := inj.Heal(t.Context()); err != nil {
				t.Fatal(err)
			}
			eventually(t, p, "SS")
			if p.starts != tt.starts || (p.pids == first) != (tt.starts == 1) {
				t.Errorf("started %d times, want %d", p.starts, tt.starts)
			}
			if n := inj.Acted(); n != 2 || inj.Unit != "processes" {
				t.Errorf("acted on %d %s", n, inj.Unit)
			}

			p.broken = errors.New("not permitted")
			if _, err := tt.fault.Inject(t.Context(), world{p}, args, nil); !errors.Is(err, p.broken) || !strings.Contains(err.Error(), "db") {
				t.Errorf("a process that cannot be disturbed: %v", err)
			}
			if _, err := tt.fault.Inject(t.Context(), world{p}, args.Set("proc", harness.Text("cache")), nil); err == nil {
				t.Error("a process that there is not: no error")
			}
		})
	}
}

func TestFilesAreLimitedUntilTheHeal(t *testing.T) {
	t.Parallel()
	p := &tree{limit: -1}
	args := proc.Files.Fill(harness.Args{{Key: "proc", Value: harness.Text("db")}, {Key: "more", Value: harness.Text("7")}})
	inj, err := proc.Files.Inject(t.Context(), world{p}, args, nil)
	if err != nil || p.limit != 7 || inj.Acted() != 2 || inj.Unit != "processes" {
		t.Fatalf("limit %d, acted %d %s, %v", p.limit, inj.Acted(), inj.Unit, err)
	}
	if err := inj.Heal(t.Context()); err != nil || p.limit != -1 {
		t.Errorf("limit %d, %v", p.limit, err)
	}
	p.broken = harness.ErrNotHere
	if _, err := proc.Files.Inject(t.Context(), world{p}, args, nil); !errors.Is(err, harness.ErrNotHere) || !strings.Contains(err.Error(), "db") {
		t.Errorf("where there is no limit: %v", err)
	}
}

func TestQuotasHoldUntilTheHeal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		fault *harness.Fault
		args  harness.Args
		want  harness.Quota
	}{
		{proc.Memory, nil, harness.Quota{Memory: 1 << 20}},
		{proc.Memory, harness.Args{{Key: "more", Value: harness.Text("64")}}, harness.Quota{Memory: 64 << 20}},
		{proc.CPU, nil, harness.Quota{CPU: 20}},
		{proc.CPU, harness.Args{{Key: "share", Value: harness.Text("3")}}, harness.Quota{CPU: 3}},
	} {
		p := &tree{}
		args := tt.fault.Fill(append(harness.Args{{Key: "proc", Value: harness.Text("db")}}, tt.args...))
		inj, err := tt.fault.Inject(t.Context(), world{p}, args, nil)
		if err != nil || p.quota != tt.want || inj.Acted() != 3 || inj.Unit != tt.fault.Unit {
			t.Fatalf("%s: quota %+v, want %+v; acted %d %s, %v", tt.fault.Name, p.quota, tt.want, inj.Acted(), inj.Unit, err)
		}
		if err := inj.Heal(t.Context()); err != nil || p.quota != (harness.Quota{}) {
			t.Errorf("%s: healed, but %+v, %v", tt.fault.Name, p.quota, err)
		}
		inj, err = tt.fault.Inject(t.Context(), world{p}, args.Set("ttl", harness.Text("1ms")), nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		if err := inj.Heal(t.Context()); !errors.Is(err, harness.ErrExpired) || p.quota != (harness.Quota{}) {
			t.Errorf("%s: its time was over, but %+v, %v", tt.fault.Name, p.quota, err)
		}
		p.broken = harness.ErrNotHere
		if _, err := tt.fault.Inject(t.Context(), world{p}, args, nil); !errors.Is(err, harness.ErrNotHere) || !strings.Contains(err.Error(), "db") {
			t.Errorf("%s: where there is no quota: %v", tt.fault.Name, err)
		}
		if _, err := tt.fault.Inject(t.Context(), world{p}, args.Set("proc", harness.Text("cache")), nil); err == nil {
			t.Errorf("%s: a process that there is not: no error", tt.fault.Name)
		}
	}
}

func TestSlowStopsAndGoesOnByTurns(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("process states are read from /proc")
	}
	p := &tree{}
	if err := p.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		p.cmd.Wait()
	})
	args := proc.Slow.Fill(harness.Args{{Key: "proc", Value: harness.Text("db")}})
	inj, err := proc.Slow.Inject(t.Context(), world{p}, args.Set("share", harness.Text("50")), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		eventually(t, p, "TT")
		eventually(t, p, "SS")
	}
	if err := inj.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := p.states(); got != "SS" {
		t.Errorf("healed, but the processes are %s", got)
	}
	if n := inj.Acted(); n < 3 || inj.Unit != "pauses" {
		t.Errorf("acted: %d %s", n, inj.Unit)
	}
	time.Sleep(150 * time.Millisecond)
	if got := p.states(); got != "SS" {
		t.Errorf("stopped again after the heal: %s", got)
	}
	p.broken = errors.New("not permitted")
	if _, err := proc.Slow.Inject(t.Context(), world{p}, args, nil); !errors.Is(err, p.broken) || !strings.Contains(err.Error(), "db") {
		t.Errorf("a process that cannot be paused: %v", err)
	}
}

func TestWhatWasEndedIsStartedByTheHeal(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("process states are read from /proc")
	}
	late := errors.New("its output did not end")
	tests := []struct {
		name   string
		fault  *harness.Fault
		late   error
		down   int
		during string
		heal   error
	}{
		{"restart, the start fails", proc.Restart, nil, 1, "--", nil},
		{"restart, the start fails twice", proc.Restart, nil, 2, "--", errNotReady},
		{"restart, the kill is late", proc.Restart, late, 0, "SS", late},
		{"restart, both", proc.Restart, late, 1, "--", late},
		{"kill, late", proc.Kill, late, 0, "--", late},
		{"kill, the start fails", proc.Kill, nil, 1, "--", errNotReady},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := &tree{}
			if err := p.start(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				p.signal(syscall.SIGKILL)
				p.cmd.Wait()
			})
			p.late, p.down = tt.late, tt.down
			inj, err := tt.fault.Inject(t.Context(), world{p}, harness.Args{{Key: "proc", Value: harness.Text("db")}}, nil)
			if err != nil {
				t.Fatalf("it was ended, but is not in force: %v", err)
			}
			eventually(t, p, tt.during)
			if n := inj.Acted(); n != 2 {
				t.Errorf("acted on %d processes", n)
			}
			err = inj.Heal(t.Context())
			if !errors.Is(err, tt.heal) || tt.heal == nil && err != nil {
				t.Errorf("the heal says %v, want %v", err, tt.heal)
			}
			if !errors.Is(err, errNotReady) {
				eventually(t, p, "SS")
			}
		})
	}
}

// watched tells when what its faults have done is undone.
type watched struct {
	*tree
	healed chan struct{}
}

func (w watched) undo(n int, heal func(context.Context) error, err error) (int, func(context.Context) error, error) {
	return n, func(ctx context.Context) error {
		defer close(w.healed)
		return heal(ctx)
	}, err
}

func (w watched) Kill(ctx context.Context) (int, func(context.Context) error, error) {
	return w.undo(w.tree.Kill(ctx))
}

func (w watched) Pause(ctx context.Context) (int, func(context.Context) error, error) {
	return w.undo(w.tree.Pause(ctx))
}

// A process that nobody lets go on, or starts again, is not left as it is for good.
func TestTimeToLive(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("process states are read from /proc")
	}
	for _, f := range []*harness.Fault{proc.Kill, proc.Pause} {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			p := watched{&tree{}, make(chan struct{})}
			if err := p.start(t.Context()); err != nil {
				t.Fatal(err)
			}
			args := f.Fill(harness.Args{{Key: "proc", Value: harness.Text("db")}, {Key: "ttl", Value: harness.Text("100ms")}})
			inj, err := f.Inject(t.Context(), world{p}, args, nil)
			if err != nil {
				t.Fatal(err)
			}
			select {
			case <-p.healed:
			case <-time.After(10 * time.Second):
				t.Error("it is still in force")
			}
			if err := inj.Heal(t.Context()); !errors.Is(err, harness.ErrExpired) {
				t.Errorf("the heal says %v, want %v", err, harness.ErrExpired)
			}
			eventually(t, p.tree, "SS")
			p.signal(syscall.SIGKILL)
			p.cmd.Wait()
		})
	}
}
