package container

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

const mib = 1 << 20

// grow has a shell take so much memory, in MiB, as soon as a file says so, and say that it has.
const grow = `echo up; i=0; while :; do
	if [ -e /go ]; then i=$((i+1)); n=$(cat /go); rm /go; eval "a$i=\$(head -c ${n}000000 /dev/zero | tr '\0' x)"; echo "has $n more"; fi
	sleep 0.02
done`

func confine(t *testing.T, l *Life, q harness.Quota) harness.Injection {
	t.Helper()
	in, err := l.Confine(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func heal(t *testing.T, in harness.Injection) {
	t.Helper()
	if err := in.Heal(t.Context()); err != nil {
		t.Errorf("heal: %v", err)
	}
}

// say tells a container that runs grow to take so much memory.
func say(t *testing.T, c *Container, mib string) {
	t.Helper()
	code, _, err := c.tc.Exec(t.Context(), []string{"sh", "-c", "echo " + mib + " > /next; mv /next /go"})
	if err != nil || code != 0 {
		t.Fatalf("exit status %d, %v", code, err)
	}
}

func TestContainerThatTakesMoreMemoryThanItMayIsEnded(t *testing.T) {
	t.Parallel()
	c, out := script(t, connect(t), grow)
	for round := range 3 { // an engine remembers for good that it has seen this once
		l := start(t, c)
		says(t, out, "stdout: up")
		in := confine(t, l, harness.Quota{Memory: 16 * mib})
		if again, err := l.Confine(t.Context(), harness.Quota{Memory: mib}); err == nil || errors.Is(err, harness.ErrNotHere) {
			t.Errorf("a second limit: %+v, %v", again, err)
		}
		say(t, c, "40")
		if round == 1 { // at the same moment: when that is healed, it has ended or it lives
			heal(t, in)
			if !l.Starved() {
				says(t, out, "stdout: has 40 more")
			}
			if _, err := l.Kill(t.Context()); err != nil {
				t.Error(err)
			}
			continue
		}
		await(t, l)
		heal(t, in)
		if status, code := l.Exited(); code != 137 || status != "signal: killed, for want of memory" || !l.Starved() {
			t.Errorf("round %d: %s, %d, starved: %v", round, status, code, l.Starved())
		}
		if in.Acted() == 0 {
			t.Error("it has not acted")
		}
	}
	exits := slices.DeleteFunc(out.words(), func(w string) bool { return !strings.HasPrefix(w, "exit") })
	for _, e := range exits {
		if !strings.HasSuffix(e, " expected") {
			t.Errorf("%q is not expected", e)
		}
	}
}

func TestContainerThatStaysWithinItsMemoryIsNotTouched(t *testing.T) {
	t.Parallel()
	c, out := script(t, connect(t), grow)
	l := start(t, c)
	says(t, out, "stdout: up")
	in := confine(t, l, harness.Quota{Memory: 64 * mib})
	say(t, c, "2")
	says(t, out, "stdout: has 2 more")
	heal(t, in)
	heal(t, in)
	if n := in.Acted(); n != 0 {
		t.Errorf("acted %d", n)
	}
	say(t, c, "100")
	says(t, out, "stdout: has 100 more")
	// A limit does not outlast the life that it was meant for.
	in = confine(t, l, harness.Quota{Memory: mib})
	if _, err := l.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := start(t, c)
	say(t, c, "20")
	says(t, out, "stdout: has 20 more")
	heal(t, in)
	if again.Starved() || l.Starved() {
		t.Error("it has starved")
	}
	if in, err := l.Confine(t.Context(), harness.Quota{CPU: 10}); err != nil || in.Acted() != 0 || in.Heal(t.Context()) != nil {
		t.Errorf("a life that has ended: %v", err)
	}
}

func TestShareOfAProcessorForAContainer(t *testing.T) {
	t.Parallel()
	e := connect(t)
	c, _ := script(t, e, `while :; do :; done`)
	l := start(t, c)
	in := confine(t, l, harness.Quota{CPU: 10})
	for late := time.Now().Add(20 * time.Second); in.Acted() < 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("it never has to wait")
		}
	}
	heal(t, in)
	if in.Acted() < 3 {
		t.Errorf("acted %d", in.Acted())
	}
	idle, _ := script(t, e, `exec sleep 600`)
	l = start(t, idle)
	both := []harness.Injection{confine(t, l, harness.Quota{CPU: 50}), confine(t, l, harness.Quota{Memory: 64 * mib})}
	for _, in := range both {
		heal(t, in)
		if n := in.Acted(); n != 0 {
			t.Errorf("one that does nothing: %d", n)
		}
	}
}
