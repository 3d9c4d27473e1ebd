package gofuzz

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/fuzz/engine"
)

// run runs programs without the harness's care for children.
func run(ctx context.Context, p engine.Program, line func(string)) (int, error) {
	cmd := exec.CommandContext(ctx, p.Path, p.Args...)
	cmd.Env, cmd.Dir = p.Env, p.Dir
	out, err := cmd.CombinedOutput()
	for l := range strings.Lines(string(out)) {
		line(strings.TrimSuffix(l, "\n"))
	}
	if cmd.ProcessState != nil {
		return cmd.ProcessState.ExitCode(), nil
	}
	return 0, err
}

func TestEngineIsTheOneOfOurOwnModule(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", enginePath).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := "require " + enginePath + " " + strings.TrimSpace(string(out))
	if got := strings.TrimSpace(string(shimMod())); !strings.HasSuffix(got, want) || strings.Count(got, "require") != 1 {
		t.Errorf("the module requires\n%s\nwant %s", got, want)
	}
}

func TestSettingsOfTheModuleArePutBack(t *testing.T) {
	t.Parallel()
	tests := []struct{ has, want, env string }{
		{"", "", ""},
		{"httpmuxgo121=1,winsymlink=0", "", "httpmuxgo121=0,httpmuxgo121=,winsymlink=1,winsymlink="},
		{"httpmuxgo121=1,panicnil=1", "panicnil=1", "httpmuxgo121=0,httpmuxgo121=,panicnil=1"},
		{"", "panicnil=1", "panicnil=1"},
	}
	for _, tt := range tests {
		if got := GODEBUG(tt.has, tt.want); got != tt.env {
			t.Errorf("GODEBUG(%q, %q) = %q, want %q", tt.has, tt.want, got, tt.env)
		}
	}
}

func TestMisplacedDirectivesNameTheirPackages(t *testing.T) {
	t.Parallel()
	const words = `failed to execute go build: exit status 1
# crypto/internal/fips140/bigmod
../../tmp/go-fuzz-build1/goroot/src/crypto/internal/fips140/bigmod/nat.go:1199:3: misplaced compiler directive
../../tmp/go-fuzz-build1/goroot/src/crypto/internal/fips140/bigmod/nat.go:1210:3: misplaced compiler directive
# example.com/x
./x.go:1:1: undefined: y`
	if got := misplaced(words); !slices.Equal(got, []string{"crypto/internal/fips140/bigmod"}) {
		t.Errorf("got %q", got)
	}
	if got := misplaced("/tmp/goroot/src/a/b/c.go:1: misplaced compiler directive"); !slices.Equal(got, []string{"a/b"}) {
		t.Errorf("without a head: %q", got)
	}
	if got := misplaced("x.go:1:1: undefined: y"); got != nil {
		t.Errorf("of something else: %q", got)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	const line = "2026/01/02 15:04:05 workers: 2, corpus: 12 (3s ago), crashers: 1, restarts: 1/9876, execs: 98765 (32921/sec), cover: 55, uptime: 3s"
	if got, ok := parseStats(line); !ok || got != (engine.Stats{Execs: 98765, Corpus: 12}) {
		t.Errorf("got %+v, %v", got, ok)
	}
	if _, ok := parseStats("shutting down..."); ok {
		t.Error("another line was taken")
	}
}

func TestFlagsThatAWorkspaceDoesNotTake(t *testing.T) {
	t.Parallel()
	if got := flags("-mod=vendor -race --modfile=x.mod -tags=a"); got != "-race -tags=a" {
		t.Errorf("got %q", got)
	}
}

func TestOwnWorkspaceIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.work":    "go 1.24\n\nuse ./a\nuse ./b\n\nreplace example.com/c => ./c\n",
		"a/go.mod":   "module example.com/a\n\ngo 1.24\n",
		"a/a.go":     "package a\n\nimport _ \"example.com/b\"\n",
		"b/go.mod":   "module example.com/b\n\ngo 1.20\n",
		"b/b.go":     "package b\n",
		"c/go.mod":   "module example.com/c\n\ngo 1.20\n",
		"out/ignore": "",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := BuildOptions{Package: Package{Dir: filepath.Join(dir, "a"), Root: filepath.Join(dir, "a"), GoVersion: "1.24"}, Dir: filepath.Join(dir, "out")}
	env, err := workspace(t.Context(), run, o)
	if err != nil {
		t.Fatal(err)
	}
	out, ok, err := output(t.Context(), run, engine.Program{Name: "go", Path: "go", Args: []string{"list", "-deps", "-f", "{{.ImportPath}}", ".", enginePath + "/go-fuzz-dep"}, Env: env, Dir: o.Package.Dir})
	if err != nil || !ok {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"example.com/a", "example.com/b", enginePath + "/go-fuzz-dep"} {
		if !strings.Contains(out+"\n", want+"\n") {
			t.Errorf("%s is not found", want)
		}
	}
	text, err := os.ReadFile(filepath.Join(o.Dir, "go.work"))
	if err != nil || !strings.Contains(string(text), "replace example.com/c  => "+filepath.Join(dir, "c")) && !strings.Contains(string(text), "replace example.com/c => "+filepath.Join(dir, "c")) {
		t.Errorf("the replacement is lost: %v\n%s", err, text)
	}
}

func TestCrashersAreTakenOnceAndWhole(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := strings.Repeat("a", 40)
	write := func(file, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(dir, "crashers"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "crashers", file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got []engine.Crasher
	o, taken := Options{Dir: dir, Crash: func(c engine.Crasher) { got = append(got, c) }}, map[string]bool{}
	look := func() {
		t.Helper()
		if err := crashers(o, taken); err != nil {
			t.Fatal(err)
		}
	}
	look()
	write(name, "in")
	look()
	if got != nil {
		t.Fatal("one was taken before its output was there")
	}
	write(name+".quoted", `"in"`)
	write(name+".output", "panic: x\n")
	look()
	look()
	want := []engine.Crasher{{Input: engine.Input{[]byte("in")}, Output: []string{"panic: x", ""}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestEngineThatEndsIsAnError(t *testing.T) {
	t.Parallel()
	_, err := Fuzz(t.Context(), func(_ context.Context, _ engine.Program, line func(string)) (int, error) {
		line("failed to unmarshal metadata")
		return 1, nil
	}, Options{Dir: t.TempDir(), Func: "FuzzX"})
	if err == nil || !strings.Contains(err.Error(), "ended with code 1") || !strings.Contains(err.Error(), "metadata") {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsBuiltIsKeptForAWhile(t *testing.T) {
	t.Parallel()
	cache, archive := t.TempDir(), filepath.Join(t.TempDir(), "fuzz.zip")
	if err := os.WriteFile(archive, []byte("zip"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(cache, "fuzz-old")
	if err := os.Mkdir(old, 0o700); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * keepTime)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	b := Built{Archive: archive, GODEBUG: "a=1", Preserved: []string{"p"}}
	cell := filepath.Join(cache, "fuzz-new")
	if err := b.save(cell); err != nil {
		t.Fatal(err)
	}
	var back Built
	if err := back.load(cell); err != nil || !back.Cached || back.GODEBUG != "a=1" || !slices.Equal(back.Preserved, b.Preserved) {
		t.Errorf("got %+v, %v", back, err)
	}
	if exists(old) {
		t.Error("an old one was kept")
	}
	if err := back.load(old); err == nil {
		t.Error("one that is gone was loaded")
	}
}

func TestPreservedPackagesAreRemembered(t *testing.T) {
	t.Parallel()
	cache, dir := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/m\n\ngo 1.24\n", "m.go": "package m\n\nimport _ \"sort\"\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, more := range [][]string{{"net/http", "example.com/own"}, {"sort"}, {"sort"}} {
		if err := remember(cache, more); err != nil {
			t.Fatal(err)
		}
	}
	if got := remembered(cache); !slices.Equal(got, []string{"net/http", "sort"}) {
		t.Errorf("remembered %q", got)
	}
	got, err := needed(t.Context(), run, BuildOptions{Cache: cache, Package: Package{Dir: dir}}, os.Environ())
	if err != nil || !slices.Equal(got, []string{"sort"}) {
		t.Errorf("needed %q, %v", got, err)
	}
}
