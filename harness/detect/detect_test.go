package detect

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/census"
)

const everything = harness.CapSteady | harness.CapLinks | harness.CapProcs | harness.CapAgent | harness.CapRace | harness.CapOutput | harness.CapIdentity

func TestDetectorsAreComplete(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, d := range All() {
		if d.Name == "" || d.Doc == "" || d.Minimum <= 0 || d.Detect == nil || seen[d.Name] {
			t.Errorf("%+v is not complete, or its name is taken", d)
		}
		seen[d.Name] = true
		if ByName(d.Name) != d {
			t.Errorf("ByName(%s) is another detector", d.Name)
		}
	}
	if d := ByName("nobody"); d != nil {
		t.Errorf("ByName(nobody) = %v", d)
	}
}

func TestJudgeChecksOnlyWhatTheInstanceCouldShow(t *testing.T) {
	t.Parallel()
	rec := &harness.Record{
		Build: harness.Build{Caps: harness.CapOutput},
		Events: []harness.Event{
			{Seq: 1, Kind: harness.Invoke, Lane: "a", Name: "ok"},
			{Seq: 2, Kind: harness.OK, Lane: "a", Name: "ok", Args: harness.Args{{Key: "status", Value: harness.Int(200)}}},
		},
	}
	got := map[string]string{}
	for _, r := range Judge(rec, []*harness.Detector{Race, Hang, Identity, Panic}) {
		got[r.Detector.Name] = fmt.Sprintf("missing %d, checked %d, undeclared %v", r.Missing, r.Checked, r.Undeclared())
	}
	want := map[string]string{
		"race":     fmt.Sprintf("missing %d, checked 0, undeclared false", harness.CapRace),
		"hang":     fmt.Sprintf("missing %d, checked 0, undeclared false", harness.CapAgent),
		"identity": fmt.Sprintf("missing %d, checked 0, undeclared true", harness.CapIdentity),
		"panic":    "missing 0, checked 1, undeclared false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
}

func TestKindIsTheSameInEveryRun(t *testing.T) {
	t.Parallel()
	sent := []string{"blue sky", "store", "red"}
	for msg, want := range map[string]string{
		"runtime error: index out of range [5] with length 3":                           "index out of range",
		"runtime error: slice bounds out of range [:7] with capacity 3":                 "slice bounds out of range",
		"runtime error: invalid memory address or nil pointer dereference [recovered]":  "nil pointer dereference",
		"runtime error: integer divide by zero [recovered, repanicked]":                 "integer divide by zero",
		"interface conversion: interface {} is string, not main.T":                      "interface conversion: interface {} is string, not main.T",
		"assignment to entry in nil map":                                                "assignment to entry in nil map",
		"(main.T) {0x1234, 0xc000123}":                                                  "(main.T) {, }",
		`strconv.Atoi: parsing "x1": invalid syntax`:                                    `strconv.Atoi: parsing "": invalid syntax`,
		"order o-81ff of user 7, 8, 9 at 2026-11-20T17:30:37Z: 127.0.0.1:5432 is down.": "order N of user N at N: N is down.",
		"unknown color red, redder than blue sky":                                       "unknown color _, redder than _",
		"no such store":                   "no such _",
		"runtime: out of memory":          "out of memory",
		"":                                "no message",
		strings.Repeat("long words ", 20): strings.TrimSpace(strings.Repeat("long words ", 20)[:80]),
		"can't say 'this one' or `that`":  `can't say "" or ""`,
	} {
		if got := kind(msg, sent); got != want {
			t.Errorf("kind(%q)\n got %q\nwant %q", msg, got, want)
		}
	}
}

// dump is what a service looks like of whose two calls the first has the lock.
const dump = `goroutine 5 [IO wait]:
net.(*conn).Read(0xc1)
	/go/src/net/net.go:196 +0x1
shop.(*Store).Reserve(0xc2)
	/src/shop/store.go:10 +0x1
net/http.(*conn).serve(0xc3)
	/go/src/net/http/server.go:2067 +0x1

goroutine 6 [sync.Mutex.Lock]:
internal/sync.(*Mutex).lockSlow(0xc2)
	/go/src/internal/sync/mutex.go:149 +0x1
sync.(*Mutex).Lock(...)
	/go/src/sync/mutex.go:46
shop.(*Store).Count(0xc2)
	/src/shop/store.go:20 +0x1
net/http.(*conn).serve(0xc4)
	/go/src/net/http/server.go:2067 +0x1
`

func TestHang(t *testing.T) {
	t.Parallel()
	library := strings.ReplaceAll(dump, "shop.(*Store).Count(0xc2)", "example.org/pool.(*Pool).Get(0xc9)\n\t/pool.go:1 +0x1\nshop.(*Store).Count(0xc2)")
	library = strings.ReplaceAll(library, "lockSlow(0xc2)", "lockSlow(0xc9)")
	accepting := strings.NewReplacer("net.(*conn).Read(0xc1)", "internal/poll.(*FD).Accept(0xc1)", "Reserve(0xc2)", "Count(0xc2)",
		"store.go:10 ", "store.go:30 ", "net/http.(*conn).serve(0xc3)", "main.main()").Replace(dump)
	computing := strings.NewReplacer("[IO wait]", "[runnable]", "Reserve(0xc2)", "Count(0xc2)", "store.go:10 ", "store.go:30 ").Replace(dump)
	early := strings.ReplaceAll(dump, "Reserve(0xc2)", "Count(0xc2)")
	for _, c := range []struct {
		name          string
		before, after string
		fault         bool
		between       harness.Kind // an event between the dumps
		want          string
	}{
		{name: "held across I/O", before: dump, after: dump, fault: true, want: "hang: lock in shop.(*Store).Reserve"},
		{name: "the holder retries", before: strings.Replace(dump, "[IO wait]", "[sleep]", 1), after: dump, fault: true, want: "hang: lock in shop.(*Store).Reserve"},
		{name: "the waiter came later", before: strings.ReplaceAll(dump, "goroutine 6", "goroutine 7"), after: dump, fault: true},
		{name: "the lock passes on", before: dump + "\n" + strings.ReplaceAll(dump, "goroutine ", "goroutine 1"), after: dump, fault: true},
		{name: "the waiter serves nobody", before: strings.ReplaceAll(dump, "net/http.(*conn).serve(0xc4)", "shop.work()"), after: strings.ReplaceAll(dump, "net/http.(*conn).serve(0xc4)", "shop.work()"), fault: true},
		{name: "a library locks for itself", before: library, after: library, fault: true},
		{name: "a library locks while nothing is injected", before: library, after: library, want: "hang: lock of example.org/pool.(*Pool)"},
		{name: "the server waits for callers", before: accepting, after: accepting, want: "hang: lock of shop.(*Store)"},
		{name: "the holder computes", before: computing, after: computing, want: "hang: lock in shop.(*Store).Count"},
		{name: "it has not come to the lock", before: early, after: early, fault: true, want: "hang: lock of shop.(*Store)"},
		{name: "another process life", before: dump, after: dump, between: harness.Exit},
		{name: "another case", before: dump, after: dump, between: harness.Reset},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rec := &harness.Record{Build: harness.Build{Module: "shop", Caps: everything}}
			emit := func(e harness.Event) {
				e.Seq = uint64(len(rec.Events) + 1)
				rec.Events = append(rec.Events, e)
			}
			if c.fault {
				emit(harness.Event{Kind: harness.Inject, Name: "net/stall"})
			}
			emit(harness.Event{Kind: harness.Stuck, Lane: "a", Name: "reserve"})
			emit(harness.Event{Kind: harness.Sample, Name: "goroutines", Text: c.before})
			if c.between != "" {
				emit(harness.Event{Kind: c.between, Name: harness.Service})
			}
			emit(harness.Event{Kind: harness.Sample, Name: "goroutines", Text: c.after})
			got := ""
			for _, f := range Hang.Detect(rec).Findings {
				got += f.Signature
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestLateCallIsCountedOnce(t *testing.T) {
	t.Parallel()
	yes := harness.Value{Form: harness.FormJSON, Text: "true"}
	rec := &harness.Record{Build: harness.Build{Caps: everything}, Events: []harness.Event{
		{Seq: 1, Kind: harness.Invoke, Lane: "a"}, {Seq: 2, Kind: harness.Invoke, Lane: "b"},
		{Seq: 3, Kind: harness.Stuck, Lane: "a"}, {Seq: 4, Kind: harness.Stuck, Lane: "b"},
		{Seq: 5, Kind: harness.Sample, Name: "goroutines", Args: harness.Args{{Key: "error", Value: harness.Text("no answer")}}},
		{Seq: 6, Kind: harness.Sample, Name: "goroutines", Args: harness.Args{{Key: "error", Value: harness.Text("no answer")}}},
		{Seq: 7, Kind: harness.Stuck, Lane: "a", Args: harness.Args{{Key: "ignored", Value: yes}}},
		{Seq: 8, Kind: harness.Unknown, Lane: "b"},
	}}
	want := []string{"calls stuck, and no two whole goroutine dumps that show where"}
	if diff := cmp.Diff(want, Hang.Detect(rec).Unsure); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
}

func TestRecordThatIsNotWholeIsNoPass(t *testing.T) {
	t.Parallel()
	rec := &harness.Record{
		Build:     harness.Build{Caps: everything},
		Truncated: true,
		Events:    []harness.Event{{Seq: 1, Kind: harness.Invoke, Lane: "a", Name: "ok"}, {Seq: 2, Kind: harness.OK, Lane: "a", Name: "ok"}},
	}
	for _, r := range Judge(rec, All()) {
		if r.Checked != 0 || len(r.Unsure) != 1 || !strings.HasPrefix(r.Unsure[0], "output was dropped: ") {
			t.Errorf("%s: checked %d, unsure %q", r.Detector.Name, r.Checked, r.Unsure)
		}
	}
}

// TestGrowthThatWasNotLookedIntoIsNotChecked has a census after a round in which something
// has grown, and no stacks that say what.
func TestGrowthThatWasNotLookedIntoIsNotChecked(t *testing.T) {
	t.Parallel()
	rec := &harness.Record{Build: harness.Build{Caps: everything}}
	for i, e := range []harness.Event{
		census.Census{PID: 7}.Event(census.Start, 1),
		{Kind: harness.OK, Lane: "a", Name: "get"},
		census.Census{PID: 7, Files: map[string]int{"socket": 9}, Goroutines: []census.Group{{Root: "f", IDs: []int64{1, 2, 3}}}}.Event(census.End, 1),
		{Kind: harness.Sample, Name: census.Leaks, Args: append(census.Args(census.End, 1), harness.Arg{Key: "error", Value: harness.Text("no answer")})},
	} {
		e.Seq = uint64(i + 1)
		rec.Events = append(rec.Events, e)
	}
	for _, d := range []*harness.Detector{GoroutineLeak, GoroutineGrowth, ConnectionLeak, FileLeak, HeapGrowth} {
		if j := d.Detect(rec); j.Checked != 0 || len(j.Findings) > 0 {
			t.Errorf("%s: %+v", d.Name, j)
		}
	}
}

// TestHostileOutputIsJudgedInTime feeds much of what detectors could stumble over again and again.
func TestHostileOutputIsJudgedInTime(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"panic: x\n\ngoroutine 1 [running]:\nmain.f()\n\t/x.go:1 +0x1\n",
		"http: panic serving x: y\ngoroutine 1 [running]:\npanic({0x1})\n\t/runtime/panic.go:1\nmain.f()\n\t/x.go:1 +0x1\n",
		"WARNING: DATA RACE\nWrite at 0x1 by goroutine 1:\n  main.f()",
		"fatal error: x", `goroutine 1 [running]:\n\"goroutine`,
	} {
		var rec harness.Record
		rec.Build.Caps = everything
		for i := range 1_000 {
			lane := []string{"stderr", "crash"}[i%2]
			rec.Events = append(rec.Events, harness.Event{Seq: uint64(i + 1), Kind: harness.Output, Name: harness.Service, Lane: lane, Text: s})
		}
		rec.Events = append(rec.Events, harness.Event{Seq: 1_001, Kind: harness.Exit, Name: harness.Service, Value: 2})
		start := time.Now()
		Judge(&rec, All())
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%.40q: %v", s, d)
		} else {
			t.Logf("%.20q: %v", s, d)
		}
	}
}

// FuzzJudge holds that nothing a service prints stops a detector, and that signatures stay one line.
func FuzzJudge(f *testing.F) {
	f.Add("panic: x\n\ngoroutine 1 [running]:\nmain.f()\n\t/x.go:1 +0x1\n", "", dump)
	f.Add("http: panic serving x: y\ngoroutine 1 [running]:\npanic({0x1})\n\t/runtime/panic.go:1\nmain.f()\n", "\n\ngoroutine 1 [running]:\nmain.f()", dump)
	f.Add("WARNING: DATA RACE\nWrite at 0x1 by goroutine 1:\n  main.f()", "panic: y", "")
	f.Fuzz(func(t *testing.T, stderr, crash, sample string) {
		rec := &harness.Record{Build: harness.Build{Module: "shop", Caps: everything}, Events: []harness.Event{
			{Seq: 1, Kind: harness.Stuck},
			{Seq: 2, Kind: harness.Sample, Name: "goroutines", Text: sample},
			{Seq: 3, Kind: harness.Sample, Name: "goroutines", Text: sample},
			{Seq: 4, Kind: harness.Output, Name: harness.Service, Lane: "stderr", Text: stderr},
			{Seq: 5, Kind: harness.Output, Name: harness.Service, Lane: "crash", Text: crash},
			{Seq: 6, Kind: harness.Exit, Name: harness.Service, Value: 2},
		}}
		for _, x := range Findings(Judge(rec, All())) {
			if x.Signature == "" || x.Title == "" || len(x.Evidence) == 0 || strings.ContainsAny(x.Signature, "\n\r") {
				t.Errorf("%+v", x)
			}
		}
	})
}

// A pool that by chance takes one connection more in each round is none that leaks, as long
// as callers explain what it has.
func TestPoolThatGrowsToItsCallersIsNoLeak(t *testing.T) {
	t.Parallel()
	c, err := harness.ParseCase([]byte("target x\na get &\nb get &\nc get &\nd get\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		open   []int
		guilty bool
	}{
		{[]int{0, 5, 6, 7, 8}, false},
		{[]int{2, 4, 6, 8, 10}, false},
		{[]int{2, 4, 6, 8, 11}, true},
		{[]int{0, 4, 8, 12, 16}, true},
	} {
		rec := &harness.Record{Case: c}
		emit := func(at time.Duration, e harness.Event) {
			e.Seq, e.At, e.Step = uint64(len(rec.Events)+1), at, -1
			rec.Events = append(rec.Events, e)
		}
		held := func(n int, when string, round int) harness.Event {
			return census.Census{PID: 7, Links: map[string]int{"db": n}}.Event(when, round)
		}
		stacks := func(when string) harness.Event {
			return harness.Event{Kind: harness.Sample, Name: census.Leaks, Args: census.Args(when, 4), Text: "goroutine 1 [running]:\nmain.main()\n"}
		}
		emit(0, held(tt.open[0], census.Start, 1))
		for i, n := range tt.open[1:] {
			emit(time.Second, held(n, census.End, i+1))
		}
		emit(time.Second, stacks(census.End))
		emit(10*time.Second, held(tt.open[4], census.Late, 4))
		emit(10*time.Second, stacks(census.Late))
		if j := ConnectionLeak.Detect(rec); (len(j.Findings) > 0) != tt.guilty {
			t.Errorf("%v connections: %+v, want guilty %v", tt.open, j.Findings, tt.guilty)
		}
	}
}
