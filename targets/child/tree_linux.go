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

// resident returns the bytes of memory that a process has resident; one that has ended has
// none.
func (m member) resident() (int64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(m.pid) + "/statm")
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		return 0, nil
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

func attributes(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: cred}
}

func rootMember(pid int) member {
	if m, ok := readMember(pid); ok {
		return m
	}
	return member{pid: pid}
}

// table is what /proc shows of the processes at one time.
type table struct {
	procs    map[int]member // by pid
	children map[int][]member
}

// scan reads /proc, but for what was started before a time.
func scan(since uint64) table {
	t := table{map[int]member{}, map[int][]member{}}
	for _, pid := range pids() {
		if m, ok := readMember(pid); ok && m.start >= since {
			t.procs[m.pid] = m
			t.children[m.parent] = append(t.children[m.parent], m)
		}
	}
	return t
}

// trees returns the processes that is holds for, and all their descendants.
func (t table) trees(is func(member) bool) map[int]member {
	in := map[int]member{}
	var add func(member)
	add = func(m member) {
		if _, twice := in[m.pid]; twice {
			return
		}
		in[m.pid] = m
		for _, d := range t.children[m.pid] {
			add(d)
		}
	}
	for _, m := range t.procs {
		if _, already := in[m.pid]; !already && is(m) {
			add(m)
		}
	}
	return in
}

// alive returns those that have not ended, in ascending order: zombies have.
func alive(in map[int]member) []member {
	var out []member
	for _, m := range in {
		if m.state != 'Z' && m.state != 'X' {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b member) int { return a.pid - b.pid })
	return out
}

// members scans /proc for what belongs to the tree: the program, the descendants of a
// member, the members of an earlier scan, the program's process group, and whatever
// carries the mark in its environment.
func (c *Child) members() []member {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := scan(c.root.start) // nothing that is older than the program can belong to it
	root := t.procs[c.root.pid]
	there := root.pid != 0 && root.start == c.root.start
	c.known = t.trees(func(m member) bool {
		switch {
		case c.known[m.pid].identity() == m.identity():
			return true
		case there && (m.pid == root.pid || m.group == root.pid):
			// The number of the group says something only while the program is there
			// to keep others from using it.
			return true
		}
		return marked(m.pid, func(mark string) bool { return mark == c.mark })
	})
	return alive(c.known)
}

// marked reports whether the process was started with a mark that is so.
func marked(pid int, so func(mark string) bool) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && slices.ContainsFunc(strings.Split(string(b), "\x00"), so)
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
	if len(rest) < 20 || len(rest[0]) != 1 || rest[0] < "A" || rest[0] > "z" {
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
