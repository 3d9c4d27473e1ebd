package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/providers"
)

// A system keeps all that it needs on disk in one directory: sockets, race logs and the
// data of its stores. It holds a lock on the directory as long as it lives, so that a
// later harness can tell what a dead one has left:
//
//	/tmp/shakedown-1234-5678901-23456789    the harness's identity, and something random
type scratch struct {
	dir  string
	lock *os.File // the directory itself
}

const (
	buryTime  = 20 * time.Second // for containers to be gone
	sweepTime = 15 * time.Second // for all that a new harness finds
	abortTime = 3 * time.Second  // for the same, when nobody waits
)

// maxParent keeps the path of a unix socket below its bound, about a hundred bytes.
const maxParent = 40

var scratchName = regexp.MustCompile(`^shakedown-(\d+-\d+)-\d+$`)

// lastParent is where scratch directories are when TMPDIR is too long.
const lastParent = "/tmp"

// scratchParent returns where scratch directories are.
func scratchParent() string {
	if parent, err := filepath.Abs(os.TempDir()); err == nil && len(parent) <= maxParent {
		return parent
	}
	return lastParent
}

func newScratch(parent string) (scratch, error) {
	const tries = 3
	var err error
	for range tries {
		var dir string
		if dir, err = os.MkdirTemp(parent, child.Home()); err != nil {
			return scratch{}, fmt.Errorf("make a scratch directory: %w; TMPDIR says where", err)
		}
		var s scratch
		if s, err = lockScratch(dir); err != nil {
			continue // without a lock, it looked like a dead harness's to one who sweeps
		}
		// A store may run as another user, who must get to its own directory in here.
		if err = os.Chmod(dir, 0o711); err != nil {
			return scratch{}, errors.Join(err, s.remove(context.Background()))
		}
		return s, nil
	}
	return scratch{}, fmt.Errorf("make a scratch directory: %w", err)
}

// lockScratch takes over a directory that nobody holds.
func lockScratch(dir string) (scratch, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return scratch{}, err
	}
	if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		_, err = os.Stat(dir) // whoever held it before may have removed it
	}
	if err != nil {
		f.Close()
		return scratch{}, fmt.Errorf("lock %s: %w", dir, err)
	}
	return scratch{dir, f}, nil
}

// remove removes the directory with what the stores hold beside it. It may be called
// twice, and on a zero scratch. A cancelled ctx does not leave anything behind.
func (s *scratch) remove(ctx context.Context) error {
	return s.bury(context.WithoutCancel(ctx), nil)
}

// bury is remove for what a dead harness has left: it has no longer than ctx.
func (s *scratch) bury(ctx context.Context, gone providers.Gone) error {
	ctx, cancel := context.WithTimeout(ctx, buryTime)
	defer cancel()
	if s.dir == "" {
		return nil
	}
	err := removeScratch(ctx, s.dir, gone)
	s.lock.Close() // last: until then nobody sweeps it
	s.dir = ""
	return err
}

// removeScratch removes a directory, unless something is left that the directory tells of. That
// is then the last to be tried again.
func removeScratch(ctx context.Context, dir string, gone providers.Gone) error {
	if err := providers.Bury(ctx, dir, gone); err != nil {
		now := time.Now()
		return errors.Join(fmt.Errorf("%s stays: %w", dir, err), os.Chtimes(dir, now, now))
	}
	return os.RemoveAll(dir)
}

// scratches calls f for each scratch directory of this user, with the identity of the
// harness that made it, those first at which nobody has been for longest.
func scratches(parent string, f func(dir, harness string) error) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	type found struct {
		dir, harness string
		at           time.Time
	}
	var all []found
	for _, e := range entries {
		m := scratchName.FindStringSubmatch(e.Name())
		if m == nil || !e.IsDir() {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // it was removed meanwhile
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == os.Geteuid() {
			all = append(all, found{filepath.Join(parent, e.Name()), m[1], info.ModTime()})
		}
	}
	slices.SortStableFunc(all, func(a, b found) int { return a.at.Compare(b.at) })
	var errs []error
	for _, x := range all {
		errs = append(errs, f(x.dir, x.harness))
	}
	return errors.Join(errs...)
}

// buried calls bury for each scratch directory of a harness that has died, which it holds
// meanwhile. When ctx is over, the rest is left.
func buried(ctx context.Context, parent string, bury func(s *scratch, harness string) error) error {
	left := 0
	err := scratches(parent, func(dir, harness string) error {
		s, err := lockScratch(dir)
		if err != nil {
			return nil // its harness lives, or somebody else is at it
		}
		if ctx.Err() != nil {
			left++
			return s.lock.Close()
		}
		return bury(&s, harness)
	})
	if left > 0 {
		err = errors.Join(err, fmt.Errorf("directories in %s that stay, as there was no time left: %d", parent, left))
	}
	return err
}

// sweep removes the directories of harnesses that have died, and ends what still runs of
// them. It does what it can in a bounded time: nothing of it is in the way of a new harness. The
// error says what stays.
func sweep(ctx context.Context, parent string) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTime)
	defer cancel()
	gone := providers.Gone{}
	return buried(ctx, parent, func(s *scratch, harness string) error {
		return errors.Join(child.Sweep(harness), s.bury(ctx, gone))
	})
}

// Abort ends at once all that the systems of this process have started, and removes what
// they have on disk. Nothing is healed or reported, and no system can be used any more:
// it is for a program that exits next. It takes two seconds at most, and three more where
// there are containers, and an error says what is left.
func Abort() error {
	ctx, cancel := context.WithTimeout(context.Background(), abortTime)
	defer cancel()
	err := child.Abort()
	own := child.Harness()
	return errors.Join(err, scratches(scratchParent(), func(dir, harness string) error {
		if harness != own {
			return nil
		}
		return removeScratch(ctx, dir, nil)
	}))
}
