package detect

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
)

// The streams with a meaning of their own.
const (
	crashLane = "crash" // debug.SetCrashOutput
	raceLane  = "race"  // the race runtime's log
)

// maxDetail bounds how many lines of output a finding quotes.
const maxDetail = 400

// stream is what one process printed on one stream, over all its lives.
type stream struct {
	proc, lane string
	lines      []string
	seqs       []uint64 // the event of each line
}

// streams puts the output together, in the order in which streams first spoke.
func streams(rec *harness.Record) []*stream {
	var out []*stream
	for _, e := range rec.Events {
		if e.Kind != harness.Output {
			continue
		}
		i := slices.IndexFunc(out, func(s *stream) bool { return s.proc == e.Name && s.lane == e.Lane })
		if i < 0 {
			i = len(out)
			out = append(out, &stream{proc: e.Name, lane: e.Lane})
		}
		out[i].take(e)
	}
	return out
}

var color = regexp.MustCompile("\x1b\\[[0-9;]*m")

func (s *stream) take(e harness.Event) {
	for line := range strings.SplitSeq(strings.TrimSuffix(e.Text, "\n"), "\n") {
		if strings.Contains(line, "\x1b") {
			line = color.ReplaceAllString(line, "")
		}
		for line := range strings.SplitSeq(unescape(line), "\n") {
			s.lines = append(s.lines, line)
			s.seqs = append(s.seqs, e.Seq)
		}
	}
}

var escapes = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t", `\"`, `"`)

// unescape unfolds a stack that a structured log quoted into one line.
func unescape(line string) string {
	if !strings.Contains(line, `]:\n`) || !strings.Contains(line, "goroutine ") {
		return line
	}
	return escapes.Replace(line)
}

// text quotes lines first to last.
func (s *stream) text(first, last int) string {
	more := last - first + 1 - maxDetail
	if more <= 0 {
		return strings.Join(s.lines[first:last+1], "\n") + "\n"
	}
	return strings.Join(s.lines[first:first+maxDetail], "\n") + fmt.Sprintf("\n... %d more lines\n", more)
}

// evidence returns the events of the first and the last line of a report.
func (s *stream) evidence(first, last int) []uint64 {
	return slices.Compact([]uint64{s.seqs[first], s.seqs[last]})
}
