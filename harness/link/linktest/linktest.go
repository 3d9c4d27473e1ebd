// Package linktest is what the tests of both engines of links stand on: servers, clients, and
// what they want to see. A failure ends the test.
package linktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Soon bounds every wait that is expected to end.
const Soon = 20 * time.Second

// Serve starts a TCP server, which ends with the test, and returns its address.
func Serve(t testing.TB, handle func(*net.TCPConn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				handle(c.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}

// Echo answers with what it gets.
func Echo(c *net.TCPConn) { io.Copy(struct{ io.Writer }{c}, c) }

// Flood answers without end, and never reads.
func Flood(c *net.TCPConn) {
	c.SetWriteBuffer(256 << 10) // so that what is on the way is soon full
	for block := make([]byte, 64<<10); ; {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// Deaf returns the address of a socket that never answers a connect: its backlog is full. The
// test is skipped where the kernel answers beyond that.
func Deaf(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", sa.(*syscall.SockaddrInet4).Port)
	for range 10 { // fill the backlog
		c, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Skip("this kernel answers connects beyond the backlog")
	return ""
}

// Descriptors returns how many file descriptors the process has open.
func Descriptors(t testing.TB) int {
	t.Helper()
	open, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// Dial connects, until the end of the test.
func Dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, Soon)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// Disturb installs a toxic.
func Disturb(t testing.TB, l harness.Link, x harness.Toxic) harness.Injection {
	t.Helper()
	inj, err := l.Disturb(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	return inj
}

// Heal ends what Disturb began.
func Heal(t testing.TB, inj harness.Injection) {
	t.Helper()
	if err := inj.Heal(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Send writes.
func Send(t testing.TB, c net.Conn, s string) {
	t.Helper()
	c.SetWriteDeadline(time.Now().Add(Soon))
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatalf("send %q: %v", s, err)
	}
}

// Expect wants that this comes next.
func Expect(t testing.TB, c net.Conn, want string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(Soon))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %q, %v; want %q", got[:n], err, want)
	}
}

// RoundTrip wants what it sends back.
func RoundTrip(t testing.TB, c net.Conn, s string) {
	t.Helper()
	Send(t, c, s)
	Expect(t, c, s)
}

// Ended reads to the end and returns what came and how it ended.
func Ended(c net.Conn) (string, error) {
	c.SetReadDeadline(time.Now().Add(Soon))
	b, err := io.ReadAll(c)
	return string(b), err
}

// Refused wants that a new connection is reset, at its connect or at its first read.
func Refused(t testing.TB, addr string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, Soon)
	if err == nil {
		defer c.Close()
		_, err = Ended(c)
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("got %v, want a reset", err)
	}
}

// Eventually wants something to come true. Where it does not, all goroutines are shown.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Soon); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("not within %s: %s\n%s", Soon, what, stacks[:runtime.Stack(stacks, true)])
		}
	}
}
