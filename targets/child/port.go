package child

import (
	"fmt"
	"net"
	"runtime"
	"strconv"
	"syscall"
)

// Port is a free port of the loopback address that is kept for a child: the system gives
// it to nobody who asks for any port, even while the child is down. Elsewhere than on
// Linux it is merely a port that was free.
type Port struct {
	fd, number int
}

// ReservePort picks a port. What listens on it must set SO_REUSEADDR, as Go's net does.
func ReservePort() (*Port, error) {
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("reserve a port: %w", err)
	}
	p := &Port{fd: fd}
	if err := p.bind(); err != nil {
		p.Release()
		return nil, fmt.Errorf("reserve a port: %w", err)
	}
	if runtime.GOOS != "linux" { // a second socket cannot be bound beside this one
		p.Release()
	}
	return p, nil
}

func (p *Port) bind() error {
	if err := syscall.SetsockoptInt(p.fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := syscall.Bind(p.fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	name, err := syscall.Getsockname(p.fd)
	if in4, ok := name.(*syscall.SockaddrInet4); ok {
		p.number = in4.Port
	}
	return err
}

// Addr returns the address with the port: "127.0.0.1:40123".
func (p *Port) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.number)) }

// Number returns the port.
func (p *Port) Number() int { return p.number }

// Release gives the port back. It may be called twice, and on nil.
func (p *Port) Release() {
	if p != nil && p.fd >= 0 {
		syscall.Close(p.fd)
		p.fd = -1
	}
}
