package native

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shakedown-go/shakedown/fuzz/engine"
)

// script plays the engine: each start does the next of its turns, and the last one goes on
// until the end.
type script struct {
	t     *testing.T
	seeds string
	turns []func(line func(string)) int
	n     int
}

func (s *script) run(ctx context.Context, p engine.Program, line func(string)) (int, error) {
	if !strings.Contains(strings.Join(p.Args, " "), "-test.fuzzminimizetime=1x") {
		s.t.Errorf("started with %q", p.Args)
	}
	if s.n++; s.n > len(s.turns) {
		<-ctx.Done()
		return 0, nil
	}
	return s.turns[s.n-1](line), nil
}

func (s *script) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.seeds, name), []byte(text), 0o600); err != nil {
		s.t.Error(err)
	}
}

func TestItGoesOnAfterACrash(t *testing.T) {
	t.Parallel()
	synctest.Test(t, itGoesOn)
}

func itGoesOn(t *testing.T) {
	dir := t.TempDir()
	s := &script{t: t, seeds: filepath.Join(dir, "testdata", "fuzz", "FuzzX")}
	crash := func(name string) func(func(string)) int {
		return func(line func(string)) int {
			line("fuzz: elapsed: 0s, gathering baseline coverage: 0/2 completed")
			line("fuzz: elapsed: 0s, gathering baseline coverage: 2/2 completed, now fuzzing with 2 workers")
			line("fuzz: elapsed: 3s, execs: 100 (33/sec), new interesting: 1 (total: 3)")
			s.write(name, string(engine.Input{[]byte(name)}.Text()))
			line("--- FAIL: FuzzX (0.02s)")
			return 1
		}
	}
	s.turns = []func(func(string)) int{crash("one"), crash("two"), func(line func(string)) int {
		line("fuzz: elapsed: 0s, gathering baseline coverage: 1/2 completed")
		line("failure while testing seed corpus entry: FuzzX/seed#1")
		return 1
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	var got []engine.Input
	seed := engine.Input{[]byte("seed")}
	res, err := Fuzz(ctx, s.run, Options{Func: "FuzzX", Dir: dir, Cache: t.TempDir(), Seeds: []engine.Input{seed}, Crash: func(c engine.Crasher) { got = append(got, c.Input) }})
	if err != nil {
		t.Fatal(err)
	}
	if want := []engine.Input{{[]byte("one")}, {[]byte("two")}, {engine.Own("seed#1")}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
	// Twice a hundred and the input that failed, and the one seed of the third start.
	if s.n != 4 || res.Execs != 203 || res.Seeds != 2 || res.Blocked != "" {
		t.Errorf("%d starts, %+v", s.n, res)
	}
	if left, err := engine.ReadAll(s.seeds); err != nil || !reflect.DeepEqual(left, []engine.Input{seed}) {
		t.Errorf("the seeds are now %v, %v", left, err)
	}
}

func TestAnEngineThatNeverBeginsIsBlocked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, neverBegins)
}

func neverBegins(t *testing.T) {
	s := &script{t: t}
	for range 100 {
		s.turns = append(s.turns, func(line func(string)) int {
			line("failure while testing seed corpus entry: FuzzX/seed#0")
			return 1
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	n := 0
	res, err := Fuzz(ctx, s.run, Options{Func: "FuzzX", Dir: t.TempDir(), Cache: t.TempDir(), Crash: func(engine.Crasher) { n++ }})
	if err != nil || !strings.Contains(res.Blocked, "seed#0") || res.Execs != 0 || n != patience || s.n != patience {
		t.Errorf("%d starts, %d crashers, %+v, %v", s.n, n, res, err)
	}
}

func TestCorpusThatFailsIsTakenAwayAndKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, corpusFails)
}

func corpusFails(t *testing.T) {
	cache := t.TempDir()
	in := engine.Input{1, "x"}
	if err := os.MkdirAll(filepath.Join(cache, "FuzzX"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(cache, "FuzzX", "abc"), in.Text(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, turns: []func(func(string)) int{func(line func(string)) int {
		line("failure while testing seed corpus entry: FuzzX/abc")
		return 1
	}}}
	ctx, cancel := context.WithTimeout(t.Context(), 1300*time.Millisecond)
	defer cancel()
	var got []engine.Input
	res, err := Fuzz(ctx, s.run, Options{Func: "FuzzX", Dir: t.TempDir(), Cache: cache, Crash: func(c engine.Crasher) { got = append(got, c.Input) }})
	if want := []engine.Input{in}; err != nil || !reflect.DeepEqual(got, want) || !reflect.DeepEqual(res.Corpus, want) {
		t.Errorf("crashers %v, corpus %v, %v", got, res.Corpus, err)
	}
	if _, err := os.Stat(filepath.Join(cache, "FuzzX", "abc")); !errors.Is(err, os.ErrNotExist) {
		t.Error("it is still there")
	}
}

func TestPanicsAsTheRuntimePrintsThem(t *testing.T) {
	t.Parallel()
	const said = `--- FAIL: FuzzX (0.02s)
    --- FAIL: FuzzX (0.00s)
        testing.go:1927: panic: boom
            goroutine 13 [running]:
            runtime/debug.Stack()
            	/go/src/runtime/debug/stack.go:26 +0x9b
            panic({0x63e4a0?, 0x1dac34ffa240?})
            	/go/src/runtime/panic.go:860 +0x13a
    
    Failing input written to testdata/fuzz/FuzzX/8727b16d337d7b81`
	const want = `--- FAIL: FuzzX (0.02s)
    --- FAIL: FuzzX (0.00s)
panic: boom
goroutine 13 [running]:
panic({0x63e4a0?, 0x1dac34ffa240?})
	/go/src/runtime/panic.go:860 +0x13a
    
    Failing input written to testdata/fuzz/FuzzX/8727b16d337d7b81`
	if got := strings.Join(plain(strings.Split(said, "\n")), "\n"); got != want {
		t.Errorf("got\n%s", got)
	}
}
