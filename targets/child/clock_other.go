//go:build !(linux && amd64)

package child

import (
	"context"
	"fmt"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// ClockFixed says why no clock can be moved on this system.
func ClockFixed() error {
	return fmt.Errorf("the clock of a process can be moved on Linux on amd64 only: %w", harness.ErrNotHere)
}

// SetClock is not possible here.
func (c *Child) SetClock(context.Context, time.Duration) (n int, err error) { return 0, ClockFixed() }
