package providers

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/journal"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// changes are a setting of each engine, and how it is changed.
var changes = map[string]struct {
	dep    spec.Dependency
	change harness.Change
	other  []string // sets something else
}{
	"redis": {
		spec.Dependency{Engine: "redis"},
		harness.Change{
			Read: [][]string{{"CONFIG", "GET", "maxmemory"}, {"CONFIG", "GET", "maxmemory-policy"}},
			Do:   [][]string{{"CONFIG", "SET", "maxmemory", "1"}, {"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"}},
			Undo: [][]string{{"CONFIG", "SET", "maxmemory-policy", "noeviction"}, {"CONFIG", "SET", "maxmemory", "0"}},
			Set:  []string{"maxmemory", "1", "maxmemory-policy", "allkeys-lru"},
		},
		[]string{"CONFIG", "SET", "maxmemory", "5"},
	},
	"postgres": {
		spec.Dependency{Engine: "postgres", Database: "shop", User: "shop"},
		harness.Change{
			Read: [][]string{{"SELECT datconnlimit, $1::text FROM pg_database WHERE datname = 'shop'", "it is"}},
			Do:   [][]string{{"ALTER DATABASE shop CONNECTION LIMIT 3"}},
			Undo: [][]string{{"ALTER DATABASE shop CONNECTION LIMIT -1"}},
			Set:  []string{"3", "it is"},
		},
		[]string{"ALTER DATABASE shop CONNECTION LIMIT 5"},
	},
}

func admin(t *testing.T, d Dependency) harness.Store {
	t.Helper()
	s, err := d.Store()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read returns what a change's Read answers.
func read(t *testing.T, s harness.Store, c harness.Change) (out []string) {
	t.Helper()
	for _, words := range c.Read {
		got, err := s.Do(t.Context(), words...)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, got...)
	}
	return out
}

func TestChangeIsHealedAndReadBack(t *testing.T) {
	t.Parallel()
	for engine, tt := range changes {
		t.Run(engine+" local", func(t *testing.T) {
			t.Parallel()
			need(t, engine)
			heals(t, start(t, tt.dep, "."), tt.change)
		})
		t.Run(engine+" docker", func(t *testing.T) {
			t.Parallel()
			heals(t, startDocker(t, tt.dep, "."), tt.change)
		})
	}
}

// heals changes something again and again, and lets it be healed at all times.
func heals(t *testing.T, d Dependency, c harness.Change) {
	t.Helper()
	s := admin(t, d)
	was := read(t, s, c)
	change := func() func(context.Context) error {
		t.Helper()
		heal, err := s.Change(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if got := read(t, s, c); !slices.Equal(got, c.Set) {
			t.Errorf("during the change: %q, want %q", got, c.Set)
		}
		return heal
	}
	heal := change()
	if _, err := s.Change(t.Context(), c); err == nil || !strings.Contains(err.Error(), "another fault") {
		t.Errorf("a second change of the same: %v", err)
	}
	check := func() {
		t.Helper()
		if err := heal(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := read(t, s, c); !slices.Equal(got, was) {
			t.Errorf("after the heal: %q, was %q", got, was)
		}
	}
	check()

	// What is down or paused at the heal is undone when it is back.
	p := proc(t, d)
	for name, disturb := range map[string]func(context.Context) (int, func(context.Context) error, error){"kill": p.Kill, "pause": p.Pause} {
		heal = change()
		_, back, err := disturb(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Do(t.Context(), c.Read[0]...); err == nil || !strings.HasPrefix(err.Error(), "dep is ") {
			t.Errorf("%s: a command is %v", name, err)
		}
		if err := heal(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := back(t.Context()); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := read(t, s, c); !slices.Equal(got, was) {
			t.Errorf("after the %s: %q, was %q", name, got, was)
		}
	}
	heal = change()
	check()

	// Half done is undone.
	half := c
	half.Do = append(slices.Clone(half.Do), []string{"NO SUCH COMMAND"})
	if _, err := s.Change(t.Context(), half); err == nil {
		t.Error("a change that fails: no error")
	}
	if got := read(t, s, c); !slices.Equal(got, was) {
		t.Errorf("half done: %q, was %q", got, was)
	}
}

func TestWhatIsNotUndoneIsSaid(t *testing.T) {
	t.Parallel()
	need(t, "redis")
	d := start(t, spec.Dependency{Engine: "redis"}, ".")
	s, c := admin(t, d), changes["redis"].change
	c.Undo = [][]string{{"CONFIG", "SET", "maxmemory", "2"}}
	heal, err := s.Change(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := heal(t.Context()); err == nil || !strings.Contains(err.Error(), `"2"`) || !strings.Contains(err.Error(), `"0"`) {
		t.Errorf("the heal says %v", err)
	}
	if _, err := s.Change(t.Context(), c); err == nil {
		t.Error("a change on top of one that is not undone: no error")
	}
	d = start(t, spec.Dependency{Engine: "redis"}, ".")
	heal, err = admin(t, d).Change(t.Context(), harness.Change{Read: [][]string{{"PING"}}, Undo: [][]string{{"NOTHING"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, back, err := proc(t, d).Kill(t.Context()); err != nil {
		t.Fatal(err)
	} else if err := heal(t.Context()); err != nil {
		t.Fatalf("of a server that is down: %v", err)
	} else if err := back(t.Context()); err == nil || !strings.Contains(err.Error(), "NOTHING") {
		t.Errorf("who brings it back is told %v", err)
	}
}

// What is being undone is in nobody's way who ends or pauses the server, and is undone when it is
// back.
func TestUndoHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	need(t, "redis")
	for _, how := range []string{"kill", "pause", "limit", "stop"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			d := start(t, spec.Dependency{Engine: "redis"}, ".")
			s, p := admin(t, d), proc(t, d)
			// It waits until somebody adds to a list.
			heal, err := s.Change(t.Context(), harness.Change{
				Read: [][]string{{"PING"}},
				Undo: [][]string{{"BLPOP", "list", "0"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			healed := make(chan error, 1)
			go func() { healed <- heal(t.Context()) }()
			for late := time.Now().Add(undoTime); ; time.Sleep(time.Millisecond) {
				if got, err := s.Do(t.Context(), "CLIENT", "LIST"); err != nil {
					t.Fatal(err)
				} else if strings.Contains(got[0], "cmd=blpop") {
					break
				} else if time.Now().After(late) {
					t.Fatal("nothing is being undone")
				}
			}
			away := make(chan error, 1)
			back := func(context.Context) error { return nil }
			go func() {
				var err error
				switch how {
				case "kill":
					_, back, err = p.Kill(t.Context())
				case "pause":
					_, back, err = p.Pause(t.Context())
				case "limit":
					_, back, err = p.LimitFiles(t.Context(), 0)
				case "stop":
					err = d.Stop(t.Context())
				}
				away <- err
			}()
			// As long as the undo waits, it is tried again.
			for _, done := range []chan error{away, healed} {
				select {
				case err := <-done:
					if err != nil {
						t.Fatal(err)
					}
				case <-time.After(undoTime / 3):
					t.Fatal("it waits for what is being undone")
				}
			}
			if how == "stop" {
				return
			}
			if _, err := s.Change(t.Context(), harness.Change{Read: [][]string{{"PING"}}}); err == nil {
				t.Error("a change on top of one that is not undone: no error")
			}
			paid := make(chan struct{})
			var adding sync.WaitGroup
			adding.Go(func() {
				add, err := dialRedis("redis://" + d.Addr())
				if err != nil {
					t.Error(err)
					return
				}
				for {
					_, _ = add(t.Context(), []string{"RPUSH", "list", "x"}) // at first it may not be back
					select {
					case <-paid:
						return
					case <-time.After(10 * time.Millisecond):
					}
				}
			})
			err = back(t.Context())
			close(paid)
			adding.Wait()
			if err != nil {
				t.Error(err)
			}
			if _, err := s.Change(t.Context(), harness.Change{Read: [][]string{{"PING"}}}); err != nil {
				t.Errorf("after it is back: %v", err)
			}
		})
	}
}

func TestOnlyServersAreStores(t *testing.T) {
	t.Parallel()
	d := start(t, spec.Dependency{Engine: "redis", Provide: "embedded"}, ".")
	if s, err := d.Store(); err == nil {
		t.Errorf("an embedded redis is %v", s)
	}
}

// outliving starts a server and returns its URL, and a dependency that is no more than that.
func outliving(t *testing.T, engine, dir string) (url string, host, d Dependency) {
	t.Helper()
	need(t, engine)
	host = start(t, changes[engine].dep, ".")
	url = map[string]string{"redis": "redis://" + host.Addr() + "/2", "postgres": "postgres://postgres@" + host.Addr() + "/shop?sslmode=disable"}[engine]
	p, err := Choose(t.Context(), "dep", spec.Dependency{Engine: engine, Provide: "url", URL: url}, ".")
	if err != nil {
		t.Fatal(err)
	}
	if d, err = p.Start(t.Context(), dir, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return url, host, d
}

func TestWhatADeadRunHasChangedIsUndone(t *testing.T) {
	t.Parallel()
	for engine, tt := range changes {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, host, d := outliving(t, engine, dir)
			s, there := admin(t, d), admin(t, host)
			was := read(t, there, tt.change)
			heal, err := s.Change(t.Context(), tt.change)
			if err != nil {
				t.Fatal(err)
			}
			if notes, err := journal.Read(dir); err != nil || len(notes) != 1 {
				t.Errorf("the journal holds %v, %v", notes, err)
			}
			if err := heal(t.Context()); err != nil {
				t.Fatal(err)
			}
			if notes, err := journal.Read(dir); err != nil || len(notes) != 0 {
				t.Errorf("after the heal, the journal holds %v, %v", notes, err)
			}

			if _, err = s.Change(t.Context(), tt.change); err != nil { // and never healed
				t.Fatal(err)
			}
			if got := read(t, there, tt.change); !slices.Equal(got, tt.change.Set) {
				t.Errorf("during the change: %q", got)
			}
			for range 2 {
				if err := Bury(t.Context(), dir, nil); err != nil {
					t.Fatal(err)
				}
				if got := read(t, there, tt.change); !slices.Equal(got, was) {
					t.Errorf("after the burial: %q, was %q", got, was)
				}
			}
			if notes, err := journal.Read(dir); err != nil || len(notes) != 0 {
				t.Errorf("after the burial, the journal holds %v, %v", notes, err)
			}
		})
	}
}

// A snapshot in a database that is somebody else's is removed for a harness that has died, and
// not the one that another has made since.
func TestSnapshotOfADeadRunIsRemoved(t *testing.T) {
	t.Parallel()
	dead := t.TempDir()
	url, host, d := outliving(t, "postgres", dead)
	there := admin(t, host)
	if _, err := there.Do(t.Context(), "CREATE TABLE kept AS SELECT 1 AS n"); err != nil {
		t.Fatal(err)
	}
	schemas := func(want string) {
		t.Helper()
		if got, err := there.Do(t.Context(), "SELECT count(*) FROM pg_namespace WHERE nspname = 'shakedown_snapshot'"); err != nil || got[0] != want {
			t.Errorf("there are %s snapshots, %v, want %s", got, err, want)
		}
	}
	if err := d.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	schemas("1")
	undone, left, err := Undo(t.Context(), dead, nil)
	if err != nil || len(left) > 0 || !slices.Equal(undone, []string{"schema shakedown_snapshot of the postgres at 127.0.0.1"}) {
		t.Errorf("undone: %q; left: %q; %v", undone, left, err)
	}
	schemas("0")

	p, err := Choose(t.Context(), "dep", spec.Dependency{Engine: "postgres", Provide: "url", URL: url}, ".")
	if err != nil {
		t.Fatal(err)
	}
	dirs := []string{t.TempDir(), t.TempDir()}
	var last Dependency
	for _, dir := range dirs {
		if last, err = p.Start(t.Context(), dir, nil); err != nil {
			t.Fatal(err)
		}
		if err := last.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := Bury(t.Context(), dirs[0], nil); err != nil {
		t.Error(err)
	}
	schemas("1")
	if err := last.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	schemas("0")
	if notes, err := journal.Read(dirs[1]); err != nil || len(notes) > 0 {
		t.Errorf("after all, the journal holds %v, %v", notes, err)
	}
}

// What somebody else has set since is neither what a dead run has set nor what was before.
func TestWhatSomebodyElseHasSetIsLeftAlone(t *testing.T) {
	t.Parallel()
	for engine, tt := range changes {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, host, d := outliving(t, engine, dir)
			there := admin(t, host)
			if _, err := admin(t, d).Change(t.Context(), tt.change); err != nil { // and never healed
				t.Fatal(err)
			}
			if _, err := there.Do(t.Context(), tt.other...); err != nil {
				t.Fatal(err)
			}
			set := read(t, there, tt.change)
			for range 2 { // as nobody is told of it
				if err := Bury(t.Context(), dir, nil); err == nil || !strings.Contains(err.Error(), "somebody has changed its settings") || !Altered(err) {
					t.Errorf("the burial says %v", err)
				}
				if notes, err := journal.Read(dir); err != nil || len(notes) != 1 {
					t.Errorf("the journal holds %v, %v", notes, err)
				}
			}
			undone, left, err := Undo(t.Context(), dir, nil)
			if err != nil || len(undone) > 0 || len(left) != 1 || !strings.Contains(left[0], `"5"`) {
				t.Errorf("undone: %q; left: %q; %v", undone, left, err)
			}
			if got := read(t, there, tt.change); !slices.Equal(got, set) {
				t.Errorf("it was %q, and is %q", set, got)
			}
			if notes, err := journal.Read(dir); err != nil || len(notes) != 0 {
				t.Errorf("then the journal holds %v, %v", notes, err)
			}
		})
	}
}

// A run may have died while it changed something, or undid that.
func TestWhatIsDoneInPartIsUndone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, host, d := outliving(t, "redis", dir)
	there, c := admin(t, host), changes["redis"].change
	was := read(t, there, c)
	if _, err := admin(t, d).Change(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if _, err := there.Do(t.Context(), c.Undo[0]...); err != nil {
		t.Fatal(err)
	}
	undone, left, err := Undo(t.Context(), dir, nil)
	if err != nil || len(left) > 0 || !slices.Equal(undone, []string{"changed settings of the redis at 127.0.0.1"}) {
		t.Errorf("undone: %q; left: %q; %v", undone, left, err)
	}
	if got := read(t, there, c); !slices.Equal(got, was) {
		t.Errorf("it was %q, and is %q", was, got)
	}
}

func TestChangeThatDoesNotTakeIsNone(t *testing.T) {
	t.Parallel()
	need(t, "redis")
	d := start(t, spec.Dependency{Engine: "redis"}, ".")
	s, c := admin(t, d), changes["redis"].change
	was := read(t, s, c)
	c.Set = []string{"maxmemory", "1", "maxmemory-policy", "noeviction"}
	if _, err := s.Change(t.Context(), c); err == nil || !strings.Contains(err.Error(), "do not take") {
		t.Errorf("a change that comes to something else: %v", err)
	}
	if got := read(t, s, c); !slices.Equal(got, was) {
		t.Errorf("it was %q, and is %q", was, got)
	}
}

// A server that answers nothing is asked no longer than was said.
func TestCommandsHeedTheirContext(t *testing.T) {
	t.Parallel()
	need(t, "redis")
	s := admin(t, start(t, spec.Dependency{Engine: "redis"}, "."))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := s.Do(ctx, "BLPOP", "none", "0")
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it ends with %v", err)
		}
	case <-time.After(commandTime / 2):
		t.Error("it goes on")
	}
}

// A server that is gone, or that answers nothing, is in nobody's way for long; and what can
// be undone is.
func TestDeadServersDoNotHoldUpABurial(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, host, d := outliving(t, "redis", dir)
	c := changes["redis"].change
	was := read(t, admin(t, host), c)
	if _, err := admin(t, d).Change(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	mute, err := net.Listen("tcp", "127.0.0.1:0") // connections are taken, and nobody is there
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	for range 50 {
		for _, n := range []journal.Note{
			{Engine: "redis", URL: "redis://" + mute.Addr().String()},
			{Engine: "postgres", URL: "postgres://x@" + mute.Addr().String() + "/x"},
			{Engine: "redis", URL: "redis://" + gone.Addr().String()},
			{Engine: "postgres", URL: "postgres://x@" + gone.Addr().String() + "/x"},
			{Engine: "mysql", URL: "mysql://" + gone.Addr().String()},
			{Engine: "redis", URL: "/etc/passwd"},
		} {
			n.Undo = [][]string{{"PING"}, {}, {"PING"}}
			if _, err := journal.Write(dir, n); err != nil {
				t.Fatal(err)
			}
		}
	}
	err = Bury(t.Context(), dir, nil)
	if err == nil || Altered(err) {
		t.Fatalf("six servers that do not answer: %v", err)
	}
	for _, want := range []string{"the redis at 127.0.0.1", "the postgres at 127.0.0.1", `the engine "mysql"`, "not a redis URL"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	if got := read(t, admin(t, host), c); !slices.Equal(got, was) {
		t.Errorf("the one that is there: %q, was %q", got, was)
	}
	// Nor does it in a second journal.
	other, gone2 := t.TempDir(), Gone{"redis://" + mute.Addr().String(): errors.New("it was asked before")}
	if _, err := journal.Write(other, journal.Note{Engine: "redis", URL: "redis://" + mute.Addr().String(), Undo: [][]string{{"PING"}}}); err != nil {
		t.Fatal(err)
	}
	if err := Bury(t.Context(), other, gone2); err == nil || err.Error() != "it was asked before" {
		t.Errorf("a server that is known to be gone: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("in the directory: %s", left)
	}
}
