package detect

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/census"
	"github.com/shakedown-go/shakedown/harness/stack"
)

// fullRounds is how often a case must have been played for growth alone to tell a leak from
// a pool: what fills up with the first round, or the second, stops growing.
const fullRounds = 4

// trail is what the samples of a record say that a case has left behind, in the process
// that played it.
type trail struct {
	module string
	start  census.Census
	counts []map[census.Key]int // at the start, and after each round
	seqs   []uint64             // of the censuses
	end    stacks               // after the last round
	late   stacks               // some seconds later; its lines are nil where there is none
	last   map[census.Key]int   // counted with it
	calls  int                  // that returned in all rounds
	lanes  int
}

// stacks is the stacks of all goroutines at one moment.
type stacks struct {
	at    time.Duration
	seq   uint64
	text  string
	lines []string
}

// trailOf reads the censuses of a record; nil where no round was counted from its start to
// its end in one process.
func trailOf(rec *harness.Record) *trail {
	var t *trail
	for _, e := range rec.Events {
		if t != nil && len(t.counts) > 1 && e.Kind == harness.Exit && e.Name == harness.Service {
			break // what was counted until then counts
		}
		c, counted := census.Read(e)
		when := e.Args.Text("when")
		switch {
		case e.Kind == harness.Exit && e.Name == harness.Service:
			t = nil
		case counted && when == census.Start:
			t = &trail{module: rec.Build.Module, start: c, counts: []map[census.Key]int{c.Counts()}, seqs: []uint64{e.Seq}}
		case t == nil:
		case e.Name == census.Leaks && e.Args.Text("error") != "":
			t = nil // what had grown was not looked into
		case counted && c.PID != t.start.PID:
			t = nil
		case counted && when == census.End:
			t.counts, t.seqs = append(t.counts, c.Counts()), append(t.seqs, e.Seq)
		case counted && when == census.Late:
			t.last, t.seqs = c.Counts(), append(t.seqs, e.Seq)
		case e.Kind == harness.Sample && e.Name == census.Leaks && e.Text != "":
			d := stacks{e.At, e.Seq, e.Text, strings.Split(e.Text, "\n")}
			if when == census.Late {
				t.late = d
			} else {
				t.end = d
			}
		case e.Returned():
			t.calls++
		}
	}
	if t == nil || len(t.counts) < 2 {
		return nil
	}
	t.lanes = len(rec.Case.Lanes())
	return t
}

// rounds is how often the case was played.
func (t *trail) rounds() int { return len(t.counts) - 1 }

// streak is after how many rounds in a row, to the last, there was more of something than
// before. What leaks out of a pool does not show until the pool is used up.
func (t *trail) streak(k census.Key) int {
	n := 0
	for i := t.rounds(); i > 0 && t.counts[i][k] > t.counts[i-1][k]; i-- {
		n++
	}
	return n
}

// more is how much more there is of something than before it began to grow.
func (t *trail) more(k census.Key) int { return t.last[k] - t.counts[t.rounds()-t.streak(k)][k] }

// least is how much more there must be of something for growth alone to show a leak: one for
// each round in which it grew, and more than may be kept.
func (t *trail) least(k census.Key) int { return max(t.streak(k), census.Kept(k, t.lanes)+1) }

// growing returns what grew in at least so many rounds, in a stable order.
func (t *trail) growing(sort string, rounds int) []census.Key {
	var out []census.Key
	for k := range t.counts[t.rounds()] {
		if k.Sort == sort && t.streak(k) >= rounds {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b census.Key) int {
		return cmp.Or(strings.Compare(a.By, b.By), strings.Compare(a.Name, b.Name))
	})
	return out
}

// lasting returns what grew in as many rounds as it takes to tell a leak from a pool, and
// was still there after the long look: at least one for each of these rounds, and more than
// callers explain.
func (t *trail) lasting(sort string) []census.Key {
	if t.last == nil || t.late.at-t.end.at < census.LongLook {
		return nil
	}
	return slices.DeleteFunc(t.growing(sort, fullRounds), func(k census.Key) bool { return t.more(k) < t.least(k) })
}

// evidence returns the events that show growth.
func (t *trail) evidence() []uint64 {
	out := slices.Clone(t.seqs)
	for _, d := range []stacks{t.end, t.late} {
		if d.seq != 0 {
			out = append(out, d.seq)
		}
	}
	slices.Sort(out)
	return out
}

// maxSeries bounds how many counts are written down.
const maxSeries = 16

// series writes down how much there was of something at the start and after each round.
func (t *trail) series(k census.Key) string {
	var out []string
	for _, c := range t.counts {
		out = append(out, fmt.Sprint(c[k]))
	}
	if n := len(out); n > maxSeries {
		out = slices.Concat(out[:maxSeries/2], []string{"..."}, out[n-maxSeries/2:])
	}
	s := fmt.Sprintf("there were %s before the first call, and %s after each round of the same case", out[0], strings.Join(out[1:], ", "))
	if t.last != nil {
		s += fmt.Sprintf(", and %d were left %s later", t.last[k], (t.late.at - t.end.at).Round(time.Second))
	}
	return s
}

// sort is goroutines that stay at one place and came from one.
type sort struct {
	site  string // the function of the service that they are to be laid to
	state string
	gs    []stack.Goroutine
}

// sorts tells goroutines of one key apart by what is to blame for them, and by what they
// wait for.
func (t *trail) sorts(gs []stack.Goroutine) []sort {
	found := map[[2]string]*sort{}
	for _, g := range gs {
		k := [2]string{t.site(g), g.State}
		if found[k] == nil {
			found[k] = &sort{site: k[0], state: k[1]}
		}
		found[k].gs = append(found[k].gs, g)
	}
	var out []sort
	for _, k := range slices.SortedFunc(maps.Keys(found), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		out = append(out, *found[k])
	}
	return out
}

// site names the function of the service with the go statement; where a library has started
// the goroutine, the innermost one of the service on its stack; and where there is none, the
// library's own.
func (t *trail) site(g stack.Goroutine) string {
	if !stack.Own(t.module, g.Creator.Func) {
		for _, f := range g.Frames {
			if stack.Own(t.module, f.Func) {
				return f.Func
			}
		}
	}
	return cmp.Or(g.Creator.Func, "unknown")
}

// where names the function in which a goroutine waits, as its service sees it.
func (t *trail) where(g stack.Goroutine) string {
	return stack.Short(stack.Culprit(t.module, g.Frames))
}

// quote says what was counted, and shows one of the goroutines.
func (t *trail) quote(k census.Key, d stacks, g stack.Goroutine) string {
	return t.series(k) + "\n\none of those that stay:\n\n" + strings.Join(d.lines[g.First:g.Last+1], "\n") + "\n"
}
