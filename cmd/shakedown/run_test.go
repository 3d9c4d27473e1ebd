package main

import (
	"bytes"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shakedown-go/shakedown/faults"
	"github.com/shakedown-go/shakedown/harness"
)

func TestSomeFaultsAreChosenByTheirNamesAlone(t *testing.T) {
	t.Parallel()
	named := func(list string) (out []string) {
		t.Helper()
		chosen, err := chooseFaults(list)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range chosen {
			if f.Named {
				out = append(out, f.Name)
			}
		}
		if len(chosen) == len(out) && list != "net/corrupt" {
			t.Errorf("--faults %s chooses nothing else", list)
		}
		return out
	}
	for _, list := range []string{"all", "net/", "net/,proc/kill"} {
		if got := named(list); len(got) > 0 {
			t.Errorf("--faults %s chooses %q", list, got)
		}
	}
	for _, list := range []string{"net/corrupt", "net/,net/corrupt", "net/corrupt,proc/kill"} {
		if got := named(list); !slices.Equal(got, []string{"net/corrupt"}) {
			t.Errorf("--faults %s chooses %q of those", list, got)
		}
	}
	for _, m := range modes() {
		if slices.ContainsFunc(m.faults, func(f *harness.Fault) bool { return f.Named }) {
			t.Errorf("bench draws a fault in the mode %s that is to be named", m.name)
		}
	}
	if n, all := len(drawn()), len(faults.All()); n == all || n == 0 {
		t.Errorf("of %d faults %d are drawn", all, n)
	}
}

// What a fuzz function says of bytes that were changed is no finding.
func TestFunctionsAreNotFuzzedOnChangedBytes(t *testing.T) {
	t.Parallel()
	var out, words bytes.Buffer
	code := run([]string{"fuzz", filepath.Join("..", "..", "testdata", "functions", "frames"), "--faults", "net/refuse,net/corrupt", "--out", t.TempDir()}, &out, &words)
	if code != 2 || !strings.Contains(words.String(), "net/corrupt changes what a function reads") {
		t.Errorf("exit code %d\n%s", code, words.String())
	}
}
