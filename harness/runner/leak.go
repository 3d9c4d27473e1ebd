package runner

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/census"
)

// A leak and a pool that fills look alike after one case: something has come to stay. They
// differ when the same is done again: a pool, a cache of clients or a worker that is
// started at its first use has what it needs, and a leak takes more each time. So a case
// after which the service holds more than before is played again in the same process. What
// has grown in four rounds in a row may still be a set that fills one by one: it is pressed,
// in rounds one right after another, until there is more than such a set may hold or it
// does not grow any more. A leak is then given some seconds to end by itself. All of it
// stands in the case's record, a reset between any two rounds.
//
// What leaks out of a pool does not show as long as the pool has more of it. So cases of a
// search in which nothing is injected, and which therefore take little time, are played a
// second time for no reason: the quickest always, and every fourth.

const (
	leakRounds = 4                      // in how many in a row it must grow
	mostRounds = 256                    // of one case
	pressTime  = 15 * time.Second       // for the rounds after these, and for those in which nothing but the heap grows
	lull       = 8                      // of these in a row without growth: it is bounded
	twiceEvery = 4                      // of how many cases without faults of a search one is played twice
	quickTime  = 50 * time.Millisecond  // what takes less always is
	settleTime = 300 * time.Millisecond // after a round, for what the calls began to end
	settleGap  = 20 * time.Millisecond  // between two looks
	lookMore   = 500 * time.Millisecond // how much longer than must be is waited for what has grown to end
	lookGap    = 250 * time.Millisecond // between two looks
	maxLooks   = 3                      // how often the same growth is followed to the end
	heapEvery  = 8                      // of how many cases of a search one has its heap counted: the second, for the first fills what is filled once
	maxLeaks   = 4 << 20                // bytes of a dump in a record
	askTime    = time.Second            // for one answer of the agent
)

// Memory is what sessions know of growth that has been looked into, so that a search does
// not look into it again and again. Its zero value knows nothing. One session at a time
// may use it.
type Memory struct {
	looks map[look]int // so often was it followed to the end
	calm  int          // cases of a search in which nothing was injected
}

// look is growth, and whether anything was injected: what ends by itself where nothing was may
// stay under a fault.
type look struct {
	census.Key
	calm bool
}

// life is a process with what it held when it was seen first, or since then without growing
// any more: that much is no cause to look. It is forgotten with the process, since what leaks
// out of a pool would raise it until nothing above it can be seen.
type life struct {
	pid    int
	counts map[census.Key]int
}

func (l life) raise(k census.Key, n int) { l.counts[k] = max(l.counts[k], n) }

// trail follows what a case leaves behind.
type trail struct {
	*Session
	rec   *recorder
	lanes int
	began time.Time
	calm  bool                // nothing is injected
	heap  bool                // it is counted
	twice bool                // a second round is played for no reason
	round int                 // from 1
	seen  int                 // censuses after a round
	start *census.Census      // before the first round; nil where it is not known
	prev  map[census.Key]int  // at the end of the round before
	since map[census.Key]base // it has grown from census to census
	keys  []census.Key        // what is growing
	press time.Time           // until then rounds are played at once; zero before the first
	most  map[census.Key]int  // of what is growing, meanwhile
	grew  int                 // the round that some of it was last seen to grow in
}

// base is what something has grown from.
type base struct{ seen, count int }

// rounds plays a case, once or more often.
func (s *Session) rounds(ctx context.Context, c harness.Case, rec *recorder) error {
	s.played++
	t := &trail{Session: s, rec: rec, lanes: len(c.Lanes()), began: time.Now(), calm: len(c.Faults()) == 0, since: map[census.Key]base{}, most: map[census.Key]int{}, heap: s.opts.Growth == 1 || s.played%heapEvery == 2}
	t.heap = t.heap && t.follows(census.Heap)
	searching := s.opts.Growth > 1
	if searching && t.calm {
		s.opts.Memory.calm++
		t.twice = s.opts.Memory.calm%twiceEvery == 0
	}
	for {
		t.round++
		p := &play{Session: s, c: c, rec: rec, trail: t, replies: map[string]harness.Reply{}, clients: map[string]harness.Client{}, flying: map[string]int64{}}
		if err := p.run(ctx); err != nil {
			return err
		}
		began := time.Now()
		t.twice = t.twice || searching && t.calm && t.round == 1 && began.Sub(t.began) < quickTime
		more := t.more(ctx)
		s.cost.Look += time.Since(began)
		if !more {
			return ctx.Err() // what was cut short has not shown that nothing stays
		}
		rec.emit(harness.Event{Kind: harness.Reset, Step: -1})
	}
}

// begin takes the census that the first round begins with, before the lanes log in: the
// connections of theirs must not hide what stays.
func (t *trail) begin(ctx context.Context) {
	if t.opts.Growth < 0 || t.round > 1 || t.start != nil {
		return
	}
	c, ok := t.take(ctx, t.heap)
	if !ok {
		return
	}
	t.rec.emit(c.Event(census.Start, 1))
	t.start, t.prev = &c, c.Counts()
	if t.first.pid != c.PID {
		t.first = life{c.PID, c.Counts()}
	}
}

// take asks for a census. False says that there is none to compare with.
func (t *trail) take(ctx context.Context, heap bool) (census.Census, bool) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if !t.target.Build.Caps.Has(harness.CapAgent) {
		return census.Census{}, false
	}
	c, err := census.Take(ctx, t.in, t.target.Links, heap)
	return c, err == nil && !c.Cut && (t.start == nil || t.start.PID == c.PID)
}

// more looks at what a round has left behind, and reports whether another one is to be
// played.
func (t *trail) more(ctx context.Context) bool {
	if t.start == nil || t.worn != "" || t.rec.ended() || ctx.Err() != nil {
		return false
	}
	if t.pressing(ctx) {
		return true
	}
	now, ok := t.settle(ctx)
	if ok && t.heap {
		now, ok = t.take(ctx, true)
	}
	if !ok {
		return false
	}
	t.seen++
	t.rec.emit(now.Event(census.End, t.round))
	counts := now.Counts()
	grown := t.grown(now)
	for _, k := range t.keys {
		if !slices.Contains(grown, k) {
			t.first.raise(k, counts[k])
		}
	}
	for _, k := range grown {
		if _, known := t.since[k]; !known {
			t.since[k] = base{t.seen - 1, t.prev[k]}
		}
	}
	t.keys, t.prev = grown, counts
	t.heap = slices.Contains(t.keys, census.Heap)
	switch {
	case t.round == 1 && t.twice:
		return true
	case len(t.keys) == 0:
		return false
	case t.heap && len(t.keys) == 1:
		return t.swell(ctx, counts[census.Heap])
	}
	dump, ok := t.dump(ctx, census.End)
	if t.opts.Follow == census.Leaked {
		t.keys = slices.DeleteFunc(t.keys, func(k census.Key) bool { return !t.leaked(k, dump) })
	}
	switch {
	case !ok || len(t.keys) == 0:
		return false
	case t.proven(dump):
	case slices.ContainsFunc(t.keys, t.steady):
		t.keys = slices.DeleteFunc(t.keys, func(k census.Key) bool { return !t.steady(k) })
		t.look(ctx, t.patience(dump))
	case t.press.IsZero():
		if slices.ContainsFunc(t.keys, func(k census.Key) bool { return t.streak(k) >= leakRounds }) {
			t.press = time.Now().Add(pressTime)
		}
		return true
	case t.open():
		return true
	}
	for _, k := range t.keys {
		if k != census.Heap { // which was not followed beside others
			t.looked(k, counts[k])
		}
	}
	return false
}

// swell reports whether another round is to be played of a case in which nothing but the heap
// grows, which is so much now. Once that is enough, it asks where it was allocated.
func (t *trail) swell(ctx context.Context, now int) bool {
	if now-t.start.Counts()[census.Heap] < census.HeapTotal {
		if time.Since(t.began) < pressTime && t.rec.roomy() {
			return true
		}
	} else if b, err := t.ask(ctx, "heap"); err == nil { // the finding does without
		t.rec.emit(harness.Event{Kind: harness.Sample, Step: -1, Name: census.Sites, Args: census.Args(census.End, t.round), Text: strings.ToValidUTF8(string(b), "\uFFFD")})
	}
	t.looked(census.Heap, now)
	return false
}

// settle waits a moment for what has grown to end, and returns the last census.
func (t *trail) settle(ctx context.Context) (census.Census, bool) {
	end := time.Now().Add(settleTime)
	for {
		now, ok := t.take(ctx, false)
		if !ok || len(t.grown(now)) == 0 || time.Now().After(end) || !sleep(ctx, settleGap) {
			return now, ok
		}
	}
}

// grown returns what is growing: in the first round all that is new, if there is enough of it
// and it is not known to end growing; in a second that is played anyway, all that is new;
// and else what has grown in the rounds before. Of goroutines that the service's own code has
// started one is enough: that is no pool of a client's.
func (t *trail) grown(now census.Census) []census.Key {
	var out []census.Key
	own := now.Own(t.target.Build.Module)
	for k, n := range census.Grown(t.prev, now.Counts()) {
		if !t.follows(k) {
			continue
		}
		if k == census.Heap {
			if n-t.prev[k] >= census.HeapRound && (t.round == 1 && t.looks(k) < maxLooks || slices.Contains(t.keys, k)) {
				out = append(out, k)
			}
			continue
		}
		least := t.opts.Growth
		if own[k] {
			least = 1
		}
		enough := n-t.first.counts[k] >= least
		if t.round > 1 && slices.Contains(t.keys, k) ||
			(t.round == 1 && enough || t.round == 2 && t.twice) && t.looks(k) < maxLooks {
			out = append(out, k)
		}
	}
	return out
}

// follows reports whether growth of that sort is looked for.
func (t *trail) follows(k census.Key) bool {
	f := t.opts.Follow
	return f == "" || f == k.Sort || f == census.Leaked && k.Sort == census.Goroutine
}

// dump takes the stacks of all goroutines. False says that there are none, and so does the
// record.
func (t *trail) dump(ctx context.Context, when string) (text string, ok bool) {
	e := harness.Event{Kind: harness.Sample, Step: -1, Name: census.Leaks, Args: census.Args(when, t.round)}
	b, err := t.ask(ctx, "leaks")
	if err == nil && len(b) == 0 {
		err = errors.New("it was empty")
	}
	if err != nil {
		e.Args = append(e.Args, harness.Arg{Key: "error", Value: harness.Text(err.Error())})
		t.rec.emit(e)
		return "", false
	}
	if len(b) > maxLeaks { // what is left shows less, and nothing that is not so
		b = b[:bytes.LastIndex(b[:maxLeaks], []byte("\n\n"))+1]
	}
	e.Text = strings.ToValidUTF8(string(b), "\uFFFD")
	t.rec.emit(e)
	return e.Text, true
}

// ask asks the agent in the service.
func (t *trail) ask(ctx context.Context, question string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	a, err := t.in.Agent(harness.Service)
	if err != nil {
		return nil, err
	}
	return a.Ask(ctx, question)
}

// pressing reports whether another round is to be played at once: what grows is not yet more
// than may be kept, and does not seem to have an end.
func (t *trail) pressing(ctx context.Context) bool {
	if t.press.IsZero() {
		return false
	}
	now, ok := t.take(ctx, false)
	if !ok {
		return false
	}
	for k, n := range now.Counts() {
		switch {
		case !slices.Contains(t.keys, k):
		case t.enough(k, n):
			return false
		case n > t.most[k]:
			t.most[k], t.grew = n, t.round
		}
	}
	return t.open()
}

// open reports whether more of what grows may come yet.
func (t *trail) open() bool {
	return t.round-t.grew < lull && t.round < mostRounds && time.Now().Before(t.press) && t.rec.roomy()
}

// steady reports whether something has grown as often in a row as it takes, and to more than
// may be kept.
func (t *trail) steady(k census.Key) bool {
	return k != census.Heap && t.streak(k) >= leakRounds && t.enough(k, t.prev[k])
}

// enough reports whether so much is more than may be kept. Of goroutines it takes some more:
// not all of them stand still when they are looked at.
func (t *trail) enough(k census.Key, n int) bool {
	most := census.Kept(k, t.lanes)
	if k.Sort == census.Goroutine {
		most += most / 4
	}
	return n-t.since[k].count > most
}

// streak is from how many censuses in a row to the next something has grown.
func (t *trail) streak(k census.Key) int { return t.seen - t.since[k].seen }

// leaked reports whether the runtime says of something that is growing, once for each round
// at least, that it can never end.
func (t *trail) leaked(k census.Key, dump string) bool {
	n := 0
	for _, g := range t.start.Stayed(dump)[k] {
		if g.Leaked {
			n++
		}
	}
	return n >= t.streak(k)
}

// proven reports whether nothing is to be waited for: the runtime says so of all that is
// growing, in a second round at least.
func (t *trail) proven(dump string) bool {
	return !slices.ContainsFunc(t.keys, func(k census.Key) bool {
		return k != census.Heap && (t.streak(k) < 2 || !t.leaked(k, dump))
	})
}

// patience is how long it takes to tell whether what has grown stays for good.
func (t *trail) patience(dump string) time.Duration {
	stayed := t.start.Stayed(dump)
	var most time.Duration
	for _, k := range t.keys {
		if k.Sort != census.Goroutine && k != census.Heap {
			return census.LongLook
		}
		for _, g := range stayed[k] {
			look, _ := census.Patience(g.State)
			most = max(most, look)
		}
	}
	return most
}

// look gives what has grown so much time to end.
func (t *trail) look(ctx context.Context, patience time.Duration) {
	end := time.Now().Add(patience + lookMore)
	for {
		now, ok := t.take(ctx, false)
		if !ok {
			return
		}
		counts := now.Counts()
		t.keys = slices.DeleteFunc(t.keys, func(k census.Key) bool {
			if k == census.Heap {
				return true
			}
			gone := counts[k]-t.since[k].count < t.streak(k)
			if gone { // which is an end, too
				t.looked(k, counts[k])
			}
			return gone
		})
		if len(t.keys) == 0 || time.Now().After(end) || !sleep(ctx, lookGap) {
			t.rec.emit(now.Event(census.Late, t.round))
			t.dump(ctx, census.Late)
			return
		}
	}
}

// looks is how often such growth was followed to the end.
func (t *trail) looks(k census.Key) int { return t.opts.Memory.looks[look{k, t.calm}] }

// looked notes that growth was followed to the end.
func (t *trail) looked(k census.Key, n int) {
	m := t.opts.Memory
	if m.looks == nil {
		m.looks = map[look]int{}
	}
	m.looks[look{k, t.calm}]++
	t.first.raise(k, n)
}
