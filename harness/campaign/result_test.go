package campaign

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
)

// Whatever the instance says of it, the end of a process is judged as what it is.
func TestEpochThatEndsWithAProcessIsCountedAsSuch(t *testing.T) {
	t.Parallel()
	exit := harness.Event{Kind: harness.Exit, Name: harness.Service, Value: 2}
	killed := exit
	killed.Args = harness.Args{{Key: "expected", Value: harness.Text("true")}}
	r := &Result{Worn: map[string]int{}}
	for _, e := range []harness.Event{exit, killed, killed} {
		r.wear(&harness.Record{Events: []harness.Event{e}}, "the service is down")
	}
	if diff := cmp.Diff(map[string]int{Ended: 1, "the service is down": 2}, r.Worn); diff != "" {
		t.Errorf("worn (-want +got):\n%s", diff)
	}
}

func TestFaultOfEachRoundIsCountedByItself(t *testing.T) {
	t.Parallel()
	c, err := harness.ParseCase([]byte("target x\n+ f1 = net/x link=db\n"))
	if err != nil {
		t.Fatal(err)
	}
	event := func(kind harness.Kind, text string, n float64) harness.Event {
		return harness.Event{Kind: kind, Lane: "f1", Text: text, Value: n}
	}
	r := &Result{Faults: map[string]Tally{}}
	r.count(&harness.Record{Case: c, Events: []harness.Event{
		event(harness.Inject, "", 0), event(harness.Heal, "", 0), event(harness.Acted, "bytes", 7),
		{Kind: harness.Reset, Step: -1},
		event(harness.Inject, "", 0), event(harness.Acted, "no such link", 0),
		{Kind: harness.Reset, Step: -1},
		event(harness.Inject, "", 0), event(harness.Heal, "", 0), event(harness.Acted, "bytes", 0),
	}})
	want := map[string]Tally{"net/x link=db": {Injected: 3, Acted: 1, Failed: 1, Why: "no such link"}}
	if diff := cmp.Diff(want, r.Faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestOnlyCallsThatWereMadeCountAsMade(t *testing.T) {
	t.Parallel()
	r := &Result{Calls: map[harness.Kind]int{harness.OK: 1, harness.Fail: 2, harness.Unknown: 4, harness.Skip: 8, harness.Stuck: 16}}
	if got := r.Made(); got != 7 {
		t.Errorf("made %d calls, want 7", got)
	}
}

func TestAimNamesWhatAFaultIsAimedAt(t *testing.T) {
	t.Parallel()
	for _, want := range []string{"net/stall link=db", "proc/kill proc=service", "dep/oom store=cache"} {
		c, err := harness.ParseCase([]byte("target x\n+ f = " + want + " delay=3ms\n"))
		if err != nil {
			t.Fatal(err)
		}
		if got := Aim(c.Steps[0]); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
