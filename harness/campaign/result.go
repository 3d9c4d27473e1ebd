package campaign

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/runner"
)

// Result is what a campaign came to.
type Result struct {
	Target   string               `json:"target"`
	Seed     uint64               `json:"seed"`
	Env      map[string]string    `json:"env,omitempty"`
	Build    harness.Build        `json:"build"`
	Started  time.Time            `json:"started"`
	Built    time.Duration        `json:"built"`  // time until the service was built, before the search
	Search   time.Duration        `json:"search"` // time spent looking
	Triage   time.Duration        `json:"triage"` // time spent proving
	Cost     runner.Cost          `json:"cost"`   // of the search alone
	Judging  time.Duration        `json:"judging"`
	Cases    int                  `json:"cases"`
	Epochs   int                  `json:"epochs"`
	Replays  int                  `json:"replays"`
	Calls    map[harness.Kind]int `json:"calls"`
	Faults   map[string]Tally     `json:"faults,omitempty"` // by fault and what it was aimed at
	Checks   map[string]*Checks   `json:"checks"`           // by detector
	Bugs     []*harness.Bug       `json:"bugs,omitempty"`
	Suspects []*harness.Bug       `json:"suspects,omitempty"` // seen, but neither shown again nor proven by the sighting
	Errors   []string             `json:"errors,omitempty"`   // what the harness could not do
	Cut      int                  `json:"cut,omitempty"`      // records that are not whole
	Stopped  bool                 `json:"stopped,omitempty"`  // interrupted before the budget was spent
	Proving  string               `json:"-"`                  // the signature of what is being proven
}

// Tally counts how often a fault was injected, and how often it took effect.
type Tally struct {
	Injected int `json:"injected"`
	Acted    int `json:"acted"`
}

// Checks is what a detector has looked at over a campaign.
type Checks struct {
	Checked int            `json:"checked"`
	Minimum int            `json:"minimum"`
	Blind   bool           `json:"blind,omitempty"` // the target cannot show what it needs
	Unsure  map[string]int `json:"unsure,omitempty"`
}

// Tried is how many calls were made or skipped.
func (r *Result) Tried() int {
	n := 0
	for _, k := range []harness.Kind{harness.OK, harness.Fail, harness.Unknown, harness.Skip} {
		n += r.Calls[k]
	}
	return n
}

// count adds what one record of the search shows.
func (r *Result) count(rec *harness.Record) {
	r.Cases++
	if rec.Truncated {
		r.Cut++
	}
	for _, e := range rec.Events {
		switch e.Kind {
		case harness.OK, harness.Fail, harness.Unknown:
			if e.Step >= 0 {
				r.Calls[e.Kind]++
			}
		case harness.Skip:
			r.Calls[e.Kind]++
		case harness.Stuck:
			if e.Args.Text("ignored") == "" { // that one was counted when it was late
				r.Calls[e.Kind]++
			}
		case harness.Inject:
			r.tally(rec, e, func(t *Tally) { t.Injected++ })
		case harness.Acted:
			if e.Value > 0 {
				r.tally(rec, e, func(t *Tally) { t.Acted++ })
			}
		}
	}
}

// tally finds the entry of the fault that an event speaks of.
func (r *Result) tally(rec *harness.Record, e harness.Event, f func(*Tally)) {
	if e.Step < 0 || e.Step >= len(rec.Case.Steps) {
		return
	}
	k := Aim(rec.Case.Steps[e.Step])
	t := r.Faults[k]
	f(&t)
	r.Faults[k] = t
}

// judged adds what the detectors made of a record.
func (r *Result) judged(vs []detect.Result) {
	for _, v := range vs {
		c := r.Checks[v.Detector.Name]
		if c == nil {
			c = &Checks{Minimum: v.Detector.Minimum, Unsure: map[string]int{}}
			r.Checks[v.Detector.Name] = c
		}
		c.Blind = c.Blind || v.Missing != 0
		c.Checked += v.Checked
		for _, u := range v.Unsure {
			c.Unsure[u]++
		}
	}
}

// Aim names a fault with what it is aimed at: "net/stall link=db".
func Aim(s harness.Step) string {
	out := []string{s.Name}
	for _, k := range []string{"link", "proc"} {
		if v := s.Args.Text(k); v != "" {
			out = append(out, k+"="+v)
		}
	}
	return strings.Join(out, " ")
}

// Aims returns the keys of Faults, sorted.
func (r *Result) Aims() []string { return slices.Sorted(maps.Keys(r.Faults)) }

// Idle reports whether a fault of the record was injected and took no effect.
func Idle(rec *harness.Record) bool {
	acted := map[int]bool{}
	for _, e := range rec.Events {
		if e.Kind == harness.Acted && e.Value > 0 {
			acted[e.Step] = true
		}
	}
	for _, e := range rec.Events {
		if e.Kind == harness.Inject && !acted[e.Step] {
			return true
		}
	}
	return false
}
