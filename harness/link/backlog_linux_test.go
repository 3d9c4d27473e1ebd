package link

import (
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shakedown-go/shakedown/harness"
)

// A kernel that resets where it should drop is none that a link can be deaf on.
func TestDeafIsRefusedWhereTheKernelAnswers(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread with the other network ends
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Logf("no network to change the setting in: %v", err)
			return
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		defer ln.Close()
		for _, say := range []string{"1", "0"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/tcp_abort_on_overflow", []byte(say), 0); err != nil {
				t.Logf("the setting cannot be changed: %v", err)
				return
			}
			most, err := askable(ln.(*net.TCPListener))
			switch refused := errors.Is(err, harness.ErrNotHere) && strings.Contains(err.Error(), "tcp_abort_on_overflow is 1"); {
			case say == "1" && !refused, say == "0" && refused:
				t.Errorf("with tcp_abort_on_overflow=%s: %d, %v", say, most, err)
			}
		}
	}()
	<-done
}

// The backlog is what it was, and nobody waits.
func TestBacklogIsAsBefore(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	look := func() (n, most int) {
		t.Helper()
		n, most, err := waiting(l.listener)
		if err != nil {
			t.Fatal(err)
		}
		return n, most
	}
	_, before := look()
	if before < 2 {
		t.Fatalf("a backlog of %d", before)
	}
	inj := disturb(t, l, harness.Toxic{Deaf: true})
	if n, most := look(); n != fillers || most != little {
		t.Errorf("%d wait in a backlog of %d, want %d of %d", n, most, fillers, little)
	}
	// Who has asked for an end may be answered when somebody else wants it to go on.
	done := make(chan error, 1)
	l.ear.turn.Lock()
	l.listener.SetDeadline(past)
	l.ear.asks <- done
	if err := <-done; err != nil {
		t.Error(err)
	}
	l.ear.turn.Unlock()
	if n, most := look(); n != fillers || most != little {
		t.Errorf("asked once more: %d wait in a backlog of %d, want %d of %d", n, most, fillers, little)
	}
	heal(t, inj)
	if n, most := look(); n != 0 || most != before {
		t.Errorf("%d wait in a backlog of %d, want none of %d", n, most, before)
	}
}

// Where there is no room for connections of our own, all is as before, and whoever waited is
// served.
func TestBacklogThatCannotBeFilledIsAsBefore(t *testing.T) {
	t.Parallel()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	s, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ln := s.(*net.TCPListener)
	if err := resize(ln, 1); err != nil {
		t.Fatal(err)
	}
	var came []string
	for range 2 { // there is no room for another one
		came = append(came, dial(t, ln.Addr().String()).LocalAddr().String())
	}
	var admitted []*net.TCPConn
	var b backlog
	if err := b.fill(ln, func(c *net.TCPConn) { admitted = append(admitted, c) }); err == nil || errors.Is(err, harness.ErrNotHere) {
		t.Errorf("got %v, want that it could not be filled this time", err)
	}
	if len(b.ours) > 0 {
		t.Errorf("%d connections of our own are left", len(b.ours))
	}
	if n, most, err := waiting(ln); n != 0 || most != 1 || err != nil {
		t.Errorf("%d wait in a backlog of %d, %v; want none of 1", n, most, err)
	}
	var served []string
	for _, c := range admitted {
		served = append(served, c.RemoteAddr().String())
		c.Close()
	}
	if !slices.Equal(served, came) {
		t.Errorf("admitted %q, want %q", served, came)
	}
}
