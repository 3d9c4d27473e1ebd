package child

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

const mib = 1 << 20

// confine skips the test where this user may make no control group, or fails it where
// SHAKEDOWN_REQUIRE names cgroups.
func confine(t *testing.T, c *Child, q harness.Quota) harness.Injection {
	t.Helper()
	in, err := c.Confine(t.Context(), q)
	switch {
	case errors.Is(err, harness.ErrNotHere) && !slices.Contains(strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ","), "cgroups"):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	return in
}

// TestGrower is a program that takes as much memory as it reads, and says that it has it.
func TestGrower(t *testing.T) {
	if flag.NArg() != 1 || flag.Arg(0) != "grow" {
		t.Skip("it is started by other tests")
	}
	fmt.Println("up")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		n, err := strconv.Atoi(in.Text())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_POPULATE); err != nil {
			t.Fatal(err)
		}
		fmt.Println("has", n, "more")
	}
}

// grower starts that program. It takes so much memory as it is told to.
func grower(t *testing.T, script string) (c *Child, l *log, take func(n int)) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	c, l = start(t, script, Options{Files: []*os.File{r}, Args: []string{self, "-test.run=^TestGrower$", "grow"}})
	r.Close()
	until(t, "it is there", func() bool { return slices.Contains(l.lines("stdout"), "up") })
	return c, l, func(n int) {
		if _, err := fmt.Fprintln(w, n); err != nil {
			t.Error(err)
		}
	}
}

// alone has it be the tree's only process.
const alone = `exec "$0" "$@" <&3`

// has waits until it has taken memory so often.
func has(t *testing.T, l *log, times int) {
	t.Helper()
	until(t, fmt.Sprint("it has taken memory ", times, " times"), func() bool {
		n := 0
		for _, line := range l.lines("stdout") {
			if strings.HasPrefix(line, "has ") {
				n++
			}
		}
		return n == times
	})
}

func heal(t *testing.T, in harness.Injection) {
	t.Helper()
	if err := in.Heal(t.Context()); err != nil {
		t.Errorf("heal: %v", err)
	}
}

func TestWhatTakesMoreMemoryThanItMayIsEnded(t *testing.T) {
	t.Parallel()
	c, l, take := grower(t, alone)
	in := confine(t, c, harness.Quota{Memory: 16 * mib})
	if dirs := Groups(Harness()); len(dirs) == 0 {
		t.Error("it is in no group")
	}
	take(64 * mib)
	done(t, c)
	if e := l.exit(t); !expected(e) || e.Value != 128+9 || !strings.HasSuffix(e.Text, "for want of memory") {
		t.Errorf("exit event %+v", e)
	}
	if !c.Starved() {
		t.Error("it does not know why it ended")
	}
	heal(t, in)
	if n := in.Acted(); n == 0 {
		t.Errorf("acted %d", n)
	}
	if _, err := c.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	if n := in.Acted(); n == 0 {
		t.Error("it has not acted, when all is over")
	}
	if again, err := c.Confine(t.Context(), harness.Quota{Memory: mib}); err != nil || again.Acted() != 0 || again.Heal(t.Context()) != nil {
		t.Errorf("a tree that has ended: %v", err)
	}
}

func TestWhatStaysWithinItsMemoryIsNotTouched(t *testing.T) {
	t.Parallel()
	c, l, take := grower(t, alone)
	in := confine(t, c, harness.Quota{Memory: 24 * mib})
	take(4 * mib)
	has(t, l, 1)
	if _, err := c.Confine(t.Context(), harness.Quota{Memory: mib}); err == nil || errors.Is(err, harness.ErrNotHere) {
		t.Errorf("a second limit: %v", err)
	}
	heal(t, in)
	heal(t, in) // as after an error
	if n := in.Acted(); n != 0 {
		t.Errorf("acted %d", n)
	}
	// Nothing binds it any more, and then what it has now counts for nothing.
	take(100 * mib)
	has(t, l, 2)
	in = confine(t, c, harness.Quota{Memory: 24 * mib})
	take(4 * mib)
	has(t, l, 3)
	heal(t, in)
	if c.Starved() || in.Acted() != 0 {
		t.Errorf("acted %d", in.Acted())
	}
}

func TestOnlyTheProgramsOwnEndIsItsEnd(t *testing.T) {
	t.Parallel()
	c, l, take := grower(t, `"$0" "$@" <&3; echo "it ended: $?"; sleep 600 & wait; exit 3`)
	in := confine(t, c, harness.Quota{Memory: 16 * mib})
	take(64 * mib)
	until(t, "its child has ended", func() bool { return slices.Contains(l.lines("stdout"), "it ended: 137") })
	heal(t, in)
	if in.Acted() == 0 || c.Starved() {
		t.Errorf("acted %d, starved: %v", in.Acted(), c.Starved())
	}
	if err := syscall.Kill(c.Pid(), syscall.SIGKILL); err != nil { // by somebody else, and not for want of memory
		t.Error(err)
	}
	done(t, c)
	if e := l.exit(t); expected(e) || c.Starved() {
		t.Errorf("exit event %+v", e)
	}
}

func TestShareOfAProcessor(t *testing.T) {
	t.Parallel()
	c, _ := start(t, `while :; do :; done`, Options{})
	in := confine(t, c, harness.Quota{CPU: 10})
	until(t, "it has to wait", func() bool { return in.Acted() > 2 })
	heal(t, in)
	if _, err := c.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	if n := in.Acted(); n < 3 || c.Starved() {
		t.Errorf("acted %d, starved: %v", n, c.Starved())
	}
	idle, _ := start(t, `sleep 600`, Options{})
	in = confine(t, idle, harness.Quota{CPU: 50})
	both := confine(t, idle, harness.Quota{Memory: 24 * mib})
	time.Sleep(3 * period)
	heal(t, in)
	heal(t, both)
	if n := in.Acted() + both.Acted(); n != 0 {
		t.Errorf("one that does nothing: %d", n)
	}
}

// groupsOf returns the groups that one child has.
func groupsOf(c *Child) (dirs []string) {
	c.confining.Lock()
	defer c.confining.Unlock()
	for _, g := range c.groups.made {
		dirs = append(dirs, g.dir)
	}
	return dirs
}

func TestManyQuotasLeaveNothing(t *testing.T) {
	t.Parallel()
	c, _ := start(t, `while :; do sleep 0.01; done`, Options{})
	var dirs []string
	for i := range 200 {
		q := harness.Quota{Memory: 24 * mib}
		if i%2 == 1 {
			q = harness.Quota{CPU: 50}
		}
		heal(t, confine(t, c, q))
		if i == 1 {
			dirs = groupsOf(c)
		}
	}
	if got := groupsOf(c); !slices.Equal(got, dirs) {
		t.Errorf("groups %q, after two quotas %q", got, dirs)
	}
	for range 20 {
		other, _ := start(t, `sleep 600`, Options{})
		confine(t, other, harness.Quota{Memory: mib})
		dirs = append(dirs, groupsOf(other)...)
		if _, err := other.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
}

// What a harness that was killed leaves in /sys/fs/cgroup is swept away with its processes, by
// whoever comes first.
func TestSweepRemovesGroups(t *testing.T) {
	t.Parallel()
	probe, _ := start(t, `sleep 600`, Options{})
	confine(t, probe, harness.Quota{Memory: mib})
	own := groupsOf(probe)[0]

	run := func(env ...string) (pid int, end func()) {
		c := exec.Command("sleep", "600")
		c.Env = env
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.Wait() // a group is empty only when somebody has seen the ends of all
		}()
		end = func() {
			c.Process.Kill()
			<-ended
		}
		t.Cleanup(end)
		return c.Process.Pid, end
	}
	pid, die := run()
	id := identity(pid, rootMember(pid).start)
	dir := filepath.Join(filepath.Dir(own), home+id+"-1")
	left, _ := run(treeMark(id) + "x")
	g := &group{dir: dir}
	if err := errors.Join(os.Mkdir(dir, 0o700), g.write("cgroup.procs", strconv.Itoa(left))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	if err := Sweep(id); err != nil || !slices.Equal(Groups(id), []string{dir}) {
		t.Errorf("it lives, and its groups are %q, %v", Groups(id), err)
	}
	die()
	if err := Sweep(id); err != nil || len(Groups(id)) > 0 {
		t.Errorf("it is dead, and its groups are %q, %v", Groups(id), err)
	}
	if _, err := os.Stat(own); err != nil {
		t.Errorf("that of a harness that lives: %v", err)
	}
	// Of another one nothing is left but its group.
	for range 5 {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		found := slices.Contains(Dead(func(uid int) bool { return uid == os.Geteuid() }), id)
		if err := Sweep(id); err != nil || len(Groups(id)) > 0 {
			t.Errorf("%q are left, %v", Groups(id), err)
		}
		if found {
			return
		}
	}
	t.Error("it is not among the dead, unless another harness was there before us five times")
}

func TestGroupIsRemovedWithWhatIsInIt(t *testing.T) {
	t.Parallel()
	c, _ := start(t, `sleep 600`, Options{})
	confine(t, c, harness.Quota{CPU: 1})
	g := &group{dir: groupsOf(c)[0]}
	if err := g.remove(t.Context()); err != nil {
		t.Error(err)
	}
	done(t, c)
	if _, err := os.Stat(g.dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the group is still there: %v", err)
	}
}

func TestDyingIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	c, _ := start(t, `while :; do :; done`, Options{})
	if dying(c.root) {
		t.Error("it runs")
	}
	c.mu.Lock()
	c.sent = syscall.SIGKILL
	c.mu.Unlock()
	if err := syscall.Kill(c.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if !dying(c.root) {
		t.Error("it was killed")
	}
	done(t, c)
	if !dying(c.root) {
		t.Error("it has ended")
	}
}

func TestHierarchies(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Skip(err)
	}
	if !bytes.Contains(text, []byte(" - cgroup")) {
		t.Skip("no control groups are mounted here")
	}
	for _, h := range hierarchies() {
		if info, err := os.Stat(h.mount); err != nil || !info.IsDir() || h.root == "" {
			t.Errorf("%+v: %v", h, err)
		}
	}
	if _, err := find(os.Getpid(), "none"); err == nil && len(hierarchies()) == 0 {
		t.Error("a controller that there is not was found")
	}
}
