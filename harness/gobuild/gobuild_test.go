package gobuild

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness/agent"
)

const hello = `package main

import (
	"fmt"
	"io"
	"os"

	"example.com/svc/internal/word"
)

func main() {
	fmt.Println(word.Word)
	if len(os.Args) > 1 {
		io.Copy(io.Discard, os.Stdin)
	}
}
`

// module writes a module whose main package is ./cmd/svcd, with the files given on top.
func module(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	all := map[string]string{
		"go.mod":                "module example.com/svc\n\ngo 1.20\n",
		"cmd/svcd/main.go":      hello,
		"internal/word/word.go": "package word\n\nconst Word = \"hello\"\n",
	}
	maps.Copy(all, files)
	for name, text := range all {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tree returns the files below dir with their content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		out[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// run runs a binary and returns what it prints; with an agent it also shakes hands.
func run(t *testing.T, b Binary) (string, agent.Hello) {
	t.Helper()
	dir, err := os.MkdirTemp("", "gobuild-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command(b.Path, "wait")
	cmd.Env = append(os.Environ(), agent.AgentVar+"="+filepath.Join(dir, "s"))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, h, err := agent.Dial(ctx, filepath.Join(dir, "s"))
	in.Close()
	if err != nil {
		t.Errorf("no agent in %s: %v", b.Path, err)
	} else {
		c.Close()
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v", b.Path, err)
	}
	return strings.TrimSpace(out.String()), h
}

func TestBuildLeavesTheServiceAsItIs(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		race  bool
		dir   string // below the module
		pkg   string
		files map[string]string
	}{
		{name: "plain", pkg: "./cmd/svcd"},
		{name: "race", pkg: "./cmd/svcd", race: true},
		{name: "from the directory of main", dir: "cmd/svcd"},
		{name: "by import path", pkg: "example.com/svc/cmd/svcd"},
		{name: "language without generics", pkg: "./cmd/svcd", files: map[string]string{"go.mod": "module example.com/svc\n\ngo 1.16\n"}},
		{name: "vendored", pkg: "./cmd/svcd", files: map[string]string{
			"go.mod":                                "module example.com/svc\n\ngo 1.20\n\nrequire example.com/dep v1.0.0\n",
			"internal/word/word.go":                 "package word\n\nimport \"example.com/dep\"\n\nconst Word = dep.Word\n",
			"vendor/modules.txt":                    "# example.com/dep v1.0.0\n## explicit; go 1.20\nexample.com/dep\n",
			"vendor/example.com/dep/dep.go":         "package dep\n\nconst Word = \"hello\"\n",
			"vendor/example.com/dep/unused/none.go": "package unused\n",
		}},
		{name: "workspace", pkg: "./svc/cmd/svcd", files: map[string]string{
			"go.work":                   "go 1.20\n\nuse (\n\t./svc\n\t./dep\n)\n",
			"svc/go.mod":                "module example.com/svc\n\ngo 1.20\n",
			"svc/cmd/svcd/main.go":      hello,
			"svc/internal/word/word.go": "package word\n\nimport \"example.com/dep\"\n\nconst Word = dep.Word\n",
			"dep/go.mod":                "module example.com/dep\n\ngo 1.20\n",
			"dep/dep.go":                "package dep\n\nconst Word = \"hello\"\n",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := module(t, tt.files)
			if tt.name == "workspace" {
				if err := os.Remove(filepath.Join(dir, "go.mod")); err != nil {
					t.Fatal(err)
				}
			}
			before := tree(t, dir)
			o := Options{Dir: filepath.Join(dir, tt.dir), Package: tt.pkg, Race: tt.race, Cache: t.TempDir()}
			b, err := Build(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if b.Module != "example.com/svc" || b.Race != tt.race || b.Cached || len(b.SHA256) != 64 || !strings.HasPrefix(b.Go, "go1.") {
				t.Errorf("got %+v", b)
			}
			if out, h := run(t, b); out != "hello" || h.Race != tt.race || h.Go != b.Go || !slices.Contains(h.Features, "goroutines") {
				t.Errorf("it printed %q, and the agent said %+v", out, h)
			}
			if after := tree(t, dir); !maps.Equal(before, after) {
				t.Errorf("the module has changed: %v before, %v after", slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
			}
		})
	}
}

func TestSecondBuildIsFast(t *testing.T) {
	t.Parallel()
	dir := module(t, nil)
	o := Options{Dir: dir, Package: "./cmd/svcd", Race: true, Cache: t.TempDir()}
	first, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("first %v, second %v", first.Took, second.Took)
	if !second.Cached || second.Path != first.Path || second.SHA256 != first.SHA256 {
		t.Errorf("first %+v, second %+v", first, second)
	}
	if second.Took > 5*time.Second { // about 0.2s on a machine that is at rest
		t.Errorf("the second build took %v", second.Took)
	}
}

func TestChangeMakesANewBinaryAndKeepsTheOld(t *testing.T) {
	t.Parallel()
	dir := module(t, nil)
	o := Options{Dir: dir, Package: "./cmd/svcd", Cache: t.TempDir()}
	first, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "internal/word/word.go"), "package word\n\nconst Word = \"changed\"\n")
	second, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if second.Cached || second.Path == first.Path {
		t.Errorf("first %+v, second %+v", first, second)
	}
	if out, _ := run(t, second); out != "changed" {
		t.Errorf("the new binary prints %q", out)
	}
	if out, _ := run(t, first); out != "hello" {
		t.Errorf("the old binary prints %q", out)
	}
	// A binary that nobody has asked for in a long while goes.
	old := time.Now().Add(-2 * keep)
	if err := os.Chtimes(first.Path, old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(first.Path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old binary: %v", err)
	}
}

func TestBuildsOfOneServiceDoNotMeet(t *testing.T) {
	t.Parallel()
	dir := module(t, nil)
	o := Options{Dir: dir, Package: "./cmd/svcd", Cache: t.TempDir()}
	var wg sync.WaitGroup
	got := make([]Binary, 4)
	for i := range got {
		wg.Go(func() {
			b, err := Build(t.Context(), o)
			if err != nil {
				t.Error(err)
			}
			got[i] = b
		})
	}
	wg.Wait()
	for _, b := range got {
		if b.Path != got[0].Path {
			t.Errorf("%+v and %+v", got[0], b)
		}
	}
}

func TestWhatCannotBeBuiltIsSaid(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		pkg   string
		files map[string]string
		gone  string
		want  []string
	}{
		{name: "compile error", pkg: "./cmd/svcd", files: map[string]string{"internal/word/word.go": "package word\n\nconst Word int = \"x\"\n"},
			want: []string{"build ./cmd/svcd in ", "internal/word/word.go:3:18: cannot use \"x\""}},
		{name: "syntax error", pkg: "./cmd/svcd", files: map[string]string{"cmd/svcd/main.go": "package main\n\nfunc main( {\n"}, want: []string{"cmd/svcd/main.go:3:12: syntax error"}},
		{name: "no main package", pkg: "./internal/word", want: []string{"this is package word, not a main package"}},
		{name: "no such package", pkg: "./cmd/other", want: []string{"there is no directory ", "/cmd/other"}},
		{name: "no Go files", pkg: "./cmd", want: []string{"no Go files in"}},
		{name: "a file", pkg: "cmd/svcd/main.go", want: []string{"this is a file", "name the package"}},
		{name: "a pattern", pkg: "./...", want: []string{"not the name of one package"}},
		{name: "a flag", pkg: "-toolexec=x", want: []string{"not the name of one package"}},
		{name: "no go.mod", pkg: "./cmd/svcd", gone: "go.mod", want: []string{"go.mod", "the directory of its module"}},
		{name: "missing import", pkg: "./cmd/svcd", files: map[string]string{"internal/word/word.go": "package word\n\nimport _ \"example.com/none\"\n\nconst Word = \"\"\n"},
			want: []string{"internal/word/word.go:3:8: no required module provides package example.com/none"}},
		{name: "in the way", pkg: "./cmd/svcd", files: map[string]string{"zzshakedown/agent.go": "package zzshakedown\n"}, want: []string{"zzshakedown/agent.go is in the way"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := module(t, tt.files)
			if tt.gone != "" {
				if err := os.Remove(filepath.Join(dir, tt.gone)); err != nil {
					t.Fatal(err)
				}
			}
			b, err := Build(t.Context(), Options{Dir: dir, Package: tt.pkg, Cache: t.TempDir()})
			if err == nil {
				t.Fatalf("got %+v", b)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in:\n%v", want, err)
				}
			}
		})
	}
	t.Run("no such directory", func(t *testing.T) {
		t.Parallel()
		_, err := Build(t.Context(), Options{Dir: "/no/such/directory"})
		if err == nil || !strings.Contains(err.Error(), "there is no such directory") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := Build(ctx, Options{Dir: module(t, nil), Package: "./cmd/svcd", Cache: t.TempDir()})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

func TestToolchainWorksWhereItIsTold(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	b := builder{Options: Options{Dir: module(t, nil), Temp: temp}}
	if got, err := b.run(t.Context(), "env", "GOTMPDIR"); strings.TrimSpace(string(got)) != temp || err != nil {
		t.Errorf("GOTMPDIR is %q, %v; want %s", got, err, temp)
	}
}

func TestHintsNameAWayOutThatThereIs(t *testing.T) {
	t.Parallel()
	for _, words := range []string{"go: -race requires cgo", "cgo: C compiler \"cc\" not found", "go: -race is not supported on linux/386"} {
		if got := hint(words); got == "" || strings.Contains(got, "without") {
			t.Errorf("%s: %q", words, got)
		}
	}
}

func TestMissingCompilerForTheRaceDetectorIsSaid(t *testing.T) {
	dir := module(t, nil)
	for _, tt := range []struct{ name, value, want string }{
		{"CGO_ENABLED", "0", "the race detector needs cgo"},
		{"CC", "/no/such/compiler", "the race detector needs a C compiler"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv(tt.name, tt.value)
			_, err := Build(t.Context(), Options{Dir: dir, Package: "./cmd/svcd", Race: true, Cache: t.TempDir()})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestLeakProfileIsThereWhereTheToolchainHasIt(t *testing.T) {
	t.Parallel()
	dir := module(t, nil)
	for _, tt := range []struct {
		name, have, want string
		leaks, known     bool
	}{
		{name: "not asked for", known: true},
		{name: "asked for", leaks: true, known: true, want: "goroutineleakprofile"},
		{name: "beside others", leaks: true, known: true, have: "jsonv2,goroutineleakprofile", want: "jsonv2,goroutineleakprofile"},
		{name: "not wanted", leaks: true, known: true, have: "nogoroutineleakprofile"},
		{name: "not known", leaks: true},
	} {
		root := t.TempDir()
		if tt.known {
			write(t, filepath.Join(root, "src/internal/goexperiment/exp_goroutineleakprofile_on.go"), "package goexperiment\n")
		}
		b := builder{Options: Options{Dir: dir, Leaks: tt.leaks}, env: map[string]string{"GOROOT": root, "GOEXPERIMENT": tt.have}}
		b.experiments()
		if b.experiment != tt.want {
			t.Errorf("%s: GOEXPERIMENT=%q, want %q", tt.name, b.experiment, tt.want)
		}
	}
	b, err := Build(t.Context(), Options{Dir: dir, Package: "./cmd/svcd", Leaks: true, Cache: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if _, h := run(t, b); b.Leaks != slices.Contains(h.Features, "goroutineleak") {
		t.Errorf("the binary has it: %v, but the agent said %+v", b.Leaks, h)
	}
}
