package faults_test

import (
	"cmp"
	"errors"
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

var update = flag.Bool("update", false, "write the tables of docs/faults.md")

var page = filepath.Join("..", "docs", "faults.md")

// section returns what stands in the page between two lines, and around them.
func section(t *testing.T, begin, end string) (before, between, after string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(text), begin)
	between, after, ended := strings.Cut(rest, end)
	if !begun || !ended {
		t.Fatalf("%s has no place for the table", page)
	}
	return before, between, after
}

func write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The list of all faults stands between these lines.
const (
	listBegin = "<!-- The list is written by: go test ./faults -run Page -update -->\n"
	listEnd   = "<!-- End of the list. -->\n"
)

// TestPage compares what faults say of themselves with the list of docs/faults.md. It is not
// parallel: with -update the table is written after it.
func TestPage(t *testing.T) {
	before, list, after := section(t, listBegin, listEnd)
	got := "| fault | effect | parameters | at the heal | counts |\n| --- | --- | --- | --- | --- |\n"
	for _, f := range faults.All() {
		var params []string
		for _, p := range f.Params {
			if p.Name == harness.TTL.Name {
				params = append(params, "`ttl`")
			} else {
				params = append(params, param(p))
			}
		}
		heals := cmp.Or(f.Heals, "what it did is undone")
		got += fmt.Sprintf("| `%s`: %s | %s | %s | %s | %s |\n", f.Name, f.Doc, f.Effect, strings.Join(params, "<br>"), heals, f.Unit)
	}
	got += "\n" + param(harness.TTL) + "\n"
	switch {
	case *update:
		write(t, before+listBegin+got+listEnd+after)
	case got != list:
		t.Errorf("%s lists other faults; write it with: go test ./faults -run Page -update\ngot\n%s", page, got)
	}
}

// param is a parameter of a fault as the list shows it.
func param(p harness.Param) string {
	var about []string
	if p.Default != "" {
		about = append(about, "default "+p.Default)
	}
	for _, d := range []harness.Domain{p.Domain, p.Given} {
		if values, ok := d.(fmt.Stringer); ok {
			about = append(about, values.String())
		}
	}
	if p.Domain == nil && p.Given != nil {
		about = append(about, "left alone by the search")
	}
	if p.Optional {
		about = append(about, "optional")
	}
	if len(about) == 0 {
		return fmt.Sprintf("`%s` %s", p.Name, p.Doc)
	}
	return fmt.Sprintf("`%s` %s (%s)", p.Name, p.Doc, strings.Join(about, "; "))
}

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
	{fault: "net/latency", args: []string{"delay", "30ms", "jitter", "5ms", "dist", "normal"}},
	{fault: "net/latency", args: []string{"delay", "30ms", "jitter", "5ms", "corr", "0.5"}},
	{fault: "net/bandwidth", args: []string{"rate", "1"}},
	{fault: "net/bandwidth", args: []string{"rate", "0"}},
	{fault: "net/bandwidth", args: []string{"rate", "1", "scope", "link"}},
	{fault: "net/bandwidth", args: []string{"rate", "1", "burst", "1"}},
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
	{fault: "net/cut", args: []string{"after", "0", "how", "fin"}},
	{fault: "net/cut", args: []string{"after", "4", "how", "fin"}},
	{fault: "net/cut", args: []string{"after", "3", "dir", "up", "how", "fin"}},
	{fault: "net/rst"},
	{fault: "net/rst", args: []string{"side", "client"}},
	{fault: "net/rst", args: []string{"side", "server"}},
	{fault: "net/refuse"},
	{fault: "net/refuse", args: []string{"existing", "false"}},
	{fault: "net/down"},
	{fault: "net/fin"},
	{fault: "net/half_close", args: []string{"dir", "up"}},
	{fault: "net/half_close", args: []string{"dir", "down"}},
	{fault: "net/flap", args: []string{"down", "5s"}},
	{fault: "net/conn_cap"},
	{fault: "net/conn_cap", args: []string{"over", "hang"}},
	{fault: "net/accept_close"},
	{fault: "net/accept_close", args: []string{"how", "rst"}},
	{fault: "net/accept_close", args: []string{"existing", "true"}},
	{fault: "net/accept_close", args: []string{"after", "200ms"}},
	{fault: "net/accept_close", args: []string{"after", "200ms", "how", "rst", "existing", "true"}},
	{fault: "net/accept_hang"},
	{fault: "net/accept_hang", args: []string{"existing", "true"}},
	{fault: "net/syn_drop"},
	{fault: "net/syn_drop", args: []string{"existing", "false"}},
	{fault: "net/corrupt", args: []string{"p", "1", "bits", "8"}},
	{fault: "net/corrupt", args: []string{"p", "0.3", "dir", "up"}},
	{fault: "net/loss", args: []string{"p", "0.5", "rto", "20ms", "dir", "both"}},
	{fault: "net/profile"},
}

// TestTable plays every fault of links on both engines and compares what was seen with the
// table of docs/faults.md. On a busy machine a row can come out otherwise: only one that does
// so three times is wrong.
func TestTable(t *testing.T) {
	t.Parallel()
	before, table, after := section(t, tableBegin, tableEnd)
	want := strings.Split(table, "\n")
	lines := slices.Concat([]string{
		"| fault | engine | busy connection | idle connection | new connection | executed | counts |",
		"| --- | --- | --- | --- | --- | --- | --- |",
	}, make([]string, 2*(len(rows)+1)))
	play := func(t *testing.T, i int, line func(t *testing.T) (string, error)) {
		var wrong error
		for range 3 {
			lines[i], wrong = line(t)
			if wrong == nil && !*update && !slices.Contains(want, lines[i]) {
				wrong = fmt.Errorf("this row is not in the table:\n%s", lines[i])
			}
			if wrong == nil {
				return
			}
		}
		t.Error(wrong)
	}
	t.Run("rows", func(t *testing.T) {
		for e, engine := range []faulttest.Engine{faulttest.Native(), faulttest.Toxiproxy()} {
			t.Run(engine.Name, func(t *testing.T) {
				t.Parallel()
				play(t, 2+e, func(t *testing.T) (string, error) { return halfClosed(t, engine), nil })
			})
			for i, r := range rows {
				name := strings.Join(append([]string{r.fault}, pairs(r.args)...), " ")
				t.Run(name+" "+engine.Name, func(t *testing.T) {
					t.Parallel()
					play(t, 2+2*(i+1)+e, func(t *testing.T) (string, error) {
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
		write(t, before+tableBegin+got+tableEnd+after)
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

// row plays a fault and returns its line of the table. An error says what was seen that must
// not be, in any line.
func row(t *testing.T, e faulttest.Engine, name string, f *harness.Fault, args []string, last bool) (string, error) {
	b := faulttest.New(t, e)
	filled := b.Args(f, args...)
	if _, err := b.TryInject(f, filled); err != nil {
		_, why, _ := strings.Cut(err.Error(), ": ")
		return fmt.Sprintf("| %s | %s | cannot: %s | | | | |", name, e.Name, why), nil
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
	var wrong error
	if got := r.Effect(); f.Effect != harness.EffectMaybe && f.Effect != harness.EffectCorrupt && got != f.Effect && got != harness.EffectNone {
		wrong = fmt.Errorf("its effect is declared as %s, and was seen to be %s", f.Effect, got)
	}
	if r.Next != faulttest.Replied {
		wrong = errors.Join(wrong, fmt.Errorf("a connection after the heal: %s", r.Next))
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
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s |", name, e.Name, cell(r.Old), cell(idle), cell(r.New), executed, counts), wrong
}

// cell says what a client saw of a connection.
func cell(l faulttest.Life) string {
	switch {
	case l.During == l.After && l.During != faulttest.Replied:
		return string(l.During)
	case l.After != faulttest.Replied:
		return fmt.Sprintf("%s; %s at the heal", l.During, last(l.After))
	case l.During == faulttest.Unanswered:
		return "no connect; it comes about behind the heal, goes on"
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
