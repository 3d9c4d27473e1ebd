package providers

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/shakedown-go/shakedown/targets/container"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// needDocker skips the test where no engine answers or an engine's image is missing, or fails
// it where SHAKEDOWN_REQUIRE names docker.
func needDocker(t testing.TB, engine string) {
	t.Helper()
	_, err := Choose(t.Context(), "dep", spec.Dependency{Engine: engine, Provide: "docker"}, ".")
	if err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ","), "docker") {
		t.Fatal(err)
	}
	t.Skip(err)
}

// startDocker brings a dependency up in a container, and wants that nothing is left of it at
// the end.
func startDocker(t testing.TB, dep spec.Dependency, dir string) Dependency {
	t.Helper()
	needDocker(t, dep.Engine)
	dep.Provide = "docker"
	p, err := Choose(t.Context(), "dep", dep, dir)
	if err != nil {
		t.Fatal(err)
	}
	run := runDir(t)
	var out output
	d, err := p.Start(t.Context(), run, out.emit)
	t.Cleanup(func() {
		if d != nil {
			if err := d.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		}
		if left := containers(t, run); left != "" {
			t.Errorf("containers are left: %s", left)
		}
		if t.Failed() {
			t.Logf("%s printed:\n%s", dep.Engine, strings.Join(out.lines, "\n"))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// runDir makes the directory of a run, whose name is like no other.
func runDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "providers-run-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// containers names the containers of a run.
func containers(t testing.TB, run string) string {
	t.Helper()
	ids, err := container.Left(context.Background(), run)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(ids, " ")
}

// question is one question to a store and its answer; an error where none came.
type question func(ctx context.Context, addr string) (string, error)

// stores are what every engine's store can be asked.
var stores = []struct {
	dep        spec.Dependency
	write, ask question // ask returns what write has written
	keeps      bool     // over a crash
}{
	{
		spec.Dependency{Engine: "redis"},
		func(ctx context.Context, addr string) (string, error) { return redisDo(ctx, addr, "SET", "k", "v") },
		func(ctx context.Context, addr string) (string, error) { return redisDo(ctx, addr, "GET", "k") },
		false,
	},
	{
		spec.Dependency{Engine: "postgres", Database: "shop", User: "shop"},
		func(ctx context.Context, addr string) (string, error) {
			return pgDo(ctx, addr, "CREATE TABLE t AS SELECT 'v' AS v; SELECT v FROM t")
		},
		func(ctx context.Context, addr string) (string, error) { return pgDo(ctx, addr, "SELECT v FROM t") },
		true,
	},
	{
		spec.Dependency{Engine: "mysql", Database: "shop", User: "shop"},
		func(ctx context.Context, addr string) (string, error) {
			return mysqlDo(ctx, addr, "CREATE TABLE t AS SELECT 'v' AS v; SELECT v FROM t")
		},
		func(ctx context.Context, addr string) (string, error) { return mysqlDo(ctx, addr, "SELECT v FROM t") },
		true,
	},
}

func redisDo(ctx context.Context, addr string, args ...string) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if late, ok := ctx.Deadline(); ok {
		conn.SetDeadline(late)
	}
	if _, err := fmt.Fprintf(conn, "%s\r\n", strings.Join(args, " ")); err != nil {
		return "", err
	}
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	switch {
	case err != nil:
		return "", err
	case strings.HasPrefix(line, "$-1"):
		return "", errors.New("no such key")
	case strings.HasPrefix(line, "$"):
		line, err = r.ReadString('\n')
	}
	return strings.TrimSpace(line), err
}

func pgDo(ctx context.Context, addr, sql string) (string, error) {
	conn, err := pgConnect(ctx, addr, "shop", "shop")
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	results, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	return string(results[len(results)-1].Rows[0][0]), nil
}

func mysqlDo(ctx context.Context, addr, sql string) (v string, err error) {
	db, err := mysqlOpen(addr, "shop", "shop")
	if err != nil {
		return "", err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, sql)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	for !rows.Next() {
		if !rows.NextResultSet() {
			return "", fmt.Errorf("no row: %w", rows.Err())
		}
	}
	return v, rows.Scan(&v)
}

func within(t *testing.T, d time.Duration, q question, addr string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return q(ctx, addr)
}

func TestDockerStoreIsPausedKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	for _, s := range stores {
		t.Run(s.dep.Engine, func(t *testing.T) {
			t.Parallel()
			d := startDocker(t, s.dep, ".")
			if !strings.HasPrefix(d.Addr(), "127.0.0.1:") && os.Getenv("TESTCONTAINERS_HOST_OVERRIDE") == "" {
				t.Errorf("it is at %s", d.Addr())
			}
			if _, err := within(t, 10*time.Second, s.write, d.Addr()); err != nil {
				t.Fatal(err)
			}
			p, err := d.Proc()
			if err != nil {
				t.Fatal(err)
			}

			n, resume, err := p.Pause(t.Context())
			if err != nil || n < 1 {
				t.Fatalf("paused %d processes: %v", n, err)
			}
			_, again, err := p.Pause(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := again(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, err := within(t, 500*time.Millisecond, s.ask, d.Addr()); err == nil {
				t.Errorf("while it was paused, it answered %q", got)
			}
			if err := resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, err := within(t, 10*time.Second, s.ask, d.Addr()); got != "v" || err != nil {
				t.Errorf("after the pause: %q, %v", got, err)
			}

			for _, paused := range []bool{false, true} {
				if paused {
					if _, _, err := p.Pause(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				n, restart, err := p.Kill(t.Context())
				if err != nil || n < 1 {
					t.Fatalf("killed %d processes: %v", n, err)
				}
				if got, err := within(t, 5*time.Second, s.ask, d.Addr()); err == nil {
					t.Errorf("the dead answered %q", got)
				}
				if err := restart(t.Context()); err != nil {
					t.Fatal(err)
				}
				got, err := within(t, 10*time.Second, s.ask, d.Addr())
				if s.keeps && (got != "v" || err != nil) || !s.keeps && err == nil {
					t.Errorf("after the crash: %q, %v", got, err)
				}
			}
		})
	}
}

// TestPausedPostgresInAContainerAnswersNothing has connections that are open before the
// pause: each has a backend of its own.
func TestPausedPostgresInAContainerAnswersNothing(t *testing.T) {
	t.Parallel()
	d := startDocker(t, spec.Dependency{Engine: "postgres", Database: "shop", User: "shop"}, ".")
	const lanes = 4
	replies, stop := make(chan struct{}, 1<<16), make(chan struct{})
	var conns []*pgx.Conn
	for range lanes {
		conns = append(conns, connectAs(t, d.Addr(), "shop", "shop"))
	}
	var asking sync.WaitGroup
	end := sync.OnceFunc(func() {
		close(stop)
		asking.Wait()
	})
	t.Cleanup(end) // before the connections are closed
	for _, conn := range conns {
		asking.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
				_, err := conn.Exec(ctx, "SELECT 1")
				cancel()
				if err != nil {
					t.Error(err)
					return
				}
				replies <- struct{}{}
			}
		})
	}
	count := func(d time.Duration) (n int) {
		for late := time.After(d); ; {
			select {
			case <-replies:
				n++
			case <-late:
				return n
			}
		}
	}
	if n := count(300 * time.Millisecond); n == 0 {
		t.Error("no reply before the pause")
	}
	p, err := d.Proc()
	if err != nil {
		t.Fatal(err)
	}
	n, resume, err := p.Pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n < 1+lanes {
		t.Errorf("paused %d processes, which leaves out backends", n)
	}
	count(50 * time.Millisecond) // what was answered before
	if n := count(700 * time.Millisecond); n != 0 {
		t.Errorf("%d replies while it was paused", n)
	}
	if err := resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(500 * time.Millisecond); n == 0 {
		t.Error("no reply after the pause")
	}
	end()
}

func TestDockerStoreIsBroughtBack(t *testing.T) {
	t.Parallel()
	d := startDocker(t, spec.Dependency{Engine: "postgres", Init: "schema.sql", Database: "shop", User: "shop"}, writeInit(t, shop))
	conn := connectAs(t, d.Addr(), "shop", "shop")
	want := text(t, conn, state)
	reset(t, d)
	execute(t, conn, mess)
	reset(t, d)
	if got := text(t, conn, state); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestDockerSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	needDocker(t, "redis")
	for name, tt := range map[string]struct {
		dep  spec.Dependency
		want []string
	}{
		"no such image": {
			spec.Dependency{Engine: "redis", Image: "shakedown/nothing:1"},
			[]string{"there is no image shakedown/nothing:1", "pull: true", "testdata/images/build", "provide: local"},
		},
		"no such image, where another rung would do": {
			spec.Dependency{Engine: "redis", Provide: "auto", Image: "shakedown/nothing:1"},
			[]string{"there is no image shakedown/nothing:1"},
		},
		"no such version": {
			spec.Dependency{Engine: "postgres", Version: "99"},
			[]string{"there is no image postgres:99 or shakedown/postgres:99"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.dep.Provide = cmp.Or(tt.dep.Provide, "docker")
			_, err := Choose(t.Context(), "db", tt.dep, ".")
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %s", err, want)
				}
			}
		})
	}
}

func TestDockerStartThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		dep  spec.Dependency
		init string
		want string
	}{
		"another program": {
			spec.Dependency{Engine: "redis", Image: "shakedown/postgres:15"}, "",
			"ended before it served",
		},
		"init, postgres": {
			spec.Dependency{Engine: "postgres", Init: "schema.sql"}, "CREATE TABLE t (a int);\nCREATE TABEL u (a int);",
			"schema.sql:2:8: init: ",
		},
		"init, mysql": {
			spec.Dependency{Engine: "mysql", Init: "schema.sql"}, "CREATE TABLE t (a int);\nCREATE TABEL u (a int);",
			"schema.sql:2:8: init: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			needDocker(t, "postgres")
			needDocker(t, tt.dep.Engine)
			tt.dep.Provide = "docker"
			p, err := Choose(t.Context(), "db", tt.dep, writeInit(t, tt.init))
			if err != nil {
				t.Fatal(err)
			}
			run := runDir(t)
			d, err := p.Start(t.Context(), run, nil)
			if err == nil {
				d.Stop(t.Context())
				t.Fatal("it has started")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v\nwant %s", err, tt.want)
			}
			if left := containers(t, run); left != "" {
				t.Errorf("containers are left: %s", left)
			}
		})
	}
}

func TestBuryRemovesWhatADeadRunHasLeft(t *testing.T) {
	t.Parallel()
	needDocker(t, "redis")
	dead, other := runDir(t), runDir(t)
	for _, run := range []string{dead, other} {
		p, err := Choose(t.Context(), "cache", spec.Dependency{Engine: "redis", Provide: "docker"}, ".")
		if err != nil {
			t.Fatal(err)
		}
		d, err := p.Start(t.Context(), run, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Stop(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	if err := Bury(t.Context(), dead, nil); err != nil {
		t.Fatal(err)
	}
	if left := containers(t, dead); left != "" {
		t.Errorf("left of the dead run: %s", left)
	}
	if left := containers(t, other); left == "" {
		t.Error("the container of another run is gone")
	}
	if entries, _ := filepath.Glob(filepath.Join(dead, "*")); len(entries) > 0 {
		t.Errorf("left in the directory: %s", entries)
	}
}

func TestDockerImagesThatWillDo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		dep  spec.Dependency
		want string
	}{
		{spec.Dependency{Engine: "redis", Provide: "auto"}, "redis:7"},
		{spec.Dependency{Engine: "redis", Provide: "docker"}, "redis:7 shakedown/redis:7"},
		{spec.Dependency{Engine: "redis", Provide: "docker", Version: "6.2"}, "redis:6.2 shakedown/redis:6.2"},
		{spec.Dependency{Engine: "redis", Provide: "docker", Image: "valkey:8"}, "valkey:8"},
		{spec.Dependency{Engine: "postgres", Provide: "auto", Version: "16"}, "postgres:16"},
		{spec.Dependency{Engine: "mysql", Provide: "docker"}, "mysql:8 mariadb:11 shakedown/mariadb:10.11"},
		{spec.Dependency{Engine: "mysql", Provide: "docker", Version: "10.11"}, "mysql:10.11 mariadb:10.11 shakedown/mariadb:10.11"},
	} {
		i := map[string]image{"redis": redisImage(), "postgres": postgresImage(tt.dep, ""), "mysql": mysqlImage(tt.dep, "")}[tt.dep.Engine]
		if got := strings.Join(i.candidates(tt.dep), " "); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.dep, got, tt.want)
		}
	}
}

func TestDockerVersions(t *testing.T) {
	t.Parallel()
	id := "sha256:" + strings.Repeat("ab", 32)
	for _, tt := range []struct {
		of    image
		image container.Image
		want  string
	}{
		{redisImage(), container.Image{Name: "redis:7", Env: map[string]string{"REDIS_VERSION": "7.2.4"}}, "7.2.4"},
		{redisImage(), container.Image{Name: "redis:7", Env: map[string]string{"REDIS_DOWNLOAD_URL": "https://download.redis.io/releases/redis-7.4.1.tar.gz"}}, "7.4.1"},
		{postgresImage(spec.Dependency{}, ""), container.Image{Name: "postgres:15", Env: map[string]string{"PG_VERSION": "15.8-1.pgdg120+1"}}, "15.8"},
		{mysqlImage(spec.Dependency{}, ""), container.Image{Name: "mysql:8", Env: map[string]string{"MYSQL_VERSION": "8.0.36-1.el8"}}, "8.0.36"},
		{mysqlImage(spec.Dependency{}, ""), container.Image{Name: "mariadb:11", Env: map[string]string{"MARIADB_VERSION": "1:11.4.2+maria~ubu2404"}}, "11.4.2"},
		{redisImage(), container.Image{Name: "valkey:8", ID: id}, "8"},
		{redisImage(), container.Image{Name: "host:5000/mine", ID: id}, "abababababab"},
		{redisImage(), container.Image{Name: "mine", ID: id}, "abababababab"},
	} {
		if got := tt.of.version(tt.image); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.image, got, tt.want)
		}
	}
}
