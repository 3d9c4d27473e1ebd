//go:build !linux

package child

import (
	"fmt"

	"github.com/shakedown-go/shakedown/harness"
)

// files is nothing here.
type files struct{}

// LimitFiles is not possible here.
func (c *Child) LimitFiles(int) (n int, lift func() error, err error) {
	return 0, nil, fmt.Errorf("the files of a process that runs cannot be limited on this system: %w", harness.ErrNotHere)
}
