package stack

import "strings"

// Recovered is a panic that a middleware recovered and printed in a format of its own.
type Recovered struct {
	Message     string
	Frames      []Frame // of the code that panicked, innermost first; Func may lack its package
	First, Last int     // indices of its first and last line
}

// Gin returns the panics that gin's Recovery printed. It names functions without their
// packages and does not mark whose they are, so Frames leaves out what stands below
// GOROOT or in a module cache.
func Gin(lines []string) []Recovered {
	var out []Recovered
	for i := 0; i < len(lines); i++ {
		if !strings.Contains(lines[i], "[Recovery]") || !strings.Contains(lines[i], "panic recovered:") {
			continue
		}
		r := Recovered{First: i, Last: i}
		goroot, below := "", false // below the panic builtin
		for j := i + 1; j < len(lines) && j-r.Last <= 4*maxNoise; j++ {
			f, ok := ginPlace(lines[j])
			if !ok {
				// A dump of the request may come first; the value is the last line before the stack.
				if line := strings.TrimSpace(lines[j]); line != "" && r.Last == i {
					r.Message = line
				} else if line == "" && r.Last > i {
					break
				}
				continue
			}
			r.Last = j
			if j+1 < len(lines) && strings.HasPrefix(lines[j+1], "\t") {
				f.Func, _, _ = strings.Cut(strings.TrimSpace(lines[j+1]), ": ")
				j++
				r.Last = j
			}
			if root, at := strings.CutSuffix(f.File, "runtime/panic.go"); at {
				goroot, below, r.Frames = root, true, nil // what stood before is the recovering code
			}
			if goroot == "" {
				goroot = "runtime/" // built with -trimpath: at least the runtime can be told
			}
			if below && strings.HasPrefix(f.File, goroot) || thirdParty(f.File) {
				continue
			}
			r.Frames = append(r.Frames, f)
		}
		if r.Last > i {
			out = append(out, r)
			i = r.Last
		}
	}
	return out
}

// ginPlace reads "/src/shop/main.go:12 (0xaf69da)".
func ginPlace(line string) (Frame, bool) {
	place, pc, found := strings.Cut(strings.TrimRight(line, "\r"), " (0x")
	if !found || !strings.HasSuffix(pc, ")") || strings.HasPrefix(line, "\t") {
		return Frame{}, false
	}
	var f Frame
	return f, f.place(place)
}

func thirdParty(file string) bool {
	return strings.Contains(file, "/pkg/mod/") || strings.Contains(file, "/vendor/") || strings.Contains(file, "@v")
}

// Chi returns the panics that chi's Recoverer printed.
func Chi(lines []string) []Recovered {
	var out []Recovered
	for i := 0; i < len(lines); i++ {
		msg, ok := strings.CutPrefix(lines[i], " panic: ")
		if !ok {
			continue
		}
		r := Recovered{Message: msg, First: i, Last: i}
		marked := false // the line with the arrow is what makes it chi's
		for j := i + 1; j+1 < len(lines) && j-r.Last <= maxNoise; j++ {
			name, arrow := strings.CutPrefix(lines[j], " -> ")
			if !arrow {
				name, ok = strings.CutPrefix(lines[j], "    ")
				if !ok || strings.HasPrefix(name, " ") || strings.HasPrefix(name, "created by ") {
					continue
				}
			}
			f := Frame{Func: Shorten(strings.TrimSpace(name))}
			if !f.place(strings.TrimLeft(lines[j+1], " ->")) {
				continue
			}
			marked = marked || arrow
			r.Frames = append(r.Frames, f)
			j++
			r.Last = j
		}
		if marked {
			out = append(out, r)
			i = r.Last
		}
	}
	return out
}
