package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
	"github.com/shakedown-go/shakedown/harness/report"
)

// slow is how long a case may take before its line says how old it is.
const slow = 2 * time.Second

// progress is one live line on a terminal, or one line every ten seconds elsewhere,
// however slow a case may be.
type progress struct {
	w      io.Writer
	width  func() int // of the terminal; nil where there is none
	budget time.Duration
	log    *slog.Logger

	mu   sync.Mutex // guards the rest, and what is written to a terminal
	line string     // on all that was played so far
	at   time.Time  // when that was so
}

func newProgress(w io.Writer, budget time.Duration) *progress {
	p := &progress{w: w, budget: budget, log: slog.New(slog.NewTextHandler(w, nil)), line: "starting", at: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.width = func() int {
			columns, _, err := term.GetSize(int(f.Fd()))
			if err != nil || columns <= 0 {
				return 80
			}
			return columns
		}
	}
	return p
}

// start prints the line again and again until stop is called.
func (p *progress) start() (stop func()) {
	every := 10 * time.Second
	if p.width != nil {
		every = 200 * time.Millisecond
	}
	done := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case now := <-t.C:
				p.print(now)
			}
		}
	})
	return func() {
		close(done)
		ticking.Wait()
		p.around(func() {})
	}
}

// tick is told of every case and every replay.
func (p *progress) tick(r *campaign.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line, p.at = report.Progress(r, p.budget), time.Now()
}

// say is told how far something is that is no campaign.
func (p *progress) say(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line, p.at = line, time.Now()
}

func (p *progress) print(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	age := ""
	if d := now.Sub(p.at); d > slow {
		age = fmt.Sprintf(" (%s ago)", d.Round(time.Second))
	}
	if p.width == nil {
		p.log.Info(p.line + age)
		return
	}
	// A line that wraps could not be taken away again.
	fmt.Fprintf(p.w, "\r\x1b[K%s%s", fit(p.line, p.width()-1-len(age)), age)
}

// around prints something else where the live line was.
func (p *progress) around(print func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.width != nil {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	print()
}

// fit cuts a line to so many columns.
func fit(s string, columns int) string {
	r := []rune(s)
	return string(r[:min(len(r), max(columns, 0))])
}

// narrate returns what says of each replay, when it is done, what it showed.
func narrate(w io.Writer) func(*harness.Record, []harness.Finding) {
	n, began := 0, time.Now()
	return func(rec *harness.Record, found []harness.Finding) {
		n++
		shown := "nothing"
		if len(found) > 0 {
			shown = report.Clean(found[0].Signature)
		}
		if more := len(found) - 1; more > 0 {
			shown += fmt.Sprintf(" and %d more", more)
		}
		fmt.Fprintf(w, "replay %d, of %d steps, in %s: %s\n", n, len(rec.Case.Steps), time.Since(began).Round(10*time.Millisecond), shown)
		began = time.Now()
	}
}
