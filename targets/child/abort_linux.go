package child

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// abortTime is how long Abort and Sweep wait for killed processes to be gone.
const abortTime = time.Second

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
func Abort() error { return kill(Harness(), os.Getpid()) }

// Sweep kills what is left of the trees of a harness that has died. It leaves those of a
// harness alone that runs.
func Sweep(harness string) error {
	pid, _, _ := strings.Cut(harness, "-")
	n, err := strconv.Atoi(pid)
	if err != nil {
		return fmt.Errorf("%q is no harness", harness)
	}
	if m, there := readMember(n); there && m.state != 'Z' && identity(n, m.start) == harness {
		return nil
	}
	return kill(harness, 0)
}

// kill ends the trees that carry a mark of the harness, and those of the children of a
// parent that is not 0.
func kill(harness string, parent int) error {
	late := time.Now().Add(abortTime)
	known, had := map[int]member{}, map[member]bool{}
	// As in Child.Kill, what is stopped starts nothing and loses no parent meanwhile.
	for sig := syscall.SIGSTOP; ; {
		known = scan(0).trees(func(m member) bool {
			return m.pid != parent && (known[m.pid].identity() == m.identity() || parent != 0 && m.parent == parent ||
				marked(m.pid, func(mark string) bool { return strings.HasPrefix(mark, treeMark(harness)) }))
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
		case time.Now().After(late):
			return fmt.Errorf("%d processes are still there after %s, %d the first of them", len(left), abortTime, left[0].pid)
		case sig == syscall.SIGKILL:
			time.Sleep(poll)
		case !news, time.Until(late) < abortTime/2:
			sig = syscall.SIGKILL
		}
	}
}
