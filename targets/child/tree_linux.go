package child

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// member is a process of a tree. The time it was started at tells it from a later
// process with the same number.
type member struct {
	pid, parent, group int
	state              byte
	start              uint64 // in clock ticks since the machine was started
}

func (m member) identity() member { return member{pid: m.pid, start: m.start} }

// stopped reports whether a process that was told to stop runs no more. One that waits
// within the kernel (D) will stop before it comes back, and may never get there: the
// parent of a vfork waits for a child that was stopped before its exec.
func (m member) stopped() bool { return m.state == 'T' || m.state == 't' || m.state == 'D' }

func (m member) signal(s syscall.Signal) error { return syscall.Kill(m.pid, s) }

func attributes(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: cred}
}

func rootMember(pid int) member {
	if m, ok := readMember(pid); ok {
		return m
	}
	return member{pid: pid}
}

// members scans /proc for what belongs to the tree: the program, the descendants of a
// member, the members of an earlier scan, the program's process group, and whatever
// carries the mark in its environment. Zombies are not counted: they have ended.
func (c *Child) members() []member {
	c.mu.Lock()
	defer c.mu.Unlock()
	procs := map[int]member{}
	children := map[int][]member{}
	for _, pid := range pids() {
		// Nothing that is older than the program can belong to it.
		if m, ok := readMember(pid); ok && m.start >= c.root.start {
			procs[m.pid] = m
			children[m.parent] = append(children[m.parent], m)
		}
	}
	is := func(m member) bool {
		known, seen := c.known[m.pid]
		return seen && known.start == m.start
	}
	root, alive := procs[c.root.pid]
	alive = alive && root.start == c.root.start
	in := map[int]member{}
	var add func(member)
	add = func(m member) {
		if _, twice := in[m.pid]; twice {
			return
		}
		in[m.pid] = m
		for _, d := range children[m.pid] {
			add(d)
		}
	}
	if alive {
		add(root)
	}
	for _, m := range procs {
		// The number of the group says something only while the program is there to
		// keep others from using it.
		if _, already := in[m.pid]; !already && (is(m) || alive && m.group == root.pid || c.marked(m.pid)) {
			add(m)
		}
	}
	c.known = in
	var out []member
	for _, m := range in {
		if m.state != 'Z' && m.state != 'X' {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b member) int { return a.pid - b.pid })
	return out
}

// marked reports whether the process was started with the tree's mark.
func (c *Child) marked(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && slices.Contains(strings.Split(string(b), "\x00"), c.mark)
}

func pids() []int {
	d, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var out []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

func readMember(pid int) (member, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return member{}, false
	}
	return parseStat(b)
}

// parseStat reads /proc/PID/stat. The name of the program, in parentheses, may hold
// anything, parentheses and blanks included.
func parseStat(b []byte) (member, bool) {
	open, shut := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || shut < open {
		return member{}, false
	}
	rest := strings.Fields(string(b[shut+1:]))
	if len(rest) < 20 || len(rest[0]) != 1 {
		return member{}, false
	}
	m := member{state: rest[0][0]}
	var errs [4]error
	m.pid, errs[0] = strconv.Atoi(strings.TrimSpace(string(b[:open])))
	m.parent, errs[1] = strconv.Atoi(rest[1])
	m.group, errs[2] = strconv.Atoi(rest[2])
	m.start, errs[3] = strconv.ParseUint(rest[19], 10, 64)
	return m, errs == [4]error{}
}
