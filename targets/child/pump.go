package child

import (
	"bufio"
	"bytes"
	"fmt"
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

// pump turns one stream into events, line by line.
type pump struct {
	c    *Child
	lane string
	r    *os.File
	room atomic.Int64 // bytes that will still be passed on: no stream takes from another's
}

func newPump(c *Child, lane string, r *os.File) *pump {
	p := &pump{c: c, lane: lane, r: r}
	p.room.Store(maxOutput)
	return p
}

// run ends when the stream does, or at the read deadline.
func (p *pump) run() {
	defer p.r.Close()
	r := bufio.NewReaderSize(p.r, maxLine)
	for {
		line, err := r.ReadSlice('\n')
		ends := bytes.HasSuffix(line, []byte("\n"))
		if len(line) > 0 {
			p.line(strings.ToValidUTF8(string(bytes.TrimRight(line, "\r\n")), "\uFFFD"), ends)
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

func (p *pump) line(text string, ends bool) {
	if ends {
		before, seen := p.c.book.take(p.lane, text)
		if seen != nil {
			defer close(seen)
			if before == "" {
				return
			}
			text = before
		}
	}
	e := harness.Event{Kind: harness.Output, Step: -1, Lane: p.lane, Name: p.c.name, Text: text}
	n := int64(len(text)) + 1
	if room := p.room.Add(-n); room < 0 {
		if room+n < 0 {
			return
		}
		e = Dropped(p.c.name, p.lane, maxOutput)
	}
	p.c.book.note(e.Text)
	p.c.emit(e)
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

// Refill lets each stream pass on as much again as at the start.
func (c *Child) Refill() {
	for _, p := range c.pumps {
		p.room.Store(maxOutput)
	}
}

// Tail returns the last lines that the child has printed, on all its streams.
func (c *Child) Tail() []string { return c.book.tail() }

// Await returns a channel that is closed when a line that ends in token has been read
// from the stream, and all before it has been handed over. The token itself does not
// become an event. Forget ends the waiting.
func (c *Child) Await(lane, token string) (seen <-chan struct{}, forget func()) {
	return c.book.await(lane, token)
}

// book keeps what is known about the lines of a child.
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
