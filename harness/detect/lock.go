package detect

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/stack"
)

// waiter is a goroutine that stood still at a lock.
type waiter struct {
	stack.Goroutine
	lock  string // the lock's address where the dump shows it, else the type or function that locks
	at    int    // the frame that locks
	known bool   // lock is an address
}

// site is the call that locks.
func (w waiter) site() stack.Frame { return w.Frames[w.at] }

// locked finds calls that wait for a lock which did not pass on between the dumps. What
// they tell decides the signature:
//
//	hang: lock in F       F holds it, and waits for something else than a lock
//	hang: locks in F | G  there are several, and who holds one seems to wait for another
//	hang: lock of T       who holds it is not to be seen, as after a return without Unlock
//
// T is a type, for which of its methods pile up behind a lock is up to chance. Locks of
// package-level functions have nothing else to be told apart by than the function that
// waits: the first one by name.
func (p *pair) locked() (harness.Finding, bool) {
	ws := p.waiters()
	if len(ws) == 0 {
		return harness.Finding{}, false
	}
	f := harness.Finding{Detector: "hang", Evidence: p.evidence}
	locks := byLock(ws)
	if s, found := p.holder(ws, len(locks) > 1); found {
		f.Signature = "hang: lock in " + s.fn
		f.Title = fmt.Sprintf("calls wait for a lock in %s, which %s held across %s", stack.Short(s.fn), s.verb(), waitsFor(s.g.State))
		f.Detail = p.text(append([]stack.Goroutine{s.g}, goroutines(ws)...))
		return f, true
	}
	f.Detail = p.text(goroutines(ws))
	if len(locks) > 1 {
		fns := crossed(locks)
		f.Signature = "hang: locks in " + strings.Join(fns, " | ")
		in := stack.Short(fns[0])
		if len(fns) > 1 {
			in += " and " + stack.Short(fns[1])
		}
		f.Title = fmt.Sprintf("calls wait in %s for locks that did not come free: who holds one seems to wait for another", in)
		return f, true
	}
	owner := first(ws, waiter.owner)
	f.Signature = "hang: lock of " + owner
	f.Title = fmt.Sprintf("calls wait for a lock of %s, and no goroutine is seen to hold it: it may never have been released", stack.Short(owner))
	return f, true
}

// waiters returns the goroutines that stood still at a lock of the service, for a call.
func (p *pair) waiters() []waiter {
	moving := p.moving()
	var out []waiter
	for _, id := range p.ids {
		w, waits := lockWait(p.after[id])
		if waits && p.still(id) && !moving[w.lock] && p.guilty(w) && p.serves(w.Goroutine) {
			out = append(out, w)
		}
	}
	return out
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
			w.lock, w.known = arg, true
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

// owner is the type whose method locks, or else the function.
func (w waiter) owner() string {
	if t := stack.Receiver(w.site().Func); strings.HasSuffix(t, ")") {
		return t
	}
	return w.site().Func
}

// byLock groups waiters by what they wait for. Where the dump shows no address, those of
// one type wait for one lock; functions without a type may, so that they do not add one.
func byLock(ws []waiter) map[string][]waiter {
	out := map[string][]waiter{}
	for _, w := range ws {
		if w.known {
			out[w.lock] = append(out[w.lock], w)
		}
	}
	for _, w := range ws {
		if w.known {
			continue
		}
		same := func(v waiter) bool { return v.owner() == w.owner() }
		method := strings.HasSuffix(w.owner(), ")")
		switch i := slices.IndexFunc(ws, func(v waiter) bool { return v.known && same(v) }); {
		case i >= 0:
			out[ws[i].lock] = append(out[ws[i].lock], w)
		case method:
			out[w.owner()] = append(out[w.owner()], w)
		case len(out) == 0 || len(out[""]) > 0:
			out[""] = append(out[""], w)
		}
	}
	return out
}

// crossed names at most two functions that wait for one lock and hold another. Others may
// have piled up behind them; where there are waiters that are seen to hold a lock, for two
// locks at least, only those count. Each lock gives the first function by name.
func crossed(locks map[string][]waiter) []string {
	holding := map[string][]waiter{}
	for lock, ws := range locks {
		for _, w := range ws {
			for other, vs := range locks {
				if other != lock && holds(w, vs, ws) {
					holding[lock] = append(holding[lock], w)
					break
				}
			}
		}
	}
	if len(holding) > 1 {
		locks = holding
	}
	var fns []string
	for _, ws := range locks {
		fns = append(fns, first(ws, func(w waiter) string { return w.site().Func }))
	}
	slices.Sort(fns)
	fns = slices.Compact(fns)
	return fns[:min(2, len(fns))]
}

// holds reports whether w, one of those that wait for its lock, seems to hold the lock
// that others wait for: it has come further in the function in which one of them waits,
// or it is in a function that works on the object whose lock that is.
func holds(w waiter, others, own []waiter) bool {
	for _, v := range others {
		if slices.ContainsFunc(w.Frames[w.at:], func(f stack.Frame) bool { return f.Func == v.site().Func && f.Line > v.site().Line }) {
			return true
		}
	}
	mine, theirs := objects(own), objects(others)
	for _, f := range w.Frames[w.at:] {
		for _, a := range addresses(f) {
			if theirs[a] && !mine[a] {
				return true
			}
		}
	}
	return false
}

// maxObject bounds how far behind the start of an object its lock may be.
const maxObject = 4096

// objects returns where the object begins whose lock ws wait for: at the lock, or at the
// argument of the function that locks which is next to it.
func objects(ws []waiter) map[uint64]bool {
	out := map[uint64]bool{}
	for _, w := range ws {
		lock, err := strconv.ParseUint(w.lock, 0, 64)
		if err != nil {
			continue
		}
		best := lock
		for _, a := range addresses(w.site()) {
			if a <= lock && lock-a < maxObject && (best == lock || a > best) {
				best = a
			}
		}
		out[best] = true
	}
	return out
}

// addresses returns the arguments of a call that are sure.
func addresses(f stack.Frame) []uint64 {
	var out []uint64
	for arg := range strings.SplitSeq(f.Args, ", ") {
		if a, err := strconv.ParseUint(strings.Trim(arg, "{}"), 0, 64); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// suspect is a goroutine that seems to hold a lock in fn.
type suspect struct {
	rank int
	fn   string
	g    stack.Goroutine
}

// The ranks of suspects.
const (
	samePackage  = iota + 1
	sameType     // it is in a method of the type that waiters lock
	sameObject   // it is in a function that works on the object whose lock they wait for
	sameFunction // it has come further in the function in which they wait
)

func (s suspect) verb() string {
	if s.rank == sameFunction {
		return "is"
	}
	return "seems to be"
}

var closure = regexp.MustCompile(`\.func\d`)

// holder returns the function that seems to hold what ws wait for, with a goroutine that
// is in it: one that serves a call and waits for something else than a lock. It has come
// further where others wait for the lock; or else it is the only function of the same
// object, type or package that waiters do not just pass through on their way. That is too
// little to go by where there are several locks: who holds one may wait for another.
func (p *pair) holder(ws []waiter, several bool) (suspect, bool) {
	var found []suspect
	rank := p.ranking(ws)
	for _, id := range p.ids {
		g := p.after[id]
		if _, waits := lockWait(g); waits {
			continue
		}
		best := suspect{}
		innermost := slices.IndexFunc(g.Frames, p.own)
		for i, f := range slices.Backward(g.Frames) {
			r := rank(f)
			// A closure around a handler leads there, no more, unless nothing is left below but the wait.
			wrapped := r == best.rank && i > innermost && closure.MatchString(best.fn) && !closure.MatchString(f.Func)
			if (r > best.rank || wrapped) && contains(p.before[id], f) {
				best = suspect{r, f.Func, g}
			}
		}
		switch {
		case best.rank == 0 || several && best.rank < sameFunction:
		case best.rank < sameFunction && (!p.serves(g) || p.idle(g)):
			// A worker that idles by design is of the same package or type as often as not.
		case !p.serves(g) && (g.State != "IO wait" || accepts(g)):
		default:
			found = append(found, best)
		}
	}
	if len(found) == 0 {
		return suspect{}, false
	}
	s := slices.MinFunc(found, func(a, b suspect) int {
		return cmp.Or(b.rank-a.rank, strings.Compare(a.fn, b.fn))
	})
	// Two functions that may hold the lock are one too many to name either.
	rival := func(o suspect) bool { return o.rank == s.rank && o.fn != s.fn }
	if s.rank < sameFunction && slices.ContainsFunc(found, rival) {
		return suspect{}, false
	}
	return s, true
}

// ranking returns a function that says how much speaks for a frame as that of the holder.
func (p *pair) ranking(ws []waiter) func(stack.Frame) int {
	lines := map[string]int{} // by function that locks, the first line that does
	types, packages, passed := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, w := range ws {
		fn, line := w.site().Func, w.site().Line
		if l, known := lines[fn]; !known || line < l {
			lines[fn] = line
		}
		types[stack.Receiver(fn)], packages[stack.Package(fn)] = true, true
		for _, f := range w.Frames[w.at+1:] {
			passed[f.Func] = true
		}
	}
	locked := objects(ws)
	return func(f stack.Frame) int {
		line, locks := lines[f.Func]
		switch {
		case !p.own(f) || passed[f.Func] && !locks || locks && f.Line < line:
			return 0
		case locks:
			return sameFunction
		case slices.ContainsFunc(addresses(f), func(a uint64) bool { return locked[a] }):
			return sameObject
		case types[stack.Receiver(f.Func)]:
			return sameType
		case packages[stack.Package(f.Func)]:
			return samePackage
		}
		return 0
	}
}

// accepts reports whether a goroutine waits for the next caller of a server.
func accepts(g stack.Goroutine) bool {
	return slices.ContainsFunc(g.Frames, func(f stack.Frame) bool { return f.Func == "internal/poll.(*FD).Accept" })
}

// idle reports whether a goroutine does nothing, or waits as those do that have nothing
// to do: a stream for its next event, a loop for its next turn.
func (p *pair) idle(g stack.Goroutine) bool {
	switch {
	case g.State == "running" || g.State == "runnable" || g.State == "sleep" || g.State == "sync.Cond.Wait":
		return true
	case strings.HasPrefix(g.State, "select") || strings.HasPrefix(g.State, "chan "):
		return len(g.Frames) > 0 && p.own(g.Frames[0])
	}
	return clients(g.Frames)
}

// contains reports whether a goroutine is within the function of f.
func contains(g stack.Goroutine, f stack.Frame) bool {
	return slices.ContainsFunc(g.Frames, func(h stack.Frame) bool { return h.Func == f.Func })
}

func goroutines(ws []waiter) []stack.Goroutine {
	out := make([]stack.Goroutine, len(ws))
	for i, w := range ws {
		out[i] = w.Goroutine
	}
	return out
}

// first returns the first name by the alphabet that f gives the waiters.
func first(ws []waiter, f func(waiter) string) string {
	out := make([]string, len(ws))
	for i, w := range ws {
		out[i] = f(w)
	}
	return slices.Min(out)
}
