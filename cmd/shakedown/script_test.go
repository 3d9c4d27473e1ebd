package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/container"
	"github.com/shakedown-go/shakedown/targets/providers"
	"github.com/shakedown-go/shakedown/targets/spec"
)

var update = flag.Bool("update", false, "write what is printed into the scripts")

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == supervisor()[0] { // of a command that a test runs in this process
		main()
	}
	testscript.Main(m, map[string]func(){"shakedown": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	gocache, err := exec.Command("go", "env", "GOCACHE", "GOMODCACHE", "GOFLAGS").Output()
	if err != nil {
		t.Fatal(err)
	}
	docker, groups := haveDocker(t), haveGroups(t)
	goenv := strings.Split(string(gocache), "\n")
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("..", "..", "testdata", "script"),
		UpdateScripts: *update,
		Cmds:          map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "interrupt": interrupt, "idle": idle, "uncontained": uncontained},
		Condition: func(name string) (bool, error) {
			switch name {
			case "hangup": // a process that ignores it hands that down
				return !signal.Ignored(syscall.SIGHUP), nil
			case "docker":
				return docker, nil
			case "cgroups":
				return groups, nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Setup: func(env *testscript.Env) error {
			env.Setenv("GOCACHE", goenv[0])
			env.Setenv("GOMODCACHE", goenv[1])
			env.Setenv("GOFLAGS", goenv[2])
			env.Setenv("XDG_CACHE_HOME", cache)
			env.Setenv("PATH", os.Getenv("PATH")+string(filepath.ListSeparator)+env.Getenv("PATH"))
			return nil
		},
	})
}

// exits runs a command and wants a given exit code: exits CODE COMMAND ARGS...
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	if got := code(err); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// code is the exit code that the error of a command holds.
func code(err error) int {
	if err == nil {
		return 0
	}
	if x, ok := err.(*exec.ExitError); ok {
		return x.ExitCode()
	}
	return -1
}

// interrupt runs a command, interrupts it after a while, and wants a given exit code:
// interrupt AFTER CODE COMMAND ARGS...
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: interrupt AFTER CODE COMMAND ARGS...")
	}
	after, err := time.ParseDuration(args[0])
	ts.Check(err)
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	path, err := exec.LookPath(args[2])
	ts.Check(err)
	cmd := exec.Command(path, args[3:]...)
	cmd.Dir = ts.Getenv("WORK")
	for _, k := range []string{"GOCACHE", "GOMODCACHE", "GOFLAGS", "XDG_CACHE_HOME", "PATH", "HOME", "TMPDIR"} {
		cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
	}
	cmd.Stdout, cmd.Stderr = ts.Stdout(), ts.Stderr()
	ts.Check(cmd.Start())
	time.Sleep(after)
	ts.Check(cmd.Process.Signal(os.Interrupt))
	if got := code(cmd.Wait()); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// idle wants that nothing runs which the script's commands have started: children of the
// harness carry a mark and the script's directory in their environment. One that has ended
// without a word has a supervisor, which has some time.
func idle(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: idle")
	}
	gone(ts, processBound, func() (left string) {
		environs, err := filepath.Glob("/proc/[0-9]*/environ")
		ts.Check(err)
		own := regexp.MustCompile(regexp.QuoteMeta(ts.Getenv("WORK")) + `[/\x00]`) // and not of a script whose name begins so
		for _, file := range environs {
			env, err := os.ReadFile(file)
			if err == nil && bytes.Contains(env, []byte("SHAKEDOWN_TREE=")) && own.Match(env) {
				cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
				left += fmt.Sprintf("%s: %q\n", filepath.Base(filepath.Dir(file)), bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '}))
			}
		}
		return left
	})
}

// gone wants that nothing is left within a time.
func gone(ts *testscript.TestScript, within time.Duration, look func() (left string)) {
	for late := time.Now().Add(within); ; time.Sleep(20 * time.Millisecond) {
		left := look()
		if left == "" {
			return
		}
		if time.Now().After(late) {
			ts.Fatalf("left after %s: %s", within, left)
		}
	}
}

// haveDocker reports whether the scripts can have containers of redis. It fails the test
// where they cannot, and SHAKEDOWN_REQUIRE names docker.
func haveDocker(t *testing.T) bool {
	_, err := providers.Choose(t.Context(), "cache", spec.Dependency{Engine: "redis", Provide: "docker"}, ".")
	if err != nil && slices.Contains(strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ","), "docker") {
		t.Fatal(err)
	}
	if err != nil {
		t.Logf("without containers: %v", err)
	}
	return err == nil
}

// haveGroups reports whether this user may make control groups, which SHAKEDOWN_REQUIRE can
// demand as cgroups.
func haveGroups(t *testing.T) bool {
	c, err := child.Start(child.Options{Path: "sleep", Args: []string{"600"}})
	if err != nil {
		t.Fatal(err)
	}
	in, none := c.Confine(t.Context(), harness.Quota{Memory: 1 << 30})
	if none == nil {
		err = in.Heal(t.Context())
	}
	_, killed := c.Kill(t.Context())
	if err := errors.Join(err, killed); err != nil {
		t.Fatal(err)
	}
	if none != nil && slices.Contains(strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ","), "cgroups") {
		t.Fatal(none)
	}
	if none != nil {
		t.Logf("without control groups: %v", none)
	}
	return none == nil
}

// uncontained wants that no container is there which the script's commands have made.
func uncontained(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: uncontained")
	}
	gone(ts, allBound, func() string {
		left, err := container.Left(context.Background(), ts.Getenv("WORK"))
		ts.Check(err)
		return strings.Join(left, " ")
	})
}
