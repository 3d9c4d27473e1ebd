package probe

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// maxDump bounds a dump in a record.
const maxDump = 4 << 20

// Goroutines takes two dumps of all goroutines of the service while a call is stuck:
// what stands at the same place in both does not move.
var Goroutines = &harness.Probe{
	Name:   "goroutines",
	Doc:    "the stacks of all goroutines of the service, twice, while a call is stuck",
	Needs:  harness.CapAgent,
	When:   harness.AtStuck,
	Every:  500 * time.Millisecond,
	Times:  2,
	Sample: goroutines,
}

func goroutines(ctx context.Context, w harness.World) ([]harness.Event, error) {
	a, err := w.Agent(harness.Service)
	if err != nil {
		return nil, err
	}
	dump, err := a.Ask(ctx, "goroutines")
	if err != nil {
		return nil, err
	}
	text, cut := bound(dump, maxDump)
	e := harness.Event{Kind: harness.Sample, Step: -1, Name: "goroutines", Text: text}
	if cut {
		e.Args = harness.Args{{Key: "cut", Value: harness.Value{Form: harness.FormJSON, Text: "true"}}}
	}
	return []harness.Event{e}, nil
}

// bound cuts a dump to so many bytes, between two goroutines: they are separated by an
// empty line.
func bound(dump []byte, limit int) (text string, cut bool) {
	if cut = len(dump) > limit; cut {
		dump = dump[:limit]
		dump = dump[:max(bytes.LastIndex(dump, []byte("\n\n")), 0)]
	}
	return strings.ToValidUTF8(string(dump), "\uFFFD"), cut
}
