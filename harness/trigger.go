package harness

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

// Trigger has an injection wait until something has been counted so often. Its text is what
// stands behind when= in a case: "inflight:pay>=2", "calls:GET /items/{id}", "bytes:db>=4096".
// The zero Trigger waits for nothing.
type Trigger struct {
	Counter Counter
	Of      string // the op, by its name or route, or the link; "" is all ops
	Least   int64  // that the counter must reach, from 1
}

// Counter is what a trigger counts.
type Counter string

// The counters.
const (
	CountCalls    Counter = "calls"    // that were about to be written since the step's turn
	CountInFlight Counter = "inflight" // calls that are under way
	CountBytes    Counter = "bytes"    // that have passed a link, both ways, since the step's turn
)

var trigger = regexp.MustCompile(`^(calls|inflight|bytes)(?::([^>]*))?(?:>=([0-9]+))?$`)

// ParseTrigger reads what Trigger.String writes.
func ParseTrigger(text string) (Trigger, error) {
	m := trigger.FindStringSubmatch(text)
	if m == nil {
		return Trigger{}, fmt.Errorf("a trigger is calls, inflight or bytes, of what and how many, such as calls:pay>=3, inflight>=2 or bytes:db>=4096")
	}
	t := Trigger{Counter(m[1]), m[2], 1}
	if m[3] != "" {
		var err error
		if t.Least, err = strconv.ParseInt(m[3], 10, 64); err != nil || t.Least < 1 {
			return Trigger{}, fmt.Errorf("a trigger waits for a number from 1, not for %s", m[3])
		}
	}
	if t.Counter == CountBytes && t.Of == "" {
		return Trigger{}, fmt.Errorf("bytes of which link? such as bytes:db>=4096")
	}
	return t, nil
}

// String returns the trigger as in a case; "" for the zero Trigger.
func (t Trigger) String() string {
	text := string(t.Counter)
	if t.Of != "" {
		text += ":" + t.Of
	}
	if t.Least > 1 {
		text += ">=" + strconv.FormatInt(t.Least, 10)
	}
	return text
}

// Counts reports whether a call of the op counts.
func (t Trigger) Counts(op *Op) bool {
	return t.Counter != CountBytes && (t.Of == "" || op != nil && (t.Of == op.Name || t.Of == op.Route))
}

// Check says what the trigger names that a target does not have.
func (t Trigger) Check(target *Target) error {
	var names []string
	switch {
	case t.Of == "":
		return nil
	case t.Counter == CountBytes:
		names = target.Links
	default:
		for i := range target.Ops {
			if t.Counts(&target.Ops[i]) {
				return nil
			}
			names = append(names, target.Ops[i].Name)
		}
	}
	if !slices.Contains(names, t.Of) {
		return fmt.Errorf("when=%s: %s has no such thing, only %s", word(t.String()), target.Name, list(names))
	}
	return nil
}
