package providers

import (
	"cmp"
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// need skips the test where a program is missing, or fails it where SHAKEDOWN_REQUIRE
// names the engine.
func need(t testing.TB, engine string) {
	t.Helper()
	_, err := Choose(t.Context(), "dep", spec.Dependency{Engine: engine, Provide: "local"}, ".")
	if err == nil {
		return
	}
	if slices.Contains(strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ","), engine) {
		t.Fatal(err)
	}
	t.Skip(err)
}

// start brings a dependency up, a local one unless another is said, and stops it at the end.
func start(t testing.TB, dep spec.Dependency, dir string) Dependency {
	t.Helper()
	dep.Provide = cmp.Or(dep.Provide, "local")
	p, err := Choose(t.Context(), "dep", dep, dir)
	if err != nil {
		t.Fatal(err)
	}
	var out output
	d, err := p.Start(t.Context(), scratch(t), out.emit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("%s printed:\n%s", dep.Engine, strings.Join(out.lines, "\n"))
		}
	})
	return d
}

// scratch makes a directory that every user gets through.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "providers-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil { // what was started in it has removed its own
			t.Error(err, os.RemoveAll(dir))
		}
	})
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

type output struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (o *output) emit(e harness.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lines = append(o.lines, string(e.Kind)+" "+e.Text)
}

func proc(t testing.TB, d Dependency) harness.Proc {
	t.Helper()
	p, err := d.Proc()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func reset(t testing.TB, d Dependency) {
	t.Helper()
	if err := d.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// refused reports whether connecting to addr is refused, within a second: what another
// test forks holds a copy of this process's listeners until it executes.
func refused(t *testing.T, addr string) bool {
	t.Helper()
	for late := time.Now().Add(time.Second); ; time.Sleep(time.Millisecond) {
		conn, err := net.DialTimeout("tcp", addr, 2*time.Second)
		if err != nil {
			return strings.Contains(err.Error(), "refused")
		}
		conn.Close()
		if time.Now().After(late) {
			return false
		}
	}
}

func TestChooseSaysWhatIsWrong(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("DOCKER_HOST", "unix:///nowhere.sock")
	for _, tt := range []struct {
		dep  spec.Dependency
		want []string
	}{
		{spec.Dependency{}, []string{"dependency db: the engine is missing: one of redis, postgres, mysql"}},
		{spec.Dependency{Engine: "mongo"}, []string{`engine "mongo" is not known; there are redis, postgres, mysql`}},
		{spec.Dependency{Engine: "redis", Provide: "docker"}, []string{"no Docker engine answers at unix:///nowhere.sock", "DOCKER_HOST", "or take another rung: provide: local, provide: embedded, provide: url"}},
		{spec.Dependency{Engine: "mysql"}, []string{"no Docker engine answers at unix:///nowhere.sock"}},
		{spec.Dependency{Engine: "mysql", Provide: "local"}, []string{"provide: local is not there for mysql; there are auto, docker"}},
		{spec.Dependency{Engine: "redis", Provide: "local", Image: "redis:7"}, []string{"an image is given, but provide is local"}},
		{spec.Dependency{Engine: "redis", Provide: "embedded", Pull: true}, []string{"pull is for images, but provide is embedded"}},
		{spec.Dependency{Engine: "redis", Provide: "magic"}, []string{"provide: magic is not there"}},
		{spec.Dependency{Engine: "postgres", Provide: "embedded"}, []string{"provide: embedded is not there for postgres; there are auto, docker, local, url"}},
		{spec.Dependency{Engine: "postgres", Provide: "url"}, []string{"provide: url needs a url, such as postgres://"}},
		{spec.Dependency{Engine: "redis", URL: "redis://127.0.0.1/0"}, []string{"a url is given, but provide is auto"}},
		{spec.Dependency{Engine: "redis", Provide: "url", URL: "http://x:secret@y"}, []string{"not a redis URL"}},
		{spec.Dependency{Engine: "redis", Provide: "url", URL: "redis://:secret@127.0.0.1:1/0"}, []string{"127.0.0.1:1", "refused"}},
		{spec.Dependency{Engine: "redis", Provide: "url", URL: "unix:///tmp/s"}, []string{"unix socket", "give host and port"}},
		{spec.Dependency{Engine: "redis", Provide: "embedded", Version: "7"}, []string{"version 7 is wanted", "embedded redis is of no version"}},
		{spec.Dependency{Engine: "redis", Init: "x.sql"}, []string{"it is for postgres and mysql; let the service seed its redis"}},
		{spec.Dependency{Engine: "postgres", Provide: "url", URL: "mysql://:secret@x"}, []string{"not a postgres URL"}},
		{spec.Dependency{Engine: "postgres", Provide: "url", URL: "postgres://a:secret@127.0.0.1:1/x"}, []string{"127.0.0.1", "refused"}},
		{spec.Dependency{Engine: "postgres", Provide: "url", URL: "postgres://127.0.0.1:1,127.0.0.2:1/x"}, []string{"several hosts"}},
		{spec.Dependency{Engine: "postgres", Provide: "url", URL: "postgres:///x?host=/tmp"}, []string{"unix socket"}},
		{spec.Dependency{Engine: "postgres", Provide: "url", URL: "postgres://127.0.0.1:1/x?passfile=/etc/passwd"}, []string{"passfile"}},
		{spec.Dependency{Engine: "postgres", Provide: "url", URL: "postgres://127.0.0.1:1/x", User: "a"}, []string{"user is for a postgres of our own: write it into the url"}},
	} {
		_, err := Choose(t.Context(), "db", tt.dep, t.TempDir())
		if err == nil {
			t.Errorf("Choose(%+v) = nil, want an error", tt.dep)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("Choose(%+v):\n got %v\nwant %s", tt.dep, err, want)
			}
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("Choose(%+v) gives the password away: %v", tt.dep, err)
		}
	}
}

func TestChooseTakesTheWantedVersion(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix:///nowhere.sock")
	bin, other := t.TempDir(), t.TempDir()
	t.Setenv("PATH", bin+":"+other+":relative:/bin:/usr/bin")
	program(t, bin, "redis-server", "Redis server v=3.1.4 sha=00000000:0")
	program(t, other, "redis-server", "Redis server v=3.2 sha=00000000:0")
	for _, tt := range []struct{ want, rung, err string }{
		{"", "local@3.1.4", ""},
		{"3", "local@3.1.4", ""},
		{"3.2", "local@3.2", ""},
		{"31", "", "version 31 is wanted, but found 3.1.4 in " + bin + ", 3.2 in " + other},
	} {
		p, err := Choose(t.Context(), "cache", spec.Dependency{Engine: "redis", Version: tt.want}, ".")
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "provide: url") {
				t.Errorf("version %q: got %v, want %s and the ways out", tt.want, err, tt.err)
			}
		case err != nil:
			t.Errorf("version %q: %v", tt.want, err)
		case p.Rung() != tt.rung:
			t.Errorf("version %q: rung %s, want %s", tt.want, p.Rung(), tt.rung)
		}
	}
}

func TestFindSaysWhereItLooked(t *testing.T) {
	bin, extra := t.TempDir(), t.TempDir()
	t.Setenv("PATH", bin)
	_, err := find(t.Context(), "server", "", []string{extra})
	if want := "no server in " + bin + ", " + extra; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	program(t, extra, "server", "server 1.0")
	_, err = find(t.Context(), "server", "", []string{extra}, "init")
	if want := "unusable: " + filepath.Join(extra, "server") + " has no init beside it"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// program writes a script that prints one line.
func program(t *testing.T, dir, name, line string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho '"+line+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestGlobsPutHighVersionsFirst(t *testing.T) {
	t.Parallel()
	got := []string{"/usr/lib/postgresql/9.6/bin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/9/bin", "/usr/lib/postgresql/100/bin"}
	slices.SortFunc(got, func(a, b string) int { return compareVersions(b, a) })
	want := []string{"/usr/lib/postgresql/100/bin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/9.6/bin", "/usr/lib/postgresql/9/bin"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestHost(t *testing.T) {
	t.Setenv("PGHOST", "db.example.com")
	for _, tt := range []struct{ engine, url, host string }{
		{"redis", "redis://cache.example.com:6379/1", "cache.example.com"},
		{"redis", "rediss://[::1]:6379", "::1"},
		{"postgres", "postgres://u:p@127.0.0.1:5432/x", "127.0.0.1"},
		{"postgres", "postgres://127.0.0.1/x?host=prod.example.com", "prod.example.com"},
		{"postgres", "postgres:///x", "db.example.com"},
	} {
		got, err := Host(spec.Dependency{Engine: tt.engine, Provide: "url", URL: tt.url})
		if err != nil || got != tt.host {
			t.Errorf("Host(%s) = %q, %v, want %q", tt.url, got, err, tt.host)
		}
	}
	got, err := Host(spec.Dependency{Engine: "redis"})
	if err != nil || !spec.Loopback(got) {
		t.Errorf("Host of a local one = %q, %v", got, err)
	}
}

func TestEveryEngineCanBeHad(t *testing.T) {
	t.Parallel()
	all := engines()
	for _, name := range spec.Engines() {
		if all[name].choose == nil || (all[name].host == nil) == slices.Contains(spec.Rungs(name), "url") || len(spec.Rungs(name)) == 0 {
			t.Errorf("%s: %+v, rungs %v", name, all[name], spec.Rungs(name))
		}
	}
	if len(all) != len(spec.Engines()) {
		t.Errorf("%d engines, of which %v can be asked for", len(all), spec.Engines())
	}
}

func FuzzPosition(f *testing.F) {
	f.Add("a\nb", 3)
	f.Add("\u00e9\n\xff", 2)
	f.Fuzz(func(t *testing.T, sql string, at int) {
		line, column, rest := position(sql, at)
		if line < 1 || line > 1+strings.Count(sql, "\n") || column < 1 || !strings.HasSuffix(sql, rest) {
			t.Errorf("position(%q, %d) = %d, %d, %q", sql, at, line, column, rest)
		}
	})
}

func FuzzHost(f *testing.F) {
	f.Add("redis", "redis://u:p@127.0.0.1:6379/1?protocol=2")
	f.Add("postgres", "postgres://u:p@[::1]:5432/x?sslmode=require")
	f.Add("postgres", "postgres://a,b/x?host=c&hostaddr=1.2.3.4")
	f.Fuzz(func(t *testing.T, engine, url string) {
		host, err := Host(spec.Dependency{Engine: engine, Provide: "url", URL: url})
		if err == nil && host == "" {
			t.Errorf("Host(%q) is empty", url)
		}
	})
}
