package child

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/shakedown-go/shakedown/harness"
)

// files is the limit on the files of a tree, while there is one.
type files struct {
	inForce int
	had     map[member]unix.Rlimit
	first   unix.Rlimit // of had
}

// LimitFiles lets every process of the tree open so many files more, sockets included, and
// not one beyond. It returns how many processes have the limit, and lift, which gives all of
// the tree back what they had; of several limits in force, the last lift counts. Processes of other
// users can be limited by the privileged only: otherwise the error is a harness.ErrNotHere.
func (c *Child) LimitFiles(more int) (n int, lift func() error, err error) {
	c.limiting.Lock()
	defer c.limiting.Unlock()
	f := &c.files
	if f.inForce == 0 {
		f.had = map[member]unix.Rlimit{}
	}
	for _, m := range c.members() {
		was, err := limit(m.pid, more)
		if err != nil && gone(err) == nil {
			continue
		}
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: %w", err, harness.ErrNotHere)
		}
		if err != nil {
			if f.inForce == 0 {
				err = errors.Join(err, c.liftFiles())
			}
			return 0, nil, err
		}
		if len(f.had) == 0 {
			f.first = was
		}
		if _, again := f.had[m.identity()]; !again {
			f.had[m.identity()] = was
		}
		n++
	}
	f.inForce++
	return n, func() error {
		c.limiting.Lock()
		defer c.limiting.Unlock()
		if f.inForce--; f.inForce > 0 {
			return nil
		}
		return c.liftFiles()
	}, nil
}

// liftFiles gives the tree back its limits, until no member is left that has not had its
// own: one that was started meanwhile may have inherited the limit. The caller holds
// c.limiting.
func (c *Child) liftFiles() error {
	if len(c.files.had) == 0 {
		return nil
	}
	var failed error
	done := map[member]bool{}
	for {
		n := len(done)
		for _, m := range c.members() {
			if done[m.identity()] {
				continue
			}
			done[m.identity()] = true
			was, known := c.files.had[m.identity()]
			if !known {
				was = c.files.first
			}
			failed = errors.Join(failed, gone(unix.Prlimit(m.pid, unix.RLIMIT_NOFILE, &was, nil)))
		}
		if len(done) == n {
			return failed
		}
	}
}

// limit leaves a process so many numbers for further files, and returns the limit that it
// had. Of a process that has ended the error is ESRCH.
func limit(pid, more int) (was unix.Rlimit, err error) {
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		return was, err
	}
	at, err := unused(pid, more)
	if errors.Is(err, fs.ErrNotExist) {
		err = unix.ESRCH
	}
	if err != nil {
		return was, err
	}
	return was, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: min(at, was.Cur), Max: was.Max}, nil)
}

// gone returns an error unless it says that a process has ended.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// unused returns the n-th number, from 0, that a process has no open file under. A new file
// gets the lowest one, and the limit is on the number.
func unused(pid, n int) (uint64, error) {
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		return 0, err
	}
	var used []int
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil {
			used = append(used, fd)
		}
	}
	slices.Sort(used)
	next := 0
	for _, fd := range used {
		if free := fd - next; n < free {
			break
		} else {
			n -= free
		}
		next = fd + 1
	}
	return uint64(next + n), nil
}
