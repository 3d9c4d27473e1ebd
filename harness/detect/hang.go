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

// Hang finds calls that passed their deadline and stand still in the service's own code.
//
// The proof is goroutine dumps of one process life, some time apart. Waiting for a lock
// past the deadline of a call is a finding whatever else goes on, and however soon the
// lock may come free: the service made the call wait for another one. Waiting for anything
// else is one only if nothing was ever injected, for a dependency that is disturbed may
// keep those waiting who asked it; and only if dumps show that it goes on for another
// deadline at least, for work may just be slow. And it is none where it may be meant: a
// handler that sleeps, one that waits in a select, which may hold a timer and the end of
// the request, and one whose reply has begun, as that of a stream has.
//
// What counts as checked is the calls that returned in time. Of the late ones dumps show
// only some.
var Hang = &harness.Detector{
	Name:    "hang",
	Doc:     "calls pass their deadline and stand still: at a lock, or while nothing is injected at anything else",
	Needs:   harness.CapAgent,
	Minimum: 20,
	Detect:  hang,
}

func hang(rec *harness.Record) harness.Judgement {
	stuck, answered, inTime := late(rec)
	j := harness.Judgement{Checked: inTime}
	if stuck == 0 {
		return j
	}
	ds := dumps(rec)
	if len(ds) == 0 {
		j.Unsure = append(j.Unsure, "calls stuck, and no two whole goroutine dumps that show where")
	}
	for _, d := range ds {
		if f, found := d.locked(); found {
			add(&j, f)
			return j
		}
	}
	for _, d := range ds {
		for _, f := range d.blocked() {
			if answered > 0 {
				j.Unsure = append(j.Unsure, "a call that was late was being answered, and which goroutine served it cannot be told")
				return j
			}
			add(&j, f)
		}
	}
	return j
}

// late counts the calls that passed their deadline, those of them whose reply had begun
// all the same, and the calls that returned in time. A call that also ignored its end is
// recorded twice.
func late(rec *harness.Record) (stuck, answered, inTime int) {
	lanes := map[string]bool{}
	for _, e := range rec.Events {
		switch {
		case e.Kind == harness.Invoke:
			delete(lanes, e.Lane)
		case e.Kind == harness.Stuck && !lanes[e.Lane]:
			lanes[e.Lane] = true
			stuck++
		case e.Returned() && !lanes[e.Lane]:
			inTime++
		case e.Returned() && e.Args.Int("status") != 0:
			answered++
		}
	}
	return stuck, answered, inTime
}

// pair is two dumps of one process life, taken while a call was stuck.
type pair struct {
	module    string
	disturbed bool          // something was injected before
	deadline  time.Duration // of the call that was stuck
	apart     time.Duration // the dumps
	earlier   *pair         // of the same life, whose after is before; nil for the first
	before    map[int64]stack.Goroutine
	after     map[int64]stack.Goroutine
	ids       []int64           // of those in both, sorted
	children  map[int64][]int64 // in after, by who started them
	lines     []string
	evidence  []uint64
}

func dumps(rec *harness.Record) []*pair {
	var out []*pair
	var stuck, last *harness.Event // last is the dump before, in the same life
	var earlier *pair
	disturbed := false
	for i := range rec.Events {
		switch e := &rec.Events[i]; {
		case e.Kind == harness.Inject:
			disturbed = true
		case e.Kind == harness.Exit && e.Name == harness.Service, e.Kind == harness.Reset:
			stuck, last, earlier = nil, nil, nil
		case e.Kind == harness.Stuck && stuck == nil:
			stuck = e
		case e.Kind == harness.Sample && e.Name == "goroutines" && stuck != nil && whole(e):
			if last != nil {
				p := compare(rec.Build.Module, last.Text, e.Text)
				p.disturbed, p.deadline, p.apart = disturbed, stuck.Args.Duration("after"), e.At-last.At
				p.earlier, p.evidence = earlier, []uint64{stuck.Seq, last.Seq, e.Seq}
				out = append(out, p)
				earlier = p
			}
			last = e
		}
	}
	return out
}

// whole reports whether a dump shows every goroutine: of those that were cut off nothing
// is known, neither who holds a lock nor who is at work.
func whole(dump *harness.Event) bool { return dump.Text != "" && dump.Args.Text("cut") != "true" }

func compare(module, before, after string) *pair {
	p := &pair{module: module, lines: strings.Split(after, "\n")}
	p.before = byID(stack.Goroutines(strings.Split(before, "\n")))
	p.after = byID(stack.Goroutines(p.lines))
	p.children = map[int64][]int64{}
	for _, id := range slices.Sorted(maps.Keys(p.after)) {
		p.children[p.after[id].Parent] = append(p.children[p.after[id].Parent], id)
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

// stands reports whether a goroutine is in all dumps until now where it was in the first.
func (p *pair) stands(id int64) bool {
	for ; p != nil; p = p.earlier {
		if !p.still(id) {
			return false
		}
	}
	return true
}

func (p *pair) own(f stack.Frame) bool { return stack.Own(p.module, f.Func) }

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

// waitsFor says in words what a goroutine in that state waits for.
func waitsFor(state string) string {
	switch {
	case state == "IO wait":
		return "I/O"
	case strings.HasPrefix(state, "chan ") || strings.HasPrefix(state, "select"):
		return "a channel operation"
	case state == "running" || state == "runnable":
		return "work that goes on"
	}
	return "a wait (" + state + ")"
}

// blocked finds handlers that have stood still for another deadline while nothing is
// injected.
func (p *pair) blocked() []harness.Finding {
	var out []harness.Finding
	if p.disturbed || p.apart < p.deadline {
		return nil
	}
	for _, id := range p.ids {
		g := p.after[id]
		what := waitClass(g.State)
		at := slices.IndexFunc(g.Frames, p.own)
		if what == "" || at < 0 || !handles(g) || !p.stands(id) || clients(g.Frames[:at]) || p.busy(id) {
			continue
		}
		fn := g.Frames[at].Func
		out = append(out, harness.Finding{
			Detector:  "hang",
			Signature: fmt.Sprintf("hang: %s in %s", what, fn),
			Title:     fmt.Sprintf("a call waits in %s for %s while nothing is injected, and still does %s later", stack.Short(fn), waitsFor(g.State), p.took()),
			Detail:    p.text([]stack.Goroutine{g}),
			Evidence:  p.evidence,
		})
	}
	return out
}

// busy reports whether a goroutine that another one started, and may be waiting for, does
// something or may go on by itself. So does one that such a goroutine started.
func (p *pair) busy(id int64) bool {
	seen := map[int64]bool{id: true}
	for todo := []int64{id}; len(todo) > 0; todo = todo[1:] {
		for _, child := range p.children[todo[0]] {
			g := p.after[child]
			if slices.ContainsFunc(g.Calls(), p.own) && (!p.stands(child) || waitClass(g.State) == "") {
				return true
			}
			if !seen[child] {
				seen[child] = true
				todo = append(todo, child)
			}
		}
	}
	return false
}

// waitClass names what a handler must not wait for without end; "" for all else.
func waitClass(state string) string {
	switch {
	case strings.HasPrefix(state, "chan ") || state == "select (no cases)":
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

// took is how far the dumps are apart, as it is told.
func (p *pair) took() time.Duration { return p.apart.Round(100 * time.Millisecond) }

// text says what was measured, and quotes the first few of the goroutines.
func (p *pair) text(gs []stack.Goroutine) string {
	const most = 4
	var b strings.Builder
	fmt.Fprintf(&b, "in goroutine dumps %s apart, with a call past its deadline of %s:\n\n", p.took(), p.deadline)
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
