package child

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
)

// log keeps the events of a child.
type log struct {
	mu     sync.Mutex
	events []harness.Event
}

func (l *log) emit(e harness.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *log) all() []harness.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// lines returns what was printed on a stream.
func (l *log) lines(lane string) []string {
	var out []string
	for _, e := range l.all() {
		if e.Kind == harness.Output && e.Lane == lane {
			out = append(out, e.Text)
		}
	}
	return out
}

// exit returns the only Exit event, which must be the last event.
func (l *log) exit(t *testing.T) harness.Event {
	t.Helper()
	all := l.all()
	for i, e := range all {
		if e.Kind == harness.Exit {
			if i != len(all)-1 {
				t.Fatalf("events after the exit: %v", all[i+1:])
			}
			return e
		}
	}
	t.Fatalf("no exit event in %v", all)
	return harness.Event{}
}

func expected(e harness.Event) bool { return e.Args.Text("expected") == "true" }

// start starts a shell script and sees to it that nothing of it stays.
func start(t *testing.T, script string, o Options) (*Child, *log) {
	t.Helper()
	l := &log{}
	o.Path, o.Emit, o.Args = "/bin/sh", l.emit, append([]string{"-c", script}, o.Args...)
	c, err := Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := c.Kill(t.Context()); err != nil {
			t.Error(err)
		}
		if left := c.Tree(); len(left) > 0 {
			t.Errorf("processes left: %v", left)
		}
	})
	return c, l
}

// until waits until a condition holds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

func done(t *testing.T, c *Child) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("the child is not done")
	}
}

func TestOutputBecomesEventsBeforeExit(t *testing.T) {
	t.Parallel()
	c, l := start(t, `echo one; echo two >&2; echo three >&3; printf 'no newline'; exit 7`, Options{Name: "svc", Streams: []string{"crash"}})
	done(t, c)
	for lane, want := range map[string][]string{"stdout": {"one", "no newline"}, "stderr": {"two"}, "crash": {"three"}} {
		if got := l.lines(lane); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", lane, got, want)
		}
	}
	e := l.exit(t)
	if e.Name != "svc" || e.Value != 7 || e.Text != "exit status 7" || expected(e) || e.Step != -1 {
		t.Errorf("exit event %+v", e)
	}
	if status, code := c.Exited(); status != "exit status 7" || code != 7 {
		t.Errorf("Exited() = %q, %d", status, code)
	}
}

func TestFilesComeBeforeStreams(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	c, l := start(t, `read x <&3; echo "$x" >&4`, Options{Files: []*os.File{r}, Streams: []string{"extra"}})
	r.Close()
	fmt.Fprintln(w, "hello")
	done(t, c)
	if got := l.lines("extra"); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("got %q", got)
	}
}

func TestLongLinesAreSplitAndBadTextIsMended(t *testing.T) {
	t.Parallel()
	c, l := start(t, `head -c 100000 /dev/zero | tr '\0' x; echo; printf 'a\377b\n'`, Options{})
	done(t, c)
	got := l.lines("stdout")
	if len(got) != 3 || len(got[0]) != maxLine || len(got[0])+len(got[1]) != 100000 || got[2] != "a\uFFFDb" {
		t.Errorf("got %d lines of %v bytes", len(got), func() (n []int) {
			for _, s := range got {
				n = append(n, len(s))
			}
			return n
		}())
	}
}

func TestOutputBeyondTheBoundIsDroppedAndSaidOnce(t *testing.T) {
	t.Parallel()
	l := &log{}
	out := NewOutput("x", l.emit, "stdout", "crash")
	out.room["stdout"].Store(9)
	print := func(lines ...string) {
		for _, s := range lines {
			out.line("stdout", s, true)
		}
	}
	print("one", "two", "three", "four")
	got := l.all()
	if len(got) != 3 || got[1].Text != "two" || got[1].Args != nil {
		t.Fatalf("got %+v", got)
	}
	last := got[2]
	if last.Lane != "stdout" || last.Name != "x" || !strings.Contains(last.Text, "is dropped") || last.Args.Text("dropped") != "true" || last.Args[0].Value.Form != harness.FormJSON {
		t.Errorf("said so by %+v", last)
	}
	out.line("crash", "panic: the sky falls", true)
	if got := l.lines("crash"); !slices.Equal(got, []string{"panic: the sky falls"}) {
		t.Errorf("the other stream has %q", got)
	}
	out.Refill()
	print("five")
	if got := l.lines("stdout"); len(got) != 4 || got[3] != "five" {
		t.Errorf("after a refill: %q", got)
	}
}

// TestAFloodLeavesTheCrashItsRoom has a child print more than is read.
func TestAFloodLeavesTheCrashItsRoom(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	dropped, rest := map[string]int{}, map[string]int{}
	c, err := Start(Options{
		Path: "/bin/sh", Args: []string{"-c", `head -c 70000000 /dev/zero | tr '\0' x; echo panic >&3; echo last`}, Streams: []string{"crash"},
		Emit: func(e harness.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Args.Text("dropped") == "true" {
				dropped[e.Lane]++
			} else {
				rest[e.Lane] += len(e.Text)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	done(t, c)
	mu.Lock()
	defer mu.Unlock()
	if dropped["stdout"] != 1 || len(dropped) != 1 || rest["crash"] != len("panic") || rest["stdout"] > maxOutput {
		t.Errorf("dropped %v, passed on %v", dropped, rest)
	}
}

func TestKillEndsWhatLeftTheSessionAndTheParent(t *testing.T) {
	t.Parallel()
	// A grandchild in a session of its own, one whose parent has ended, and one that
	// has neither parent nor environment: it is only found because it was seen before.
	c, l := start(t, `
		setsid sh -c 'setsid sleep 1000 & sleep 1001' &
		sh -c 'sleep 1002 & :'
		sh -c 'setsid sh -c "sleep 1003 & :"'
		sleep 1004`, Options{})
	until(t, "7 processes", func() bool { return len(c.Tree()) == 7 })
	pids := c.Tree()
	if pids[0] > c.Pid() || !slices.Contains(pids, c.Pid()) {
		t.Errorf("tree %v without %d", pids, c.Pid())
	}
	began := time.Now()
	n, err := c.Kill(t.Context())
	if err != nil || n != 7 {
		t.Errorf("Kill() = %d, %v; want 7", n, err)
	}
	t.Logf("killed %d in %v", n, time.Since(began))
	for _, pid := range pids {
		if m, ok := readMember(pid); ok && m.state != 'Z' {
			t.Errorf("process %d is still there: %+v", pid, m)
		}
	}
	if e := l.exit(t); e.Value != 137 || !expected(e) || e.Text != "signal: killed" {
		t.Errorf("exit event %+v", e)
	}
	if n, err := c.Kill(t.Context()); n != 0 || err != nil {
		t.Errorf("second Kill() = %d, %v", n, err)
	}
}

func TestKillDoesNotWaitForTheContext(t *testing.T) {
	t.Parallel()
	c, _ := start(t, `sleep 1000`, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Kill(ctx); err != nil {
		t.Error(err)
	}
	done(t, c)
}

func TestForkingProgramIsKilled(t *testing.T) {
	t.Parallel()
	c, _ := start(t, `while :; do setsid sleep 1000 & sleep 0.002; done`, Options{})
	until(t, "50 processes", func() bool { return len(c.Tree()) > 50 })
	if n, err := c.Kill(t.Context()); err != nil || n < 50 {
		t.Errorf("Kill() = %d, %v", n, err)
	}
}

func TestSurvivorsDoNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	c, l := start(t, `setsid sleep 1000 & echo out`, Options{})
	done(t, c)
	if got := l.lines("stdout"); !slices.Equal(got, []string{"out"}) {
		t.Errorf("got %q", got)
	}
	if e := l.exit(t); expected(e) {
		t.Errorf("exit event %+v", e)
	}
	if got := c.Tree(); len(got) != 1 {
		t.Errorf("tree %v, want the survivor", got)
	}
}

func TestPauseStopsTheWholeTree(t *testing.T) {
	t.Parallel()
	c, l := start(t, `setsid sh -c 'while :; do echo tick; sleep 0.005; done' & wait`, Options{})
	until(t, "a tick", func() bool { return len(l.lines("stdout")) > 0 })
	n, err := c.Pause(t.Context())
	if err != nil || n < 2 {
		t.Fatalf("Pause() = %d, %v", n, err)
	}
	for _, pid := range c.Tree() {
		if m, ok := readMember(pid); ok && !m.stopped() {
			t.Errorf("process %d is in state %c", pid, m.state)
		}
	}
	time.Sleep(20 * time.Millisecond) // what was in the pipe
	before := len(l.lines("stdout"))
	time.Sleep(50 * time.Millisecond)
	if after := len(l.lines("stdout")); after != before {
		t.Errorf("%d ticks while paused", after-before)
	}
	if got, _ := c.Resume(t.Context()); got < 2 {
		t.Errorf("Resume() = %d", got)
	}
	until(t, "a tick after the pause", func() bool { return len(l.lines("stdout")) > before })
}

// A process that opens a file again and again, and never one beside another, needs a number for
// it that the limit leaves.
func TestLimitFilesLeavesSoManyMore(t *testing.T) {
	t.Parallel()
	// The process opens files when it is asked to, one line of this pipe each time.
	if pipe := os.Getenv("CHILD_TEST_FILES"); pipe != "" {
		asked, err := os.OpenFile(pipe, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		for in := bufio.NewScanner(asked); in.Scan(); {
			var open []*os.File
			for len(open) < 10 {
				f, err := os.Open("/dev/null")
				if err != nil {
					break
				}
				open = append(open, f)
			}
			fmt.Println("opened", len(open))
			for _, f := range open {
				f.Close()
			}
			fmt.Println("closed")
		}
	}
	pipe := filepath.Join(t.TempDir(), "asked")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ask, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer ask.Close()
	env := append(Environ(), "CHILD_TEST_FILES="+pipe)
	script := fmt.Sprintf("%q -test.run='^%s$' & wait", os.Args[0], t.Name())
	c, l := start(t, script, Options{Env: env})
	asked := 0
	opens := func(want int) {
		t.Helper()
		if _, err := ask.WriteString("again\n"); err != nil {
			t.Fatal(err)
		}
		asked += 2
		until(t, "an answer", func() bool { return len(l.lines("stdout")) == asked })
		if got, want := l.lines("stdout")[asked-2], fmt.Sprint("opened ", want); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	opens(10)
	for _, more := range []int{0, 3, 0} {
		n, lift, err := c.LimitFiles(more)
		if err != nil || n != 2 {
			t.Fatalf("LimitFiles(%d) = %d, %v", more, n, err)
		}
		opens(more)
		if err := lift(); err != nil {
			t.Fatal(err)
		}
		opens(10)
	}

	// Of two in force, the last lift counts, whichever that is.
	_, first, err := c.LimitFiles(0)
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := c.LimitFiles(0)
	if err != nil {
		t.Fatal(err)
	}
	opens(0)
	if err := first(); err != nil {
		t.Fatal(err)
	}
	opens(0)
	if err := second(); err != nil {
		t.Fatal(err)
	}
	opens(10)
}

func TestUnusedNumbers(t *testing.T) {
	t.Parallel()
	c, _ := start(t, `exec 5</dev/null 8</dev/null; sleep 1000 & wait`, Options{})
	until(t, "its files", func() bool { n, _ := unused(c.Pid(), 4); return n == 9 })
	for n, want := range []uint64{3, 4, 6, 7, 9} {
		if got, err := unused(c.Pid(), n); err != nil || got != want {
			t.Errorf("unused(%d) = %d, want %d, %v", n, got, want, err)
		}
	}
}

func TestStopGivesGrace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, script string
		code         float64
		least, most  time.Duration
	}{
		{"ends by itself", `trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done`, 3, 0, time.Second},
		{"ignores it", `trap '' TERM; echo up; while :; do sleep 0.01; done`, 137, 300 * time.Millisecond, time.Second},
		{"has no handler", `echo up; sleep 1000; echo not reached`, 143, 0, drainTime + time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			harnesstest.Within(t, tt.most, func() time.Duration {
				c, l := start(t, tt.script, Options{})
				until(t, "up", func() bool { return len(l.lines("stdout")) > 0 })
				grace := 5 * time.Second
				if tt.least > 0 {
					grace = tt.least
				}
				began := time.Now()
				if err := c.Stop(t.Context(), grace); err != nil {
					t.Fatal(err)
				}
				took := time.Since(began)
				if took < tt.least {
					t.Errorf("took %v", took)
				}
				if e := l.exit(t); e.Value != tt.code || !expected(e) {
					t.Errorf("exit event %+v, want code %v", e, tt.code)
				}
				if err := c.Stop(t.Context(), grace); err != nil {
					t.Errorf("second stop: %v", err)
				}
				return took
			})
		})
	}
}

func TestStopEndsWhatIsPaused(t *testing.T) {
	t.Parallel()
	c, l := start(t, `trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done`, Options{})
	until(t, "up", func() bool { return len(l.lines("stdout")) > 0 })
	if _, err := c.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if e := l.exit(t); e.Value != 4 {
		t.Errorf("exit event %+v", e)
	}
}

func TestCrashBeforeStopIsUnexpected(t *testing.T) {
	t.Parallel()
	// The survivor holds the pipes, so the child has ended but is not done when Stop comes.
	c, l := start(t, `setsid sleep 1000 & echo $$; kill -SEGV $$`, Options{})
	until(t, "a zombie", func() bool {
		_, there := readMember(c.Pid())
		return len(l.lines("stdout")) > 0 && !there
	})
	if err := c.Stop(t.Context(), time.Second); err != nil {
		t.Fatal(err)
	}
	if e := l.exit(t); expected(e) || e.Value != 139 {
		t.Errorf("exit event %+v", e)
	}
}

func TestTokenIsTakenOut(t *testing.T) {
	t.Parallel()
	l := &log{}
	out := NewOutput("x", l.emit, "stdout", "stderr")
	seen, _ := out.Await("stderr", "flush a")
	other, forget := out.Await("stdout", "flush a")
	out.line("stderr", "x", true)
	out.line("stderr", "partflush a", true)
	forget()
	out.line("stderr", "flush a", true)
	select {
	case <-seen:
	default:
		t.Error("the token was not seen")
	}
	select {
	case <-other:
		t.Error("the token was seen on the wrong stream")
	default:
	}
	if got := l.lines("stderr"); !slices.Equal(got, []string{"x", "part", "flush a"}) {
		t.Errorf("got %q", got)
	}
}

func TestTailKeepsTheLastLines(t *testing.T) {
	t.Parallel()
	c, _ := start(t, `for i in $(seq 100); do echo $i; done`, Options{})
	done(t, c)
	if got := c.Tail(); len(got) != tailLines || got[0] != "81" || got[tailLines-1] != "100" {
		t.Errorf("got %q", got)
	}
}

func TestStartOfNothingIsAnError(t *testing.T) {
	t.Parallel()
	_, err := Start(Options{Path: "/no/such/program"})
	if err == nil || !strings.Contains(err.Error(), "start program: ") {
		t.Errorf("got %v", err)
	}
}

func TestDirectoryThatTheUserCannotEnterIsNamed(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can start a program as somebody else")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(Options{Path: "/bin/true", Dir: dir, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}})
	if err == nil || !strings.Contains(err.Error(), "it runs as user 65534") || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("got %v", err)
	}
}

func TestEnvironIsAShortList(t *testing.T) {
	for name, want := range map[string]bool{
		"SHAKEDOWN_AGENT": false, "DATABASE_URL": false, "PGHOST": false, "AWS_SECRET_ACCESS_KEY": false, "HTTP_PROXY": false,
		"PATH": true, "TMPDIR": true, "LC_TIME": true, "TZ": true, "GOMAXPROCS": true,
	} {
		t.Setenv(name, "x")
		if got := slices.Contains(Environ(), name+"=x"); got != want {
			t.Errorf("%s: %t, want %t", name, got, want)
		}
	}
}

func TestReservedPortCanBeListenedOnTwice(t *testing.T) {
	t.Parallel()
	p, err := ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	for range 2 { // as a service does that is started again
		// What another test forks holds a copy of the last listener until it executes.
		until(t, "the port can be listened on", func() bool {
			l, err := net.Listen("tcp", p.Addr())
			if err == nil {
				l.Close()
			}
			return err == nil
		})
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	tail := " 7 0 0 20 0 1 0 99 0 0"
	m, ok := parseStat([]byte("12 (a) R 1) (b) T 34 56" + strings.Repeat(" 0", 10) + tail))
	if !ok || m.pid != 12 || m.state != 'T' || m.parent != 34 || m.group != 56 {
		t.Errorf("got %+v, %v", m, ok)
	}
	for _, bad := range []string{"", "1", "1 (x", "1 (x) S", "x (x) S 1 1" + strings.Repeat(" 0", 20), ") (", "1 )x( S 1 1" + strings.Repeat(" 0", 20)} {
		if m, ok := parseStat([]byte(bad)); ok {
			t.Errorf("%q gave %+v", bad, m)
		}
	}
	own, ok := readMember(os.Getpid())
	if !ok || own.pid != os.Getpid() || own.parent != os.Getppid() || own.start == 0 {
		t.Errorf("own: %+v, %v", own, ok)
	}
}

func FuzzParseStat(f *testing.F) {
	b, _ := os.ReadFile("/proc/self/stat")
	f.Add(b)
	f.Add([]byte("1 (a) b) S 2 3" + strings.Repeat(" 0", 17)))
	f.Add([]byte("0()\x00" + strings.Repeat(" 0", 19)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parseStat(b)
		if ok && (m.state < 'A' || m.state > 'z') {
			t.Errorf("%q gave %+v", b, m)
		}
	})
}

// TestAbortEndsAll starts this test again as a harness, which aborts.
func TestAbortEndsAll(t *testing.T) {
	script := `
		setsid sh -c 'trap "" TERM; setsid sleep 1000 & sleep 1001' &
		sh -c 'setsid env -i sleep 1002 & sleep 1003' &
		sh -c 'setsid sleep 1004 & :'
		sleep 1005`
	if file := os.Getenv("CHILD_TEST_ABORT"); file != "" {
		c, err := Start(Options{Path: "/bin/sh", Args: []string{"-c", script}})
		if err != nil {
			t.Fatal(err)
		}
		until(t, "9 processes, six of which sleep", func() bool {
			asleep := 0
			for _, pid := range c.Tree() {
				if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(name) == "sleep\n" {
					asleep++
				}
			}
			return asleep == 6 && len(c.Tree()) == 9 // a shell that has something started may still be there
		})
		if err := os.WriteFile(file, []byte(strings.Trim(fmt.Sprint(c.Tree()), "[]")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Sweep(Harness()); err != nil || len(c.Tree()) != 9 {
			t.Fatalf("a harness that runs was swept: %v, %d processes", err, len(c.Tree()))
		}
		began := time.Now()
		err = Abort()
		fmt.Println(time.Since(began))
		if err != nil {
			t.Fatal(err)
		}
		os.Exit(130)
	}
	t.Parallel()
	file := filepath.Join(t.TempDir(), "pids")
	cmd := exec.Command(os.Args[0], "-test.run=^TestAbortEndsAll$")
	cmd.Env = append(os.Environ(), "CHILD_TEST_ABORT="+file)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 130 {
		t.Fatalf("the harness: %v\n%s", err, out)
	}
	t.Logf("aborted in %s", out)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := readMember(pid); ok && m.state != 'Z' {
			t.Errorf("process %d is still there: %+v", pid, m)
		}
	}
}

// TestChildDiesWithTheHarness starts this test again as a harness, and kills it.
func TestChildDiesWithTheHarness(t *testing.T) {
	if os.Getenv("CHILD_TEST_HARNESS") != "" {
		c, err := Start(Options{Path: "sh", Args: []string{"-c", "setsid sleep 1001 & exec sleep 1000"}})
		if err != nil {
			t.Fatal(err)
		}
		until(t, "2 processes", func() bool { return len(c.Tree()) == 2 })
		file, text := os.Getenv("CHILD_TEST_HARNESS"), fmt.Sprintln(c.Pid(), c.Tree()[1], Harness())
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
		<-c.Done()
		return
	}
	t.Parallel()
	if _, ok := readMember(os.Getpid()); !ok {
		t.Skip("no /proc: only Linux ends a child with its parent")
	}
	file := filepath.Join(t.TempDir(), "pid")
	cmd := exec.Command(os.Args[0], "-test.run=^TestChildDiesWithTheHarness$")
	cmd.Env = append(os.Environ(), "CHILD_TEST_HARNESS="+file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid, orphan int
	var harness string
	until(t, "the pid file", func() bool {
		b, _ := os.ReadFile(file)
		n, _ := fmt.Sscan(string(b), &pid, &orphan, &harness)
		return n == 3
	})
	cmd.Process.Kill()
	cmd.Wait()
	t.Cleanup(func() {
		syscall.Kill(pid, syscall.SIGKILL)
		syscall.Kill(orphan, syscall.SIGKILL)
	})
	there := func(pid int) bool {
		m, ok := readMember(pid)
		return ok && m.state != 'Z'
	}
	until(t, "the child is gone", func() bool { return !there(pid) })
	if !there(orphan) {
		t.Error("what the child had started is gone, too: it cannot be swept")
	}
	if err := Sweep(harness); err != nil {
		t.Error(err)
	}
	if there(orphan) {
		t.Errorf("process %d is still there", orphan)
	}
}
