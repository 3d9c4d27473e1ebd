package zzshakedown

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"sort"
	"strconv"
	"strings"
)

// group is the goroutines that one go statement has started with one function.
type group struct {
	By   string  `json:"by,omitempty"` // the function with the go statement; none for main's
	Root string  `json:"root"`         // the outermost function on its stack
	IDs  []int64 `json:"ids"`
}

// census says what the process holds: goroutines by where they came from, open files by
// kind, and where that is asked for, the heap that is in use. The agent's own goroutines are
// left out.
func census(heap bool) []byte {
	dump := goroutines(64 << 10) // small: it is asked often
	out := struct {
		PID        int            `json:"pid"`
		Goroutines []*group       `json:"goroutines"`
		Files      map[string]int `json:"files,omitempty"`
		Heap       uint64         `json:"heap,omitempty"`
		Cut        bool           `json:"cut,omitempty"` // there are more goroutines than are read
	}{PID: os.Getpid(), Cut: len(dump) >= maxDump}
	known := map[string]*group{}
	for len(dump) > 0 {
		end := bytes.Index(dump, []byte("\n\n"))
		one := dump
		if dump = nil; end >= 0 {
			one, dump = one[:end], one[end+2:]
		}
		id, by, root := origin(one)
		if id == 0 || strings.Contains(by, "/zzshakedown.") {
			continue
		}
		key := by + " " + root
		g := known[key]
		if g == nil {
			g = &group{By: by, Root: root}
			known[key] = g
			out.Goroutines = append(out.Goroutines, g)
		}
		g.IDs = append(g.IDs, id)
	}
	out.Files = files()
	if heap {
		out.Heap = live()
	}
	text, err := json.Marshal(out)
	if err != nil {
		return nil // nothing in there can fail
	}
	return text
}

// origin reads a goroutine's number and, of the last lines, who started it with what. It
// looks at no line in between: there may be many.
func origin(one []byte) (id int64, by, root string) {
	if !bytes.HasPrefix(one, []byte("goroutine ")) {
		return 0, "", ""
	}
	head := one[len("goroutine "):]
	if i := bytes.IndexByte(head, ' '); i > 0 {
		id, _ = strconv.ParseInt(string(head[:i]), 10, 64)
	}
	one = bytes.TrimRight(one, "\n")
	for {
		i := bytes.LastIndexByte(one, '\n')
		if i < 0 {
			return id, by, root
		}
		line := one[i+1:]
		one = one[:i]
		if len(line) == 0 || line[0] == '\t' {
			continue
		}
		if bytes.HasPrefix(line, []byte("created by ")) {
			by = string(line[len("created by "):])
			if i := strings.Index(by, " in goroutine "); i >= 0 {
				by = by[:i]
			}
			continue
		}
		if i := bytes.LastIndexByte(line, '('); i > 0 {
			line = line[:i]
		}
		return id, by, string(line)
	}
}

// files counts the open files of the process by kind; nil where the system does not say.
func files() map[string]int {
	const dir = "/proc/self/fd"
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil
	}
	out := map[string]int{}
	for _, name := range names {
		to, err := os.Readlink(dir + "/" + name)
		switch {
		case err != nil: // closed meanwhile
		case strings.HasPrefix(to, "socket:"):
			out["socket"]++
		case strings.HasPrefix(to, "pipe:"):
			out["pipe"]++
		case strings.HasPrefix(to, "anon_inode:"):
			out["other"]++
		default:
			out["file"]++
		}
	}
	return out
}

// leaks returns the stacks of all goroutines, as goroutines does. A runtime that can tell
// marks those that nobody can wake any more.
func leaks() []byte {
	p := pprof.Lookup("goroutineleak")
	if p == nil {
		return goroutines(1 << 20)
	}
	var b bytes.Buffer
	if p.WriteTo(&b, 2) != nil || b.Len() == 0 {
		return goroutines(1 << 20)
	}
	if b.Len() > maxDump {
		b.Truncate(maxDump)
	}
	return b.Bytes()
}

// live returns how many bytes of the heap are in use: what two collections in a row have
// left, since pools keep what they hold over one.
func live() uint64 {
	runtime.GC()
	runtime.GC()
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	if metrics.Read(sample); sample[0].Value.Kind() == metrics.KindUint64 {
		return sample[0].Value.Uint64()
	}
	var m runtime.MemStats // before Go 1.21
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// maxSites bounds how many places are told that the heap was allocated at.
const maxSites = 5

// heap returns where most of the heap that is in use was allocated, most first: a line each,
// with the bytes and the functions, innermost first.
func heap() []byte {
	live()
	n, _ := runtime.MemProfile(nil, false)
	records := make([]runtime.MemProfileRecord, n+64)
	n, ok := runtime.MemProfile(records, false)
	if !ok {
		return nil
	}
	records = records[:n]
	sort.Slice(records, func(i, j int) bool { return records[i].InUseBytes() > records[j].InUseBytes() })
	var b bytes.Buffer
	for i := 0; i < len(records) && i < maxSites; i++ {
		fmt.Fprint(&b, records[i].InUseBytes())
		frames := runtime.CallersFrames(records[i].Stack())
		for more := true; more; {
			var f runtime.Frame
			if f, more = frames.Next(); f.Function != "" {
				b.WriteByte(' ')
				b.WriteString(f.Function)
			}
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}
