//go:build !linux

package child

import (
	"context"
	"fmt"

	"github.com/shakedown-go/shakedown/harness"
)

// groups are nothing here.
type groups struct{}

// Confine is not possible here.
func (c *Child) Confine(context.Context, harness.Quota) (harness.Injection, error) {
	return harness.Injection{}, fmt.Errorf("this system has no control groups: %w", harness.ErrNotHere)
}

func (c *Child) starving() bool { return false }

func (c *Child) dissolve(context.Context) error { return nil }

// Groups finds nothing here.
func Groups(string) []string { return nil }
