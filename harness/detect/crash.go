package detect

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/stack"
)

// maxMessage bounds how many lines may stand between the first line of a crash and its
// first stack: the rest of the message, notes on signals.
const maxMessage = 64

// crash is the last words of a process that the Go runtime ended.
type crash struct {
	*stream
	fatal       bool   // a fatal error, else a panic
	message     string // as printed
	stacks      []stack.Goroutine
	first, last int // lines
}

// crashes returns every panic and fatal error that ended a process, each once.
//
// The same crash stands on stderr and on the crash stream, where the latter lacks the
// words "fatal error: ...": the runtime prints them before it knows that it is dying. So
// stderr is read, and the crash stream is the proof that what stands there is no more
// than something the service printed. Without one, the process must have ended as the
// runtime ends it, and only its last such words count.
func crashes(rec *harness.Record) []crash {
	var out []crash
	all := streams(rec)
	for _, proof := range all {
		if proof.lane == crashLane {
			out = append(out, proven(all, proof)...)
		}
	}
	for _, s := range all {
		own := func(t *stream) bool { return t.proc == s.proc && t.lane == crashLane }
		if s.lane != crashLane && s.lane != raceLane && !slices.ContainsFunc(all, own) {
			out = append(out, lastWords(rec, s)...)
		}
	}
	return out
}

// proven returns what other streams say of the crashes on a crash stream, or else the
// crashes as they stand there.
func proven(all []*stream, proof *stream) []crash {
	var out []crash
	stacks := stack.Goroutines(proof.lines)
	for _, s := range all {
		if s == proof || s.proc != proof.proc {
			continue
		}
		for _, c := range candidates(s) {
			if slices.ContainsFunc(stacks, func(g stack.Goroutine) bool { return sameStack(g, c.stacks[0]) }) {
				out = append(out, c)
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	if out = candidates(proof); len(out) == 0 && len(stacks) > 0 {
		last := stacks[len(stacks)-1].Last
		out = []crash{{stream: proof, fatal: true, stacks: stacks, first: stacks[0].First, last: last}}
	}
	return out
}

// sameStack reports whether two prints show one stack.
func sameStack(a, b stack.Goroutine) bool {
	return a.ID == b.ID && slices.EqualFunc(a.Frames, b.Frames, samePlace)
}

func samePlace(a, b stack.Frame) bool { return a.Func == b.Func && a.Line == b.Line }

// lastWords returns, for each life of a process that the runtime may have ended, the
// last crash on the stream.
func lastWords(rec *harness.Record, s *stream) []crash {
	var ends []harness.Event
	for _, e := range rec.Events {
		if e.Kind == harness.Exit && e.Name == s.proc {
			ends = append(ends, e)
		}
	}
	said := map[int]crash{} // by life
	for _, c := range candidates(s) {
		life := 0
		for life < len(ends) && ends[life].Seq < s.seqs[c.first] {
			life++
		}
		if life == len(ends) {
			life-- // output may be read after the exit was seen
		}
		said[life] = c
	}
	var out []crash
	for i, e := range ends {
		// 2 is the runtime's own; it ends itself by a signal where GOTRACEBACK says so.
		if c, ok := said[i]; ok && unexpected(e) && (e.Value == 2 || e.Value >= 128) {
			out = append(out, c)
		}
	}
	return out
}

// candidates returns what looks like a crash: a message at the start of a line, and a
// stack behind it.
func candidates(s *stream) []crash {
	var out []crash
	stacks := stack.Goroutines(s.lines)
	k := 0 // the first stack that begins behind line i
	for i := 0; i < len(s.lines); i++ {
		c := crash{stream: s, first: i}
		if !c.begins(s.lines[i]) {
			continue
		}
		at := afterMessage(s.lines, i)
		for k < len(stacks) && stacks[k].First < i {
			k++
		}
		if k == len(stacks) || stacks[k].First != at || stacks[k].Lead != "" || printed(stacks[k]) {
			continue
		}
		for c.last = i; k < len(stacks) && (c.stacks == nil || stacks[k].First <= c.last+2); k++ {
			c.stacks = append(c.stacks, stacks[k])
			c.last = stacks[k].Last
		}
		out = append(out, c)
		i = c.last
	}
	return out
}

var signal = regexp.MustCompile(`^SIG[A-Z]+: [a-z]`)

// begins reports whether a line is the first of a crash, and takes the message.
func (c *crash) begins(line string) bool {
	msg, panicked := strings.CutPrefix(line, "panic: ")
	fatal := false
	if !panicked {
		msg, fatal = strings.CutPrefix(line, "fatal error: ")
	}
	if !panicked && !fatal && signal.MatchString(line) && !strings.HasPrefix(line, "SIGQUIT") {
		msg, fatal = line, true
	}
	c.message, c.fatal = msg, fatal
	return panicked || fatal
}

// afterMessage returns the index of the line behind the message that begins at i.
func afterMessage(lines []string, i int) int {
	for at := i + 1; at < min(len(lines), i+maxMessage); at++ {
		l := lines[at]
		more := l == "" || l[0] == '\t' || strings.HasPrefix(l, "[signal ") || strings.HasPrefix(l, "PC=") ||
			strings.HasPrefix(l, "signal arrived") || strings.HasPrefix(l, "runtime: ") || strings.HasPrefix(l, "goroutine running")
		if !more {
			return at
		}
	}
	return -1
}

// printed reports whether a program printed its own stack.
func printed(g stack.Goroutine) bool {
	return len(g.Frames) > 0 && (g.Frames[0].Func == "runtime/debug.Stack" || g.Frames[0].Func == "runtime.Stack")
}

// culprit returns the function to name for the crash.
func (c crash) culprit(module string) string {
	if c.kind(nil) == "stack overflow" {
		return recursive(module, c.stacks)
	}
	for _, g := range c.stacks {
		if g.ID != 0 {
			return stack.Culprit(module, panicked(g))
		}
	}
	return "unknown"
}

// kind returns the message as part of a signature.
func (c crash) kind(sent []string) string {
	if c.message == "" {
		return silentKind(c.stacks)
	}
	return kind(c.message, sent)
}

// silentKind says what a fatal error was about whose message is lost.
func silentKind(stacks []stack.Goroutine) string {
	for _, g := range stacks {
		for _, f := range g.Frames {
			switch f.Func {
			case "internal/runtime/maps.fatal":
				return "concurrent map access"
			case "internal/sync.fatal", "sync.fatal":
				return "unlock of unlocked lock"
			case "runtime.newstack":
				return "stack overflow"
			}
		}
	}
	return "unknown"
}

// panicked returns the calls that led to the first panic on a stack: what is above a
// panic frame recovered, cleaned up or panicked again.
func panicked(g stack.Goroutine) []stack.Frame {
	calls := g.Calls()
	for i := len(calls) - 1; i >= 0; i-- {
		if calls[i].Panic() {
			return calls[i+1:]
		}
	}
	return calls
}

// recursive returns the first, by name, of the functions that an endless recursion goes
// through: which of them is the innermost is up to chance.
func recursive(module string, stacks []stack.Goroutine) string {
	for _, g := range stacks {
		if g.ID == 0 {
			continue
		}
		seen := map[string]int{}
		var again []stack.Frame
		for _, f := range g.Frames {
			if seen[f.Func]++; seen[f.Func] == 2 {
				again = append(again, f)
			}
		}
		slices.SortFunc(again, func(a, b stack.Frame) int { return strings.Compare(a.Func, b.Func) })
		if len(again) > 0 {
			return stack.Culprit(module, again)
		}
		return stack.Culprit(module, g.Calls())
	}
	return "unknown"
}

// crashed judges by the crashes of one sort.
func crashed(rec *harness.Record, fatal bool, detector, prefix, what string) harness.Judgement {
	j := harness.Judgement{Checked: returned(rec)}
	var sent []string
	for _, c := range crashes(rec) {
		if c.fatal != fatal {
			continue
		}
		if sent == nil {
			sent = sentValues(rec)
		}
		k, fn := c.kind(sent), c.culprit(rec.Build.Module)
		add(&j, harness.Finding{
			Detector:  detector,
			Signature: fmt.Sprintf("%s: %s: %s", prefix, k, fn),
			Title:     fmt.Sprintf("%s in %s ended the process%s: %s", what, stack.Short(fn), of(c.proc), k),
			Detail:    c.text(c.first, c.last),
			Evidence:  c.evidence(c.first, c.last),
		})
	}
	return j
}
