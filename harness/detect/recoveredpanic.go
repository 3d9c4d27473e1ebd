package detect

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/stack"
)

// RecoveredPanic finds panics that the service, its framework or net/http recovered and
// printed: a request was given up where it stood, and what it had begun was left as it was.
var RecoveredPanic = &harness.Detector{
	Name:    "recovered-panic",
	Doc:     "a panic is recovered, and the request it served is given up half done",
	Needs:   harness.CapOutput,
	Minimum: 20,
	Proof:   true,
	Detect:  recoveredPanic,
}

func recoveredPanic(rec *harness.Record) harness.Judgement {
	j := harness.Judgement{Checked: returned(rec)}
	var sent []string
	for _, r := range recoveries(rec) {
		if sent == nil {
			sent = sentValues(rec)
		}
		k, fn := r.kind(sent), stack.Culprit(rec.Build.Module, r.calls)
		add(&j, harness.Finding{
			Detector:  "recovered-panic",
			Signature: fmt.Sprintf("recovered panic: %s: %s", k, fn),
			Title:     fmt.Sprintf("a panic in %s%s was recovered: %s", stack.Short(fn), of(r.proc), k),
			Detail:    r.text(r.first, r.last),
			Evidence:  r.evidence(r.first, r.last),
		})
	}
	return j
}

// recovery is a recovered panic as it was printed.
type recovery struct {
	*stream
	message     string
	calls       []stack.Frame // of the code that panicked
	first, last int           // lines
}

// recoveries returns the recovered panics that were printed. The proof of a panic is the
// frame of the panic builtin on a stack that is not that of a crash; words prove nothing.
func recoveries(rec *harness.Record) []recovery {
	all := streams(rec)
	fell := crashes(rec)
	var out []recovery
	for _, s := range all {
		if s.lane == crashLane || s.lane == raceLane {
			continue
		}
		for _, r := range printedBy(s) {
			r.stream = s
			if !r.aborted() && !slices.ContainsFunc(fell, r.partOf) {
				out = append(out, r)
			}
		}
	}
	return out
}

// aborts reports whether a handler was seen to hang up on purpose.
func aborts(rec *harness.Record) bool {
	for _, s := range streams(rec) {
		if slices.ContainsFunc(printedBy(s), recovery.aborted) {
			return true
		}
	}
	return false
}

func printedBy(s *stream) []recovery {
	var out []recovery
	for _, g := range stack.Goroutines(s.lines) {
		if g.State == "running" && slices.ContainsFunc(g.Frames, stack.Frame.Panic) {
			first, msg := spoken(s.lines, g)
			out = append(out, recovery{message: msg, calls: panicked(g), first: first, last: g.Last})
		}
	}
	for _, r := range stack.Chi(s.lines) {
		out = append(out, recovery{message: r.Message, calls: r.Frames, first: r.First, last: r.Last})
	}
	for _, r := range stack.Gin(s.lines) {
		// Without packages only the place tells whose a frame is: the first one left is the culprit.
		out = append(out, recovery{message: r.Message, calls: r.Frames[:min(1, len(r.Frames))], first: r.First, last: r.Last})
	}
	return out
}

// partOf reports whether r was printed by a crash.
func (r recovery) partOf(c crash) bool {
	return c.proc == r.proc && c.lane == r.lane && c.seqs[c.first] <= r.seqs[r.first] && r.seqs[r.last] <= c.seqs[c.last]
}

// aborted reports whether a handler hung up on purpose.
func (r recovery) aborted() bool { return strings.Contains(r.message, "net/http: abort Handler") }

var (
	spoke = regexp.MustCompile(`(?:http2?: panic serving \S+: |\[PANIC RECOVER\] |\bpanic recovered: |^panic: )(.*)$`)
	// A structured log may hold the words under any key.
	logged = regexp.MustCompile(`"(runtime error: [^"]*)"`)
)

// spoken returns the words that were printed with a stack, and the line where they begin;
// no words where none are found.
func spoken(lines []string, g stack.Goroutine) (first int, msg string) {
	for _, words := range []*regexp.Regexp{spoke, logged} {
		if m := words.FindStringSubmatch(g.Lead); m != nil {
			return g.First, m[1]
		}
	}
	// The words may be of several lines, and a blank one may follow.
	for i := g.First - 1; i >= max(0, g.First-maxMessage); i-- {
		if m := spoke.FindStringSubmatch(lines[i]); m != nil {
			return i, m[1]
		}
		if strings.HasPrefix(lines[i], "created by ") || strings.HasPrefix(lines[i], "\t/") {
			break // another stack
		}
	}
	return g.First, ""
}

// kind returns what the panic was about. Where the runtime raised it, its frames say so.
func (r recovery) kind(sent []string) string {
	for _, f := range r.calls {
		switch name := strings.TrimPrefix(f.Func, "runtime."); {
		case name == "panicmem" || name == "sigpanic" || name == "panicmemAddr":
			return "nil pointer dereference"
		case strings.HasPrefix(name, "goPanicIndex"):
			return "index out of range"
		case strings.HasPrefix(name, "goPanicSlice"):
			return "slice bounds out of range"
		case name == "panicdivide":
			return "integer divide by zero"
		}
	}
	if r.message == "" {
		return "unknown"
	}
	return kind(r.message, sent)
}
