package faults_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shakedown-go/shakedown/faults"
	"github.com/shakedown-go/shakedown/faults/faulttest"
	"github.com/shakedown-go/shakedown/harness"
)

var update = flag.Bool("update", false, "write the table of docs/faults.md")

// The table stands between these lines.
const (
	tableBegin = "<!-- The table is written by: go test ./faults -run Table -update -->\n"
	tableEnd   = "<!-- End of the table. -->\n"
)

// rows are the faults of the table, with arguments under which their effect shows.
var rows = []struct {
	fault string
	args  []string
	last  bool // with requests behind which the server closes the connection
}{
	{fault: "net/latency", args: []string{"delay", "30ms"}},
	{fault: "net/bandwidth", args: []string{"rate", "1"}},
	{fault: "net/bandwidth", args: []string{"rate", "0"}},
	{fault: "net/slice", args: []string{"size", "1"}},
	{fault: "net/slow_close", args: []string{"delay", "5s"}, last: true},
	{fault: "net/stall", args: []string{"dir", "up"}},
	{fault: "net/stall", args: []string{"dir", "down"}},
	{fault: "net/blackhole", args: []string{"dir", "up"}},
	{fault: "net/blackhole", args: []string{"dir", "down"}},
	{fault: "net/timeout", args: []string{"after", "200ms", "dir", "up"}},
	{fault: "net/timeout", args: []string{"after", "200ms", "dir", "down"}},
	{fault: "net/cut", args: []string{"after", "0"}},
	{fault: "net/cut", args: []string{"after", "4"}},
	{fault: "net/cut", args: []string{"after", "3", "dir", "up"}},
	{fault: "net/rst"},
	{fault: "net/refuse"},
	{fault: "net/refuse", args: []string{"existing", "false"}},
	{fault: "net/down"},
}

// TestTable plays every fault of links on both engines and compares what was seen with the
// table of docs/faults.md. On a busy machine a row can come out otherwise: only one that does
// so three times is wrong.
func TestTable(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "docs", "faults.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(text), tableBegin)
	table, after, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		t.Fatalf("%s has no place for the table", file)
	}
	want := strings.Split(table, "\n")
	lines := slices.Concat([]string{
		"| fault | engine | busy connection | idle connection | new connection | executed | counts |",
		"| --- | --- | --- | --- | --- | --- | --- |",
	}, make([]string, 2*(len(rows)+1)))
	play := func(i int, line func(t *testing.T) string) {
		attempts := 3
		if *update {
			attempts = 1
		}
		for range attempts {
			if lines[i] = line(t); slices.Contains(want, lines[i]) {
				return
			}
		}
		if !*update {
			t.Errorf("this row is not in the table:\n%s", lines[i])
		}
	}
	t.Run("rows", func(t *testing.T) {
		for e, engine := range []faulttest.Engine{faulttest.Native(), faulttest.Toxiproxy()} {
			t.Run(engine.Name, func(t *testing.T) {
				t.Parallel()
				play(2+e, func(t *testing.T) string { return halfClosed(t, engine) })
			})
			for i, r := range rows {
				name := strings.Join(append([]string{r.fault}, pairs(r.args)...), " ")
				t.Run(name+" "+engine.Name, func(t *testing.T) {
					t.Parallel()
					play(2+2*(i+1)+e, func(t *testing.T) string {
						return row(t, engine, name, faults.ByName(r.fault), r.args, r.last)
					})
				})
			}
		}
	})
	for _, f := range onLinks() {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "| "+f.Name+" ") }) {
			t.Errorf("%s is not in the table", f.Name)
		}
	}
	got := strings.Join(lines, "\n") + "\n"
	switch {
	case *update:
		if err := os.WriteFile(file, []byte(before+tableBegin+got+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	case got != table && !t.Failed():
		t.Errorf("the table has other rows, or another order; write it with -update\ngot\n%s", got)
	}
}

// pairs joins the keys and values of arguments.
func pairs(args []string) (out []string) {
	for kv := range slices.Chunk(args, 2) {
		out = append(out, strings.Join(kv, "="))
	}
	return out
}

// row plays a fault and returns its line of the table.
func row(t *testing.T, e faulttest.Engine, name string, f *harness.Fault, args []string, last bool) string {
	b := faulttest.New(t, e)
	filled := b.Args(f, args...)
	if _, err := b.TryInject(f, filled); err != nil {
		_, why, _ := strings.Cut(err.Error(), ": ")
		return fmt.Sprintf("| %s | %s | cannot: %s | | | | |", name, e.Name, why)
	}
	if err := b.Link.Reset(); err != nil {
		t.Fatal(err)
	}
	b = faulttest.New(t, e)
	play := b.Play
	if last {
		play = b.PlayLast
	}
	r := play(f, filled)
	if got := r.Effect(); f.Effect != harness.EffectMaybe && got != f.Effect && got != harness.EffectNone {
		t.Errorf("its effect is declared as %s, and was seen to be %s", f.Effect, got)
	}
	if r.Next != faulttest.Replied {
		t.Errorf("a connection after the heal: %s", r.Next)
	}
	counts := r.Unit
	if r.Acted == 0 {
		counts = "nothing"
	}
	executed := fmt.Sprintf("%d of 2", r.Executed)
	if r.Late > 0 {
		executed += fmt.Sprintf(", %d after the heal", r.Late)
	}
	idle := r.Unused
	if idle.During == faulttest.Silent {
		idle.During = "open"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s |", name, e.Name, cell(r.Old), cell(idle), cell(r.New), executed, counts)
}

// cell says what a client saw of a connection.
func cell(l faulttest.Life) string {
	switch {
	case l.During == l.After && l.During != faulttest.Replied:
		return string(l.During)
	case l.After != faulttest.Replied:
		return fmt.Sprintf("%s; %s at the heal", l.During, last(l.After))
	case l.During == faulttest.Silent:
		return "silence; the reply comes at the heal, goes on"
	}
	return fmt.Sprintf("%s; goes on", l.During)
}

// last is how an outcome ends.
func last(o faulttest.Outcome) string {
	words := strings.Split(string(o), ", ")
	return words[len(words)-1]
}

// halfClosed is the line of what needs no fault.
func halfClosed(t *testing.T, e faulttest.Engine) string {
	b := faulttest.New(t, e)
	got := b.Dial().HalfClosed()
	return fmt.Sprintf("| none; the client closes its half | %s | %s | | | %d of 1 | |", e.Name, got, b.Executed())
}
