//go:build !linux

package link

import (
	"errors"
	"fmt"
	"net"
	"runtime"

	"github.com/shakedown-go/shakedown/harness"
)

// backlog is the queue of connections that a listener has not accepted. Only of Linux' own is it
// known what becomes of SYNs while it is full.
type backlog struct{}

func (*backlog) fill(*net.TCPListener, func(*net.TCPConn)) error {
	return fmt.Errorf("SYNs cannot be lost on %s: %w", runtime.GOOS, harness.ErrNotHere)
}

func (*backlog) empty(*net.TCPListener, func(*net.TCPConn)) error { return nil }
func (*backlog) discard(*net.TCPConn) bool                        { return false }
func (*backlog) close()                                           {}

func drops(*net.TCPListener) (uint32, error) { return 0, errors.ErrUnsupported }
