package stack

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func lines(s string) []string { return strings.Split(strings.TrimPrefix(s, "\n"), "\n") }

func TestGoroutinesReadsDump(t *testing.T) {
	t.Parallel()
	got := Goroutines(lines(`
goroutine 7 gp=0xc000 m=4 mp=0xc08 [chan receive (leaked), 2 minutes, locked to thread]:
internal/sync.(*Mutex).lockSlow(0xc0000a4240)
	/usr/local/go/src/internal/sync/mutex.go:149 +0x1f3 fp=0x7f sp=0x7e pc=0x40
a line of the log, printed (in between)
sync.(*Mutex).Lock(...)
	/usr/local/go/src/sync/mutex.go:46
example.com/shop.(*Map[go.shape.string,example.com/x.T]).Get({0x1, 0x2}, 0x3?)
	C:/src/shop/map.go:9 +0x4
...12 frames elided...
created by main.main.func1 in goroutine 5
	/src/shop/main.go:57 +0x42

goroutine 8 [running]:`))
	want := []Goroutine{
		{
			ID: 7, State: "chan receive", Leaked: true, Parent: 5, First: 0, Last: 10,
			Frames: []Frame{
				{"internal/sync.(*Mutex).lockSlow", "0xc0000a4240", "/usr/local/go/src/internal/sync/mutex.go", 149},
				{"sync.(*Mutex).Lock", "...", "/usr/local/go/src/sync/mutex.go", 46},
				{"example.com/shop.(*Map[...]).Get", "{0x1, 0x2}, 0x3?", "C:/src/shop/map.go", 9},
			},
			Creator: Frame{"main.main.func1", "", "/src/shop/main.go", 57},
		},
		{ID: 8, State: "running", First: 12, Last: 12},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
}

func TestGoroutinesKeepsWhatStoodBeforeTheHeader(t *testing.T) {
	t.Parallel()
	got := Goroutines(lines("[PANIC RECOVER] boom goroutine 12 [running]:\nmain.f()\n\t/x.go:1 +0x1\"}"))
	if len(got) != 1 || got[0].Lead != "[PANIC RECOVER] boom " || len(got[0].Frames) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestOwnerOfFunctions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		module, fn, pkg, receiver string
		own, std                  bool
	}{
		{"example.com/shop", "example.com/shop/internal/x.(*T).M.func1", "example.com/shop/internal/x", "example.com/shop/internal/x.(*T)", true, false},
		{"example.com/shop", "example.com/shop.(*C[...]).Put", "example.com/shop", "example.com/shop.(*C[...])", true, false},
		{"example.com/shop", "example.com/shopping.F", "example.com/shopping", "example.com/shopping.F", false, false},
		{"example.com/shop", "example.com/shop/zzshakedown.serve", "example.com/shop/zzshakedown", "example.com/shop/zzshakedown.serve", false, true},
		{"example.com/shop", "main.main.main.func1.func72", "main", "main.main.main", true, false},
		{"example.com/shop", "net/http.(*conn).serve", "net/http", "net/http.(*conn)", false, true},
		{"example.com/shop", "vendor/golang.org/x/net/http/httpguts.F", "vendor/golang.org/x/net/http/httpguts", "vendor/golang.org/x/net/http/httpguts.F", false, true},
		{"example.com/shop", "gopkg.in/yaml%2ev3.(*parser).peek", "gopkg.in/yaml%2ev3", "gopkg.in/yaml%2ev3.(*parser)", false, false},
		{"example.com/shop", "slices.SortFunc[go.shape.[]example.com/x.T]", "slices", "slices.SortFunc[go.shape.[]example.com/x.T]", false, true},
		{"shop", "shop/store.New", "shop/store", "shop/store.New", true, false},
		{"", "shop/store.New", "shop/store", "shop/store.New", false, true},
		{"", "panic", "", "panic", false, true},
	} {
		if got := Package(c.fn); got != c.pkg {
			t.Errorf("Package(%s) = %q, want %q", c.fn, got, c.pkg)
		}
		if got := Receiver(c.fn); got != c.receiver {
			t.Errorf("Receiver(%s) = %q, want %q", c.fn, got, c.receiver)
		}
		if own, std := Own(c.module, c.fn), Std(c.module, c.fn); own != c.own || std != c.std {
			t.Errorf("module %q, %s: own %v std %v, want %v %v", c.module, c.fn, own, std, c.own, c.std)
		}
	}
}

func TestCulprit(t *testing.T) {
	t.Parallel()
	frames := func(fns ...string) (out []Frame) {
		for _, f := range fns {
			out = append(out, Frame{Func: f})
		}
		return out
	}
	for _, c := range []struct {
		frames []Frame
		want   string
	}{
		{frames("runtime.mapassign", "github.com/a/b.F", "shop.G", "main.main"), "shop.G"},
		{frames("runtime.mapassign", "github.com/a/b.F", "net/http.G"), "github.com/a/b.F"},
		{frames("bytes.(*Buffer).Len", "net/http.G"), "bytes.(*Buffer).Len"},
		{nil, "unknown"},
	} {
		if got := Culprit("shop", c.frames); got != c.want {
			t.Errorf("Culprit(%v) = %s, want %s", c.frames, got, c.want)
		}
	}
}

func TestRacesTakesNoQuotedReport(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"WARNING: DATA RACE",
		"msg=\"WARNING: DATA RACE\"\nWrite at 0x00c0 by goroutine 7:\n  main.f()",
		"==================\nWARNING: DATA RACE\nnothing else\n==================",
	} {
		if got := Races(lines(s)); len(got) != 0 {
			t.Errorf("%q: got %+v", s, got)
		}
	}
}

func TestRacesOneBehindTheOther(t *testing.T) {
	t.Parallel()
	report := "==================\nWARNING: DATA RACE\nWrite at 0x00c0 by goroutine 7:\n  main.f()\n      /x.go:1 +0x1\n\nPrevious read at 0x00c0 by main goroutine:\n  main.g()\n      /x.go:2 +0x1\n==================\n"
	got := Races(lines(report + report + "WARNING: DATA RACE\nRead at 0x1 by goroutine 1:\n  main.h()\nWARNING: DATA RACE\nRead at 0x1 by goroutine 1:\n"))
	if len(got) != 4 {
		t.Fatalf("got %d races, want 4: %+v", len(got), got)
	}
	if got[1].First != 10 || got[1].Last != 19 || got[1].Accesses[1].Op != "read" || got[1].Accesses[1].Frames[0] != (Frame{"main.g", "", "/x.go", 2}) {
		t.Errorf("second race: %+v", got[1])
	}
	if got[2].Accesses[1].Op != "access" || got[3].Accesses[0].Frames != nil {
		t.Errorf("cut races: %+v", got[2:])
	}
}

// TestHostileOutputIsReadInTime feeds much of what parsers could stumble over again and again.
func TestHostileOutputIsReadInTime(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"goroutine 1 [running]:", "WARNING: DATA RACE", "[Recovery] panic recovered:", " panic: x", "runtime stack:",
		"WARNING: DATA RACE\nWrite at 0x1 by goroutine 1:", "[Recovery] panic recovered:\n/x.go:1 (0x1)", " panic: x\n -> main.f\n ->   /x.go:1",
		strings.Repeat("goroutine 1 [", 100), strings.Repeat("[", 1000) + "(" + ")",
	} {
		in := lines(strings.Repeat(s+"\n", 5_000))
		start := time.Now()
		Goroutines(in)
		Races(in)
		Gin(in)
		Chi(in)
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("%.40q: %v", s, d)
		}
	}
}

// FuzzParse holds that no output stops the parsers, and that what they return is in bounds and in order.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("../detect/testdata/*/*.txtar")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(b) < 16<<10 {
			f.Add(string(b))
		}
	}
	f.Fuzz(func(t *testing.T, s string) {
		in := lines(s)
		end := -1
		check := func(first, last int) {
			if first <= end || last < first || last >= len(in) {
				t.Fatalf("lines %d to %d of %d, behind %d", first, last, len(in), end)
			}
			end = last
		}
		for _, g := range Goroutines(in) {
			check(g.First, g.Last)
			for _, c := range g.Calls() {
				Receiver(c.Func)
				Short(c.Func)
			}
			Culprit("shop", g.Calls())
		}
		end = -1
		for _, r := range Races(in) {
			check(r.Last, r.Last) // two reports may share a rule
		}
		end = -1
		for _, r := range Gin(in) {
			check(r.First, r.Last)
		}
		end = -1
		for _, r := range Chi(in) {
			check(r.First, r.Last)
		}
	})
}
