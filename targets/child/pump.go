package child

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/shakedown-go/shakedown/harness"
)

// The bounds of what a child may print.
const (
	maxLine   = 64 << 10 // a longer line is passed on in pieces
	maxOutput = 64 << 20 // of one stream, until Refill; the rest is read and dropped
	tailLines = 20
)

// Output turns what a program prints into events, line by line, within bounds.
type Output struct {
	name string
	emit func(harness.Event)
	book book
	room map[string]*atomic.Int64 // by stream, bytes that will still be passed on: none takes from another's
}

// NewOutput returns the output of a program of that name on so many streams. Emit is called
// from as many goroutines as there are calls of Read.
func NewOutput(name string, emit func(harness.Event), lanes ...string) *Output {
	o := &Output{name: name, emit: emit, room: map[string]*atomic.Int64{}}
	for _, lane := range lanes {
		o.room[lane] = new(atomic.Int64)
	}
	o.Refill()
	return o
}

// Read passes on what comes on a stream until that ends.
func (o *Output) Read(lane string, stream io.Reader) {
	r := bufio.NewReaderSize(stream, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		ends := bytes.HasSuffix(line, []byte("\n"))
		if len(line) > 0 {
			o.line(lane, strings.ToValidUTF8(string(bytes.TrimRight(line, "\r\n")), "\uFFFD"), ends)
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

func (o *Output) line(lane, text string, ends bool) {
	if ends {
		before, seen := o.book.take(lane, text)
		if seen != nil {
			defer close(seen)
			if before == "" {
				return
			}
			text = before
		}
	}
	e := harness.Event{Kind: harness.Output, Step: -1, Lane: lane, Name: o.name, Text: text}
	n := int64(len(text)) + 1
	if room := o.room[lane].Add(-n); room < 0 {
		if room+n < 0 {
			return
		}
		e = Dropped(o.name, lane, maxOutput)
	}
	o.book.note(e.Text)
	o.emit(e)
}

// Refill lets each stream pass on as much again as at the start.
func (o *Output) Refill() {
	for _, room := range o.room {
		room.Store(maxOutput)
	}
}

// Tail returns the last lines that were printed, on all streams.
func (o *Output) Tail() []string { return o.book.tail() }

// Await returns a channel that is closed when a line that ends in token has been read
// from the stream, and all before it has been handed over. The token itself does not
// become an event. Forget ends the waiting.
func (o *Output) Await(lane, token string) (seen <-chan struct{}, forget func()) {
	return o.book.await(lane, token)
}

// Dropped returns the event that takes the place of a stream's output where that has
// become more than so many bytes: all that follows is lost.
func Dropped(name, lane string, bytes int) harness.Event {
	return harness.Event{
		Kind: harness.Output, Step: -1, Lane: lane, Name: name,
		Text: fmt.Sprintf("shakedown: %s has printed more than %d MiB on %s; what follows is dropped", name, bytes>>20, lane),
		Args: harness.Args{{Key: "dropped", Value: harness.Value{Form: harness.FormJSON, Text: "true"}}},
	}
}

// pump is one stream of a child.
type pump struct {
	lane string
	r    *os.File
}

// run ends when the stream does, or at the read deadline.
func (p pump) run(o *Output) {
	defer p.r.Close()
	o.Read(p.lane, p.r)
}

// book keeps what is known about the lines of an output.
type book struct {
	mu     sync.Mutex // guards the rest
	last   []string   // the newest lines
	awaits []awaited
}

type awaited struct {
	lane, token string
	seen        chan struct{}
}

func (b *book) note(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.last) == tailLines {
		b.last = slices.Delete(b.last, 0, 1)
	}
	b.last = append(b.last, line)
}

func (b *book) tail() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.last)
}

func (b *book) await(lane, token string) (<-chan struct{}, func()) {
	a := awaited{lane, token, make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.awaits = append(b.awaits, a)
	return a.seen, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.awaits = slices.DeleteFunc(b.awaits, func(x awaited) bool { return x == a })
	}
}

// take returns what stands before an awaited token, and the channel that is to be closed
// for it; nil where the line holds none.
func (b *book) take(lane, line string) (before string, seen chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, a := range b.awaits {
		if before, found := strings.CutSuffix(line, a.token); found && a.lane == lane {
			b.awaits = slices.Delete(b.awaits, i, i+1)
			return before, a.seen
		}
	}
	return "", nil
}
