package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/targets/process"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// outside are servers that no victim has started, and that outlive it.
type outside struct {
	*process.Surroundings
	t *testing.T
}

func newOutside(t *testing.T) outside {
	t.Helper()
	w, err := process.Surround(t.Context(), &spec.File{Dependencies: map[string]spec.Dependency{
		"cache": {Engine: "redis", Provide: "local"}, "db": {Engine: "postgres", Provide: "local"},
	}}, process.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return outside{w, t}
}

func (o outside) ask(store string, command ...string) []string {
	o.t.Helper()
	s, err := o.Store(store)
	if err != nil {
		o.t.Fatal(err)
	}
	out, err := s.Do(o.t.Context(), command...)
	if err != nil {
		o.t.Fatalf("%q: %v", command, err)
	}
	return out
}

// settings are all of both servers, by name.
func (o outside) settings(store string) map[string]string {
	o.t.Helper()
	out := map[string]string{}
	note := func(kind string, pairs []string) {
		for kv := range slices.Chunk(pairs, 2) {
			out[kind+" "+kv[0]] = kv[1]
		}
	}
	if store == "cache" {
		note("setting", o.ask(store, "CONFIG", "GET", "*"))
		note("it is a", []string{"role", o.ask(store, "ROLE")[0]})
		return out
	}
	note("setting", o.ask(store, "SELECT name, reset_val FROM pg_settings WHERE source <> 'session'"))
	note("limit of", o.ask(store, "SELECT datname, datconnlimit FROM pg_database"))
	note("there is", o.ask(store, "SELECT nspname, 'a schema' FROM pg_namespace WHERE nspname !~ '^pg_'"))
	note("told", o.ask(store, "SELECT name, setting FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'"))
	return out
}

// changed returns the names of the settings that are not the same.
func changed(was, is map[string]string) (names []string) {
	for name := range maps.Keys(was) {
		if v, there := is[name]; !there || v != was[name] {
			names = append(names, name)
		}
	}
	for name := range is {
		if _, there := was[name]; !there {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// undone sums up what became of the settings of servers when who had changed them was killed
// with its supervisor.
type undone struct {
	kills, settings, back, quiet int
	faults                       map[string]int
}

func (x undone) String() string {
	return fmt.Sprintf(`killed together with the supervisor while these faults were in force: %v
settings undone %d of %d
%d of %d: a second clean finds nothing of it`, x.faults, x.back, x.settings, x.quiet, x.kills)
}

// killBoth plays a case with a fault on each server, kills the harness and its supervisor when
// both are in force, and cleans up.
func (x *undone) killBoth(t *testing.T, rng *rand.Rand, o outside) (wrong []string) {
	t.Helper()
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	redis := []string{"dep/oom", "dep/readonly", "dep/masterdown", "dep/noreplicas"}[rng.IntN(4)]
	postgres := []string{"dep/conn_limit", "dep/read_only"}[rng.IntN(2)]
	was := map[string]map[string]string{"cache": o.settings("cache"), "db": o.settings("db")}

	home, err := os.MkdirTemp("/tmp", "killed-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	if err := os.Chmod(home, 0o711); err != nil {
		t.Fatal(err)
	}
	file := slowly(t, home, o, redis, postgres)
	stderr, err := os.Create(filepath.Join(home, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd := exec.Command("shakedown", "replay", file)
	cmd.Env = append(os.Environ(), "TMPDIR="+home)
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	defer func() {
		_ = cmd.Process.Kill()
		<-ended
	}()
	disturbed := func(store string) bool { // more than by the snapshot of the database
		return slices.ContainsFunc(changed(was[store], o.settings(store)), func(name string) bool { return !strings.HasPrefix(name, "there is ") })
	}
	inForce := func() bool { return disturbed("cache") && disturbed("db") }
	for late := time.Now().Add(5 * time.Minute); !inForce(); {
		select {
		case <-ended:
			b, _ := os.ReadFile(stderr.Name())
			t.Fatalf("replay of %s and %s ended before it was killed: %s", redis, postgres, b)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(late) {
			t.Fatalf("%s and %s are not in force", redis, postgres)
		}
	}
	v := &victim{home: home}
	pids := []int{cmd.Process.Pid}
	for _, p := range v.processes() {
		if p.supervises {
			var pid int
			if _, err := fmt.Sscan(p.pid, &pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	if len(pids) != 2 {
		say("it has %d supervisors", len(pids)-1)
	}
	rng.Shuffle(len(pids), func(i, j int) { pids[i], pids[j] = pids[j], pids[i] })
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			say("%v", err)
		}
	}
	<-ended
	during := map[string][]string{}
	for store := range was {
		during[store] = changed(was[store], o.settings(store))
		x.settings += len(during[store])
	}
	said := v.clean()
	for store := range was {
		left := changed(was[store], o.settings(store))
		if x.back += len(during[store]) - len(left); len(left) > 0 {
			say("left in %s: %q", store, left)
		}
	}
	if n := strings.Count(said, "removed changed settings of "); n != 2 || !strings.Contains(said, "removed schema shakedown_snapshot of the postgres ") || !strings.HasPrefix(said, "shakedown clean: <nil>\n") {
		say("of 2 servers and a schema, %d servers are told of: %s", n, said)
	}
	again := v.clean()
	if strings.Contains(again, "changed settings") || strings.Contains(again, home) || !strings.HasPrefix(again, "shakedown clean: <nil>\n") {
		say("again: %s", again)
	} else {
		x.quiet++
	}
	if left, _ := filepath.Glob(filepath.Join(home, "shakedown-*")); len(left) > 0 {
		say("left: %q", left)
	}
	for _, p := range v.processes() {
		say("process %s %s (%s) is left", p.pid, p.state, p.name)
	}
	x.kills++
	if x.faults == nil {
		x.faults = map[string]int{}
	}
	x.faults[redis]++
	x.faults[postgres]++
	return wrong
}

// slowly writes a service whose calls take long, with the servers at their URLs, and a case in which
// two faults are in force meanwhile. It returns the name of the case's file.
func slowly(t *testing.T, dir string, o outside, redis, postgres string) string {
	t.Helper()
	port := func(name string) string {
		_, port, err := net.SplitHostPort(o.Addr(name))
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	files := map[string]string{
		"go.mod": "module example.com/slow\n\ngo 1.24\n",
		"main.go": `package main

import (
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	http.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("{}")) })
	http.HandleFunc("GET /slow", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(time.Second)
		w.Write([]byte("{}"))
	})
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}
`,
		"shakedown.yaml": fmt.Sprintf(`service: {build: ., env: {ADDR: "{{listen}}"}, ready: GET /}
dependencies:
  cache: {engine: redis, provide: url, url: "redis://127.0.0.1:%s/0"}
  db: {engine: postgres, provide: url, url: "postgres://postgres@127.0.0.1:%s/postgres?sslmode=disable"}
api: {ops: {slow: {request: GET /slow}}}
`, port("cache"), port("db")),
		"slow.case": fmt.Sprintf("target shakedown.yaml\nseed 1\n+ one = %s store=cache ttl=10m\n+ two = %s store=db ttl=10m\n%s", redis, postgres, strings.Repeat("a slow\n", 60)),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "slow.case")
}
