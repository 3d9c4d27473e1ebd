package process

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
	"github.com/shakedown-go/shakedown/harness/journal"
	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/spec"
)

func listing(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestSweepRemovesOnlyWhatDeadHarnessesLeft(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	for _, name := range []string{"shakedown-1-0-23", "shakedown-out", "shakedown-1-0-x", "ashakedown-1-0-23"} {
		if err := os.MkdirAll(filepath.Join(parent, name, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, err := range map[string]error{
		"shakedown-1-0-24": os.WriteFile(filepath.Join(parent, "shakedown-1-0-24"), nil, 0o600),
		"shakedown-1-0-25": os.Symlink(parent, filepath.Join(parent, "shakedown-1-0-25")),
	} {
		if err != nil {
			t.Fatal(name, err)
		}
	}
	s, err := newScratch(parent)
	if err != nil {
		t.Fatal(err)
	}
	if err := sweep(t.Context(), parent); err != nil {
		t.Error(err)
	}
	want := []string{"ashakedown-1-0-23", "shakedown-1-0-24", "shakedown-1-0-25", "shakedown-1-0-x", filepath.Base(s.dir), "shakedown-out"}
	slices.Sort(want)
	if got := listing(t, parent); !slices.Equal(got, want) {
		t.Errorf("left: %q, want %q", got, want)
	}
	if st, err := os.Stat(s.dir); err != nil || st.Mode().Perm() != 0o711 {
		t.Errorf("%v, %v", st, err)
	}
	for range 2 {
		if err := s.remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if got := listing(t, parent); len(got) != len(want)-1 {
		t.Errorf("left: %q", got)
	}
}

// When the time is up, the rest stays for the next, and what could not be removed is the last
// that is tried then.
func TestSweepIsBounded(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	began := time.Now().Add(-time.Hour)
	dirs := []string{"shakedown-1-0-3", "shakedown-1-0-1", "shakedown-1-0-2"} // the oldest first
	for i, name := range dirs {
		dir := filepath.Join(parent, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		at := began.Add(time.Duration(i) * time.Minute)
		if err := os.Chtimes(dir, at, at); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	// Nothing can ever be undone in a server of which nothing is known.
	id, err := journal.Write(filepath.Join(parent, dirs[0]), journal.Note{Engine: "none", Undo: [][]string{{"PING"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(parent, dirs[0]), began, began); err != nil {
		t.Fatal(err)
	}
	var seen []string
	try := func() error {
		return buried(ctx, parent, func(s *scratch, _ string) error {
			if seen = append(seen, filepath.Base(s.dir)); len(seen) == 2 {
				defer cancel()
			}
			return s.bury(ctx, nil)
		})
	}
	err = try()
	if err == nil || !strings.Contains(err.Error(), dirs[0]+" stays: journal: nothing is known") || !strings.Contains(err.Error(), "directories in "+parent+" that stay, as there was no time left: 1") {
		t.Errorf("the error is %v", err)
	}
	if err := journal.Strike(filepath.Join(parent, dirs[0]), id); err != nil {
		t.Fatal(err)
	}
	ctx = t.Context()
	if err := try(); err != nil {
		t.Error(err)
	}
	if want := []string{dirs[0], dirs[1], dirs[2], dirs[0]}; !slices.Equal(seen, want) {
		t.Errorf("they were tried in the order %q, want %q", seen, want)
	}
	if got := listing(t, parent); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
}

func TestScratchIsLockedByOne(t *testing.T) {
	t.Parallel()
	s, err := newScratch(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := s.dir
	if _, err := lockScratch(dir); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("a second lock: %v", err)
	}
	if err := s.remove(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := lockScratch(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lock of what is gone: %v", err)
	}
}

func TestScratchLeavesRoomForSockets(t *testing.T) {
	t.Parallel()
	longest := strings.Repeat("p", maxParent) + "/shakedown-4194304-999999999999-4294967295/99999/agent"
	if len(longest) > 104 { // of sun_path, which is shortest on macOS
		t.Errorf("a path may have %d bytes", len(longest))
	}
	if p := scratchParent(); len(p) > maxParent {
		t.Errorf("the parent is %s", p)
	}
}

func TestScratchThatCannotBeMadeIsSaid(t *testing.T) {
	t.Parallel()
	_, err := newScratch("/no/such/parent")
	if want := "make a scratch directory: stat /no/such/parent: no such file or directory; TMPDIR says where"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestHarness is no test: it is what the tests below start as a harness of its own. It
// says what it has started, and then waits to be told to abort.
func TestHarness(t *testing.T) {
	if os.Getenv(homeVar) == "" {
		t.Skip("it is started by other tests")
	}
	f := file(t, "plain")
	f.Dependencies = map[string]spec.Dependency{"cache": {Engine: "redis"}}
	dir, err := home()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Cache: filepath.Join(dir, "cache")}
	if os.Getenv(supervisedVar) != "" {
		o.Supervisor = []string{"-test.run=^TestSupervisor$"}
	}
	s, err := Open(t.Context(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.Target.Start(t.Context(), harness.Setup{})
	if err != nil {
		t.Fatal(err)
	}
	i := in.(*instance)
	for _, q := range []harness.Quota{{Memory: 1 << 30}, {CPU: 100}} {
		if _, err := (proc{i}).Confine(t.Context(), q); err != nil && !errors.Is(err, harness.ErrNotHere) {
			t.Fatal(err)
		}
	}
	fmt.Println("started", get(t, i, "/pid", 5*time.Second), get(t, i, "/spawn", 5*time.Second), s.scratch.dir)
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if os.Getenv(supervisedVar) == "close" {
		if err := errors.Join(in.Stop(t.Context()), s.Close(t.Context())); err != nil {
			t.Fatal(err)
		}
		os.Exit(0)
	}
	if err := Abort(); err != nil {
		t.Fatal(err)
	}
	os.Exit(130)
}

// supervisedVar is set for a harness that is to have a supervisor; "close" has it end well.
const supervisedVar = "SHAKEDOWN_TEST_SUPERVISED"

// TestSupervisor is no test either: it is the supervisor of such a harness.
func TestSupervisor(t *testing.T) {
	if flag.NArg() != 2 {
		t.Skip("it is started by other tests")
	}
	if err := Supervise(flag.Arg(0), flag.Arg(1), os.Stdin); err != nil {
		t.Fatal(err)
	}
}

// another starts a harness and returns it with the processes and the directory it has.
func another(t *testing.T, env ...string) (cmd *exec.Cmd, abort func(), pids []int, dir string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux shows what descends from a harness")
	}
	at, err := home()
	if err != nil {
		t.Fatal(err)
	}
	open(t, file(t, "plain"), Options{}) // builds it for all
	cmd = exec.Command(os.Args[0], "-test.run=^TestHarness$", "-test.v")
	cmd.Env = append(append(os.Environ(), homeVar+"="+at), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	var said []string
	for sc := bufio.NewScanner(out); sc.Scan(); {
		said = append(said, sc.Text())
		if words := strings.Fields(sc.Text()); len(words) == 4 && words[0] == "started" {
			for _, w := range words[1:3] {
				pid, err := strconv.Atoi(w)
				if err != nil {
					t.Fatal(err)
				}
				pids = append(pids, pid)
			}
			return cmd, func() { fmt.Fprintln(in) }, pids, words[3]
		}
	}
	t.Fatalf("the harness did not start: %q", said)
	return
}

// groupsOf returns the control groups of the harness whose directory that is.
func groupsOf(dir string) []string {
	return child.Groups(scratchName.FindStringSubmatch(filepath.Base(dir))[1])
}

func TestAbortLeavesNothing(t *testing.T) {
	t.Parallel()
	harnesstest.Within(t, 2*time.Second, func() time.Duration {
		cmd, abort, pids, dir := another(t)
		began := time.Now()
		abort()
		cmd.Wait()
		took := time.Since(began)
		if code := cmd.ProcessState.ExitCode(); code != 130 {
			t.Errorf("exit code %d after %v", code, took)
		}
		for _, pid := range pids {
			gone(t, pid)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
		if left := groupsOf(dir); len(left) > 0 {
			t.Errorf("control groups are still there: %q", left)
		}
		return took
	})
}

func TestNextOpenSweepsWhatAKilledHarnessLeft(t *testing.T) {
	t.Parallel()
	var pids []int
	var dir string
	harnesstest.Within(t, 2*time.Second, func() time.Duration {
		var cmd *exec.Cmd
		cmd, _, pids, dir = another(t)
		began := time.Now()
		cmd.Process.Kill()
		cmd.Wait()
		until(t, "the service is gone", func() bool {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pids[0]))
			return err != nil || strings.Contains(string(stat), ") Z ")
		})
		return time.Since(began)
	})
	open(t, file(t, "plain"), Options{})
	// Another test's Open may be the one that sweeps it, and ours does not wait for that.
	until(t, "the directory is gone", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, os.ErrNotExist)
	})
	gone(t, pids[1])
	until(t, "its control groups are gone", func() bool { return len(groupsOf(dir)) == 0 })
	if err := child.Sweep(child.Harness()); err != nil {
		t.Error(err)
	}
}

func TestSupervisorEndsWhatAKilledHarnessLeft(t *testing.T) {
	t.Parallel()
	harnesstest.Within(t, 2*time.Second, func() time.Duration {
		cmd, _, pids, dir := another(t, supervisedVar+"=1")
		for _, pid := range pids { // stopped, none would notice that its parent is gone
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
		}
		began := time.Now()
		cmd.Process.Kill()
		cmd.Wait()
		until(t, "all of it is gone", func() bool { return !slices.ContainsFunc(pids, runs) })
		took := time.Since(began)
		until(t, "the directory is gone", func() bool {
			_, err := os.Stat(dir)
			return errors.Is(err, os.ErrNotExist)
		})
		until(t, "the supervisor is gone", func() bool { return len(supervisors(t, cmd.Process.Pid)) == 0 })
		if left := groupsOf(dir); len(left) > 0 {
			t.Errorf("control groups are still there: %q", left)
		}
		return took
	})
}

func TestSupervisorGoesWithItsHarness(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"close", "abort"} {
		cmd, end, pids, dir := another(t, supervisedVar+"="+how)
		if n := len(supervisors(t, cmd.Process.Pid)); n != 1 {
			t.Errorf("%s: %d supervisors, want 1", how, n)
		}
		end()
		cmd.Wait()
		if how == "close" { // no moment later
			if left := supervisors(t, cmd.Process.Pid); len(left) > 0 {
				t.Errorf("%s: left: %q", how, left)
			}
		}
		until(t, "the supervisor is gone", func() bool { return len(supervisors(t, cmd.Process.Pid)) == 0 })
		if slices.ContainsFunc(pids, runs) {
			t.Errorf("%s: of %v some still run", how, pids)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %s is still there: %v", how, dir, err)
		}
	}
}

// supervisors returns the command lines of the supervisors of a harness.
func supervisors(t *testing.T, harness int) (out []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		if b, err := os.ReadFile(file); err == nil && strings.Contains(string(b), fmt.Sprintf("TestSupervisor$\x00%d-", harness)) {
			out = append(out, string(b))
		}
	}
	return out
}

func TestCleanLeavesWhatBelongsToALivingHarness(t *testing.T) {
	t.Parallel()
	cmd, _, pids, dir := another(t)
	tell := func(what string) {
		if !strings.HasPrefix(what, "process ") && !strings.HasPrefix(what, "directory ") && !strings.HasPrefix(what, "container ") && !strings.HasPrefix(what, "shared memory ") && !strings.HasPrefix(what, "control group ") {
			t.Errorf("told %q", what)
		}
	}
	if err := Clean(t.Context(), tell, tell); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Fatalf("what belongs to a harness that runs is gone: %v", err)
	}
	if err := syscall.Kill(pids[1], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if err := Clean(t.Context(), tell, tell); err != nil {
		t.Fatal(err)
	}
	// Another test's Open may have been there before us.
	until(t, "all of it is gone", func() bool { return !slices.ContainsFunc(pids, runs) })
	until(t, "the directory is gone", func() bool {
		_, err := os.Stat(dir)
		return errors.Is(err, os.ErrNotExist)
	})
	if err := Clean(t.Context(), func(what string) {
		if strings.Contains(what, dir) {
			t.Errorf("again: %s", what)
		}
	}, tell); err != nil {
		t.Error(err)
	}
}

// runs reports whether there is a process of a number, and it has not ended.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestCleanTellsOfDirectories(t *testing.T) {
	dir := filepath.Join(scratchParent(), "shakedown-999999999-1-1") // no process has that number
	for range 5 {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		var told []string
		if err := Clean(t.Context(), func(what string) { told = append(told, what) }, func(string) {}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("it is still there: %v", err)
		}
		if slices.Contains(told, "directory "+dir) {
			return
		}
	}
	t.Error("nobody told of it, unless another harness was there before us five times")
}
