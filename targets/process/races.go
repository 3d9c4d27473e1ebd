package process

import (
	"bytes"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/child"
)

const (
	raceLane     = "race"
	raceLog      = "race"   // the race detector appends the process id
	maxRaceBytes = 16 << 20 // of the reports of one process life
	maxRaceLine  = 64 << 10 // of one line of them
)

// races reads the reports of the race detector, which writes them to a file for each
// process as it finds them.
type races struct {
	dir  string
	emit func(harness.Event)

	mu    sync.Mutex       // guards the rest, and keeps the lines in order
	at    map[string]int64 // how far each file has been read
	bytes int
	full  bool // the rest is dropped
}

// read emits the lines that are new. A line that is not complete is left for later.
func (r *races) read() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at == nil {
		r.at = map[string]int64{}
	}
	found, _ := filepath.Glob(filepath.Join(r.dir, raceLog+".*"))
	for _, name := range found {
		r.at[name] += 0
	}
	for _, name := range slices.Sorted(maps.Keys(r.at)) {
		r.readFile(name)
	}
}

func (r *races) readFile(name string) {
	f, err := os.Open(name)
	if err != nil {
		return
	}
	defer f.Close()
	// A byte more than there is room for shows that there is more.
	room := maxRaceBytes - r.bytes
	b, err := io.ReadAll(io.NewSectionReader(f, r.at[name], int64(room)+1))
	if err != nil {
		return
	}
	full := len(b) > room
	b = b[:bytes.LastIndexByte(b[:min(len(b), room)], '\n')+1]
	r.at[name] += int64(len(b))
	r.bytes += len(b)
	for line := range strings.Lines(string(b)) {
		line = strings.ToValidUTF8(strings.TrimSuffix(line[:min(len(line), maxRaceLine)], "\n"), "\uFFFD")
		r.emit(harness.Event{Kind: harness.Output, Step: -1, Lane: raceLane, Name: harness.Service, Text: line})
	}
	if full && !r.full {
		r.full = true
		r.emit(child.Dropped(harness.Service, raceLane, maxRaceBytes))
	}
}
