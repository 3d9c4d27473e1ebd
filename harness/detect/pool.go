package detect

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/stack"
)

// Pool finds calls that wait for a connection of a pool while nobody uses one: those that
// took the connections have forgotten to give them back, and the service never recovers.
//
// The proof is dumps of one process life that are another deadline apart, taken while a
// call was stuck and nothing was injected since the stores were brought back. In all of
// them the same handlers wait for a connection, and no goroutine is in the code of the
// driver otherwise: who asks, or connects, may give a connection back. A handler that does
// something else meanwhile may hold one, too; so there must be none.
var Pool = &harness.Detector{
	Name:    "pool",
	Doc:     "calls wait for a connection of a pool, undisturbed, and nobody uses one",
	Needs:   harness.CapAgent,
	Minimum: 20,
	Detect:  pool,
}

func pool(rec *harness.Record) harness.Judgement {
	var j harness.Judgement
	var stuck, first *harness.Event
	var waiting map[int64]string // goroutines that waited in all dumps until now, and for which pool
	disturbed := false
	for i := range rec.Events {
		switch e := &rec.Events[i]; {
		case e.Returned() && !disturbed:
			j.Checked++
		case e.Kind == harness.Inject:
			disturbed = true
		case e.Kind == harness.Reset:
			disturbed, stuck, first = false, nil, nil
		case e.Kind == harness.Exit:
			disturbed = true // it, or what it depends on, has to find its feet again
		case e.Kind == harness.Stuck && stuck == nil && !disturbed:
			stuck = e
		case e.Kind == harness.Sample && e.Name == "goroutines" && stuck != nil && !disturbed && whole(e):
			gs := stack.Goroutines(strings.Split(e.Text, "\n"))
			now := waiters(rec.Build.Module, gs)
			if first == nil {
				first, waiting = e, now
			}
			maps.DeleteFunc(waiting, func(id int64, name string) bool { return now[id] != name })
			if len(waiting) == 0 {
				stuck = nil
				break
			}
			if e.At-first.At >= stuck.Args.Duration("after") {
				add(&j, exhausted(gs, waiting, e, []uint64{stuck.Seq, first.Seq, e.Seq}, e.At-first.At))
			}
		}
	}
	return j
}

// exhausted makes the finding of what a dump shows.
func exhausted(gs []stack.Goroutine, waiting map[int64]string, dump *harness.Event, evidence []uint64, apart time.Duration) harness.Finding {
	lines := strings.Split(dump.Text, "\n")
	f := harness.Finding{Detector: "pool", Evidence: evidence}
	for _, g := range gs {
		name, waits := waiting[g.ID]
		if !waits || f.Signature != "" {
			continue
		}
		f.Signature = "pool exhausted: " + name
		who := "a call has"
		if n := len(waiting); n > 1 {
			who = fmt.Sprintf("%d calls have", n)
		}
		f.Title = fmt.Sprintf("%s waited %s for a connection of %s, and no goroutine uses one: those that were taken are never given back",
			who, apart.Round(100*time.Millisecond), name)
		f.Detail = "one of those that wait:\n\n" + strings.Join(lines[g.First:g.Last+1], "\n") + "\n"
	}
	return f
}

// pools are the functions in which goroutines wait for a connection of a pool, with the
// pool's name and the packages that stand on the stack of who uses one.
var pools = []struct {
	fn, name string
	uses     []string
}{
	{"database/sql.(*DB).conn", "database/sql", []string{"database/sql."}},
	{"github.com/jackc/puddle/v2.(*Pool[...]).acquire", "pgxpool", []string{"github.com/jackc/"}},
	{"github.com/jackc/puddle.(*Pool).Acquire", "pgxpool", []string{"github.com/jackc/"}},
	{"github.com/redis/go-redis/v9/internal/pool.(*ConnPool).waitTurn", "go-redis", []string{"github.com/redis/go-redis/"}},
	{"github.com/go-redis/redis/v8/internal/pool.(*ConnPool).waitTurn", "go-redis", []string{"github.com/go-redis/redis/"}},
	{"github.com/gomodule/redigo/redis.(*Pool).waitVacantConn", "redigo", []string{"github.com/gomodule/redigo/"}},
}

// waiters returns the handlers that wait for a connection, with the pool's name, but not
// for those of which another goroutine may hold a connection that it will give back.
func waiters(module string, gs []stack.Goroutine) map[int64]string {
	waiting, used := map[int64]string{}, map[string]bool{}
	for _, g := range gs {
		name := waitsForConn(g)
		switch {
		case name != "" && handles(g):
			waiting[g.ID] = name
		case name != "":
		default:
			for _, p := range pools {
				if uses(g, p.uses) || handles(g) && slices.ContainsFunc(g.Frames, func(f stack.Frame) bool { return stack.Own(module, f.Func) }) {
					used[p.name] = true
				}
			}
		}
	}
	maps.DeleteFunc(waiting, func(_ int64, name string) bool { return used[name] })
	return waiting
}

// waitsForConn names the pool that a goroutine waits for; "" for none. What a pool waits
// with stands above its own function; a connection that it makes would, too.
func waitsForConn(g stack.Goroutine) string {
	for _, f := range g.Frames {
		switch stack.Package(f.Func) {
		case "runtime", "sync", "internal/sync", "golang.org/x/sync/semaphore", "github.com/redis/go-redis/v9/internal":
			continue
		}
		for _, p := range pools {
			if f.Func == p.fn {
				return p.name
			}
		}
		return ""
	}
	return ""
}

// uses reports whether a goroutine is in the code of a driver, and not only there: what a
// driver has started for itself gives no connection back, nor does who listens for
// notifications.
func uses(g stack.Goroutine, driver []string) bool {
	in, beside := false, false
	for _, f := range g.Frames {
		switch {
		case strings.HasSuffix(f.Func, ").WaitForNotification"):
			return false
		case slices.ContainsFunc(driver, func(d string) bool { return strings.HasPrefix(f.Func, d) }):
			in = true
		case stack.Package(f.Func) != "runtime":
			beside = true
		}
	}
	return in && beside
}
