package child

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// supervisorMark is what a supervisor has in the place of a tree's mark: it outlives the
// harness, so neither Abort nor Sweep ends it.
const supervisorMark = treeVar + "=supervisor"

// releaseTime bounds the wait for a supervisor that has nothing left to do.
const releaseTime = 2 * time.Second

// mostPoll is the longest time between two looks at a harness that is about to be gone.
const mostPoll = 100 * time.Millisecond

// released is what a supervisor reads where all has ended well. A harness that dies says
// nothing.
const released = "released\n"

// Supervisor is a process that looks after what this one has started, should this one
// die, in whatever way:
//
//	harness --(pipe: "released", or nothing, then its end)--> supervisor
//
// It has a session of its own, so that no terminal's Ctrl-C and no hangup reaches it.
type Supervisor struct {
	cmd  *exec.Cmd
	hold *os.File // the end of the pipe that only this process has
}

// StartSupervisor starts this very program once more, with other arguments, by which it is
// to call Supervise.
func StartSupervisor(args ...string) (*Supervisor, error) {
	if slices.Contains(os.Environ(), supervisorMark) { // or there would be no end of them
		return nil, errors.New("start a supervisor: this is one, which does something else than Supervise")
	}
	self, err := self()
	if err != nil {
		return nil, fmt.Errorf("start a supervisor: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start a supervisor: %w", err)
	}
	defer r.Close()
	s := &Supervisor{cmd: exec.Command(self, args...), hold: w}
	s.cmd.Args[0] = os.Args[0] // some programs are several, and look at their name
	s.cmd.Env = append(os.Environ(), supervisorMark)
	s.cmd.Stdin = r
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a supervisor: %w", errors.Join(err, w.Close()))
	}
	return s, nil
}

// self returns the file of this program. Linux has a name for it that leads there when
// the file has been replaced since; and who ends all programs of a name does not mean the
// one that cleans up after them.
func self() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// Release lets the supervisor go, and waits until it has ended. It may be called on nil.
func (s *Supervisor) Release() error {
	if s == nil {
		return nil
	}
	_, err := io.WriteString(s.hold, released) // it fits into the pipe
	err = errors.Join(err, s.hold.Close())
	if errors.Is(err, syscall.EPIPE) {
		err = nil // somebody has ended it; it has nothing to do any more
	}
	late := time.AfterFunc(releaseTime, func() { _ = s.cmd.Process.Kill() })
	defer late.Stop()
	_ = s.cmd.Wait() // how it ends is of no interest
	return err
}

// Supervise is what a supervisor does: it lets go of all that it has of the program which
// has started it, and waits on standard input for the end of that. Died reports whether
// that harness, whose identity is given, has died without a word.
func Supervise(harness string, stdin io.Reader) (died bool, err error) {
	if !identities.MatchString(harness) {
		return false, fmt.Errorf("%q is no harness", harness)
	}
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	if err := detach(); err != nil {
		return false, err
	}
	said, err := io.ReadAll(io.LimitReader(stdin, int64(len(released))))
	if err != nil || len(said) > 0 {
		return false, err
	}
	// Its descriptors are closed a moment before it is gone: a long one where that has much to
	// write down or to give back. And one that lives on without the pipe dies one day, too.
	for gap := poll; Alive(harness); gap = min(2*gap, mostPoll) {
		time.Sleep(gap)
	}
	return true, nil
}

// detach closes what was inherited from whoever started the harness: a file, a lock or a
// pipe that somebody waits on. What Go opens is closed on exec, so it is told apart.
func detach() error {
	if err := os.Chdir("/"); err != nil {
		return err
	}
	fds, err := os.ReadDir("/dev/fd")
	if err != nil {
		return err
	}
	for _, e := range fds {
		fd, err := strconv.Atoi(filepath.Base(e.Name()))
		if err != nil || fd <= 2 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
	return nil
}

// Process is one that a harness has left running.
type Process struct {
	Pid  int
	Name string // of its program, as the system has it
}
