package campaign

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/runner"
	"github.com/shakedown-go/shakedown/harness/steady"
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
	Records  int                  `json:"records"` // judged by the search: of cases, and of what came after the last of an epoch
	Epochs   int                  `json:"epochs"`
	Replays  int                  `json:"replays"`
	Calls    map[harness.Kind]int `json:"calls"`
	Answers  map[string]Answers   `json:"answers"`            // by op, those never called included
	Worn     map[string]int       `json:"worn,omitempty"`     // epochs that ended early, by reason
	Faults   map[string]Tally     `json:"faults,omitempty"`   // by fault and what it is aimed at, those never injected included
	LeftOut  map[string][]string  `json:"left_out,omitempty"` // faults that cannot be injected, by what the target lacks
	Checks   map[string]*Checks   `json:"checks"`             // by detector
	Bugs     []*harness.Bug       `json:"bugs,omitempty"`
	Suspects []*harness.Bug       `json:"suspects,omitempty"` // seen, but neither shown again nor proven by the sighting
	Errors   []string             `json:"errors,omitempty"`   // what the harness could not do
	Cut      int                  `json:"cut,omitempty"`      // of Records, how many are not whole
	Stopped  bool                 `json:"stopped,omitempty"`  // interrupted before the budget was spent
	Aborted  string               `json:"aborted,omitempty"`  // which limit was exceeded: that has stopped it
	Steady   map[string]Steady    `json:"steady,omitempty"`   // by check of the steady state
	Proving  string               `json:"-"`                  // the signature of what is being proven
}

// Ended is the entry of Worn for epochs that ended with a process that ended by itself: what
// that means is for the detectors to say.
const Ended = "a process ended by itself"

// Answers counts how the calls of an op ended: by status, or "no reply".
type Answers struct {
	OK     int            `json:"ok"`               // of all
	Others map[string]int `json:"others,omitempty"` // those that were not ok
}

// Tally counts how often a fault was to be injected, how often it took effect, and how
// often it could not be injected.
type Tally struct {
	Injected int    `json:"injected"`
	Acted    int    `json:"acted"`
	Failed   int    `json:"failed,omitempty"`
	Refused  int    `json:"refused,omitempty"` // of Failed: it cannot be had there, ever
	Why      string `json:"why,omitempty"`     // it failed first
	Chance   bool   `json:"chance,omitempty"`  // the fault may find nothing to act on
}

// String says what became of a fault.
func (t Tally) String() string {
	if t.Injected > 0 && t.Refused == t.Injected {
		return "cannot be had: " + t.Why
	}
	line := fmt.Sprintf("took effect %d of %d times", t.Acted, t.Injected)
	if n := t.Injected - t.Failed; t.Chance && t.Acted == 0 && n > 0 {
		line = fmt.Sprintf("found nothing to act on, %d times", n)
	}
	if t.Failed > 0 {
		line += fmt.Sprintf(", could not be injected %d times: %s", t.Failed, t.Why)
	}
	return line
}

// Doubt says why nothing can be claimed of a target under the fault; "" where there is no
// doubt.
func (t Tally) Doubt() string {
	switch {
	case t.Acted > 0:
		return ""
	case t.Injected == 0:
		return "was never tried"
	case t.Refused == t.Injected: // nothing is claimed: String says so
		return ""
	case t.Failed == t.Injected:
		return fmt.Sprintf("could not be injected: 0 of %d: %s", t.Injected, t.Why)
	case t.Chance: // nothing is claimed: String says that it found nothing
		return ""
	}
	return fmt.Sprintf("never took effect: 0 of %d", t.Injected)
}

// Checks is what a detector has looked at over a campaign.
type Checks struct {
	Checked    int            `json:"checked"`
	Apart      int            `json:"apart,omitempty"` // records that were not judged: bytes were changed on their way
	Minimum    int            `json:"minimum"`
	Blind      bool           `json:"blind,omitempty"`      // the target cannot show what it needs
	Undeclared bool           `json:"undeclared,omitempty"` // the description does not declare what it needs
	Unsure     map[string]int `json:"unsure,omitempty"`     // records, by what could not be decided in them
}

// Made is how many calls were made and have ended.
func (r *Result) Made() int {
	return r.Calls[harness.OK] + r.Calls[harness.Fail] + r.Calls[harness.Unknown]
}

// expect makes an entry for every op, and for everything that the faults can be aimed at, so
// that what is never called or injected is seen to be missing.
func (r *Result) expect(faults []*harness.Fault, t *harness.Target) {
	for _, op := range t.Ops {
		r.Answers[op.Name] = Answers{}
	}
	for _, f := range faults {
		aims := f.Aims(t)
		for _, args := range aims {
			r.Faults[Aim(harness.Step{Name: f.Name, Args: args})] = Tally{Chance: f.Chance}
		}
		if len(aims) == 0 {
			why := lacks(f, t)
			r.LeftOut[why] = append(r.LeftOut[why], f.Name)
		}
	}
}

// lacks says why a fault cannot be aimed at anything.
func lacks(f *harness.Fault, t *harness.Target) string {
	for _, p := range f.Params {
		switch {
		case p.Of == harness.OfLink && len(t.Links) == 0:
			return "the target has no links"
		case p.Of == harness.OfProc && len(t.Procs) == 0:
			return "the target has no processes"
		case p.Of == harness.OfStore && len(p.Names(t)) == 0:
			return "the target has no " + p.Engine + " server"
		}
	}
	if f.Needs.Has(harness.CapNative) && !t.Caps.Has(harness.CapNative) {
		return "the engine of the links cannot do it: native can"
	}
	return "the target cannot do what they need"
}

// wear counts an epoch that ended early. Rec is the record of its last case.
func (r *Result) wear(rec *harness.Record, why string) {
	for _, e := range rec.Events {
		if e.Kind == harness.Exit && e.Args.Text("expected") != "true" {
			why = Ended
		}
	}
	r.Worn[why]++
}

// count adds what one record of the search shows.
func (r *Result) count(rec *harness.Record) {
	r.Records++
	if rec.Truncated {
		r.Cut++
	}
	healed := map[int]bool{} // a fault that was in force is healed: one that is not could not be injected
	for _, e := range rec.Events {
		switch e.Kind {
		case harness.OK, harness.Fail, harness.Unknown:
			if e.Step >= 0 {
				r.Calls[e.Kind]++
				r.answered(e)
			}
		case harness.Skip:
			if rec.Case.Steps[e.Step].Verb == harness.VerbCall {
				r.Calls[e.Kind]++
			}
		case harness.Stuck:
			if e.Args.Text("ignored") == "" { // that one was counted when it was late
				r.Calls[e.Kind]++
			}
		case harness.Sample:
			r.steadied(e)
		case harness.Inject:
			healed[e.Step] = false // in an earlier round it may have been
			r.tally(rec, e, func(t *Tally) { t.Injected++ })
		case harness.Heal:
			healed[e.Step] = true
		case harness.Acted:
			switch {
			case !healed[e.Step]:
				r.tally(rec, e, func(t *Tally) {
					t.Failed++
					if e.Args.Text("never") != "" {
						t.Refused++
					}
					t.Why = cmp.Or(t.Why, e.Text)
				})
			case e.Value > 0:
				r.tally(rec, e, func(t *Tally) { t.Acted++ })
			}
		}
	}
}

// Steady counts how often a check held again when the faults of a case were healed.
type Steady struct {
	Held  int           `json:"held"`
	Of    int           `json:"of"`
	Total time.Duration `json:"total"` // of all that held, until they did
	Most  time.Duration `json:"most"`
}

// String says so: "held again 3 of 4 times, after 2ms on average, 4ms at most".
func (s Steady) String() string {
	line := fmt.Sprintf("held again %d of %d times", s.Held, s.Of)
	if s.Held > 0 {
		mean := s.Total / time.Duration(s.Held)
		line += fmt.Sprintf(", after %s on average, %s at most", mean.Round(100*time.Microsecond), s.Most.Round(100*time.Microsecond))
	}
	return line
}

func (r *Result) steadied(e harness.Event) {
	seen, is := steady.Parse(e)
	if !is || seen.Moment != steady.After {
		return
	}
	s := r.Steady[seen.Check]
	if s.Of++; seen.Held {
		s.Held++
		s.Total += seen.Took
		s.Most = max(s.Most, seen.Took)
	}
	if r.Steady == nil {
		r.Steady = map[string]Steady{}
	}
	r.Steady[seen.Check] = s
}

// answered counts how a call ended.
func (r *Result) answered(e harness.Event) {
	a := r.Answers[e.Name]
	if e.Kind == harness.OK {
		a.OK++
	} else {
		if a.Others == nil {
			a.Others = map[string]int{}
		}
		a.Others[cmp.Or(e.Args.Text("status"), "no reply")]++
	}
	r.Answers[e.Name] = a
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
			if v.Detector.Faults && len(r.Faults) == 0 {
				c.Minimum = 0
			}
			r.Checks[v.Detector.Name] = c
		}
		c.Undeclared = c.Undeclared || v.Undeclared()
		c.Blind = c.Blind || v.Missing != 0 && !v.Undeclared()
		c.Checked += v.Checked
		if v.Apart {
			c.Apart++
		}
		for i, u := range v.Unsure {
			if !slices.Contains(v.Unsure[:i], u) {
				c.Unsure[u]++
			}
		}
	}
}

// Aim names a fault with what it is aimed at: "net/stall link=db".
func Aim(s harness.Step) string {
	out := []string{s.Name}
	for _, k := range []string{"link", "proc", "store"} {
		if v := s.Args.Text(k); v != "" {
			out = append(out, k+"="+v)
		}
	}
	return strings.Join(out, " ")
}

// Aims returns the keys of Faults, sorted.
func (r *Result) Aims() []string { return slices.Sorted(maps.Keys(r.Faults)) }

// Idle reports whether a fault of the record took no effect: it was injected and did nothing,
// or its trigger did not come.
func Idle(rec *harness.Record) bool {
	acted := map[int]bool{}
	for _, e := range rec.Events {
		if e.Kind == harness.Acted && e.Value > 0 {
			acted[e.Step] = true
		}
	}
	for _, e := range rec.Events {
		if e.Kind == harness.Inject && !acted[e.Step] || e.Kind == harness.Skip && rec.Case.Steps[e.Step].Verb == harness.VerbInject {
			return true
		}
	}
	return false
}
