package child

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tellTime prints the time of day, and for how long it has run, for every line that it reads
// from a pipe.
func tellTime(pipe string) {
	began := time.Now()
	in, err := os.Open(pipe)
	if err != nil {
		panic(err)
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		now := time.Now()
		fmt.Println(now.UnixNano(), int64(now.Sub(began)))
	}
	os.Exit(0)
}

// teller starts a tree that tells the time: a shell, and a Go program that is its child.
func teller(t *testing.T) (c *Child, tell func() (ahead, ran time.Duration)) {
	t.Helper()
	pipe := filepath.Join(t.TempDir(), "ask")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	ask, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ask.Close() })
	env := append(Environ(), "CHILD_TEST_CLOCK="+pipe)
	c, l := start(t, fmt.Sprintf("%q -test.run='^TestClockIsMovedUntilItIsSetRight$' & wait", os.Args[0]), Options{Env: env})
	asked := 0
	return c, func() (ahead, ran time.Duration) {
		t.Helper()
		if _, err := ask.WriteString("\n"); err != nil {
			t.Fatal(err)
		}
		asked++
		until(t, "an answer", func() bool { return len(l.lines("stdout")) >= asked })
		now := time.Now()
		var at, since int64
		if _, err := fmt.Sscan(l.lines("stdout")[asked-1], &at, &since); err != nil {
			t.Fatal(err)
		}
		return time.Unix(0, at).Sub(now), time.Duration(since)
	}
}

// about reports whether a clock is so far ahead, as far as a busy machine can tell.
func about(got, want time.Duration) bool { return (got - want).Abs() < 30*time.Second }

func TestClockIsMovedUntilItIsSetRight(t *testing.T) {
	if pipe := os.Getenv("CHILD_TEST_CLOCK"); pipe != "" {
		tellTime(pipe)
	}
	t.Parallel()
	c, tell := teller(t)
	began := time.Now()
	for _, want := range []time.Duration{0, time.Hour, 25 * time.Hour, -24 * time.Hour, 0, -time.Minute, 0} {
		n, err := c.SetClock(t.Context(), want)
		if err != nil || n != 2 {
			t.Fatalf("SetClock(%s) = %d, %v", want, n, err)
		}
		ahead, ran := tell()
		if !about(ahead, want) {
			t.Errorf("the clock is %s ahead, want %s", ahead, want)
		}
		if ran < 0 || ran > time.Since(began)+time.Minute {
			t.Errorf("it has run for %s: the monotonic clock is moved, too", ran)
		}
	}
	if now := time.Since(began); now < 0 || now > time.Hour {
		t.Errorf("our own clock was moved: %s", now)
	}
}

func TestClockOfAPausedTree(t *testing.T) {
	t.Parallel()
	c, tell := teller(t)
	tell()
	if _, err := c.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := c.SetClock(t.Context(), time.Hour); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.members() {
		if !m.stopped() {
			t.Errorf("process %d is %c: it was paused", m.pid, m.state)
		}
	}
	if _, err := c.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ahead, _ := tell(); !about(ahead, time.Hour) {
		t.Errorf("the clock is %s ahead", ahead)
	}
}

func TestClockOfATreeThatHasEnded(t *testing.T) {
	t.Parallel()
	c, _ := start(t, "exit 0", Options{})
	<-c.Done()
	if n, err := c.SetClock(t.Context(), time.Hour); n != 0 || err != nil {
		t.Errorf("SetClock = %d, %v", n, err)
	}
}

func TestImageIsTheKernelsUnlessItIsMoved(t *testing.T) {
	t.Parallel()
	im, err := ownImage()
	if err != nil {
		t.Fatal(err)
	}
	if string(im.moved(0)) != string(im.bytes) {
		t.Error("an image that is moved by nothing is another one")
	}
	moved, at := im.moved(-7), im.at
	for _, h := range im.heads {
		to := h.at + jumpSize + int(int32(binary.LittleEndian.Uint32(moved[h.at+1:])))
		if moved[h.at] != 0xe9 || to != at {
			t.Errorf("%s leads to %#x, want %#x", h.name, to, at)
		}
		if got := int64(binary.LittleEndian.Uint64(moved[at+h.added:])); got != -7 {
			t.Errorf("%s adds %d", h.name, got)
		}
		if !strings.HasSuffix(string(moved[at:at+len(h.code)]), "\xc3") {
			t.Errorf("%s does not return", h.name)
		}
		at += len(h.code)
	}
	if at > len(moved) {
		t.Errorf("the code ends at %#x of %#x", at, len(moved))
	}
}
