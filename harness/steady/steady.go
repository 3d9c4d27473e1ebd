// Package steady is the form in which a record holds what was seen of a target's steady
// state: the runner writes it, detectors and results read it.
package steady

import (
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Sample is the name of the events.
const Sample = "steady"

// Moment says when a check was looked at.
type Moment string

// The moments.
const (
	Before Moment = "before" // the first step of a case, or of what follows a reset in it
	After  Moment = "after"  // what was in force was healed
	Anew   Moment = "anew"   // then the stores were reset, since it did not hold After
)

// Seen is what was seen of one check.
type Seen struct {
	Check  string
	Moment Moment
	Held   bool
	Took   time.Duration // from that moment until it held, or was given up
	Why    string        // what was seen instead, where it did not hold
}

// Event returns the event that says so; err is what was seen instead.
func Event(check string, m Moment, took time.Duration, err error) harness.Event {
	e := harness.Event{Kind: harness.Sample, Step: -1, Name: Sample, Args: harness.Args{
		{Key: "check", Value: harness.Text(check)},
		{Key: "when", Value: harness.Text(string(m))},
		{Key: "took", Value: harness.Text(took.String())},
	}}
	if err != nil {
		e.Text = err.Error()
		e.Args = append(e.Args, harness.Arg{Key: "held", Value: harness.Value{Form: harness.FormJSON, Text: "false"}})
	}
	return e
}

// Parse reads an event; false says that it is none of these.
func Parse(e harness.Event) (Seen, bool) {
	if e.Kind != harness.Sample || e.Name != Sample {
		return Seen{}, false
	}
	took, err := time.ParseDuration(e.Args.Text("took"))
	return Seen{
		Check:  e.Args.Text("check"),
		Moment: Moment(e.Args.Text("when")),
		Held:   e.Args.Text("held") != "false",
		Took:   took,
		Why:    e.Text,
	}, err == nil
}
