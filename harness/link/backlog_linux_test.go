package link

import (
	"errors"
	"net"
	"os"
	"runtime"
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
	look := func() (waiting, most int) {
		t.Helper()
		waiting, most, err := queue(l.listener)
		if err != nil {
			t.Fatal(err)
		}
		return waiting, most
	}
	_, before := look()
	if before < 2 {
		t.Fatalf("a backlog of %d", before)
	}
	inj := disturb(t, l, harness.Toxic{Deaf: true})
	if waiting, most := look(); waiting != fillers || most != little {
		t.Errorf("%d wait in a backlog of %d, want %d of %d", waiting, most, fillers, little)
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
	if waiting, most := look(); waiting != fillers || most != little {
		t.Errorf("asked once more: %d wait in a backlog of %d, want %d of %d", waiting, most, fillers, little)
	}
	heal(t, inj)
	if waiting, most := look(); waiting != 0 || most != before {
		t.Errorf("%d wait in a backlog of %d, want none of %d", waiting, most, before)
	}
}
