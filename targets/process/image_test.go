package process

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/link"
	"github.com/shakedown-go/shakedown/targets/container"
	"github.com/shakedown-go/shakedown/targets/providers"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// needDocker skips the test where no engine answers, or fails it where SHAKEDOWN_REQUIRE
// names docker.
func needDocker(t *testing.T) {
	t.Helper()
	e, err := container.Connect(t.Context(), 0)
	switch {
	case err == nil:
		e.Close()
	case slices.Contains(strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ","), "docker"):
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

// boxed is the description of the service that does on request what services do by accident,
// in an image.
func boxed(t *testing.T, mode string) *spec.File {
	t.Helper()
	f := file(t, mode)
	f.Service.Build, f.Service.Dockerfile = "", "Dockerfile"
	delete(f.Service.Env, "HERE")
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "svc"), "./cmd/svcd")
	build.Dir, build.Env = f.Dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f.Dir = dir
	dockerfile := "FROM scratch\nCOPY svc /svc\nENTRYPOINT [\"/svc\"]\n"
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// openBoxed opens a system, and wants that no container of it is left at the end.
func openBoxed(t *testing.T, f *spec.File) *System {
	t.Helper()
	var s *System
	t.Cleanup(func() {
		exec.Command("docker", "image", "prune", "--all", "--force", "--filter", "label="+container.FileLabel+"="+filepath.Join(f.Dir, "Dockerfile")).Run()
	})
	s = open(t, f, Options{})
	run := s.scratch.dir
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		left, err := container.Left(context.Background(), run)
		if err != nil || len(left) > 0 {
			t.Errorf("containers are left: %s, %v", left, err)
		}
	})
	return s
}

func TestServiceInAContainer(t *testing.T) {
	t.Parallel()
	needDocker(t)
	s := openBoxed(t, boxed(t, "plain"))
	if s.Target.Caps != harness.CapProcs|harness.CapOutput || s.Target.Build.Module != "" || len(s.Target.Build.SHA256) != 64 {
		t.Errorf("caps %b, build %+v", s.Target.Caps, s.Target.Build)
	}
	l := &log{}
	in, err := s.Target.Start(t.Context(), harness.Setup{Emit: l.emit})
	if err != nil {
		t.Fatal(err)
	}
	i := in.(*instance)
	if env := get(t, i, "/env", time.Second); !strings.Contains(env, "MODE=plain\n") || strings.Contains(env, "SHAKEDOWN") {
		t.Errorf("its environment is %s", env)
	}
	if get(t, i, "/print", time.Second); quiesce(t, i) != "" {
		t.Error("it is worn by nothing")
	}
	until(t, "both streams are handed over", func() bool {
		return slices.Contains(l.lines("stdout"), "to stdout") && slices.ContainsFunc(l.lines("stderr"), func(s string) bool { return strings.HasPrefix(s, "mode plain") })
	})
	if _, err := i.Agent(harness.Service); err == nil {
		t.Error("there is an agent in a black box")
	}
	p, err := i.Proc(harness.Service)
	if err != nil {
		t.Fatal(err)
	}

	n, resume, err := p.Pause(t.Context())
	if n < 1 || err != nil {
		t.Fatalf("paused %d, %v", n, err)
	}
	if got := get(t, i, "/pid", 300*time.Millisecond); got != "" {
		t.Errorf("while it was paused, it answered %q", got)
	}
	if err := resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if get(t, i, "/pid", 5*time.Second) == "" {
		t.Error("no answer after the pause")
	}

	n, restart, err := p.Kill(t.Context())
	if n < 1 || err != nil {
		t.Fatalf("killed %d, %v", n, err)
	}
	if got := get(t, i, "/pid", time.Second); got != "" {
		t.Errorf("the dead answered %q", got)
	}
	if err := restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if get(t, i, "/pid", 5*time.Second) == "" {
		t.Error("no answer after the restart")
	}
	if worn := quiesce(t, i); worn != "" {
		t.Errorf("worn by a fault: %s", worn)
	}

	get(t, i, "/crash", time.Second)
	until(t, "the end is an event", func() bool { return slices.Contains(l.lines(""), "exit status 2") })
	if worn := quiesce(t, i); !strings.Contains(worn, "exit status 2") {
		t.Errorf("worn: %q", worn)
	}
	if !slices.Contains(l.lines("stderr"), "panic: the sky falls") {
		t.Errorf("stderr %q", l.lines("stderr"))
	}
	for range 2 {
		if err := i.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := container.Left(t.Context(), s.scratch.dir); err != nil || len(left) > 0 {
		t.Errorf("containers are left of an instance: %s, %v", left, err)
	}
}

func TestContainerThatDoesNotComeUpLeavesNothing(t *testing.T) {
	t.Parallel()
	needDocker(t)
	for mode, want := range map[string]string{
		"exits": "it ended before it was ready: exit status 1",
		"never": "it was not ready within 1s",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			f := boxed(t, mode)
			f.Service.Within = spec.Duration(time.Second)
			s := openBoxed(t, f)
			_, err := s.Target.Start(t.Context(), harness.Setup{})
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "mode "+mode) {
				t.Errorf("got %v\nwant %s", err, want)
			}
			if left, err := container.Left(t.Context(), s.scratch.dir); err != nil || len(left) > 0 {
				t.Errorf("containers are left: %s, %v", left, err)
			}
		})
	}
}

// mover is a store that is at another address after a restart.
type mover struct {
	providers.Dependency
	addr, next string
}

func (m *mover) Addr() string                { return m.addr }
func (m *mover) Proc() (harness.Proc, error) { return m, nil }

func (m *mover) Kill(context.Context) (int, func(context.Context) error, error) {
	return 1, func(context.Context) error { m.addr = m.next; return nil }, nil
}

func (m *mover) LimitFiles(context.Context, int) (int, func(context.Context) error, error) {
	return 0, nil, errors.ErrUnsupported
}

func (m *mover) Jump(context.Context, time.Duration) (harness.Injection, error) {
	return harness.Injection{}, errors.ErrUnsupported
}

func (m *mover) Confine(context.Context, harness.Quota) (harness.Injection, error) {
	return harness.Injection{Heal: func(context.Context) error { m.addr = m.next; return nil }}, nil
}

func (m *mover) Pause(context.Context) (int, func(context.Context) error, error) {
	return 1, func(context.Context) error { return nil }, nil
}

func TestLinkFollowsAStoreThatMoves(t *testing.T) {
	t.Parallel()
	says := func(words string) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var served sync.WaitGroup
		served.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, words)
				c.Close()
			}
		})
		t.Cleanup(func() { l.Close(); served.Wait() })
		return l.Addr().String()
	}
	m := &mover{addr: says("before"), next: says("after")}
	last := says("at last")
	l, err := link.Listen("db", m.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	e := &environment{stores: map[string]providers.Dependency{"db": m}, links: map[string]edge{"db": l}}
	hears := func() string {
		c, err := net.DialTimeout("tcp", l.Addr(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		b, _ := io.ReadAll(c)
		return string(b)
	}
	if got := hears(); got != "before" {
		t.Errorf("got %q", got)
	}
	p, err := e.proc("db")
	if err != nil {
		t.Fatal(err)
	}
	_, restart, err := p.Kill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := hears(); got != "after" {
		t.Errorf("after the restart: %q", got)
	}
	m.next = last
	in, err := p.Confine(t.Context(), harness.Quota{Memory: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := hears(); got != "at last" {
		t.Errorf("after it has starved: %q", got)
	}
}
