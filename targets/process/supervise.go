package process

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/providers"
)

const (
	superviseTime = time.Minute            // for all of it to be gone
	superviseGap  = 100 * time.Millisecond // between the first two tries
	mostGap       = 5 * time.Second        // between two later ones
)

// Supervise is what a supervisor does: see Options. It waits on standard input until the
// harness that has started it ends. Where that has died, it ends the processes that are left of it, the
// stopped ones too, undoes what it has done to stores, and removes its containers and its
// directories below parent. What cannot be removed within a minute stays for Clean.
//
// A harness that lives, and what is another's, is never touched.
func Supervise(harness, parent string, stdin io.Reader) error {
	died, err := child.Supervise(harness, stdin)
	if err != nil || !died {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), superviseTime)
	defer cancel()
	for gap := superviseGap; ; gap = min(2*gap, mostGap) {
		err, left := child.Sweep(harness), false
		err = errors.Join(err, scratches(parent, func(dir, of string) error {
			if of != harness {
				return nil
			}
			s, locked := lockScratch(dir)
			if locked != nil {
				left = true // somebody else sweeps it, or it is gone
				return nil
			}
			return s.bury(ctx, nil)
		}))
		if !left && (err == nil || providers.Altered(err)) {
			return err
		}
		select {
		case <-time.After(gap):
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		}
	}
}
