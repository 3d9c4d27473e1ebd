package probe

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/shakedown-go/shakedown/harness"
)

// world has one agent, in the service.
type world struct {
	harness.World
	answer string
	err    error
}

func (w world) Agent(proc string) (harness.Agent, error) {
	if proc != "service" {
		return nil, errors.New("no such process")
	}
	return w, nil
}

func (w world) Ask(_ context.Context, question string) ([]byte, error) {
	if question != "goroutines" {
		return nil, errors.New("no such question")
	}
	return []byte(w.answer), w.err
}

func TestGoroutinesIsOneSample(t *testing.T) {
	t.Parallel()
	const dump = "goroutine 1 [running]:\nmain.main()\n"
	events, err := Goroutines.Sample(t.Context(), world{answer: dump})
	if err != nil || len(events) != 1 {
		t.Fatalf("got %v, %v", events, err)
	}
	if e := events[0]; e.Kind != harness.Sample || e.Name != "goroutines" || e.Text != dump || e.Args != nil {
		t.Errorf("got %+v", e)
	}
	want := errors.New("no answer")
	if _, err := Goroutines.Sample(t.Context(), world{err: want}); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestLargeDumpIsCutBetweenGoroutines(t *testing.T) {
	t.Parallel()
	one := "goroutine 1 [running]:\nmain.main()\n\n"
	dump := strings.Repeat(one, maxDump/len(one)+10)
	events, err := Goroutines.Sample(t.Context(), world{answer: dump})
	if err != nil {
		t.Fatal(err)
	}
	e := events[0]
	if len(e.Text) > maxDump || len(e.Text) < maxDump-2*len(one) || !strings.HasSuffix(e.Text, "main.main()") || e.Args.Text("cut") != "true" {
		t.Errorf("%d bytes, args %v, end %q", len(e.Text), e.Args, e.Text[len(e.Text)-50:])
	}
	for _, tt := range []struct {
		dump, want string
		cut        bool
	}{
		{"", "", false},
		{"a\n\nb", "a\n\nb", false},
		{"a\n\nbcd", "a", true},
		{"abcdef", "", true},
		{"a\xff", "a\uFFFD", false},
	} {
		if got, cut := bound([]byte(tt.dump), 4); got != tt.want || cut != tt.cut {
			t.Errorf("bound(%q, 4) = %q, %v; want %q, %v", tt.dump, got, cut, tt.want, tt.cut)
		}
	}
}

func TestAllProbesSayWhatTheyAre(t *testing.T) {
	t.Parallel()
	for _, p := range All() {
		if p.Name == "" || p.Doc == "" || p.Sample == nil {
			t.Errorf("%+v", p)
		}
	}
}
