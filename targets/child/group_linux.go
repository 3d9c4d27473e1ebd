package child

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// group is a control group of the harness's own, which holds a tree to its quotas. It is made
// when the first quota of its kind is asked for, and the tree stays in it until it has ended: what a
// process has taken in a group is on that group's account for good. What it had before is not.
//
//	/sys/fs/cgroup/memory/user/shakedown-1234-5678901-23456789    the harness's identity, and something random
//
// By its name it is found when the harness has died.
type group struct {
	dir      string
	unified  bool  // of cgroup v2
	outlived int64 // of kills, those that the program has outlived
}

// groupName is what the name of a harness's group is.
var groupName = regexp.MustCompile(`^` + home + `([0-9]+-[0-9]+)-[0-9]+$`)

// groups are those of a tree.
type groups struct {
	made []*group
	held map[string]*hold // in force, by the controller's name
	gone bool             // the tree has ended, and all are removed
}

// hold is a quota in force.
type hold struct {
	g     *group
	of    string // the controller
	began int64  // what its counter was
	count int64  // since
}

func (h *hold) look() { h.count = h.g.hits(h.of) - h.began }

// The controllers.
const (
	memory = "memory"
	cpu    = "cpu"
)

// period is how often a share of a processor's time is handed out: the system's own default.
const period = 100 * time.Millisecond

// Confine leaves the tree no more than a quota until the heal: see harness.Proc. It needs a
// control group that this user may make. A tree that has ended has nothing to be held to.
func (c *Child) Confine(_ context.Context, q harness.Quota) (harness.Injection, error) {
	c.confining.Lock()
	defer c.confining.Unlock()
	h := &hold{of: memory}
	if q.Memory <= 0 {
		h.of = cpu
	}
	in := harness.Injection{
		Heal: func(ctx context.Context) error { return c.release(ctx, h) },
		Acted: func() int64 {
			c.confining.Lock()
			defer c.confining.Unlock()
			if c.groups.held[h.of] == h {
				h.look()
			}
			return h.count
		},
	}
	if c.groups.held[h.of] != nil {
		return harness.Injection{}, fmt.Errorf("%[2]s has a quota of %[1]s already", h.of, c.name)
	}
	if c.groups.gone || len(c.members()) == 0 {
		return in, nil
	}
	var err error
	if h.g, err = c.group(h.of); err != nil {
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
			err = fmt.Errorf("%w: %w", err, harness.ErrNotHere)
		}
		return harness.Injection{}, err
	}
	h.began = h.g.hits(h.of)
	if err := h.g.limit(q); err != nil {
		return harness.Injection{}, errors.Join(err, h.g.unlimit(h.of))
	}
	if c.groups.held == nil {
		c.groups.held = map[string]*hold{}
	}
	c.groups.held[h.of] = h
	return in, nil
}

// release lifts a quota. What the system is about to end for want of memory has ended then.
func (c *Child) release(ctx context.Context, h *hold) error {
	c.confining.Lock()
	if c.groups.held[h.of] != h {
		c.confining.Unlock()
		return nil
	}
	if err := h.g.unlimit(h.of); err != nil {
		c.confining.Unlock()
		return err
	}
	h.look()
	delete(c.groups.held, h.of)
	kills := h.g.kills()
	killed := h.of == memory && kills > h.g.outlived
	c.confining.Unlock()
	if !killed {
		return nil
	}
	seen, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	for c.ending() { // until whoever started it has seen its end, which some never do
		if dying(c.root) {
			select {
			case <-c.done:
				return nil
			case <-ctx.Done():
				return fmt.Errorf("%s is being ended for want of memory: %w", c.name, ctx.Err())
			}
		}
		if wait(seen, poll) != nil {
			break
		}
	}
	c.confining.Lock()
	defer c.confining.Unlock()
	h.g.outlived = kills
	return nil
}

// ending reports whether a process of the tree is about to end, or has ended and nobody has
// looked at how.
func (c *Child) ending() bool {
	c.members()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.known {
		if dying(m) {
			return true
		}
	}
	return dying(c.root)
}

// group returns the group that a controller limits, with the whole tree in it. The caller
// holds c.confining.
func (c *Child) group(controller string) (*group, error) {
	at, err := find(c.root.pid, controller)
	if err != nil {
		return nil, err
	}
	for _, g := range c.groups.made {
		if filepath.Base(at.dir) == filepath.Base(g.dir) { // where it has been moved to
			if !g.controls(controller) {
				return nil, fmt.Errorf("the control group %s has no limits of %s", g.dir, controller)
			}
			return g, c.move(g)
		}
	}
	parent := at.dir
	if at.unified {
		if parent, err = handsDown(at, controller); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp(parent, Home())
	if err != nil {
		return nil, fmt.Errorf("make a control group: %w", err)
	}
	g := &group{dir: dir, unified: at.unified}
	err = c.move(g)
	if err == nil || os.Remove(dir) != nil { // some may be in it, and stay there
		c.groups.made = append(c.groups.made, g)
	}
	return g, err
}

// move has the whole tree in a group: what is started there stays there.
func (c *Child) move(g *group) error {
	for {
		members, in := c.members(), g.processes() // in this order: what is started in between is in
		moved := 0
		for _, m := range members {
			if slices.Contains(in, m.pid) {
				continue
			}
			err := g.write("cgroup.procs", strconv.Itoa(m.pid))
			if gone(err) != nil {
				return fmt.Errorf("move process %d of %s: %w", m.pid, c.name, err)
			}
			if err == nil {
				moved++
			}
		}
		if moved == 0 {
			return nil
		}
	}
}

// starving reports whether the system has ended a process of the tree for want of memory, and
// it may have been the program.
func (c *Child) starving() bool {
	c.confining.Lock()
	defer c.confining.Unlock()
	return slices.ContainsFunc(c.groups.made, func(g *group) bool { return g.kills() > g.outlived })
}

// dissolve removes the groups of a tree that has ended. What is in them and was not found
// elsewhere is ended, too.
func (c *Child) dissolve(ctx context.Context) error {
	c.confining.Lock()
	defer c.confining.Unlock()
	for _, h := range c.groups.held {
		h.look()
	}
	var errs []error
	for _, g := range c.groups.made {
		errs = append(errs, g.remove(ctx))
	}
	c.groups = groups{gone: true}
	return errors.Join(errs...)
}

// limit holds what is in the group to a quota. Of memory, what is on the group's account
// already counts for nothing.
func (g *group) limit(q harness.Quota) error {
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	share, whole := number(int64(q.CPU)*period.Microseconds()/100), number(period.Microseconds())
	most := g.number("memory.usage_in_bytes", "") + g.number("memory.current", "") + q.Memory
	switch {
	case q.Memory > 0 && g.unified:
		return errors.Join(g.writeIf("memory.swap.max", "0"), g.write("memory.max", number(most)))
	case q.Memory > 0:
		return errors.Join(g.write("memory.limit_in_bytes", number(most)), g.writeIf("memory.memsw.limit_in_bytes", number(most+swap)))
	case g.unified:
		return g.write("cpu.max", share+" "+whole)
	}
	return errors.Join(g.write("cpu.cfs_period_us", whole), g.write("cpu.cfs_quota_us", share))
}

// swap is how much of it a group of cgroup v1 gets, in bytes: with none, Linux does not count
// how often the limit was met.
const swap = 1 << 20

// unlimit takes back what limit has done.
func (g *group) unlimit(controller string) error {
	switch {
	case controller == memory && g.unified:
		return errors.Join(g.write("memory.max", "max"), g.writeIf("memory.swap.max", "max"))
	case controller == memory:
		return errors.Join(g.writeIf("memory.memsw.limit_in_bytes", "-1"), g.write("memory.limit_in_bytes", "-1"))
	case g.unified:
		return g.write("cpu.max", "max")
	}
	return g.write("cpu.cfs_quota_us", "-1")
}

// controls reports whether a group has the limits of a controller.
func (g *group) controls(controller string) bool {
	file := map[string]string{memory: "memory.limit_in_bytes", cpu: "cpu.cfs_quota_us"}
	if g.unified {
		file = map[string]string{memory: "memory.max", cpu: "cpu.max"}
	}
	_, err := os.Stat(filepath.Join(g.dir, file[controller]))
	return err == nil
}

// hits returns how often what is in the group has met its limit.
func (g *group) hits(controller string) int64 {
	switch {
	case controller == cpu:
		return g.number("cpu.stat", "nr_throttled")
	case g.unified:
		return g.number("memory.events", "max")
	}
	return g.number("memory.failcnt", "")
}

// kills returns how many processes the system has ended for want of memory.
func (g *group) kills() int64 {
	if g.unified {
		return g.number("memory.events", "oom_kill")
	}
	return g.number("memory.oom_control", "oom_kill")
}

// number reads a number from a file of the group: the whole file's, or that behind a key. What
// is not there is 0.
func (g *group) number(file, key string) int64 {
	text, _ := os.ReadFile(filepath.Join(g.dir, file))
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); key != "" && name == key || key == "" {
			if key == "" {
				value = name
			}
			n, _ := strconv.ParseInt(value, 10, 64)
			return n
		}
	}
	return 0
}

func (g *group) write(file, text string) error {
	f, err := os.OpenFile(filepath.Join(g.dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// writeIf writes a file that not every system has.
func (g *group) writeIf(file, text string) error {
	err := g.write(file, text)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// processes returns what is in the group, as far as it is seen from here: what is not has
// the number 0.
func (g *group) processes() (pids []int) {
	text, _ := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
	for line := range strings.Lines(string(text)) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// remove removes the group as soon as what is in it has ended. What is in it still is ended, unless
// it runs in another namespace of processes: there may be a harness, too. Quotas are lifted, by which
// a process ends as slowly as it lives.
func (g *group) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	for _, controller := range []string{memory, cpu} {
		if g.controls(controller) {
			_ = g.unlimit(controller) // it may be gone by now
		}
	}
	for {
		err := os.Remove(g.dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		left := g.processes()
		for _, pid := range left {
			if m, there := readMember(pid); there && here(pid) {
				_ = m.signal(syscall.SIGKILL)
			}
		}
		if wait(ctx, poll) != nil {
			return fmt.Errorf("the control group stays, with processes %v: %w", states(left), err)
		}
	}
}

// states returns processes with their names and states, as far as they are there.
func states(pids []int) (out []string) {
	for _, pid := range pids {
		name, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
		m, _ := readMember(pid)
		out = append(out, fmt.Sprintf("%d %s %c", pid, bytes.TrimSpace(name), m.state))
	}
	return out
}

// here reports whether a process runs in this namespace of processes.
func here(pid int) bool {
	ours, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return false
	}
	its, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/pid")
	return err == nil && its == ours
}

// removeTime bounds the wait for a group whose processes are being ended to be empty.
const removeTime = 5 * time.Second

// place is where a process is in a hierarchy of groups.
type place struct {
	dir     string // its group
	mount   string // the topmost group that is seen here
	unified bool
}

// find returns where a process is in the hierarchy of a controller.
func find(pid int, controller string) (place, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return place{}, err
	}
	var path string
	unified := true
	for line := range strings.Lines(string(text)) { // 4:memory:/user, 0::/user
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(parts) < 3:
		case slices.Contains(strings.Split(parts[1], ","), controller):
			path, unified = parts[2], false
		case parts[0] == "0" && unified:
			path = parts[2]
		}
	}
	for _, h := range hierarchies() {
		if h.unified != unified || !unified && !slices.Contains(h.controllers, controller) {
			continue
		}
		below, inside := strings.CutPrefix(path, strings.TrimSuffix(h.root, "/"))
		if inside && (below == "" || below[0] == '/') && !strings.HasPrefix(below, "/..") {
			return place{filepath.Join(h.mount, below), h.mount, unified}, nil
		}
	}
	return place{}, fmt.Errorf("there are no control groups for the limits of %s: %w", controller, harness.ErrNotHere)
}

// handsDown returns the nearest group above a place, or at it, that hands a controller down
// to those below. In cgroup v2 one that has processes hands nothing down, but for the root.
func handsDown(at place, controller string) (string, error) {
	for dir := at.dir; ; dir = filepath.Dir(dir) {
		if text, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control")); slices.Contains(strings.Fields(string(text)), controller) {
			return dir, nil
		}
		if len(dir) <= len(at.mount) {
			return "", fmt.Errorf("no control group above %s hands down the limits of %s: %w", at.dir, controller, harness.ErrNotHere)
		}
	}
}

// hierarchy is one of groups, as it is mounted.
type hierarchy struct {
	root, mount string
	controllers []string // of cgroup v1
	unified     bool
}

// hierarchies returns those that have limits of memory or processors.
func hierarchies() (out []hierarchy) {
	text, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range bytes.Lines(text) {
		// 36 35 0:30 /root /mount rw - cgroup cgroup rw,memory
		about, on, _ := strings.Cut(string(line), " - ")
		fields, system := strings.Fields(about), strings.Fields(on)
		if len(fields) < 5 || len(system) < 3 {
			continue
		}
		h := hierarchy{root: fields[3], mount: fields[4], unified: system[0] == "cgroup2"}
		if system[0] == "cgroup" {
			h.controllers = strings.Split(system[2], ",")
		}
		if h.unified || slices.Contains(h.controllers, memory) || slices.Contains(h.controllers, cpu) {
			out = append(out, h)
		}
	}
	return out
}

// Groups returns the control groups that a harness has, or has left.
func Groups(harness string) (dirs []string) {
	everyGroup(func(g *group, of string) {
		if of == harness {
			dirs = append(dirs, g.dir)
		}
	})
	return dirs
}

// everyGroup calls f for all groups of harnesses that are seen here.
func everyGroup(f func(g *group, harness string)) {
	var walk func(dir string, unified bool)
	walk = func(dir string, unified bool) {
		below, _ := os.ReadDir(dir) // it may be gone by now
		for _, e := range below {
			if !e.IsDir() {
				continue
			}
			if m := groupName.FindStringSubmatch(e.Name()); m != nil {
				f(&group{dir: filepath.Join(dir, e.Name()), unified: unified}, m[1])
			} else {
				walk(filepath.Join(dir, e.Name()), unified)
			}
		}
	}
	for _, h := range hierarchies() {
		walk(h.mount, h.unified)
	}
}

// removeGroups removes the control groups of a harness whose processes have been ended.
func removeGroups(harness string) error {
	var errs []error
	everyGroup(func(g *group, of string) {
		if of == harness {
			errs = append(errs, g.remove(context.Background()))
		}
	})
	return errors.Join(errs...)
}

// The flags of a process that ends, as /proc/PID/stat shows them, and SIGKILL among the signals
// that wait for it.
const (
	exiting  = 0x4
	signaled = 0x400
	pending  = 1 << (syscall.SIGKILL - 1)
)

// dying reports whether a process has ended, or has got a SIGKILL and is about to. Its
// identity is enough.
func dying(was member) bool {
	dir := "/proc/" + strconv.Itoa(was.pid)
	status, _ := os.ReadFile(dir + "/status") // first: a signal that is taken becomes a flag
	stat, err := os.ReadFile(dir + "/stat")
	m, ok := parseStat(stat)
	if err != nil || !ok || m.identity() != was.identity() || m.state == 'Z' || m.state == 'X' {
		return true
	}
	for line := range strings.Lines(string(status)) {
		if name, mask, _ := strings.Cut(line, ":"); name == "SigPnd" || name == "ShdPnd" {
			if signals, _ := strconv.ParseUint(strings.TrimSpace(mask), 16, 64); signals&pending != 0 {
				return true
			}
		}
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	flags, _ := strconv.ParseUint(fields[6], 10, 64)
	return flags&(exiting|signaled) != 0
}
