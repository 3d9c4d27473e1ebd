package process

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/providers"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// redisHere brings a Redis of its own up, or skips the test where there is none.
func redisHere(t *testing.T) *Surroundings {
	t.Helper()
	dep := spec.Dependency{Engine: "redis", Provide: "local"}
	if _, err := providers.Choose(t.Context(), "cache", dep, "."); err != nil {
		if slices.Contains(strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ","), "redis") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return surround(t, map[string]spec.Dependency{"cache": dep, "copy": {Engine: "redis", Provide: "embedded"}})
}

func surround(t *testing.T, deps map[string]spec.Dependency) *Surroundings {
	t.Helper()
	s, err := Surround(t.Context(), &spec.File{Dependencies: deps}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// limit is a change of a Redis.
var limit = harness.Change{
	Read: [][]string{{"CONFIG", "GET", "maxmemory"}},
	Do:   [][]string{{"CONFIG", "SET", "maxmemory", "7"}},
	Undo: [][]string{{"CONFIG", "SET", "maxmemory", "0"}},
}

func limited(t *testing.T, s harness.Store) string {
	t.Helper()
	got, err := s.Do(t.Context(), limit.Read[0]...)
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	return got[1]
}

func TestServersAreStores(t *testing.T) {
	t.Parallel()
	w := redisHere(t)
	if want := map[string]string{"cache": "redis"}; !maps.Equal(w.Target.Stores, want) || !w.Target.Caps.Has(harness.CapStores) {
		t.Errorf("the stores are %v, want %v", w.Target.Stores, want)
	}
	if s, err := w.Store("copy"); err == nil {
		t.Errorf("an embedded one is %v", s)
	}
	s, err := w.Store("cache")
	if err != nil {
		t.Fatal(err)
	}
	if got := limited(t, s); got != "0" {
		t.Errorf("its limit is %s", got)
	}
	if alone := surround(t, nil); alone.Target.Caps.Has(harness.CapStores) {
		t.Error("stores of no dependency")
	}
}

func TestSweepUndoesWhatADeadHarnessHasChanged(t *testing.T) {
	t.Parallel()
	host := redisHere(t)
	there, err := host.Store("cache")
	if err != nil {
		t.Fatal(err)
	}
	parent := t.TempDir()
	dead := filepath.Join(parent, "shakedown-1-0-23")
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	p, err := providers.Choose(t.Context(), "cache", spec.Dependency{Engine: "redis", Provide: "url", URL: "redis://" + host.Addr("cache")}, ".")
	if err != nil {
		t.Fatal(err)
	}
	d, err := p.Start(t.Context(), dead, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Store()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Change(t.Context(), limit); err != nil {
		t.Fatal(err)
	}
	if got := limited(t, there); got != "7" {
		t.Fatalf("the limit is %s", got)
	}
	cut, err := host.Link("cache")
	if err != nil {
		t.Fatal(err)
	}
	inj, err := cut.Disturb(t.Context(), harness.Toxic{Refuse: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := sweep(t.Context(), parent); err == nil || !strings.Contains(err.Error(), dead+" stays: the redis at 127.0.0.1") {
		t.Errorf("what stays is told as %v", err)
	}
	if got := listing(t, parent); len(got) != 1 {
		t.Errorf("nothing was undone, and the journal is gone: %v", got)
	}
	if err := inj.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sweep(t.Context(), parent); err != nil {
		t.Error(err)
	}
	if got := limited(t, there); got != "0" {
		t.Errorf("the limit is %s", got)
	}
	if got := listing(t, parent); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}
