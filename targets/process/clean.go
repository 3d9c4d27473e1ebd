package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/providers"
)

// Clean ends and removes what harnesses that have died left on this machine, and tells of
// each thing that is gone: "process 4711 (postgres)", "container 1f2e3d4c5b6a", "control group
// /sys/fs/cgroup/memory/shakedown-1-2-3", "directory /tmp/shakedown-1-2-3"; and what it leaves
// as it is, and for good, because somebody else has changed it since. An error says what is
// still there, and why; when ctx is over, that is all the rest. What belongs to a harness that
// runs is never touched, nor is another user's.
func Clean(ctx context.Context, tell, leave func(what string)) error {
	var errs []error
	gone := providers.Gone{}
	for _, parent := range slices.Compact([]string{scratchParent(), lastParent}) {
		errs = append(errs, buried(ctx, parent, func(s *scratch, harness string) error {
			dir := s.dir
			killed := end(harness, tell)
			undone, left, _ := providers.Undo(ctx, dir, gone) // what is not undone the burial says, too
			held, _ := providers.Held(ctx, dir)               // what cannot be asked cannot be removed either
			for _, what := range undone {
				tell(what)
			}
			for _, what := range left {
				leave(what)
			}
			if err := s.bury(ctx, gone); err != nil {
				return errors.Join(killed, err)
			}
			for _, what := range append(held, "directory "+dir) {
				tell(what)
			}
			return killed
		}))
	}
	// Their directories may be gone: somebody has tidied up, or TMPDIR was another one.
	for _, harness := range child.Dead(own) {
		if ctx.Err() != nil {
			errs = append(errs, fmt.Errorf("processes of the harness %s stay: there was no time left for them", harness))
			continue
		}
		errs = append(errs, end(harness, tell))
	}
	return errors.Join(errs...)
}

// end ends what is left of the processes of a harness that has died, and removes its control
// groups.
func end(harness string, tell func(what string)) error {
	before, groups := child.Left(harness), child.Groups(harness)
	err := child.Sweep(harness)
	after := child.Left(harness)
	left := child.Groups(harness)
	for _, p := range before {
		if !slices.Contains(after, p) {
			tell(fmt.Sprintf("process %d (%s)", p.Pid, p.Name))
		}
	}
	for _, dir := range groups {
		if !slices.Contains(left, dir) {
			tell("control group " + dir)
		}
	}
	return err
}

// own reports whether what a harness of this user starts runs as a user of that number.
func own(uid int) bool {
	return uid == os.Geteuid() || os.Geteuid() == 0 && uid == providers.StoreUser
}
