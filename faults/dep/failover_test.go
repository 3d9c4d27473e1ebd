package dep_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/faults"
	"github.com/shakedown-go/shakedown/harness"
)

// counter is a client that increments a key of its own again and again, on a connection that
// it makes anew where it is lost, and counts what was acknowledged and what may have been
// executed all the same.
type counter struct {
	key          string
	acked, maybe atomic.Int64
}

func (c *counter) run(b *bench, stop <-chan struct{}) {
	var conn net.Conn
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	reply := make([]byte, 64)
	for {
		select {
		case <-stop:
			return
		default:
		}
		if conn == nil {
			var err error
			if conn, err = net.DialTimeout("tcp", b.world.Addr("dep"), soon); err != nil {
				continue
			}
		}
		conn.SetDeadline(time.Now().Add(soon))
		_, err := fmt.Fprintf(conn, "INCR %s\r\n", c.key)
		n := 0
		if err == nil {
			n, err = conn.Read(reply)
		}
		switch {
		case err != nil:
			c.maybe.Add(1)
			conn.Close()
			conn = nil
		case reply[0] == ':' && reply[n-1] == '\n':
			c.acked.Add(1)
		}
	}
}

// value is a key's, as a number.
func (b *bench) value(key string) int64 {
	b.t.Helper()
	text := b.do("GET", key)[0]
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for late := time.Now().Add(soon); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("it is not so: %s", what)
		}
	}
}

// lagging are the arguments of a failover that comes at its heal, however slow the machine is.
func (b *bench) lagging() harness.Args {
	b.t.Helper()
	return b.args(faults.ByName("dep/failover"), "ttl", "2m").Set("lag", harness.Text("1m"))
}

// Whoever was told that a write was done finds it, however many are under way.
func TestFailoverLosesNothingThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	b := newBench(t, "redis")
	f := faults.ByName("dep/failover")
	counters := make([]counter, 4)
	stop := make(chan struct{})
	var all sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); all.Wait() })
	t.Cleanup(end)
	for i := range counters {
		counters[i].key = fmt.Sprint("c", i)
		all.Go(func() { counters[i].run(b, stop) })
	}
	for range 5 {
		was := make([]int64, len(counters))
		for i := range counters {
			was[i] = counters[i].acked.Load()
		}
		eventually(t, "all write", func() bool {
			for i := range counters {
				if counters[i].acked.Load() == was[i] {
					return false
				}
			}
			return true
		})
		inj := b.inject(f, b.args(f))
		b.heal(inj)
		if inj.Acted() == 0 {
			t.Error("no connection was reset")
		}
	}
	end()
	for i := range counters {
		acked, maybe, value := counters[i].acked.Load(), counters[i].maybe.Load(), b.value(counters[i].key)
		if value < acked || value > acked+maybe {
			t.Errorf("%s is %d; %d were acknowledged, %d more may have been executed", counters[i].key, value, acked, maybe)
		}
	}
}

// With a lag what is acknowledged behind the fault is lost, and what was before is not; the
// rest is not the service's to lose: leases keep their time, settings what they were set to.
func TestFailoverWithLag(t *testing.T) {
	t.Parallel()
	b := newBench(t, "redis")
	f := faults.ByName("dep/failover")
	b.fill()
	b.do("CONFIG", "SET", "notify-keyspace-events", "KEA")
	b.do("CONFIG", "SET", "maxmemory", "104857600")
	c := b.open()
	if got := c.ask(true); got != fine {
		t.Fatalf("a write: %s", got)
	}
	settings, data := b.settings(), b.data()
	inj := b.inject(f, b.lagging())
	for range 10 {
		if got := c.ask(true); got != fine {
			t.Fatalf("behind the fault: %s", got)
		}
	}
	if got := b.value("n"); got != 11 {
		t.Errorf("before it takes over n is %d, want 11", got)
	}
	if n := inj.Acted(); n != 0 {
		t.Errorf("before it takes over %d %s", n, inj.Unit)
	}
	b.heal(inj)
	if got := b.value("n"); got != 1 {
		t.Errorf("n is %d, want 1", got)
	}
	if n := inj.Acted(); n < 10*int64(len("*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n")) {
		t.Errorf("%d %s for ten writes", n, inj.Unit)
	}
	if got := b.data(); got != data {
		t.Errorf("data were\n%s\nand are\n%s", data, got)
	}
	if got := b.settings(); got != settings {
		t.Errorf("settings were\n%s\nand are\n%s", settings, got)
	}
	if left := b.do("PTTL", "lease")[0]; len(left) < 7 {
		t.Errorf("the lease lives for %s", left)
	}
	if got := b.do("INFO", "replication")[0]; !strings.Contains(got, "role:master") || !strings.Contains(got, "connected_slaves:0") {
		t.Errorf("it is no master alone: %s", got)
	}
}

// The address stays the same behind the other engine of links, too.
func TestFailoverBehindToxiproxy(t *testing.T) {
	t.Parallel()
	b := newBenchBehind(t, "toxiproxy", dependency("redis", "local"))
	for _, tt := range tests {
		if tt.fault == "dep/failover" {
			b.check(tt)
		}
	}
}

// It takes over when its time has come, though nobody heals it.
func TestFailoverComesByItself(t *testing.T) {
	t.Parallel()
	b := newBench(t, "redis")
	f := faults.ByName("dep/failover")
	for range 5 { // on a busy machine the write may come behind it
		c := b.open()
		c.ask(true)
		was := b.value("n")
		inj := b.inject(f, b.args(f, "lag", "200ms"))
		told := c.ask(true)
		eventually(t, "the connection is reset", func() bool { return c.ask(false) == closed })
		eventually(t, "it serves again", func() bool { // the first that come are refused
			conn, err := net.DialTimeout("tcp", b.world.Addr("dep"), soon)
			if err != nil {
				return false
			}
			defer conn.Close()
			again := redisClient{conn, bufio.NewReader(conn)}
			return again.ask(false) == fine
		})
		now, lost := b.value("n"), inj.Acted()
		b.heal(inj)
		if inj.Acted() != lost {
			t.Errorf("the heal has changed %d to %d", lost, inj.Acted())
		}
		if told == fine && lost > 0 {
			if now != was {
				t.Errorf("n was %d, a write was acknowledged, %d %s, and n is %d", was, lost, inj.Unit, now)
			}
			return
		}
	}
	t.Error("no write came in time")
}

// When its time to live is over it has taken over, and others may change the store.
func TestFailoverExpires(t *testing.T) {
	t.Parallel()
	b := newBench(t, "redis")
	f := faults.ByName("dep/failover")
	c := b.open()
	for range 5 { // on a busy machine the write may come behind it
		inj := b.inject(f, b.args(f, "ttl", "200ms").Set("lag", harness.Text("1m")))
		c.ask(true)
		eventually(t, "it lets go of the store", func() bool {
			heal, err := b.store.Change(t.Context(), harness.Change{})
			if err == nil {
				err = heal(t.Context())
			}
			return err == nil
		})
		if err := inj.Heal(t.Context()); !errors.Is(err, harness.ErrExpired) {
			t.Errorf("the heal: %v", err)
		}
		if got := c.ask(true); got != closed {
			t.Errorf("a connection of before: %s", got)
		}
		if c = b.open(); inj.Acted() > 0 {
			return
		}
	}
	t.Error("no write came in time")
}

// A replica from before a reset never comes to serve behind it.
func TestFailoverNeverBringsBackWhatWasReset(t *testing.T) {
	t.Parallel()
	b := newBench(t, "redis")
	f := faults.ByName("dep/failover")
	reset := func() {
		t.Helper()
		if err := b.world.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.do("SET", "seed", "s")
	reset()
	for _, args := range []harness.Args{b.args(f), b.lagging()} {
		b.do("SET", "stale", "s")
		inj := b.inject(f, args)
		b.do("SET", "staler", "s")
		b.do("DEL", "seed")
		reset()
		b.heal(inj)
		if got := b.do("KEYS", "*"); len(got) != 1 || got[0] != "seed" {
			t.Errorf("%v: the keys are %q, want the seed", args, got)
		}
		if inj.Unit != "connections reset" && inj.Acted() != 0 {
			t.Errorf("it acted on %d %s of another case", inj.Acted(), inj.Unit)
		}
		inj = b.inject(f, args) // and it can be had again
		b.open().ask(true)
		b.heal(inj)
		reset()
		if got := b.do("KEYS", "*"); len(got) != 1 || got[0] != "seed" {
			t.Errorf("%v: behind it the keys are %q, want the seed", args, got)
		}
	}
}

// The server that is lost meanwhile by another fault is not lost once more, and whoever
// kills the one that has taken over gets it back at its address.
func TestFailoverMeetsAKill(t *testing.T) {
	t.Parallel()
	b := newBench(t, "redis")
	f := faults.ByName("dep/failover")
	p, err := b.world.Proc("dep")
	if err != nil {
		t.Fatal(err)
	}
	kill := func() (restart func()) {
		t.Helper()
		n, back, err := p.Kill(t.Context())
		if err != nil || n == 0 {
			t.Fatalf("Kill = %d, %v", n, err)
		}
		return func() {
			t.Helper()
			if err := back(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	servers := func() int {
		dirs, err := filepath.Glob(filepath.Join(b.world.Dir, "redis-*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(dirs)
	}

	b.open().ask(true)
	inj := b.inject(f, b.args(f)) // killed when it has taken over
	restart := kill()
	b.heal(inj)
	restart()
	if got := b.open().ask(true); got != fine || b.value("n") != 1 {
		t.Errorf("what has taken over was killed and is back: %s, n is %d, want 1: there is no persistence", got, b.value("n"))
	}

	inj = b.inject(f, b.lagging()) // killed before it is lost
	b.open().ask(true)
	restart = kill()
	if n := servers(); n != 2 {
		t.Errorf("%d servers", n)
	}
	b.heal(inj)
	if n, of := inj.Acted(), inj.Unit; n != 0 || servers() != 1 {
		t.Errorf("the server was down and %d %s; there are %d servers", n, of, servers())
	}
	restart()
	if got := b.open().ask(true); got != fine {
		t.Errorf("it was killed and is back: %s", got)
	}

	inj = b.inject(f, b.lagging()) // killed, and back before it is lost
	kill()()
	b.do("SET", "n", "7")
	b.heal(inj)
	if n := inj.Acted(); n != 0 || b.value("n") != 7 {
		t.Errorf("it lost its data, and then %d %s; n is %d", n, inj.Unit, b.value("n"))
	}
	f2 := faults.ByName("proc/kill")
	away, err := f2.Inject(t.Context(), b.world, harness.Args{{Key: "proc", Value: harness.Text("dep")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if inj, err := f.Inject(t.Context(), b.world, b.args(f), nil); err == nil || !strings.Contains(err.Error(), "dep is down") {
		t.Errorf("failover of what is down: %v, %v", inj, err)
	}
	b.heal(away)
	inj = b.inject(f, b.args(f))
	b.heal(inj)
}

// The bar is 200; the default keeps the test in seconds.
var failovers = flag.Int("failovers", 40, "how many TestFailoversLeaveNothing makes")

// It is not parallel: it counts what the whole process has.
func TestFailoversLeaveNothing(t *testing.T) {
	b := newBench(t, "redis")
	f := faults.ByName("dep/failover")
	now, later := b.args(f), b.lagging()
	b.fill()
	data := b.data()
	cycle := func(i int) {
		args := now
		if i%2 == 1 {
			args = later
		}
		c := b.open()
		c.ask(false)
		inj := b.inject(f, args)
		if i%2 == 1 {
			b.do("SET", "k1", "lost")
		}
		b.heal(inj)
		c.close()
		if inj.Acted() == 0 {
			t.Fatalf("cycle %d: no %s", i, inj.Unit)
		}
	}
	holdings := func() (out [3]int) {
		b.hangUp()
		dirs, err := os.ReadDir(b.world.Dir)
		if err != nil {
			t.Fatal(err)
		}
		return [3]int{children(t), descriptors(t), len(dirs)}
	}
	cycle(0)
	cycle(1)
	before := holdings()
	for i := range *failovers {
		cycle(i)
	}
	if got := b.data(); got != data {
		t.Errorf("data were\n%s\nand are\n%s", data, got)
	}
	var after [3]int
	for late := time.Now().Add(soon); ; time.Sleep(10 * time.Millisecond) {
		if after = holdings(); after[0] <= before[0] && after[1] <= before[1] && after[2] <= before[2] {
			break
		}
		if time.Now().After(late) {
			t.Fatalf("processes, descriptors and directories were %v, and after %d failovers are %v", before, *failovers, after)
		}
	}
	if before[0] != 1 || before[2] != 1 {
		t.Errorf("%d processes and %d directories, want one of each", before[0], before[2])
	}
}

// Whoever goes away while a replica is there takes it along.
func TestFailoverThatIsNotHealedLeavesNothing(t *testing.T) {
	b := newBench(t, "redis")
	f := faults.ByName("dep/failover")
	before := children(t)
	inj := b.inject(f, b.lagging())
	if n := children(t); n != before+1 {
		t.Errorf("%d processes, want %d", n, before+1)
	}
	if err := b.world.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := children(t); n != before-1 {
		t.Errorf("%d processes are left, want %d", n, before-1)
	}
	if _, err := os.Stat(b.world.Dir); err == nil {
		t.Errorf("%s is still there", b.world.Dir)
	}
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	_ = inj.Heal(ctx) // there is nothing left to be healed, and it ends
	if n := inj.Acted(); n != 0 {
		t.Errorf("%d %s", n, inj.Unit)
	}
}

// children is how many processes this one has started that are there.
func children(t *testing.T) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil || len(all) == 0 {
		t.Skip("there is no /proc here")
	}
	mine := fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())
	for _, file := range all {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), mine) {
			n++
		}
	}
	return n
}

// descriptors is how many this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/dev/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}
