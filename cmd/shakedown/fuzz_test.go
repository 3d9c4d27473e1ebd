package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// hashes are those of all files below a directory.
func hashes(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			fmt.Fprintln(&out, path)
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintf(&out, "%s %x\n", path, sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// TestRouterIsFuzzedForReal has go-fuzz at a target behind patterns of net/http, such as
// "POST /items/{id}/reserve". With the settings that go-fuzz builds with, each request
// would be answered 404, and its build without care would not work at all.
func TestRouterIsFuzzedForReal(t *testing.T) {
	if testing.Short() {
		t.Skip("builds net/http with go-fuzz, which takes a minute")
	}
	t.Parallel()
	module := filepath.Join("..", "..", "testdata", "functions", "router")
	before := hashes(t, module)
	fuzz := func(args ...string) (code int, stdout string) {
		t.Helper()
		var out, words bytes.Buffer
		code = run(append([]string{"fuzz"}, args...), &out, &words)
		t.Logf("shakedown fuzz %s: %d\n%s%s", strings.Join(args, " "), code, &out, &words)
		return code, out.String()
	}
	bugs := func(stdout string) []string {
		var out []string
		for _, m := range regexp.MustCompile(`(?m)^BUG +(.*)$`).FindAllStringSubmatch(stdout, -1) {
			out = append(out, m[1])
		}
		slices.Sort(out)
		return out
	}
	const (
		crash = "panic: index out of range: example.com/router/items.(*Server).reserve"
		race  = "race: example.com/router/items.(*Server).get | example.com/router/items.(*Server).note"
	)
	out := t.TempDir()
	code, stdout := fuzz(module, "--budget", "30s", "--triage", "30s", "--out", out)
	if got := bugs(stdout); code != 1 || !slices.Contains(got, crash) {
		t.Errorf("without -race: exit code %d, bugs %q", code, got)
	}
	// Each request for an item races: it is one bug, however often it is seen.
	code, stdout = fuzz(module, "--race", "--budget", "20s", "--triage", "60s", "--out", out)
	got := slices.DeleteFunc(bugs(stdout), func(s string) bool { return s == crash })
	if code != 1 || !slices.Equal(got, []string{race}) {
		t.Errorf("with -race: exit code %d, bugs %q", code, got)
	}
	inputs, err := filepath.Glob(filepath.Join(out, "*", "bugs", "panic-*", "input"))
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no input was kept: %v", err)
	}
	if code, stdout = fuzz(module, "--func", "FuzzRequest", "--replay", inputs[0], "-n", "2"); code != 1 || !strings.Contains(stdout, "shown 2 of 2: "+crash) {
		t.Errorf("the replay: exit code %d", code)
	}
	if code, _ = fuzz(filepath.Join(module, "fixed"), "--func", "FuzzRequest", "--replay", inputs[0], "-n", "2"); code != 0 {
		t.Errorf("the replay on the fixed twin: exit code %d", code)
	}
	if after := hashes(t, module); after != before {
		t.Errorf("the module was changed:\n%s\nwas\n%s", after, before)
	}
}

// TestFailureOfADependencyIsFound fuzzes a function that fails only where its store does.
func TestFailureOfADependencyIsFound(t *testing.T) {
	if testing.Short() {
		t.Skip("fuzzes for a while")
	}
	t.Parallel()
	module := filepath.Join("..", "..", "testdata", "functions", "lookup")
	before := hashes(t, module)
	var out, words bytes.Buffer
	code := run([]string{"fuzz", module, "--budget", "10s", "--triage", "60s", "--faults", "net/refuse,net/rst", "--out", t.TempDir(), "--seed", "1"}, &out, &words)
	for _, want := range []string{
		"BUG    panic: nil pointer dereference: example.com/lookup/prices.Store.Label\n",
		"needs 1 call, net/r",
		"net/refuse link=cache: took effect",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not said", want)
		}
	}
	if code != 1 || t.Failed() {
		t.Errorf("exit code %d\n%s%s", code, &out, &words)
	}
	if after := hashes(t, module); after != before {
		t.Errorf("the module was changed:\n%s\nwas\n%s", after, before)
	}
}
