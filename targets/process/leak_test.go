package process

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/census"
	"github.com/shakedown-go/shakedown/harness/detect"
	"github.com/shakedown-go/shakedown/harness/probe"
	"github.com/shakedown-go/shakedown/harness/runner"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// leaks is where the service is that leaves things behind, and beside it are the golden
// records of the detectors.
const leaks = "../../harness/detect/testdata/leaks"

var record = flag.Bool("record", false, "play all that the service of the leak detectors can do, and write the golden records")

// TestLeaksAreToldFromPools plays calls of a service that leaves things behind, or only seems
// to, in a fresh process each, and judges the records. What takes long is played only to
// make the golden records of the detectors: that nothing but these changes.
func TestLeaksAreToldFromPools(t *testing.T) {
	t.Parallel()
	f, err := spec.Load(leaks)
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, f, Options{})
	marked := "goroutine leak: "
	if !s.maker.(*binary).made.Leaks {
		marked = "goroutines grow: "
	}
	for _, tt := range []struct {
		name   string
		steps  string // zero: one call
		want   []string
		unsure bool
		slow   bool
		growth int      // zero: one is looked into
		golden []string // what the record is a golden of
	}{
		{name: "forgotten", want: []string{marked + "main.(*service).forgotten"}, golden: []string{"goroutine-leak/guilty"}},
		{name: "lost", want: []string{marked + "main.(*service).lost"}, golden: []string{"goroutine-leak/guilty"}},
		{name: "body", want: []string{marked + "net/http.(*Transport).dialConn", "file leak: socket"}, slow: true, golden: []string{"goroutine-leak/guilty", "file-leak/guilty"}},
		{name: "hub", want: []string{"goroutines grow: main.(*service).hub"}, slow: true, golden: []string{"goroutine-growth/guilty", "goroutine-leak/innocent"}},
		{name: "ticker", want: []string{"goroutines grow: main.(*service).ticker"}, slow: true, golden: []string{"goroutine-growth/guilty"}},
		{name: "lock", want: []string{"goroutines grow: main.(*service).lock"}, slow: true, golden: []string{"goroutine-growth/guilty"}},
		{name: "file", want: []string{"file leak: file"}, slow: true, golden: []string{"file-leak/guilty", "connection-leak/innocent"}},
		{name: "pipe", want: []string{"file leak: pipe"}, slow: true, golden: []string{"file-leak/guilty"}},
		{name: "conn", want: []string{"connection leak: cache"}, slow: true, golden: []string{"connection-leak/guilty", "file-leak/innocent"}},
		{name: "rows", want: []string{"connection leak: cache"}, slow: true, golden: []string{"connection-leak/guilty"}},
		{name: "client", want: []string{marked + "database/sql.OpenDB", marked + "main.connector.Connect", "connection leak: cache"}, slow: true, golden: []string{"connection-leak/guilty"}},
		{name: "retain", want: []string{"heap grows"}, golden: []string{"heap-growth/guilty"}},
		{name: "note", want: []string{"heap grows"}, slow: true, golden: []string{"heap-growth/guilty"}},
		{name: "index", want: []string{"heap grows"}, slow: true, golden: []string{"heap-growth/guilty"}},
		{name: "page", steps: "a page *2", golden: []string{"heap-growth/innocent"}},
		{name: "buffer", steps: "a buffer *3 &\nb buffer *3", golden: []string{"heap-growth/innocent"}},
		{name: "hold", steps: "a hold *2\na one", want: []string{"pool exhausted: database/sql"}, slow: true, growth: -1, golden: []string{"pool/guilty"}},

		{name: "slow", steps: "a slow &\nb slow &\nc one *50", slow: true, growth: -1, golden: []string{"pool/innocent"}},
		{name: "once", golden: []string{"goroutine-leak/innocent"}},
		{name: "workers", steps: "a workers *3 &\nb workers *3 &\nc workers *3 &\nd workers *3", golden: []string{"goroutine-leak/innocent", "goroutine-growth/innocent"}},
		{name: "shard", golden: []string{"goroutine-growth/innocent"}},
		{name: "segment", golden: []string{"file-leak/innocent"}},
		{name: "spread", golden: []string{"connection-leak/innocent"}},
		{name: "flusher", steps: "a flusher &\nb flusher", golden: []string{"goroutine-growth/innocent"}},
		{name: "query", steps: "a query *3 &\nb query *3 &\nc query *3 &\nd query *3", golden: []string{"connection-leak/innocent", "file-leak/innocent", "pool/innocent", "heap-growth/innocent"}},
		{name: "keepalive", steps: "a keepalive *3 &\nb keepalive *3 &\nc keepalive *3", golden: []string{"file-leak/innocent", "connection-leak/innocent"}},
		{name: "timer", steps: "a timer *3"},
		{name: "events"},
		{name: "bounded", slow: true, golden: []string{"goroutine-growth/innocent"}},
		{name: "reserve", slow: true, unsure: true, golden: []string{"goroutine-growth/innocent"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.slow && !*record {
				t.Skip("it takes long; its golden record is judged by the tests of the detectors")
			}
			steps := tt.steps
			if steps == "" {
				steps = "a " + tt.name
			}
			c, err := harness.ParseCase([]byte("target leaks\n" + steps + "\n"))
			if err != nil {
				t.Fatal(err)
			}
			rec := playOnce(t, s, c, tt.growth)
			var got []string
			unsure := false
			for _, r := range detect.Judge(rec, detect.All()) {
				for _, f := range r.Findings {
					got = append(got, f.Signature)
				}
				unsure = unsure || len(r.Unsure) > 0
			}
			if diff := gocmp.Diff(tt.want, got); diff != "" || unsure != tt.unsure {
				t.Errorf("unsure %v, want %v; want -, got +\n%s", unsure, tt.unsure, diff)
				for _, e := range rec.Events {
					t.Logf("%4d %8s %s %s %s %v %.600s", e.Seq, e.At.Round(time.Millisecond), e.Kind, e.Lane, e.Name, e.Args, e.Text)
				}
			}
			for _, g := range tt.golden {
				if *record {
					writeGolden(t, s, rec, filepath.Join(leaks, "..", g+"-"+tt.name+".txtar"), "The call "+tt.name+" of the service in testdata/leaks, played as often as the runner does.")
				}
			}
		})
	}
}

// playOnce plays a case in a fresh process.
func playOnce(t *testing.T, s *System, c harness.Case, growth int) *harness.Record {
	t.Helper()
	session, err := runner.Open(t.Context(), s.Target, nil, runner.Options{
		Fault: func(string) *harness.Fault { return nil }, Probes: probe.All(), Timeout: time.Second, Growth: cmp.Or(growth, 1),
	})
	if err != nil {
		t.Fatal(err)
	}
	rec, err := session.Play(t.Context(), c)
	after, closing := session.Close(context.WithoutCancel(t.Context()))
	if err != nil || closing != nil {
		t.Fatal(err, closing)
	}
	rec.Append(after)
	return rec
}

// writeGolden writes a record in the form that the tests of the detectors read, but of the
// dumps only the last two, which are all that is judged.
func writeGolden(t *testing.T, s *System, rec *harness.Record, file, words string) {
	t.Helper()
	a := &txtar.Archive{Comment: []byte(words + "\n")}
	add := func(name, text string) {
		if n := len(a.Files); n > 0 && a.Files[n-1].Name == name {
			a.Files[n-1].Data = append(a.Files[n-1].Data, text...)
			return
		}
		a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(text)})
	}
	add("build", "module "+rec.Build.Module+"\ncaps links output agent procs\n")
	dumps := 0
	for _, e := range rec.Events {
		if e.Name == census.Leaks {
			dumps++
		}
	}
	for _, e := range rec.Events {
		switch {
		case e.Kind == harness.Sample:
			if e.Name == census.Leaks {
				if dumps--; dumps > 1 {
					break
				}
			}
			header := fmt.Sprintf("sample %s at=%q", e.Name, e.At.Round(time.Millisecond))
			for _, arg := range e.Args {
				header += " " + arg.Key + "=" + arg.Value.String()
			}
			add(header, strings.ReplaceAll(e.Text, s.maker.(*binary).made.Dir, "/src/leaks")+"\n")
		case e.Kind == harness.Output:
			add("output "+e.Name+" "+e.Lane, e.Text+"\n")
		case e.Kind == harness.Exit:
			add("events", fmt.Sprintf("exit %s %.0f expected=%s\n", e.Name, e.Value, e.Args.Text("expected")))
		default:
			line := strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Kind, e.Lane, e.Name))
			for _, arg := range e.Args {
				line += " " + arg.Key + "=" + arg.Value.String()
			}
			add("events", line+"\n")
		}
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}
