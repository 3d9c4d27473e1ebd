package child

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	abortTime = time.Second     // how long Abort waits for killed processes to be gone
	sweepTime = 5 * time.Second // the same for Sweep, which nobody waits for at a keyboard
	stillTime = 500 * time.Millisecond
)

// Harness returns the identity of this process: its number and the time it was started
// at, by which it is told from every other since the machine was started.
func Harness() string {
	m, _ := readMember(os.Getpid())
	return identity(os.Getpid(), m.start)
}

func identity(pid int, start uint64) string {
	return strconv.Itoa(pid) + "-" + strconv.FormatUint(start, 10)
}

// Abort kills every process that this one has started and all that those have, and waits
// a second at most until they are gone. It is for a program that ends at once: nobody is
// told, and what is started meanwhile by other goroutines dies with this process.
func Abort() error {
	own := Harness()
	return errors.Join(kill(own, os.Getpid(), abortTime), removeGroups(own))
}

// Alive reports whether the harness of an identity runs.
func Alive(harness string) bool {
	pid, _, _ := strings.Cut(harness, "-")
	n, err := strconv.Atoi(pid)
	if err != nil {
		return false
	}
	m, there := readMember(n)
	return there && m.state != 'Z' && m.state != 'X' && identity(n, m.start) == harness
}

// Sweep kills what is left of the trees of a harness that has died, and removes its control
// groups. It leaves those of a harness alone that runs.
func Sweep(harness string) error {
	if !identities.MatchString(harness) {
		return fmt.Errorf("%q is no harness", harness)
	}
	if Alive(harness) {
		return nil
	}
	return errors.Join(kill(harness, 0, sweepTime), removeGroups(harness))
}

// Left returns what is left of the trees of a harness that has died.
func Left(harness string) (out []Process) {
	if Alive(harness) {
		return nil
	}
	t := scan(0)
	mine := of(harness)
	for _, m := range alive(t.trees(func(m member) bool { return mine(m.pid) })) {
		name, _ := os.ReadFile("/proc/" + strconv.Itoa(m.pid) + "/comm") // it may have ended by now
		out = append(out, Process{m.pid, strings.TrimSpace(string(name))})
	}
	return out
}

// Dead returns the harnesses that have died, but not all that they have started: such as
// runs in this namespace of processes, whose numbers mean the same here, and belongs to a
// user who is meant. So do those of which nothing but a control group is left.
func Dead(user func(uid int) bool) (harnesses []string) {
	for _, m := range alive(scan(0).procs) {
		info, err := os.Stat("/proc/" + strconv.Itoa(m.pid))
		if err != nil || !user(int(info.Sys().(*syscall.Stat_t).Uid)) {
			continue
		}
		if !here(m.pid) {
			continue
		}
		if id := harnessOf(m.pid); id != "" && !Alive(id) && !slices.Contains(harnesses, id) {
			harnesses = append(harnesses, id)
		}
	}
	everyGroup(func(g *group, id string) {
		info, err := os.Stat(g.dir)
		// One with processes may be that of a harness within a container, which is not seen here.
		if err == nil && user(int(info.Sys().(*syscall.Stat_t).Uid)) && !Alive(id) && len(g.processes()) == 0 && !slices.Contains(harnesses, id) {
			harnesses = append(harnesses, id)
		}
	})
	return harnesses
}

// of returns what tells the processes of a harness, but for those that only descend from
// one of them.
func of(harness string) func(pid int) bool {
	return func(pid int) bool { return harnessOf(pid) == harness }
}

// homes is a directory of a harness, or one below that.
var homes = regexp.MustCompile(`/` + home + `([0-9]+-[0-9]+)-[0-9]+(?:/|$)`)

// harnessOf returns the identity of the harness that has started a process, by its mark, ""
// for none. A server of Postgres writes over its environment to show in its place what it
// does; it is told by the directory that it works in, where the harness keeps its data. A
// shell that somebody has gone there with has an environment.
func harnessOf(pid int) string {
	dir := "/proc/" + strconv.Itoa(pid)
	env, err := os.ReadFile(dir + "/environ")
	if err != nil {
		return ""
	}
	if _, mark, found := bytes.Cut(append([]byte{0}, env...), []byte("\x00"+treeVar+"=")); found {
		if id, _, _ := bytes.Cut(mark, []byte(".")); identities.Match(id) {
			return string(id)
		}
		return ""
	}
	if bytes.IndexByte(env, '=') >= 0 {
		return ""
	}
	at, _ := os.Readlink(dir + "/cwd") // of a kernel thread it cannot be read
	if m := homes.FindStringSubmatch(strings.TrimSuffix(at, " (deleted)")); m != nil {
		return m[1]
	}
	return ""
}

// supervises reports whether a process is a supervisor.
func supervises(m member) bool {
	return marked(m.pid, func(mark string) bool { return mark == supervisorMark })
}

// kill ends the trees that carry a mark of the harness, and those of the children of a
// parent that is not 0, and waits for that.
func kill(harness string, parent int, within time.Duration) error {
	began := time.Now()
	known, had := map[int]member{}, map[member]bool{}
	mine := of(harness)
	// As in Child.Kill, what is stopped starts nothing and loses no parent meanwhile.
	for sig := syscall.SIGSTOP; ; {
		known = scan(0).trees(func(m member) bool {
			return m.pid != parent && (known[m.pid].identity() == m.identity() || parent != 0 && m.parent == parent && !supervises(m) ||
				mine(m.pid))
		})
		left, news := alive(known), false
		for _, m := range left {
			if sig == syscall.SIGKILL || !had[m.identity()] {
				had[m.identity()], news = true, true
				_ = m.signal(sig) // it may have ended by now
			}
		}
		switch {
		case len(left) == 0:
			return nil
		case time.Since(began) > within:
			return fmt.Errorf("%d processes are still there after %s, %d the first of them", len(left), within, left[0].pid)
		case sig == syscall.SIGKILL:
			time.Sleep(10 * poll) // a look at all processes takes as long as some of them to end
		case !news, time.Since(began) > stillTime:
			sig = syscall.SIGKILL
		}
	}
}
