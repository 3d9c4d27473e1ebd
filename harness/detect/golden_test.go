package detect

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/shakedown-go/shakedown/harness"
)

var update = flag.Bool("update", false, "write what the detectors find into the golden records")

// TestGoldens judges the records in testdata by every detector. A record stands in the
// folder of the detector that it is for, as guilty-* or innocent-*:
//
//	What the service did, in a sentence.
//	-- build --
//	module example.com/shop
//	caps output race agent procs
//	-- events --
//	inject net/stall link="db"
//	invoke a pay
//	unknown a pay status=500 expect=false
//	-- reply --
//	ok a receipt status=200 expect=true private=true
//	the text of that reply
//	-- output service stderr --
//	what the process printed, an event a line
//	-- sample goroutines --
//	the text of one event, half a second after the one before
//	-- sample census at=1.5s when="start" round=1 --
//	the same with arguments, so long after the start
//	-- cut goroutines --
//	the same, of a dump that was cut
//	-- again 2s --
//	the last two samples once more, so much later
//	-- want --
//	what the detector of the folder makes of it, and what the others find or doubt
func TestGoldens(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	sorts := map[string]int{}
	for _, file := range files {
		d := ByName(filepath.Base(filepath.Dir(file)))
		if d == nil {
			t.Fatalf("%s: no detector has the name of the folder", file)
		}
		sort, _, _ := strings.Cut(filepath.Base(file), "-")
		sorts[d.Name+" "+sort]++
		t.Run(strings.TrimSuffix(strings.TrimPrefix(file, "testdata/"), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			rec, want := parseGolden(t, a)
			got := show(rec, d)
			if *update {
				writeGolden(t, file, a, got)
			} else if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("want -, got +; go test -update writes what is found\n%s", diff)
			}
			if guilty := strings.Contains(got, "\n"+d.Name+": finding"); guilty != (sort == "guilty") {
				t.Errorf("%s says guilty=%v of a record that is %s:\n%s", d.Name, guilty, sort, got)
			}
			if again := show(stored(t, rec), d); again != got {
				t.Errorf("a stored record is judged otherwise:\n%s", cmp.Diff(got, again))
			}
		})
	}
	for _, d := range All() {
		if sorts[d.Name+" guilty"] < 3 || sorts[d.Name+" innocent"] < 3 {
			t.Errorf("%s has %d guilty and %d innocent goldens, want three of each at least",
				d.Name, sorts[d.Name+" guilty"], sorts[d.Name+" innocent"])
		}
	}
}

// show writes down what a detector makes of a record, and what the others find or doubt: a
// new one changes nothing in the records of those that were there.
func show(rec *harness.Record, d *harness.Detector) string {
	var b strings.Builder
	b.WriteByte('\n')
	for _, r := range Judge(rec, All()) {
		switch {
		case r.Detector != d:
		case r.Missing != 0:
			fmt.Fprintf(&b, "%s: not checked\n", r.Detector.Name)
		case r.Apart:
			fmt.Fprintf(&b, "%s: not judged\n", r.Detector.Name)
		default:
			fmt.Fprintf(&b, "%s: checked %d\n", r.Detector.Name, r.Checked)
		}
		for _, f := range r.Findings {
			lines := strings.Split(strings.TrimSuffix(f.Detail, "\n"), "\n")
			fmt.Fprintf(&b, "%s: finding %s\n    %s\n    events %v, %d lines from: %s\n",
				r.Detector.Name, f.Signature, f.Title, f.Evidence, len(lines), lines[0])
		}
		for _, u := range r.Unsure {
			fmt.Fprintf(&b, "%s: unsure: %s\n", r.Detector.Name, u)
		}
	}
	return b.String()
}

// stored returns the record as it comes back from its file.
func stored(t *testing.T, rec *harness.Record) *harness.Record {
	t.Helper()
	var b bytes.Buffer
	if err := rec.Write(&b); err != nil {
		t.Fatal(err)
	}
	back, err := harness.ReadRecord(&b)
	if err != nil {
		t.Fatal(err)
	}
	return back
}

func writeGolden(t *testing.T, file string, a *txtar.Archive, got string) {
	t.Helper()
	if n := len(a.Files); a.Files[n-1].Name == "want" {
		a.Files = a.Files[:n-1]
	}
	a.Files = append(a.Files, txtar.File{Name: "want", Data: []byte(got)})
	if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}

func parseGolden(t *testing.T, a *txtar.Archive) (rec *harness.Record, want string) {
	t.Helper()
	rec = &harness.Record{Case: harness.Case{Target: "."}}
	var now time.Duration
	emit := func(e harness.Event) {
		e.Seq, e.At = uint64(len(rec.Events)+1), now
		rec.Events = append(rec.Events, e)
		now += time.Millisecond
	}
	var samples []harness.Event
	sample := func(e harness.Event) {
		now += 500 * time.Millisecond
		emit(e)
		samples = append(samples, e)
	}
	for _, f := range a.Files {
		lines := strings.Split(strings.TrimSuffix(string(f.Data), "\n"), "\n")
		switch w := strings.Fields(f.Name); w[0] {
		case "build":
			for _, line := range lines {
				parseBuild(t, rec, strings.Fields(line))
			}
		case "events":
			for _, line := range lines {
				emit(parseEvent(t, line))
			}
		case "reply":
			e := parseEvent(t, lines[0])
			e.Text = strings.Join(lines[1:], "\n")
			emit(e)
		case "output":
			for _, line := range lines {
				emit(harness.Event{Kind: harness.Output, Step: -1, Name: w[1], Lane: w[2], Text: line})
			}
		case "sample":
			e := harness.Event{Kind: harness.Sample, Step: -1, Name: w[1], Text: string(f.Data)}
			if e.Args = arguments(t, strings.Join(w[2:], " ")); e.Args == nil {
				sample(e)
				break
			}
			now = e.Args.Duration("at")
			e.Args = e.Args.Without("at")
			emit(e)
		case "cut":
			cut := harness.Args{{Key: "cut", Value: harness.Value{Form: harness.FormJSON, Text: "true"}}}
			sample(harness.Event{Kind: harness.Sample, Step: -1, Name: w[1], Args: cut, Text: string(f.Data)})
		case "again":
			later, err := time.ParseDuration(w[1])
			if err != nil || len(samples) < 2 {
				t.Fatalf("%s: %d samples before it, %v", f.Name, len(samples), err)
			}
			now += later - 500*time.Millisecond
			for _, e := range samples[len(samples)-2:] {
				sample(e)
			}
		case "want":
			want = string(f.Data)
		default:
			t.Fatalf("unknown section %s", f.Name)
		}
	}
	return rec, want
}

func parseBuild(t *testing.T, rec *harness.Record, words []string) {
	t.Helper()
	caps := map[string]harness.Caps{
		"links": harness.CapLinks, "procs": harness.CapProcs, "agent": harness.CapAgent,
		"race": harness.CapRace, "output": harness.CapOutput, "identity": harness.CapIdentity, "steady": harness.CapSteady,
	}
	switch words[0] {
	case "module":
		rec.Build.Module = words[1]
	case "truncated":
		rec.Truncated = true
	case "caps":
		for _, w := range words[1:] {
			if caps[w] == 0 {
				t.Fatalf("unknown ability %s", w)
			}
			rec.Build.Caps |= caps[w]
		}
	default:
		t.Fatalf("unknown line in build: %q", words)
	}
}

// parseEvent reads "KIND LANE OP key=value...", "inject FAULT key=value... effect=CLASS", "heal FAULT", "effect FAULT NUMBER",
// "reset" or "exit PROCESS CODE key=value...".
func parseEvent(t *testing.T, line string) harness.Event {
	t.Helper()
	kind, rest, _ := strings.Cut(line, " ")
	e := harness.Event{Kind: harness.Kind(kind), Step: -1}
	take := func() (w string) {
		w, rest, _ = strings.Cut(rest, " ")
		return w
	}
	switch e.Kind {
	case harness.Reset:
	case harness.Inject, harness.Heal:
		e.Name = take()
	case harness.Acted:
		e.Name = take()
		n, err := strconv.Atoi(take())
		if err != nil {
			t.Fatalf("%s: no number of what it has touched", line)
		}
		e.Value = float64(n)
	case harness.Exit:
		e.Name = take()
		code, err := strconv.Atoi(take())
		if err != nil {
			t.Fatalf("%s: no exit code", line)
		}
		e.Value = float64(code)
	case harness.Invoke, harness.Forwarded, harness.OK, harness.Fail, harness.Unknown, harness.Stuck:
		e.Lane, e.Name = take(), take()
	default:
		t.Fatalf("%s: unknown kind", line)
	}
	e.Args = arguments(t, rest)
	if e.Kind == harness.Inject {
		e.Text, e.Args = e.Args.Text("effect"), e.Args.Without("effect")
	}
	_, answered := e.Args.Get("status")
	if _, expect := e.Args.Get("expect"); expect != answered {
		t.Fatalf("%s: a reply that came has a status and expect, another has neither", line)
	}
	return e
}

// arguments reads arguments as they are written in a case file.
func arguments(t *testing.T, text string) harness.Args {
	t.Helper()
	c, err := harness.ParseCase([]byte("target .\na op " + text + "\n"))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c.Steps[0].Args
}
