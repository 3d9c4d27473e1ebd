package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

func TestLiveLineFitsTheTerminal(t *testing.T) {
	t.Parallel()
	at := time.Unix(0, 0)
	for _, x := range []struct {
		line  string
		width int
		since time.Duration
		want  string
	}{
		{"12s of 2m: 40 cases", 80, 0, "12s of 2m: 40 cases"},
		{"12s of 2m: 40 cases", 80, 14 * time.Second, "12s of 2m: 40 cases (14s ago)"},
		{"12s of 2m: 40 cases", 12, 0, "12s of 2m: "},
		{"12s of 2m: 40 cases", 20, 14 * time.Second, "12s of 2m (14s ago)"},
		{"12s of 2m: 40 cases", 3, 14 * time.Second, " (14s ago)"},
		{"proving \u2713\u2713\u2713\u2713", 11, 0, "proving \u2713\u2713"},
	} {
		var w bytes.Buffer
		p := &progress{w: &w, width: func() int { return x.width }, line: x.line, at: at}
		p.print(at.Add(x.since))
		if got := strings.TrimPrefix(w.String(), "\r\x1b[K"); got != x.want {
			t.Errorf("%q in %d columns after %s: got %q, want %q", x.line, x.width, x.since, got, x.want)
		}
	}
}

func TestProgressIsSaidWhileACaseIsSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w bytes.Buffer
		stop := newProgress(&w, time.Minute).start()
		time.Sleep(25 * time.Second)
		stop()
		time.Sleep(time.Minute)
		if got := w.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "starting (10s ago)") || !strings.Contains(got, "starting (20s ago)") {
			t.Errorf("after 25s: %s", got)
		}
	})
}

func TestEachReplayIsToldOf(t *testing.T) {
	t.Parallel()
	var w bytes.Buffer
	saw := narrate(&w)
	rec := &harness.Record{Case: harness.Case{Steps: make([]harness.Step, 3)}}
	saw(rec, nil)
	saw(rec, []harness.Finding{{Signature: "race: a\x1b | b"}, {Signature: "panic: c"}})
	want := "replay 1, of 3 steps, in 0s: nothing\nreplay 2, of 3 steps, in 0s: race: a. | b and 1 more\n"
	if got := w.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
