package stack

import (
	"regexp"
	"strings"
)

// maxReport bounds how many lines a race report may have.
const maxReport = 4096

// Access is one of the two accesses of a data race.
type Access struct {
	Op     string  // "read", "write", "atomic read", "atomic write"; "access" where it is not known
	Frames []Frame // innermost first; none where the runtime could not restore the stack
}

// Race is one report of the race detector.
type Race struct {
	Accesses    [2]Access
	First, Last int // indices of its first and last line
}

var access = regexp.MustCompile(`^(?:Previous )?((?:[Aa]tomic )?(?:[Rr]ead|[Ww]rite)) at 0x[0-9a-f]+ by (?:main goroutine|goroutine \d+)`)

// Races returns the race reports that lines hold, in order. A text that only quotes the
// words of a report is none.
func Races(lines []string) []Race {
	var out []Race
	for i := 0; i < len(lines); i++ {
		if !raceHead(lines[i]) {
			continue
		}
		r, ok := parseRace(lines, i)
		if !ok {
			continue
		}
		out = append(out, r)
		i = r.Last
	}
	return out
}

func raceHead(line string) bool { return strings.TrimRight(line, " \r") == "WARNING: DATA RACE" }

func rule(line string) bool { return strings.TrimRight(line, " \r") == "==================" }

func parseRace(lines []string, head int) (Race, bool) {
	r := Race{First: head, Last: head}
	if head > 0 && rule(lines[head-1]) {
		r.First--
	}
	n := 0          // accesses seen
	var at *Access  // whose frames are being read; nil within the stacks of go statements
	var open *Frame // the frame whose file is on the next line
	for i := head + 1; i < min(len(lines), head+maxReport) && !raceHead(lines[i]); i++ {
		line := strings.TrimRight(lines[i], " \r")
		if rule(line) {
			r.Last = i
			break
		}
		if m := access.FindStringSubmatch(line); m != nil && n < 2 {
			at, open = &r.Accesses[n], nil
			at.Op = strings.ToLower(m[1])
			n++
		} else if strings.HasPrefix(line, "Goroutine ") && strings.HasSuffix(line, "created at:") {
			at, open = nil, nil
		} else if strings.HasPrefix(line, "      ") {
			if open == nil || !open.place(line) {
				continue
			}
			open = nil
		} else if f, ok := parseCall(strings.TrimPrefix(line, "  ")); ok && strings.HasPrefix(line, "  ") {
			if at == nil {
				continue
			}
			at.Frames = append(at.Frames, f)
			open = &at.Frames[len(at.Frames)-1]
		} else if !strings.Contains(line, "[failed to restore the stack]") {
			continue
		}
		r.Last = i
	}
	for i := n; i < 2; i++ {
		r.Accesses[i].Op = "access"
	}
	return r, n > 0
}
