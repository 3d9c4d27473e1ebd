package function

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/stack"
)

// detectors are those of a service that make sense for a function.
func detectors() []*harness.Detector {
	return []*harness.Detector{detect.Race, detect.Panic, detect.Fatal}
}

// record puts together what happened in a process that ran a function. Events have their
// Seq, from 2.
func record(p *Package, f Func, sent []string, events []harness.Event) *harness.Record {
	call := harness.Event{Seq: 1, Kind: harness.Invoke, Step: -1, Lane: "a", Name: f.Name}
	for i, text := range sent {
		call.Args = append(call.Args, harness.Arg{Key: fmt.Sprintf("body.%d", i), Value: harness.Text(text)})
	}
	return &harness.Record{
		Build:  harness.Build{Module: p.Module, Caps: harness.CapOutput | harness.CapRace},
		Events: append([]harness.Event{call}, events...),
	}
}

// Judge returns what an engine's words about a crash come to: the lines that the function
// and the runtime have printed.
func Judge(p *Package, f Func, sent []string, lines []string) []harness.Finding {
	var events []harness.Event
	add := func(e harness.Event) {
		e.Seq, e.Step, e.Name, e.Lane = uint64(len(events)+2), -1, harness.Service, "stderr"
		events = append(events, e)
	}
	hung := false
	for _, l := range lines {
		hung = hung || strings.HasPrefix(l, "program hanged")
		add(harness.Event{Kind: harness.Output, Text: l})
	}
	add(harness.Event{Kind: harness.Exit, Value: 2})
	return judge(record(p, f, sent, events), p, f, hung)
}

// judge finds what was wrong in a record: what a service's detectors find, else that it
// took too long, else what the function itself reports, else that the process ended.
func judge(rec *harness.Record, p *Package, f Func, late bool) []harness.Finding {
	found := detect.Findings(detect.Judge(rec, detectors()))
	lines, code := said(rec)
	switch {
	case late: // its stacks were asked for: they are no crash
		return []harness.Finding{hang(lines, p, f)}
	case len(found) > 0 || code == 0:
		return found
	}
	if reported, ok := failure(rec, lines, p, f); ok {
		return []harness.Finding{reported}
	}
	return []harness.Finding{{
		Detector:  "exit",
		Signature: fmt.Sprintf("exit: code %d: %s.%s", code, p.ImportPath, f.Name),
		Title:     fmt.Sprintf("%s ended the process with code %d", f.Name, code),
		Detail:    strings.Join(lines[max(0, len(lines)-20):], "\n"),
	}}
}

// said returns the lines of a record, and the exit code of its process.
func said(rec *harness.Record) (lines []string, code int) {
	for _, e := range rec.Events {
		switch e.Kind {
		case harness.Output:
			lines = append(lines, e.Text)
		case harness.Exit:
			code = int(e.Value)
		}
	}
	return lines, code
}

// hang names the place where a function stood that took too long.
func hang(lines []string, p *Package, f Func) harness.Finding {
	name := p.ImportPath + "." + f.Name
	fn := name
	for _, g := range stack.Goroutines(lines) {
		// A native function itself only waits for the one that it hands to f.Fuzz.
		calls := func(c stack.Frame) bool {
			return strings.HasPrefix(c.Func, name+".") || f.Sort == GoFuzz && c.Func == name
		}
		if slices.ContainsFunc(g.Frames, calls) {
			fn = stack.Culprit(p.Module, g.Frames)
			break
		}
	}
	return harness.Finding{
		Detector:  "hang",
		Signature: "hang: " + fn,
		Title:     fmt.Sprintf("%s does not return: it stands in %s", f.Name, stack.Short(fn)),
		Detail:    strings.Join(lines[:min(len(lines), 200)], "\n"),
	}
}

var report = regexp.MustCompile(`^\s+[^\s:/]+\.go:\d+: (.*)$`)

// failure is what a function reports by t.Error, t.Fatal and their like.
func failure(rec *harness.Record, lines []string, p *Package, f Func) (harness.Finding, bool) {
	if f.Sort != Native || !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "--- FAIL: "+f.Name) }) {
		return harness.Finding{}, false
	}
	message := "no message"
	for _, l := range lines {
		if m := report.FindStringSubmatch(l); m != nil {
			message = m[1]
			break
		}
	}
	kind := detect.Kind(rec, message)
	return harness.Finding{
		Detector:  "failure",
		Signature: fmt.Sprintf("failure: %s: %s.%s", kind, p.ImportPath, f.Name),
		Title:     fmt.Sprintf("%s fails: %s", f.Name, kind),
		Detail:    strings.Join(lines[:min(len(lines), 200)], "\n"),
	}, true
}
