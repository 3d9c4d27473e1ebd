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

func TestOnlyCallsThatWereMadeCountAsMade(t *testing.T) {
	t.Parallel()
	r := &Result{Calls: map[harness.Kind]int{harness.OK: 1, harness.Fail: 2, harness.Unknown: 4, harness.Skip: 8, harness.Stuck: 16}}
	if got := r.Made(); got != 7 {
		t.Errorf("made %d calls, want 7", got)
	}
}
