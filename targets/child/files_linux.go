package child

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// LimitFiles lets every process of the tree open so many files more, sockets included, and
// not one beyond. What they start meanwhile has the limit, too. It returns how many processes
// have it, and lift, which gives all of them back what they had. Processes of other users can
// be limited by the privileged only: otherwise the error is an errors.ErrUnsupported.
func (c *Child) LimitFiles(more int) (n int, lift func() error, err error) {
	had := map[member]unix.Rlimit{}
	var first unix.Rlimit
	lift = func() error {
		if len(had) == 0 {
			return nil
		}
		var failed error
		for _, m := range c.members() {
			was, known := had[m.identity()]
			if !known {
				was = first
			}
			failed = errors.Join(failed, gone(unix.Prlimit(m.pid, unix.RLIMIT_NOFILE, &was, nil)))
		}
		return failed
	}
	for _, m := range c.members() {
		was, err := limit(m.pid, more)
		if err != nil && gone(err) == nil {
			continue
		}
		if errors.Is(err, unix.EPERM) {
			err = fmt.Errorf("%w: %w", err, errors.ErrUnsupported)
		}
		if err != nil {
			return 0, nil, errors.Join(err, lift())
		}
		if len(had) == 0 {
			first = was
		}
		had[m.identity()] = was
	}
	return len(had), lift, nil
}

// limit leaves a process so many numbers for further files, and returns the limit that it
// had. Of a process that has ended the error is ESRCH.
func limit(pid, more int) (was unix.Rlimit, err error) {
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		return was, err
	}
	at, err := unused(pid, more)
	if err != nil {
		return was, unix.ESRCH // nobody else has no list of files
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
