package harness

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Kind says what an event is.
type Kind string

// The kinds of events.
const (
	Invoke    Kind = "invoke"    // a lane is about to call an op
	Forwarded Kind = "forwarded" // its first byte is about to be written
	OK        Kind = "ok"        // it was done
	Fail      Kind = "fail"      // it was surely not done
	Unknown   Kind = "unknown"   // it may have been done
	Skip      Kind = "skip"      // it was not tried: a reference could not be resolved, or a trigger did not come
	Stuck     Kind = "stuck"     // it passed its deadline and is still under way
	Inject    Kind = "inject"    // a fault is about to be injected; Text is its effect
	Heal      Kind = "heal"      // a fault has been healed
	Acted     Kind = "effect"    // Value counts what a fault has touched
	Reset     Kind = "reset"     // stores, links and sessions are back at the start
	Output    Kind = "output"    // a process printed Text; Lane is the stream
	Exit      Kind = "exit"      // a process ended; Value is its exit code, or 128 and the signal
	Sample    Kind = "sample"    // a probe looked; Name is the probe
)

// known reports whether k is one of the kinds.
func (k Kind) known() bool {
	switch k {
	case Invoke, Forwarded, OK, Fail, Unknown, Skip, Stuck, Inject, Heal, Acted, Reset, Output, Exit, Sample:
		return true
	}
	return false
}

// Event is one observation. Which fields are set depends on its kind.
type Event struct {
	Seq   uint64        `json:"seq"`
	At    time.Duration `json:"at"`   // since the start of the case, on the monotonic clock
	Kind  Kind          `json:"kind"` //
	Step  int           `json:"step"` // index into the case's steps, or -1
	Lane  string        `json:"lane,omitempty"`
	Name  string        `json:"name,omitempty"` // op, fault, process, probe
	Args  Args          `json:"args,omitempty"`
	Text  string        `json:"text,omitempty"`
	Value float64       `json:"value,omitempty"`
}

// Returned reports whether the event ends a call.
func (e Event) Returned() bool { return e.Kind == OK || e.Kind == Fail || e.Kind == Unknown }

// MaxRecord bounds what is recorded of one case, in bytes as Size counts them.
const MaxRecord = 64 << 20

// Size is how much of MaxRecord the event takes.
func (e Event) Size() int {
	n := 100 + len(e.Text)
	for _, a := range e.Args {
		n += len(a.Key) + len(a.Value.Text)
	}
	return n
}

// Build identifies what was run.
type Build struct {
	Module string `json:"module,omitempty"` // module path of the service; "" where it is not Go
	Go     string `json:"go,omitempty"`     // version of the toolchain
	SHA256 string `json:"sha256,omitempty"` // of the binary
	Caps   Caps   `json:"caps"`             // what the running instance could show
}

// Record is everything that was observed while one case was played.
type Record struct {
	Case      Case
	Build     Build
	Events    []Event
	Truncated bool // events were dropped: nothing may be concluded from their absence
}

// Event returns the event with that Seq, or nil.
func (r *Record) Event(seq uint64) *Event {
	i, found := slices.BinarySearchFunc(r.Events, seq, func(e Event, s uint64) int {
		switch {
		case e.Seq < s:
			return -1
		case e.Seq > s:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	return &r.Events[i]
}

// Count returns how many events are of one of the kinds.
func (r *Record) Count(kinds ...Kind) int {
	n := 0
	for _, e := range r.Events {
		if slices.Contains(kinds, e.Kind) {
			n++
		}
	}
	return n
}

// Corrupted reports whether a fault was injected that changes bytes on their way. What the
// service stores and answers from then on may be wrong through no fault of its own, be it after
// the heal: its process remembers.
func (r *Record) Corrupted() bool {
	return slices.ContainsFunc(r.Events, func(e Event) bool {
		return e.Kind == Inject && e.Text == EffectCorrupt.String()
	})
}

// Append adds what happened after the record. Its times go on from the record's last.
func (r *Record) Append(after *Record) {
	var last Event
	if n := len(r.Events); n > 0 {
		last = r.Events[n-1]
	}
	for _, e := range after.Events {
		e.Seq += last.Seq
		e.At += last.At
		r.Events = append(r.Events, e)
	}
	r.Truncated = r.Truncated || after.Truncated
}

// recordHead is the first line of a stored record.
type recordHead struct {
	Record    int    `json:"record"` // version of the format
	Case      string `json:"case"`
	Build     Build  `json:"build"`
	Truncated bool   `json:"truncated,omitempty"`
	Events    int    `json:"events"`
}

// Write stores the record as JSON lines: a head with the case, then an event a line.
func (r *Record) Write(w io.Writer) error {
	b := bufio.NewWriter(w)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(recordHead{1, r.Case.String(), r.Build, r.Truncated, len(r.Events)}); err != nil {
		return err
	}
	for _, e := range r.Events {
		if err := enc.Encode(e); err != nil {
			return err
		}
	}
	return b.Flush()
}

// The bounds of a stored record: files come from elsewhere and are not trusted. What is
// stored is a record with what was appended to it, and JSON may write a byte as six.
const (
	maxStored = 2 * MaxRecord
	maxFile   = 8 * maxStored
)

// ReadRecord reads what Write stored.
func ReadRecord(r io.Reader) (*Record, error) { return readRecord(r, maxStored, maxFile) }

// readRecord reads a record of at most size, from a file of at most so many bytes.
func readRecord(r io.Reader, size int, file int64) (*Record, error) {
	in := &io.LimitedReader{R: r, N: file + 1}
	rec, err := decodeRecord(json.NewDecoder(bufio.NewReader(in)), size)
	if in.N <= 0 {
		return nil, fmt.Errorf("the file is larger than %d bytes", file)
	}
	return rec, err
}

func decodeRecord(dec *json.Decoder, size int) (*Record, error) {
	var head recordHead
	if err := dec.Decode(&head); err != nil {
		return nil, fmt.Errorf("line 1: not a record: %w", err)
	}
	if head.Record != 1 {
		return nil, fmt.Errorf("line 1: record format %d is not known, only 1", head.Record)
	}
	c, err := ParseCase([]byte(head.Case))
	if err != nil {
		return nil, fmt.Errorf("line 1: case: %w", err)
	}
	rec := &Record{Case: c, Build: head.Build, Truncated: head.Truncated}
	for line := 2; ; line++ {
		var e Event
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if n := len(rec.Events); n > 0 && rec.Events[n-1].Seq >= e.Seq {
			return nil, fmt.Errorf("line %d: seq %d is out of order", line, e.Seq)
		}
		if !e.Kind.known() {
			return nil, fmt.Errorf("line %d: no event is of kind %q", line, e.Kind)
		}
		if e.Step < -1 || e.Step >= len(c.Steps) {
			return nil, fmt.Errorf("line %d: step %d, but the case has %d steps, from 0, and -1 stands for none", line, e.Step, len(c.Steps))
		}
		if size -= e.Size(); size < 0 {
			return nil, fmt.Errorf("line %d: the record is larger than any that is stored", line)
		}
		rec.Events = append(rec.Events, e)
	}
	switch n := len(rec.Events); {
	case n < head.Events:
		return nil, fmt.Errorf("the record has %d of %d events: the file was cut", n, head.Events)
	case n > head.Events:
		return nil, fmt.Errorf("the record has %d events and not %d: something was added to the file", n, head.Events)
	}
	return rec, nil
}
