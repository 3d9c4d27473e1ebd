package clock_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/shakedown-go/shakedown/faults"
	"github.com/shakedown-go/shakedown/faults/clock"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/process"
	"github.com/shakedown-go/shakedown/targets/providers"
	"github.com/shakedown-go/shakedown/targets/spec"
)

const (
	soon  = 10 * time.Second // bounds what must happen
	slack = 30 * time.Second // by which a busy machine may misread a clock
)

// bench is a dependency behind a link.
type bench struct {
	t      *testing.T
	engine string
	world  *process.Surroundings
}

// rungs are those whose clocks can be moved.
var rungs = []spec.Dependency{
	{Engine: "redis", Provide: "embedded"},
	{Engine: "redis", Provide: "local"},
	{Engine: "postgres", Provide: "local", Database: "shop", User: "shop"},
}

// each plays a test on every rung.
func each(t *testing.T, engine string, do func(*bench)) {
	for _, dep := range rungs {
		if dep.Engine != engine && engine != "" {
			continue
		}
		t.Run(dep.Engine+" "+dep.Provide, func(t *testing.T) {
			t.Parallel()
			do(newBench(t, dep))
		})
	}
}

// newBench brings a dependency up, or skips the test where that cannot be had, or fails it where
// SHAKEDOWN_REQUIRE names the engine, or docker.
func newBench(t *testing.T, dep spec.Dependency) *bench {
	t.Helper()
	if dep.Provide == "local" && runtime.GOOS+runtime.GOARCH != "linuxamd64" {
		t.Skip("no clock can be moved here")
	}
	if _, err := providers.Choose(t.Context(), "dep", dep, "."); err != nil {
		required := strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ",")
		if dep.Provide == "docker" && slices.Contains(required, "docker") || dep.Provide == "local" && slices.Contains(required, dep.Engine) {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	w, err := process.Surround(t.Context(), &spec.File{Dependencies: map[string]spec.Dependency{"dep": dep}}, process.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return &bench{t, dep.Engine, w}
}

func (b *bench) try(f *harness.Fault, pairs ...string) (harness.Injection, error) {
	b.t.Helper()
	args := harness.Args{{Key: "proc", Value: harness.Text("dep")}}
	for kv := range slices.Chunk(pairs, 2) {
		args = args.Set(kv[0], harness.Text(kv[1]))
	}
	if err := f.Check(args, b.world.Target); err != nil {
		b.t.Fatal(err)
	}
	return f.Inject(b.t.Context(), b.world, f.Fill(args), rand.New(rand.NewPCG(1, 1)))
}

func (b *bench) inject(f *harness.Fault, pairs ...string) harness.Injection {
	b.t.Helper()
	in, err := b.try(f, pairs...)
	if err != nil {
		b.t.Fatal(err)
	}
	return in
}

func (b *bench) heal(in harness.Injection) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), soon)
	defer cancel()
	if err := in.Heal(ctx); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) dial() net.Conn {
	b.t.Helper()
	conn, err := net.DialTimeout("tcp", b.world.Addr("dep"), soon)
	if err != nil {
		b.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(6 * soon))
	return conn
}

// resp is a command as a Redis reads it.
func resp(words ...string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&out, "$%d\r\n%s\r\n", len(w), w)
	}
	return out.String()
}

// command runs a command whose reply is one line.
func command(t *testing.T, c net.Conn, words ...string) string {
	if _, err := io.WriteString(c, resp(words...)); err != nil {
		t.Error(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Error(err)
	}
	return strings.TrimSpace(line)
}

// redis runs a command on a connection of its own, and returns the lines of its reply.
func (b *bench) redis(words ...string) []string {
	b.t.Helper()
	conn := b.dial()
	defer conn.Close()
	if _, err := io.WriteString(conn, resp(words...)+resp("QUIT")); err != nil {
		b.t.Fatal(err)
	}
	var lines []string
	for in := bufio.NewScanner(conn); in.Scan(); {
		lines = append(lines, in.Text())
	}
	if len(lines) < 2 {
		b.t.Fatalf("%q: %q", words, lines)
	}
	return lines[:len(lines)-1] // without what QUIT replies
}

// postgres runs a statement in a session of its own.
func (b *bench) postgres(statement string) (out string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), soon)
	defer cancel()
	conn := b.session()
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, statement).Scan(&out); err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bench) session() *pgx.Conn {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), soon)
	defer cancel()
	conn, err := pgx.Connect(ctx, "postgres://shop@"+b.world.Addr("dep")+"/shop?sslmode=disable")
	if err != nil {
		b.t.Fatal(err)
	}
	return conn
}

// ahead is how far its clock is ahead of the machine's.
func (b *bench) ahead() time.Duration {
	b.t.Helper()
	var seconds string
	if b.engine == "redis" {
		seconds = b.redis("TIME")[2]
	} else {
		seconds = b.postgres("SELECT extract(epoch FROM clock_timestamp())::bigint::text")
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		b.t.Fatal(err)
	}
	return time.Until(time.Unix(n, 0))
}

// is wants that its clock is so far ahead.
func (b *bench) is(want time.Duration, when string) {
	b.t.Helper()
	if got := b.ahead(); (got - want).Abs() > slack {
		b.t.Errorf("%s its clock is %s ahead of the machine's, want %s", when, got, want)
	}
}

func TestClockIsMovedUntilTheHeal(t *testing.T) {
	t.Parallel()
	each(t, "", func(b *bench) {
		for by, want := range map[string]time.Duration{"1h": time.Hour, "-1h": -time.Hour, "24h": 24 * time.Hour, "-90s": -90 * time.Second} {
			in := b.inject(clock.Jump, "by", by)
			b.is(want, "after a jump")
			b.heal(in)
			b.is(0, "healed")
			b.is(0, "some time later")
			// Our own, in force; in a postgres that of a session which may have ended since.
			if n := in.Acted(); n != 1 && !(n == 0 && b.engine == "postgres") {
				b.t.Errorf("%s: acted on %d %s, want 1", by, n, in.Unit)
			}
		}
	})
}

// Guilty: keys that end by the jump; innocent: those that would have ended anyway, or do not.
func TestKeysThatEndAreCounted(t *testing.T) {
	t.Parallel()
	each(t, "redis", func(b *bench) {
		keys := func(when string, want ...string) {
			b.t.Helper()
			for _, key := range []string{"minute", "day", "forever"} {
				wanted := ":0"
				if slices.Contains(want, key) {
					wanted = ":1"
				}
				if got := b.redis("EXISTS", key)[0]; got != wanted {
					b.t.Errorf("%s EXISTS %s says %s", when, key, got)
				}
			}
		}
		left := func(key string, want time.Duration) {
			b.t.Helper()
			ms, err := strconv.Atoi(strings.TrimPrefix(b.redis("PTTL", key)[0], ":"))
			if got := time.Duration(ms) * time.Millisecond; err != nil || (got-want).Abs() > slack {
				b.t.Errorf("%s has %s to live, want %s, %v", key, got, want, err)
			}
		}
		b.redis("SET", "minute", "v", "EX", "60")
		b.redis("SET", "day", "v", "EX", "86400")
		b.redis("SET", "forever", "v")
		in := b.inject(clock.Jump, "by", "1h")
		keys("after a jump forward", "day", "forever")
		left("day", 23*time.Hour)
		b.redis("SET", "minute", "v", "EX", "60")
		b.heal(in)
		if n := in.Acted(); n != 1 {
			b.t.Errorf("acted on %d %s, want the key that ended", n, in.Unit)
		}
		keys("healed", "minute", "day", "forever")
		left("minute", time.Hour+time.Minute)
		left("day", 24*time.Hour)

		in = b.inject(clock.Jump, "by", "-2h")
		left("minute", 3*time.Hour+time.Minute)
		left("day", 26*time.Hour)
		if n := in.Acted(); n != 0 {
			b.t.Errorf("acted on %d %s, and nothing has ended", n, in.Unit)
		}
		b.redis("SET", "minute", "v", "EX", "60")
		b.heal(in)
		if n := in.Acted(); n != 1 {
			b.t.Errorf("acted on %d %s, want the key that the heal ended", n, in.Unit)
		}
		keys("healed", "day", "forever")

		in = b.inject(clock.Jump, "by", "1m")
		b.redis("SET", "minute", "v", "PX", "1")
		b.heal(in)
		if n := in.Acted(); n != 0 {
			b.t.Errorf("acted on %d %s, and nothing has ended by the jump", n, in.Unit)
		}
	})
}

// Connections that are there go on, busy or idle, and new ones are taken.
func TestConnectionsGoOn(t *testing.T) {
	t.Parallel()
	each(t, "redis", func(b *bench) {
		busy, idle := b.dial(), b.dial()
		defer busy.Close()
		defer idle.Close()
		ask := func(c net.Conn, who string) {
			b.t.Helper()
			if got := command(b.t, c, "PING"); got != "+PONG" {
				b.t.Errorf("%s: %q", who, got)
			}
		}
		for _, by := range []string{"24h", "-24h"} {
			ask(busy, "before")
			in := b.inject(clock.Jump, "by", by)
			ask(busy, "one that is busy")
			fresh := b.dial()
			ask(fresh, "a new one")
			b.heal(in)
			ask(busy, "one that was busy, after the heal")
			ask(idle, "one that was idle, after the heal")
			ask(fresh, "one that was new, after the heal")
			fresh.Close()
		}
	})
	each(t, "postgres", func(b *bench) {
		busy, idle := b.session(), b.session()
		ask := func(c *pgx.Conn, who string) {
			b.t.Helper()
			if _, err := c.Exec(b.t.Context(), "SELECT now()"); err != nil {
				b.t.Errorf("%s: %v", who, err)
			}
		}
		for _, by := range []string{"24h", "-24h"} {
			ask(busy, "before")
			in := b.inject(clock.Jump, "by", by)
			ask(busy, "one that is busy")
			fresh := b.session()
			ask(fresh, "a new one")
			b.heal(in)
			ask(busy, "one that was busy, after the heal")
			ask(idle, "one that was idle, after the heal")
			ask(fresh, "one that was new, after the heal")
			fresh.Close(b.t.Context())
		}
		busy.Close(b.t.Context())
		idle.Close(b.t.Context())
	})
}

// A Redis measures by the time of day how long a command may wait.
func TestWhatWaitsIsGivenUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, rungs[1])
	c := b.dial()
	defer c.Close()
	given := make(chan string, 1)
	go func() { given <- command(t, c, "BLPOP", "none", "600") }()
	for late := time.Now().Add(soon); !strings.Contains(strings.Join(b.redis("CLIENT", "LIST"), " "), "cmd=blpop"); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("it does not wait")
		}
	}
	in := b.inject(clock.Jump)
	if got := <-given; got != "*-1" {
		t.Errorf("it says %q", got)
	}
	b.heal(in)
}

func TestLooksOfScriptsAreCounted(t *testing.T) {
	t.Parallel()
	each(t, "redis", func(b *bench) {
		in := b.inject(clock.Jump)
		for range 3 {
			b.redis("EVAL", "return redis.call('TIME')[1]", "0")
		}
		b.heal(in)
		b.redis("TIME")
		if n := in.Acted(); n != 3 {
			b.t.Errorf("acted on %d %s, want 3", n, in.Unit)
		}
	})
}

func TestSessionsThatAskAreCounted(t *testing.T) {
	t.Parallel()
	each(t, "postgres", func(b *bench) {
		var open []*pgx.Conn
		for range 3 {
			open = append(open, b.session())
		}
		ask := func(c *pgx.Conn) {
			if _, err := c.Exec(b.t.Context(), "SELECT 1"); err != nil {
				b.t.Fatal(err)
			}
		}
		for _, c := range open {
			ask(c)
		}
		in := b.inject(clock.Jump, "by", "-1s") // by less than how long some were idle, perhaps
		if n := in.Acted(); n != 0 {
			b.t.Errorf("acted on %d %s, and none has asked", n, in.Unit)
		}
		ask(open[0])
		ask(open[0])
		ask(open[2])
		b.heal(in)
		ask(open[1])
		if n := in.Acted(); n != 2 {
			b.t.Errorf("acted on %d %s, want 2", n, in.Unit)
		}
		for _, c := range open {
			c.Close(b.t.Context())
		}
	})
}

func TestJumpsAddUp(t *testing.T) {
	t.Parallel()
	each(t, "", func(b *bench) {
		hour := b.inject(clock.Jump)
		back := b.inject(clock.Jump, "by", "-10m")
		b.is(50*time.Minute, "after two jumps")
		b.heal(hour)
		b.is(-10*time.Minute, "after the heal of one")
		b.heal(back)
		b.is(0, "after both")
	})
}

// A server that another fault has ended or stopped meanwhile has the moved clock when it is
// back, and the right one where the jump was healed while it was away.
func TestJumpsMeetOtherFaults(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"proc/kill", "proc/pause"} {
		other := faults.ByName(name)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, "", func(b *bench) {
				jump := b.inject(clock.Jump)
				away := b.inject(other)
				b.heal(away)
				b.is(time.Hour, "back again")
				b.heal(jump)
				b.is(0, "healed")

				jump = b.inject(clock.Jump)
				away = b.inject(other)
				b.heal(jump)
				b.heal(away)
				b.is(0, "back again after the heal")

				away = b.inject(other)
				jump = b.inject(clock.Jump)
				b.heal(away)
				b.is(time.Hour, "back again after the jump")
				b.heal(jump)
				b.is(0, "healed at last")
			})
		})
	}
}

func TestTimeToLive(t *testing.T) {
	t.Parallel()
	each(t, "", func(b *bench) {
		in := b.inject(clock.Jump, "ttl", "1ms")
		for late := time.Now().Add(soon); b.ahead() > slack; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(late) {
				b.t.Fatal("it is still in force")
			}
		}
		if err := in.Heal(b.t.Context()); !errors.Is(err, harness.ErrExpired) {
			b.t.Errorf("the heal says %v, want %v", err, harness.ErrExpired)
		}
	})
}

func TestCyclesLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	each(t, "", func(b *bench) {
		began := time.Now()
		const cycles = 20
		for i := range cycles {
			b.heal(b.inject(clock.Jump, "by", fmt.Sprint(i+1, "s")))
		}
		b.t.Logf("a jump and its heal take %s", time.Since(began)/cycles)
		b.is(0, "healed")
	})
}

func TestWhereThereIsNoWayThatIsSaid(t *testing.T) {
	t.Parallel()
	b := newBench(t, spec.Dependency{Engine: "redis", Provide: "docker"})
	in, err := b.try(clock.Jump)
	if err == nil {
		b.heal(in)
	}
	if !errors.Is(err, harness.ErrNotHere) || !strings.Contains(err.Error(), "dep") || !strings.Contains(err.Error(), "provide: local") {
		t.Errorf("in a container: %v", err)
	}
}

func TestBadJumps(t *testing.T) {
	t.Parallel()
	target := &harness.Target{Name: "shop", Procs: []string{"dep"}}
	for by, want := range map[string]string{
		"1h": "", "-1h": "", "24h": "", "-24h": "", "90s": "",
		"0s":    "that is no jump",
		"25h":   "from -24h",
		"-25h":  "from -24h",
		"100ms": "whole seconds",
		"later": "such as 1h or -30s",
	} {
		err := clock.Jump.Check(harness.Args{{Key: "proc", Value: harness.Text("dep")}, {Key: "by", Value: harness.Text(by)}}, target)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("by=%s: %v, want %q", by, err, want)
		}
	}
	by := clock.Jump.Params[1]
	rng := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		v := by.Domain.Mutate(rng, by.Domain.Draw(rng))
		if err := by.Domain.(harness.Checker).Check(v.Text); err != nil {
			t.Errorf("it draws %s: %v", v.Text, err)
		}
	}
}
