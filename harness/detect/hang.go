package detect

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/stack"
)

// Hang finds calls that passed their deadline and stand still in the service's own code.
//
// The proof is two goroutine dumps of one process life, some time apart. Waiting for a
// lock past the deadline of a call is a finding whatever else goes on: the service made
// the call wait for another one. Waiting for anything else is one only if nothing was
// ever injected: a dependency that is disturbed may keep those waiting who asked it.
var Hang = &harness.Detector{
	Name:    "hang",
	Doc:     "calls wait for ever: for a lock, or while nothing is injected for anything else",
	Needs:   harness.CapAgent,
	Minimum: 20,
	Detect:  hang,
}

func hang(rec *harness.Record) harness.Judgement {
	j := harness.Judgement{Checked: returned(rec)}
	stuck := rec.Count(harness.Stuck)
	if stuck == 0 {
		return j
	}
	ds := dumps(rec)
	for _, d := range ds {
		if f, found := d.locked(); found {
			add(&j, f)
			return j
		}
	}
	for _, d := range ds {
		for _, f := range d.blocked() {
			add(&j, f)
		}
	}
	if len(ds) == 0 {
		j.Unsure = append(j.Unsure, fmt.Sprintf("%d calls stuck, and no two goroutine dumps that show where", stuck))
	}
	return j
}

// pair is two dumps of one process life, taken while a call was stuck.
type pair struct {
	module    string
	disturbed bool // something was injected before
	before    map[int64]stack.Goroutine
	after     map[int64]stack.Goroutine
	ids       []int64 // of those in both, sorted
	lines     []string
	evidence  []uint64
}

func dumps(rec *harness.Record) []*pair {
	var out []*pair
	var last *harness.Event // the dump before, in the same life
	var stuck uint64
	disturbed := false
	for i := range rec.Events {
		switch e := &rec.Events[i]; {
		case e.Kind == harness.Inject:
			disturbed = true
		case e.Kind == harness.Exit && e.Name == harness.Service, e.Kind == harness.Reset:
			stuck, last = 0, nil
		case e.Kind == harness.Stuck && stuck == 0:
			stuck = e.Seq
		case e.Kind == harness.Sample && e.Name == "goroutines" && stuck != 0:
			if last != nil {
				p := compare(rec.Build.Module, last.Text, e.Text)
				p.disturbed, p.evidence = disturbed, []uint64{stuck, last.Seq, e.Seq}
				out = append(out, p)
			}
			last = e
		}
	}
	return out
}

func compare(module, before, after string) *pair {
	p := &pair{module: module, lines: strings.Split(after, "\n")}
	p.before = byID(stack.Goroutines(strings.Split(before, "\n")))
	p.after = byID(stack.Goroutines(p.lines))
	for _, id := range slices.Sorted(maps.Keys(p.after)) {
		if _, both := p.before[id]; both {
			p.ids = append(p.ids, id)
		}
	}
	return p
}

func byID(gs []stack.Goroutine) map[int64]stack.Goroutine {
	out := make(map[int64]stack.Goroutine, len(gs))
	for _, g := range gs {
		out[g.ID] = g
	}
	return out
}

// still reports whether a goroutine is in both dumps where it was.
func (p *pair) still(id int64) bool {
	a, b := p.before[id], p.after[id]
	return a.State == b.State && slices.EqualFunc(a.Frames, b.Frames, samePlace)
}

// waiter is a goroutine that stood still at a lock.
type waiter struct {
	stack.Goroutine
	lock string // the lock's address where the dump shows it, else the locking function
	at   int    // the frame that locks
}

// locked finds calls that wait for a lock which does not pass on.
func (p *pair) locked() (harness.Finding, bool) {
	moving := p.moving()
	var ws []waiter
	for _, id := range p.ids {
		w, waits := lockWait(p.after[id])
		if waits && p.still(id) && !moving[w.lock] && p.guilty(w) && p.serves(w.Goroutine) {
			ws = append(ws, w)
		}
	}
	if len(ws) == 0 {
		return harness.Finding{}, false
	}
	f := harness.Finding{Detector: "hang", Evidence: p.evidence}
	if fn, holder, found := p.holder(ws); found {
		f.Signature = "hang: lock in " + fn
		f.Title = fmt.Sprintf("calls wait for a lock in %s, which is held across %s", stack.Short(fn), waitsFor(holder.State))
		f.Detail = p.text(append([]stack.Goroutine{holder}, goroutines(ws)...))
		return f, true
	}
	owners, locks := map[string]bool{}, map[string]bool{}
	for _, w := range ws {
		owners[stack.Receiver(w.Frames[w.at].Func)] = true
		locks[w.lock] = true
	}
	names := slices.Sorted(maps.Keys(owners))
	names = names[:min(2, len(names))]
	// The types, not the functions: which functions pile up behind a deadlock is up to chance.
	f.Signature = "hang: lock of " + strings.Join(names, " | ")
	f.Title = fmt.Sprintf("calls wait for a lock of %s that does not come free", stack.Short(names[0]))
	if len(locks) > 1 {
		f.Title = "calls wait for locks that do not come free, of " + stack.Short(names[0])
		if len(names) > 1 {
			f.Title += " and " + stack.Short(names[1])
		}
	}
	f.Detail = p.text(goroutines(ws))
	return f, true
}

// moving returns the locks that pass on: whoever waited for one before does so no more.
func (p *pair) moving() map[string]bool {
	out := map[string]bool{}
	for id, g := range p.before {
		if a, waited := lockWait(g); waited {
			if b, waits := lockWait(p.after[id]); !waits || a.lock != b.lock {
				out[a.lock] = true
			}
		}
	}
	return out
}

// guilty reports whether the service's own code locks, rather than a library for itself.
// While nothing is injected it is enough that the service called the library.
func (p *pair) guilty(w waiter) bool {
	if stack.Own(p.module, w.Frames[w.at].Func) {
		return true
	}
	return !p.disturbed && slices.ContainsFunc(w.Frames[w.at:], p.own)
}

func (p *pair) own(f stack.Frame) bool { return stack.Own(p.module, f.Func) }

func lockWait(g stack.Goroutine) (waiter, bool) {
	switch g.State {
	case "sync.Mutex.Lock", "sync.RWMutex.Lock", "sync.RWMutex.RLock":
	case "semacquire": // Go 1.19 and older say no more; a WaitGroup looks the same
		if !slices.ContainsFunc(g.Frames, func(f stack.Frame) bool {
			return strings.HasPrefix(f.Func, "sync.(*Mutex).") || strings.HasPrefix(f.Func, "sync.(*RWMutex).")
		}) {
			return waiter{}, false
		}
	default:
		return waiter{}, false
	}
	w := waiter{Goroutine: g}
	for w.at < len(g.Frames) {
		f := g.Frames[w.at]
		if pkg := stack.Package(f.Func); pkg != "sync" && pkg != "internal/sync" && pkg != "runtime" {
			break
		}
		// The semaphore's address is not the lock's, and "0x60?" is only a guess.
		arg, _, _ := strings.Cut(f.Args, ",")
		if w.lock == "" && !strings.Contains(f.Func, "untime_") && strings.HasPrefix(arg, "0x") && !strings.HasSuffix(arg, "?") {
			w.lock = arg
		}
		w.at++
	}
	if w.at == len(g.Frames) {
		return waiter{}, false
	}
	if w.lock == "" {
		w.lock = stack.Receiver(g.Frames[w.at].Func)
	}
	return w, true
}

// servers are the functions under which servers run their handlers.
var servers = []string{
	"net/http.(*conn).serve",
	"net/http.(*http2serverConn).runHandler",
	"golang.org/x/net/http2.(*serverConn).runHandler",
	"google.golang.org/grpc.(*Server).handleStream",
	"github.com/valyala/fasthttp.(*Server).serveConn",
}

func handles(g stack.Goroutine) bool {
	return slices.ContainsFunc(g.Frames, func(f stack.Frame) bool { return slices.Contains(servers, f.Func) })
}

// serves reports whether a goroutine handles a request, or was started by one that does.
func (p *pair) serves(g stack.Goroutine) bool {
	for range 16 {
		if handles(g) {
			return true
		}
		parent, alive := p.after[g.Parent]
		if !alive {
			return false
		}
		g = parent
	}
	return false
}

// holder returns the function that seems to hold what ws wait for, and a goroutine that
// is in it: one that waits for something else within the code that takes the lock. At
// best that is a function in which others wait for the lock. Else it is the outermost
// function of the same type, or package, that waiters do not just pass through on their
// way to the lock; but then two such functions are one too many to name either.
func (p *pair) holder(ws []waiter) (string, stack.Goroutine, bool) {
	lockers, types, packages, passed := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, w := range ws {
		fn := w.Frames[w.at].Func
		lockers[fn], types[stack.Receiver(fn)], packages[stack.Package(fn)] = true, true, true
		for _, f := range w.Frames[w.at+1:] {
			passed[f.Func] = true
		}
	}
	type suspect struct {
		rank int
		fn   string
		g    stack.Goroutine
	}
	var found []suspect
	for _, id := range p.ids {
		g := p.after[id]
		if _, waits := lockWait(g); waits || g.State == "running" || g.State == "runnable" {
			continue
		}
		best := suspect{}
		for _, f := range slices.Backward(g.Frames) {
			if !p.own(f) || passed[f.Func] && !lockers[f.Func] || !contains(p.before[id], f) {
				continue
			}
			rank := 0
			switch {
			case lockers[f.Func]:
				rank = 3
			case types[stack.Receiver(f.Func)]:
				rank = 2
			case packages[stack.Package(f.Func)]:
				rank = 1
			}
			if rank > best.rank {
				best = suspect{rank, f.Func, g}
			}
		}
		// A worker that idles by design is of the same package as often as not.
		if best.rank > 0 && (p.serves(g) || g.State == "IO wait") {
			found = append(found, best)
		}
	}
	if len(found) == 0 {
		return "", stack.Goroutine{}, false
	}
	s := slices.MinFunc(found, func(a, b suspect) int {
		return cmp.Or(b.rank-a.rank, strings.Compare(a.fn, b.fn))
	})
	for _, o := range found {
		if s.rank < 3 && o.rank == s.rank && o.fn != s.fn {
			return "", stack.Goroutine{}, false
		}
	}
	return s.fn, s.g, true
}

// contains reports whether a goroutine is within the function of f.
func contains(g stack.Goroutine, f stack.Frame) bool {
	return slices.ContainsFunc(g.Frames, func(h stack.Frame) bool { return h.Func == f.Func })
}

// waitsFor says in words what a goroutine in that state waits for.
func waitsFor(state string) string {
	switch {
	case state == "IO wait":
		return "I/O that does not return"
	case strings.HasPrefix(state, "chan ") || strings.HasPrefix(state, "select"):
		return "a channel operation"
	}
	return "a wait (" + state + ")"
}

// blocked finds handlers that stand still while nothing is injected.
func (p *pair) blocked() []harness.Finding {
	var out []harness.Finding
	if p.disturbed {
		return nil
	}
	for _, id := range p.ids {
		g := p.after[id]
		what := waitClass(g.State)
		at := slices.IndexFunc(g.Frames, p.own)
		if what == "" || at < 0 || !handles(g) || !p.still(id) || clients(g.Frames[:at]) {
			continue
		}
		fn := g.Frames[at].Func
		out = append(out, harness.Finding{
			Detector:  "hang",
			Signature: fmt.Sprintf("hang: %s in %s", what, fn),
			Title:     fmt.Sprintf("a call waits in %s for %s while nothing is injected", stack.Short(fn), waitsFor(g.State)),
			Detail:    p.text([]stack.Goroutine{g}),
			Evidence:  p.evidence,
		})
	}
	return out
}

func waitClass(state string) string {
	switch {
	case strings.HasPrefix(state, "chan ") || strings.HasPrefix(state, "select"):
		return "channel"
	case state == "IO wait":
		return "I/O"
	case state == "sync.WaitGroup.Wait" || state == "sync.Cond.Wait" || state == "semacquire":
		return "wait"
	}
	return ""
}

// clients reports whether a handler waits for the one who called it: for the rest of the
// request, or for its reply to be taken.
func clients(frames []stack.Frame) bool {
	return slices.ContainsFunc(frames, func(f stack.Frame) bool {
		return strings.HasPrefix(f.Func, "net/http.(*body).") || strings.HasPrefix(f.Func, "net/http.(*response).")
	})
}

func goroutines(ws []waiter) []stack.Goroutine {
	out := make([]stack.Goroutine, len(ws))
	for i, w := range ws {
		out[i] = w.Goroutine
	}
	return out
}

// text quotes the first few of the goroutines.
func (p *pair) text(gs []stack.Goroutine) string {
	const most = 4
	var b strings.Builder
	for i, g := range gs[:min(most, len(gs))] {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(strings.Join(p.lines[g.First:g.Last+1], "\n") + "\n")
	}
	if len(gs) > most {
		fmt.Fprintf(&b, "\n... %d more goroutines\n", len(gs)-most)
	}
	return b.String()
}
