package child

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSupervisor is no test: it is a supervisor that the tests below start. It tells in a
// file how it ended, and what it had open.
func TestSupervisor(t *testing.T) {
	if flag.NArg() != 2 {
		t.Skip("it is started by other tests")
	}
	died, err := Supervise(flag.Arg(0), os.Stdin)
	fds, _ := filepath.Glob("/proc/self/fd/*")
	said := fmt.Sprintln(died, err)
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		said += to + "\n"
	}
	if err := os.WriteFile(flag.Arg(1), []byte(said), 0o600); err != nil {
		t.Fatal(err)
	}
}

// supervised starts a supervisor of a harness.
func supervised(t *testing.T, harness string) (s *Supervisor, said string) {
	t.Helper()
	said = filepath.Join(t.TempDir(), "said")
	s, err := StartSupervisor("-test.run=^TestSupervisor$", harness, said)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.hold.Close()
		s.cmd.Wait()
	})
	return s, said
}

func TestSupervisorThatIsReleasedDoesNothing(t *testing.T) {
	t.Parallel()
	s, said := supervised(t, Harness())
	if err := s.Release(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(said); err != nil || !strings.HasPrefix(string(b), "false <nil>\n") {
		t.Errorf("it said %q, %v", b, err)
	}
	if err := (*Supervisor)(nil).Release(); err != nil {
		t.Error(err)
	}
}

func TestSupervisorThatWasKilledIsNoFailure(t *testing.T) {
	t.Parallel()
	s, _ := supervised(t, Harness())
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for late := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if m, there := readMember(s.cmd.Process.Pid); !there || m.state == 'Z' {
			break
		}
		if time.Now().After(late) {
			t.Fatal("it does not end")
		}
	}
	if err := s.Release(); err != nil {
		t.Error(err)
	}
}

func TestSupervisorHoldsNothingOfItsHarness(t *testing.T) {
	t.Parallel()
	dead := "999999999-1" // no process has that number
	s, said := supervised(t, dead)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):]))
	if session := fields[4]; session != fmt.Sprintf("%d", s.cmd.Process.Pid) && fields[1] != "Z" {
		t.Errorf("its session is %s, want one of its own", session)
	}
	if err := s.hold.Close(); err != nil {
		t.Fatal(err)
	}
	s.cmd.Wait()
	b, err := os.ReadFile(said)
	if err != nil || !strings.HasPrefix(string(b), "true <nil>\n") {
		t.Fatalf("it said %q, %v", b, err)
	}
	for _, to := range strings.Split(string(b), "\n")[1:] {
		if strings.HasPrefix(to, "socket:") || strings.HasPrefix(to, "/dev/pts") || strings.HasPrefix(to, "/dev/tty") {
			t.Errorf("it holds %s", to)
		}
	}
}

// A harness that has closed its pipe and is not gone is waited for, however long that takes.
func TestSupervisorWaitsForAHarnessThatDiesSlowly(t *testing.T) {
	t.Parallel()
	harness := exec.Command("sleep", "600")
	if err := harness.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		harness.Process.Kill()
		harness.Wait()
	})
	m, there := readMember(harness.Process.Pid)
	if !there {
		t.Fatal("it is not there")
	}
	s, said := supervised(t, identity(m.pid, m.start))
	if err := s.hold.Close(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.cmd.Wait()
	}()
	select {
	case <-ended:
		b, err := os.ReadFile(said)
		t.Fatalf("it has given up: %q, %v", b, err)
	case <-time.After(killTime + 2*time.Second): // longer than any wait for a process here
	}
	if err := harness.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	harness.Wait()
	<-ended
	if b, err := os.ReadFile(said); err != nil || !strings.HasPrefix(string(b), "true <nil>\n") {
		t.Errorf("it said %q, %v", b, err)
	}
}

// A file that whoever has started a harness has handed down to it is not held any longer
// than the harness lives.
func TestSupervisorLetsGoOfWhatWasHandedDown(t *testing.T) {
	t.Parallel()
	said, file := filepath.Join(t.TempDir(), "said"), filepath.Join(t.TempDir(), "handed-down")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSupervisor$", "999999999-1", said)
	cmd.ExtraFiles = []*os.File{f}
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(said); err != nil || strings.Contains(string(b), file) || !strings.HasPrefix(string(b), "true") {
		t.Errorf("it said %q, %v", b, err)
	}
}

func TestSweepFindsWhatHasOverwrittenItsEnvironment(t *testing.T) {
	t.Parallel()
	dead := "999999998-1"
	dir := filepath.Join(t.TempDir(), home+dead+"-7", "data")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	start := func(dir string, env ...string) *exec.Cmd {
		sleep, err := exec.LookPath("sleep")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(sleep, "60")
		cmd.Dir, cmd.Env = dir, append([]string{}, env...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		return cmd
	}
	// Os/exec adds PWD to what has a directory, and no environment.
	ours := start(dir, "PWD")
	somebodys := []*exec.Cmd{start(dir, "HOME=/root", "PATH=/bin"), start(t.TempDir(), "PWD"), start(dir, treeVar+"="+Harness()+".x")}
	if got := harnessOf(ours.Process.Pid); got != dead {
		t.Errorf("harness %q, want %q", got, dead)
	}
	if got := Dead(func(uid int) bool { return uid == os.Geteuid() }); !slices.Contains(got, dead) || slices.Contains(got, Harness()) {
		t.Errorf("dead: %q", got)
	}
	if got := Left(dead); len(got) != 1 || got[0] != (Process{ours.Process.Pid, "sleep"}) {
		t.Errorf("left: %v", got)
	}
	if err := Sweep(dead); err != nil {
		t.Fatal(err)
	}
	if state, err := ours.Process.Wait(); err != nil || state.Success() {
		t.Errorf("it ended with %v, %v", state, err)
	}
	for i, cmd := range somebodys {
		if m, there := readMember(cmd.Process.Pid); !there || m.state == 'Z' || m.stopped() {
			t.Errorf("another's process %d was swept", i)
		}
	}
}

func TestAbortLeavesTheSupervisor(t *testing.T) {
	t.Parallel()
	said := filepath.Join(t.TempDir(), "said")
	cmd := exec.Command(os.Args[0], "-test.run=^TestAborting$")
	cmd.Env = append(os.Environ(), abortingVar+"="+said)
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	for late := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile(said); err == nil && strings.HasPrefix(string(b), "true <nil>\n") {
			return
		}
		if time.Now().After(late) {
			t.Fatal("it has not outlived its harness")
		}
	}
}

const abortingVar = "SHAKEDOWN_TEST_ABORTING"

// TestAborting is no test: it is a harness that has a supervisor and aborts.
func TestAborting(t *testing.T) {
	said := os.Getenv(abortingVar)
	if said == "" {
		t.Skip("it is started by other tests")
	}
	if _, err := StartSupervisor("-test.run=^TestSupervisor$", Harness(), said); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Options{Path: "sleep", Args: []string{"60"}}); err != nil {
		t.Fatal(err)
	}
	if err := Abort(); err != nil {
		t.Fatal(err)
	}
	os.Exit(0)
}

// A program that is started as a supervisor and does something else must not start another.
func TestSupervisorStartsNone(t *testing.T) {
	t.Setenv(treeVar, strings.TrimPrefix(supervisorMark, treeVar+"="))
	if s, err := StartSupervisor("-test.run=^$"); err == nil {
		t.Errorf("it was started: %v", s.Release())
	}
}
