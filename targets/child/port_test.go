package child

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"
)

func TestReservedPortIsRefusedUntilSomebodyListens(t *testing.T) {
	t.Parallel()
	p, err := ReservePort()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	if c, err := net.DialTimeout("tcp", p.Addr(), time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v, %v; want connection refused", c, err)
	}
	l, err := net.Listen("tcp", p.Addr())
	if err != nil {
		t.Fatalf("a server cannot listen on it: %v", err)
	}
	l.Close()
}
