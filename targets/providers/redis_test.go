package providers

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// rungs runs a test against both kinds of Redis.
func rungs(t *testing.T, f func(t *testing.T, dep spec.Dependency)) {
	for _, rung := range []string{"local", "embedded"} {
		t.Run(rung, func(t *testing.T) {
			t.Parallel()
			if rung == "local" {
				need(t, "redis")
			}
			f(t, spec.Dependency{Engine: "redis", Provide: rung})
		})
	}
}

func redisClient(t *testing.T, addr string, db int) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, DB: db, MaxRetries: -1, DialerRetries: 1, ReadTimeout: 5 * time.Second,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	t.Cleanup(func() { c.Close() })
	return c
}

// speak sends a command on a connection of its own, or "" for none, and returns the first
// line of the reply; "" where none came in time.
func speak(t *testing.T, conn net.Conn, command string, within time.Duration) string {
	t.Helper()
	conn.SetDeadline(time.Now().Add(within))
	words := strings.Fields(command)
	if len(words) > 0 {
		fmt.Fprintf(conn, "*%d\r\n", len(words))
	}
	for _, w := range words {
		fmt.Fprintf(conn, "$%d\r\n%s\r\n", len(w), w)
	}
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line)
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestRedisResetBringsBackTheFirst(t *testing.T) {
	t.Parallel()
	rungs(t, func(t *testing.T, dep spec.Dependency) {
		d := start(t, dep, ".")
		ctx := t.Context()
		c, third := redisClient(t, d.Addr(), 0), redisClient(t, d.Addr(), 3)
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		must(c.Set(ctx, "s", "binary \x00\xff", 0).Err())
		must(c.Set(ctx, "lock", "me", time.Minute).Err())
		must(c.RPush(ctx, "l", "a", "b", "a").Err())
		must(c.SAdd(ctx, "set", "x", "y").Err())
		must(c.HSet(ctx, "h", "k", "v").Err())
		must(c.ZAdd(ctx, "z", redis.Z{Score: 1.5, Member: "m"}).Err())
		must(c.XAdd(ctx, &redis.XAddArgs{Stream: "x", ID: "5-1", Values: []string{"f", "v"}}).Err())
		must(c.XGroupCreate(ctx, "x", "g", "5-1").Err())
		must(c.XGroupCreateMkStream(ctx, "empty", "g", "$").Err())
		must(third.Set(ctx, "other", "database", 0).Err())
		sha, err := c.ScriptLoad(ctx, "return 7").Result()
		must(err)
		reset(t, d)

		must(c.FlushAll(ctx).Err())
		must(c.Set(ctx, "s", "changed", 0).Err())
		must(c.Set(ctx, "new", "n", 0).Err())
		must(third.Set(ctx, "new", "n", 0).Err())
		conn := dial(t, d.Addr())
		speak(t, conn, "PING", time.Second)
		reset(t, d)

		if got := speak(t, conn, "GET new", time.Second); got != "$-1" {
			t.Errorf("on the connection that was open: GET new = %q, want none", got)
		}
		if n := c.DBSize(ctx).Val(); n != 8 {
			t.Errorf("%d keys in database 0, want 8: %v", n, c.Keys(ctx, "*").Val())
		}
		if n := third.DBSize(ctx).Val(); n != 1 || third.Get(ctx, "other").Val() != "database" {
			t.Errorf("database 3: %d keys, other = %q", n, third.Get(ctx, "other").Val())
		}
		if got := c.Get(ctx, "s").Val(); got != "binary \x00\xff" {
			t.Errorf("s = %q", got)
		}
		if left := c.PTTL(ctx, "lock").Val(); left <= 0 || left > time.Minute {
			t.Errorf("lock lives for %v, want a minute at most", left)
		}
		if got := fmt.Sprint(c.LRange(ctx, "l", 0, -1).Val(), c.SCard(ctx, "set").Val(), c.HGetAll(ctx, "h").Val(), c.ZScore(ctx, "z", "m").Val()); got != "[a b a] 2 map[k:v] 1.5" {
			t.Errorf("got %s", got)
		}
		must(c.XAdd(ctx, &redis.XAddArgs{Stream: "x", Values: []string{"f", "w"}}).Err())
		got, err := c.XReadGroup(ctx, &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{"x", ">"}, Block: -1}).Result()
		if err != nil || len(got) != 1 || len(got[0].Messages) != 1 || got[0].Messages[0].Values["f"] != "w" {
			t.Errorf("the group reads %v, %v, want the new message alone", got, err)
		}
		if groups := c.XInfoGroups(ctx, "empty").Val(); len(groups) != 1 {
			t.Errorf("groups of the empty stream: %v", groups)
		}
		if got, err := c.EvalSha(ctx, sha, nil).Int(); got != 7 || err != nil {
			t.Errorf("the loaded script: %d, %v", got, err)
		}
	})
}

func TestRedisResetLeavesBlockedConsumersTheirGroup(t *testing.T) {
	t.Parallel()
	rungs(t, func(t *testing.T, dep spec.Dependency) {
		d := start(t, dep, ".")
		c := redisClient(t, d.Addr(), 0)
		if err := c.XGroupCreateMkStream(t.Context(), "jobs", "g", "$").Err(); err != nil {
			t.Fatal(err)
		}
		reset(t, d)
		type reply struct {
			streams []redis.XStream
			err     error
		}
		got := make(chan reply, 1)
		go func() {
			s, err := c.XReadGroup(context.Background(), &redis.XReadGroupArgs{Group: "g", Consumer: "c", Streams: []string{"jobs", ">"}, Block: 3 * time.Second}).Result()
			got <- reply{s, err}
		}()
		time.Sleep(50 * time.Millisecond) // until it blocks
		reset(t, d)
		if err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: "jobs", Values: []string{"k", "v"}}).Err(); err != nil {
			t.Fatal(err)
		}
		if r := <-got; r.err != nil || len(r.streams) != 1 {
			t.Errorf("the blocked consumer got %v, %v, want the job", r.streams, r.err)
		}
	})
}

func TestRedisKillRestart(t *testing.T) {
	t.Parallel()
	rungs(t, func(t *testing.T, dep spec.Dependency) {
		d := start(t, dep, ".")
		addr := d.Addr()
		if got := speak(t, dial(t, addr), "SET k v", time.Second); got != "+OK" {
			t.Fatalf("SET = %q", got)
		}
		old := dial(t, addr)
		speak(t, old, "PING", time.Second)
		blocked := time.Hour // by the fastest: a busy machine makes some slow
		for round := range 3 {
			n, restart, err := proc(t, d).Kill(t.Context())
			if err != nil || n < 1 {
				t.Fatalf("Kill = %d, %v", n, err)
			}
			if !refused(t, addr) {
				t.Error("connecting to a killed Redis is not refused")
			}
			if got := speak(t, old, "PING", time.Second); got != "" {
				t.Errorf("a connection from before the kill answers %q", got)
			}
			if n, again, err := proc(t, d).Kill(t.Context()); n != 0 || err != nil || again == nil {
				t.Errorf("killing a dead Redis = %d, %v", n, err)
			}
			if err := restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := restart(t.Context()); err != nil {
				t.Errorf("a second restart: %v", err)
			}
			if d.Addr() != addr {
				t.Fatalf("the address has changed from %s to %s", addr, d.Addr())
			}
			if got := speak(t, dial(t, addr), "GET k", time.Second); got != "$-1" {
				t.Errorf("round %d: GET k = %q, want nothing: there is no persistence", round, got)
			}
			began := time.Now()
			if got := speak(t, dial(t, addr), "BLPOP nothing 0.3", 10*time.Second); got != "*-1" {
				t.Errorf("BLPOP after a restart = %q", got)
			}
			blocked = min(blocked, time.Since(began))
			reset(t, d)
		}
		if blocked > time.Second {
			t.Errorf("BLPOP nothing 0.3 took %v or more", blocked)
		}
	})
}

func TestRedisResetAfterKillKeepsTheFirst(t *testing.T) {
	t.Parallel()
	rungs(t, func(t *testing.T, dep spec.Dependency) {
		d := start(t, dep, ".")
		speak(t, dial(t, d.Addr()), "SET seed s", time.Second)
		reset(t, d)
		_, restart, err := proc(t, d).Kill(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Reset(t.Context()); err == nil {
			t.Error("Reset of a dead Redis succeeds")
		}
		if err := restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		reset(t, d)
		if got := speak(t, dial(t, d.Addr()), "EXISTS seed", time.Second); got != ":1" {
			t.Errorf("EXISTS seed = %q", got)
		}
	})
}

func TestRedisPause(t *testing.T) {
	t.Parallel()
	rungs(t, func(t *testing.T, dep spec.Dependency) {
		d := start(t, dep, ".")
		conn, waits := dial(t, d.Addr()), dial(t, d.Addr())
		speak(t, conn, "PING", time.Second)
		p := proc(t, d)
		speak(t, waits, "BLPOP nothing 0.1", time.Millisecond)
		n, resume, err := p.Pause(t.Context())
		if err != nil || n < 1 {
			t.Fatalf("Pause = %d, %v", n, err)
		}
		_, again, err := p.Pause(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := speak(t, conn, "PING", 200*time.Millisecond); got != "" {
			t.Errorf("a paused Redis answers %q", got)
		}
		if got := speak(t, waits, "", time.Millisecond); got != "" {
			t.Errorf("a paused Redis answers %q to one that waits", got)
		}
		if got := speak(t, dial(t, d.Addr()), "PING", 50*time.Millisecond); got != "" {
			t.Errorf("a paused Redis answers %q on a new connection", got)
		}
		if err := resume(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := speak(t, conn, "", 200*time.Millisecond); got != "" {
			t.Errorf("answers %q though one pause is still in force", got)
		}
		if err := again(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := speak(t, conn, "", 2*time.Second); got != "+PONG" { // to the question from before
			t.Errorf("after the pause: %q", got)
		}
		reset(t, d)
	})
}

func TestPausedRedisCanBeKilled(t *testing.T) {
	t.Parallel()
	rungs(t, func(t *testing.T, dep spec.Dependency) {
		d := start(t, dep, ".")
		p := proc(t, d)
		_, resume, err := p.Pause(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, restart, err := p.Kill(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n, _, err := p.Pause(t.Context()); n != 0 || err != nil {
			t.Errorf("Pause of a dead Redis = %d, %v", n, err)
		}
		if err := restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := resume(t.Context()); err != nil {
			t.Errorf("resume after the restart: %v", err)
		}
		if got := speak(t, dial(t, d.Addr()), "PING", 2*time.Second); got != "+PONG" {
			t.Errorf("after the restart: %q", got)
		}
		if _, _, err := p.Pause(t.Context()); err != nil { // Stop ends it like this
			t.Fatal(err)
		}
	})
}

func TestKeysExpireAsTimePasses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		end := make(chan struct{})
		defer close(end)
		c := &embeddedClock{m: m, last: time.Now()}
		go c.run(end)
		synctest.Wait()
		const life = 151 * time.Millisecond // it ends between two ticks
		if err := m.Set("k", "v"); err != nil {
			t.Fatal(err)
		}
		m.SetTTL("k", life)
		time.Sleep(life - 1)
		if !m.Exists("k") {
			t.Error("the key is gone too early")
		}
		time.Sleep(expireEvery)
		if m.Exists("k") {
			t.Errorf("the key is still there %s late", expireEvery)
		}
	})
}

// A miniredis whose clock jumps is like a Redis, where a time to live is the difference to a
// time: what is left of it is more or less by as much, and is what it was when the clock is right.
func TestEmbeddedClockJumps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		c := &embeddedClock{m: m, last: time.Now()}
		live := func(key string, ttl time.Duration) {
			t.Helper()
			if err := m.Set(key, "v"); err != nil {
				t.Fatal(err)
			}
			if ttl > 0 {
				m.SetTTL(key, ttl)
			}
		}
		check := func(want map[string]time.Duration) {
			t.Helper()
			got := map[string]time.Duration{}
			for _, key := range m.Keys() {
				got[key] = m.TTL(key)
			}
			if !maps.Equal(got, want) {
				t.Errorf("the keys have %v to live, want %v", got, want)
			}
		}
		jump := func(by time.Duration, want int64) {
			t.Helper()
			if got := c.jump(by); got != want {
				t.Errorf("a jump by %s ends %d keys, want %d", by, got, want)
			}
		}
		live("short", time.Minute)
		live("hour", time.Hour)
		live("long", 3*time.Hour)
		live("forever", 0)
		jump(time.Hour, 2)
		check(map[string]time.Duration{"long": 2 * time.Hour, "forever": 0})
		live("meanwhile", time.Minute)
		time.Sleep(time.Second)
		jump(-time.Hour, 0)
		check(map[string]time.Duration{"long": 3*time.Hour - time.Second, "forever": 0, "meanwhile": time.Hour + time.Minute - time.Second})

		jump(-30*time.Minute, 0)
		live("short", time.Minute)
		check(map[string]time.Duration{"long": 3*time.Hour + 30*time.Minute - time.Second, "forever": 0,
			"meanwhile": time.Hour + 31*time.Minute - time.Second, "short": time.Minute})
		jump(30*time.Minute, 1)
		check(map[string]time.Duration{"long": 3*time.Hour - time.Second, "forever": 0, "meanwhile": time.Hour + time.Minute - time.Second})
	})
}

func TestEmbeddedKeysExpire(t *testing.T) {
	t.Parallel()
	d := start(t, spec.Dependency{Engine: "redis", Provide: "embedded"}, ".")
	conn := dial(t, d.Addr())
	harnesstest.Within(t, time.Second, func() time.Duration {
		began := time.Now()
		speak(t, conn, "SET k v PX 150", 10*time.Second)
		for speak(t, conn, "EXISTS k", 10*time.Second) != ":0" {
			if time.Since(began) > 10*time.Second {
				t.Fatal("the key is still there, it should live for 150ms")
			}
			time.Sleep(time.Millisecond)
		}
		return time.Since(began)
	})
}

func TestEmbeddedSurvivesInfoWhileKilled(t *testing.T) {
	t.Parallel()
	d := start(t, spec.Dependency{Engine: "redis", Provide: "embedded"}, ".")
	for range 20 {
		conn := dial(t, d.Addr())
		go func() { // ends with its connection
			for {
				if _, err := conn.Write([]byte("*1\r\n$4\r\nINFO\r\n")); err != nil {
					return
				}
			}
		}()
		_, restart, err := proc(t, d).Kill(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRedisStopLeavesNothing(t *testing.T) {
	t.Parallel()
	need(t, "redis")
	d := start(t, spec.Dependency{Engine: "redis"}, ".")
	s := d.(*redisServer).server
	pid, dir, addr := s.now.(*child.Child).Pid(), s.dir, d.Addr()
	if _, _, err := s.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 2 {
		if err := d.Stop(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if syscall.Kill(pid, 0) == nil {
		t.Errorf("process %d is still there", pid)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there", dir)
	}
	if !refused(t, addr) {
		t.Errorf("something listens on %s", addr)
	}
}

func TestRedisURLTouchesItsDatabaseAlone(t *testing.T) {
	t.Parallel()
	need(t, "redis")
	host := start(t, spec.Dependency{Engine: "redis"}, ".")
	d := start(t, spec.Dependency{Engine: "redis", Provide: "url", URL: "redis://" + host.Addr() + "/2"}, ".")
	if d.Addr() != host.Addr() {
		t.Errorf("Addr = %s, want %s", d.Addr(), host.Addr())
	}
	if _, err := d.Proc(); err == nil {
		t.Error("it offers to kill what is not ours")
	}
	ours, theirs := redisClient(t, d.Addr(), 2), redisClient(t, d.Addr(), 0)
	ctx := t.Context()
	theirs.Set(ctx, "precious", "v", 0)
	ours.Set(ctx, "seed", "v", 0)
	reset(t, d)
	ours.Set(ctx, "new", "v", 0)
	reset(t, d)
	if n := theirs.Exists(ctx, "precious").Val(); n != 1 {
		t.Error("a key of another database is gone")
	}
	if keys := ours.Keys(ctx, "*").Val(); len(keys) != 1 || keys[0] != "seed" {
		t.Errorf("keys after reset: %v, want seed", keys)
	}
	p, err := Choose(ctx, "cache", spec.Dependency{Engine: "redis", Provide: "url", URL: "redis://" + host.Addr() + "/2"}, ".")
	if err != nil || !strings.HasPrefix(p.Rung(), "url@") {
		t.Errorf("rung %v, %v", p, err)
	}
}

func TestServerThatDiesAtOnceIsQuoted(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/bin/sh"); err != nil {
		t.Skip("no /bin/sh")
	}
	bin := t.TempDir()
	program(t, bin, "redis-server", "cannot: the moon is full")
	p := localRedis{"cache", found{bin + "/redis-server", "7"}}
	harnesstest.Within(t, time.Second, func() time.Duration {
		began := time.Now()
		_, err := p.Start(t.Context(), scratch(t), nil)
		if err == nil || !strings.Contains(err.Error(), "the moon is full") {
			t.Errorf("%v, want its last words", err)
		}
		return time.Since(began)
	})
}

// TestKillThatFailsIsFollowedUp holds back the end of a killed server for longer than is
// waited for.
func TestKillThatFailsIsFollowedUp(t *testing.T) {
	t.Parallel()
	need(t, "redis")
	for _, stop := range []bool{true, false} {
		t.Run(fmt.Sprintf("stop=%t", stop), func(t *testing.T) {
			t.Parallel()
			p, err := Choose(t.Context(), "dep", spec.Dependency{Engine: "redis", Provide: "local"}, ".")
			if err != nil {
				t.Fatal(err)
			}
			held := make(chan struct{})
			release := sync.OnceFunc(func() { close(held) })
			d, err := p.Start(t.Context(), scratch(t), func(e harness.Event) {
				if e.Kind == harness.Exit {
					<-held
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			s := d.(*redisServer).server
			t.Cleanup(func() {
				release()
				if err := d.Stop(context.Background()); err != nil {
					t.Error(err)
				}
			})
			if stop {
				if err := d.Stop(t.Context()); err == nil {
					t.Error("the stop says nothing of the kill that failed")
				}
				if _, err := os.Stat(s.dir); !os.IsNotExist(err) {
					t.Errorf("%s is still there: %v", s.dir, err)
				}
				l, err := net.Listen("tcp", d.Addr())
				if err != nil {
					t.Fatalf("the port was not given back: %v", err)
				}
				l.Close()
				return
			}
			_, restart, err := s.Kill(t.Context())
			if err == nil || restart == nil {
				t.Fatalf("Kill = %v, and a way back: %t", err, restart != nil)
			}
			release()
			for range 2 {
				if err := restart(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := speak(t, dial(t, d.Addr()), "PING", time.Second); got != "+PONG" {
				t.Errorf("PING = %q", got)
			}
		})
	}
}
