// Package stack reads the stacks that Go programs print: goroutine dumps, the traces of
// panics and fatal errors, race reports, and what common middlewares make of them.
//
// What is read was printed by a program under test: other lines may stand between those
// of a report, and a report may be cut. The parsers take what they recognize, never fail
// and need time in proportion to the number of lines.
package stack

import (
	"regexp"
	"strconv"
	"strings"
)

// maxNoise is how many foreign lines in a row a trace survives.
const maxNoise = 8

// Frame is one call on a stack.
type Frame struct {
	Func string // package path and function, type arguments shortened to [...]
	Args string // as printed, without the parentheses; "" or "..." where they are not known
	File string
	Line int
}

// Panic reports whether the frame is that of the panic builtin: the frames behind it are
// those of the code that panicked.
func (f Frame) Panic() bool {
	return f.Func == "runtime.gopanic" || f.Func == "panic" && strings.HasSuffix(f.File, "runtime/panic.go")
}

// Goroutine is the stack of one goroutine.
type Goroutine struct {
	ID      int64   // 0 for the stack of the runtime itself
	State   string  // why it waits: "running", "chan receive", "sync.Mutex.Lock"
	Leaked  bool    // the runtime says that nobody can wake it any more
	Frames  []Frame // innermost first
	Creator Frame   // the go statement; zero where none is printed
	Parent  int64   // the goroutine of the go statement; 0 where it is not known
	Lead    string  // what stood on the header's line before the header
	First   int     // index of the header's line
	Last    int     // index of the last line
}

// Calls returns the frames and, behind them, the creator.
func (g Goroutine) Calls() []Frame {
	if g.Creator.Func == "" {
		return g.Frames
	}
	return append(g.Frames[:len(g.Frames):len(g.Frames)], g.Creator)
}

var header = regexp.MustCompile(`goroutine (\d+)(?: gp=\S+ m=\S+(?: mp=\S+)?)? \[([^\[\]]*)\](?: \{.*\})?:$`)

// Goroutines returns the stacks that lines hold, in order.
func Goroutines(lines []string) []Goroutine {
	var out []Goroutine
	for i := 0; i < len(lines); i++ {
		g, ok := parseHeader(lines[i])
		if !ok {
			continue
		}
		g.First, g.Last = i, i
		g.read(lines)
		out = append(out, g)
		i = g.Last
	}
	return out
}

func parseHeader(line string) (Goroutine, bool) {
	line = strings.TrimRight(line, " \r")
	if line == "runtime stack:" {
		return Goroutine{State: "running"}, true
	}
	if !strings.HasSuffix(line, ":") || !strings.Contains(line, "goroutine ") {
		return Goroutine{}, false
	}
	m := header.FindStringSubmatchIndex(line)
	if m == nil {
		return Goroutine{}, false
	}
	id, err := strconv.ParseInt(line[m[2]:m[3]], 10, 64)
	if err != nil {
		return Goroutine{}, false
	}
	// "chan receive, 2 minutes, locked to thread" and "chan receive (leaked)": the reason comes first.
	state, _, _ := strings.Cut(line[m[4]:m[5]], ",")
	state, leaked := strings.CutSuffix(strings.TrimSuffix(state, " (scan)"), " (leaked)")
	return Goroutine{ID: id, State: state, Leaked: leaked, Lead: line[:m[0]]}, true
}

// read takes the lines behind the header.
func (g *Goroutine) read(lines []string) {
	noise := 0
	var open *Frame // the frame whose file is on the next line
	for i := g.First + 1; i < len(lines) && noise < maxNoise; i++ {
		line := strings.TrimRight(lines[i], " \r")
		if line == "" {
			return
		}
		if _, next := parseHeader(line); next {
			return
		}
		noise++
		if by, ok := strings.CutPrefix(line, "created by "); ok {
			g.created(by)
			open = &g.Creator
		} else if line[0] == '\t' {
			if open == nil || !open.place(line) {
				continue
			}
			open = nil
		} else if f, ok := parseCall(line); ok {
			g.Frames = append(g.Frames, f)
			open = &g.Frames[len(g.Frames)-1]
		} else if !strings.HasSuffix(line, "frames elided...") {
			continue
		}
		noise, g.Last = 0, i
	}
}

func (g *Goroutine) created(by string) {
	name, parent, found := strings.Cut(by, " in goroutine ")
	if found {
		g.Parent, _ = strconv.ParseInt(parent, 10, 64)
	}
	g.Creator.Func = Shorten(name)
}

// parseCall reads "main.(*T).m(0xc000, {0x1, 0x2})".
func parseCall(line string) (Frame, bool) {
	open := strings.LastIndexByte(line, '(')
	if open <= 0 || !strings.HasSuffix(line, ")") {
		return Frame{}, false
	}
	f := Frame{Func: Shorten(line[:open]), Args: line[open+1 : len(line)-1]}
	if strings.ContainsAny(f.Func, " \t\r\"'{}=:,;<>") || f.Func != "panic" && !strings.Contains(f.Func, ".") {
		return Frame{}, false
	}
	return f, true
}

// place reads "\t/src/shop/main.go:12 +0x1d fp=0x7f sp=0x7f".
func (f *Frame) place(line string) bool {
	line, _, _ = strings.Cut(strings.TrimSpace(line), " +0x")
	colon := strings.LastIndexByte(line, ':')
	if colon <= 0 {
		return false
	}
	n, err := strconv.Atoi(line[colon+1:])
	if err != nil {
		return false
	}
	f.File, f.Line = line[:colon], n
	return true
}

// Shorten replaces type arguments by [...], as the runtime does and race reports do not.
func Shorten(name string) string {
	if !strings.Contains(name, "[") {
		return name
	}
	var b strings.Builder
	depth := 0
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '[':
			if depth == 0 {
				b.WriteString("[...")
			}
			depth++
		case c == ']' && depth > 0:
			depth--
			if depth == 0 {
				b.WriteByte(']')
			}
		case depth == 0:
			b.WriteByte(c)
		}
	}
	return b.String()
}
