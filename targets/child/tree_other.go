//go:build !linux

package child

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// member is the process group of a tree: where there is no /proc, what leaves the group
// is not found.
type member struct{ pid int }

func (m member) identity() member { return m }

// stopped is not known here: what was told to stop is taken to have stopped.
func (m member) stopped() bool { return true }

func (m member) signal(s syscall.Signal) error { return syscall.Kill(-m.pid, s) }

func (m member) resident() (int64, error) {
	return 0, errors.New("the memory of processes is not measured on this system")
}

func attributes(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: cred}
}

func rootMember(pid int) member { return member{pid} }

// members returns the group while it has a living member.
func (c *Child) members() []member {
	if syscall.Kill(-c.root.pid, 0) != nil {
		return nil
	}
	return []member{c.root}
}

// Harness returns the identity of this process: its number, and nothing more.
func Harness() string { return strconv.Itoa(os.Getpid()) + "-0" }

// Alive reports whether there is a process of a harness's number.
func Alive(harness string) bool {
	pid, err := strconv.Atoi(strings.TrimSuffix(harness, "-0"))
	return err == nil && !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}

// Left finds nothing here.
func Left(string) []Process { return nil }

// Dead finds nothing here.
func Dead(func(uid int) bool) []string { return nil }

// Abort does nothing here: what a harness has started is not found. Its pipes end with
// it, by which the services know.
func Abort() error { return nil }

// Sweep does nothing here.
func Sweep(string) error { return nil }
