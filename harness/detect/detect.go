// Package detect holds what every service promises, whatever it is for: no data race, no
// panic, no fatal error, no exit of its own, no call that stands still, no wrong status
// while nothing is disturbed, nobody shown what is another's, nothing left behind that adds
// up.
//
// Each detector is a pure function of the record. It prefers silence to doubt: what could
// have another explanation is no finding.
package detect

import (
	"fmt"
	"slices"

	"github.com/shakedown-go/shakedown/harness"
)

// All returns every detector, those that explain the findings of others first.
func All() []*harness.Detector {
	return []*harness.Detector{
		Race, Panic, RecoveredPanic, Fatal, Exit, Hang, Status, Identity, Recovery,
		Pool, GoroutineLeak, GoroutineGrowth, ConnectionLeak, FileLeak, HeapGrowth,
	}
}

// ByName returns the detector of that name, or nil.
func ByName(name string) *harness.Detector {
	for _, d := range All() {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// Result is what came of one detector on one record.
type Result struct {
	Detector *harness.Detector
	Missing  harness.Caps // what the instance could not show; zero: the detector judged
	Apart    bool         // it was not asked, though nothing was missing: bytes were changed on their way
	harness.Judgement
}

// Undeclared reports whether the detector was not asked for: all that it missed is what a
// description can declare, and this one does not.
func (r Result) Undeclared() bool { return r.Missing != 0 && harness.Declared.Has(r.Missing) }

// Judge runs the detectors on a record, each only if the instance could show what it needs, and
// those that judge data only if no fault has changed any on the way.
// What they find in a record that is not whole counts, that they find nothing does not.
func Judge(rec *harness.Record, ds []*harness.Detector) []Result {
	out := make([]Result, 0, len(ds))
	corrupted := rec.Corrupted()
	for _, d := range ds {
		r := Result{Detector: d, Missing: d.Needs &^ rec.Build.Caps}
		r.Apart = r.Missing == 0 && d.Data && corrupted
		if r.Missing == 0 && !r.Apart {
			r.Judgement = d.Detect(rec)
			if rec.Truncated {
				r.Checked = 0
				r.Unsure = append(r.Unsure, "output was dropped: the record holds only its beginning")
			}
		}
		out = append(out, r)
	}
	return out
}

// Findings returns what the detectors found, in their order.
func Findings(results []Result) []harness.Finding {
	var out []harness.Finding
	for _, r := range results {
		out = append(out, r.Findings...)
	}
	return out
}

// maxEvidence bounds how many events a finding names.
const maxEvidence = 16

// add appends a finding, or adds its evidence to one that has the same signature.
func add(j *harness.Judgement, f harness.Finding) {
	i := slices.IndexFunc(j.Findings, func(g harness.Finding) bool { return g.Signature == f.Signature })
	if i < 0 {
		i = len(j.Findings)
		j.Findings = append(j.Findings, f)
		j.Findings[i].Evidence = nil
	}
	for _, seq := range f.Evidence {
		if g := &j.Findings[i]; len(g.Evidence) < maxEvidence && !slices.Contains(g.Evidence, seq) {
			g.Evidence = append(g.Evidence, seq)
		}
	}
}

// returned counts the calls that ended.
func returned(rec *harness.Record) int {
	return rec.Count(harness.OK, harness.Fail, harness.Unknown)
}

// unexpected reports whether a process ended that nobody had ended.
func unexpected(e harness.Event) bool {
	return e.Kind == harness.Exit && e.Args.Text("expected") != "true"
}

// undisturbed counts the calls that ended before anything was injected.
func undisturbed(rec *harness.Record) int {
	n := 0
	for _, e := range rec.Events {
		if e.Kind == harness.Inject {
			break
		}
		if e.Returned() {
			n++
		}
	}
	return n
}

// of names the process in a title, unless it is the service itself.
func of(proc string) string {
	if proc == harness.Service {
		return ""
	}
	return fmt.Sprintf(" of %s", proc)
}
