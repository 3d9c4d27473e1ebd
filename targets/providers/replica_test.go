package providers

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/container"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// replicated brings a Redis and a replica of it up.
func replicated(t *testing.T, d Dependency) (harness.Store, harness.Replica) {
	t.Helper()
	s, err := d.Store()
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.Replicate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

// startIn is start, and returns the directory, too.
func startIn(t *testing.T, dep spec.Dependency) (Dependency, string) {
	t.Helper()
	p, err := Choose(t.Context(), "dep", dep, ".")
	if err != nil {
		t.Fatal(err)
	}
	dir := scratch(t)
	d, err := p.Start(t.Context(), dir, nobody)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return d, dir
}

func nobody(harness.Event) {}

// entries are the names in a directory.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestReplicaTakesThePlaceOfItsServer(t *testing.T) {
	t.Parallel()
	need(t, "redis")
	d, dir := startIn(t, spec.Dependency{Engine: "redis", Provide: "local"})
	was, first := d.Addr(), entries(t, dir)
	if got := speak(t, dial(t, was), "SET k v", time.Second); got != "+OK" {
		t.Fatalf("SET = %q", got)
	}
	s, r := replicated(t, d)
	if _, err := s.Replicate(t.Context()); err == nil || !strings.Contains(err.Error(), "in force") {
		t.Errorf("a second replica: %v", err)
	}
	if _, err := s.Change(t.Context(), harness.Change{}); err == nil || !strings.Contains(err.Error(), "in force") {
		t.Errorf("a change beside a replica: %v", err)
	}
	if n := len(entries(t, dir)); n != 2 {
		t.Errorf("%d directories of servers, want 2", n)
	}
	lost, promoted, err := r.Promote(t.Context())
	if lost != 0 || !promoted || err != nil {
		t.Fatalf("Promote = %d, %t, %v", lost, promoted, err)
	}
	if !refused(t, was) {
		t.Errorf("something listens on %s, where the first was", was)
	}
	if now := entries(t, dir); len(now) != 1 || slices.Equal(now, first) {
		t.Errorf("the directories of servers were %q and are %q", first, now)
	}
	is := d.Addr()
	if got := speak(t, dial(t, is), "STRLEN k", time.Second); got != ":1" {
		t.Errorf("STRLEN k = %q", got)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Whoever restarts it finds it empty, as any Redis without persistence, at its address.
	_, restart, err := proc(t, d).Kill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d.Addr() != is {
		t.Errorf("the address has changed from %s to %s", is, d.Addr())
	}
	if got := speak(t, dial(t, is), "EXISTS k", time.Second); got != ":0" {
		t.Errorf("EXISTS k = %q", got)
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := entries(t, dir); len(left) != 0 || !refused(t, is) {
		t.Errorf("left behind: %q, or something on %s", left, is)
	}
}

func TestReplicaThatIsNotWantedLeavesNothing(t *testing.T) {
	t.Parallel()
	need(t, "redis")
	d, dir := startIn(t, spec.Dependency{Engine: "redis", Provide: "local"})
	s, r := replicated(t, d)
	addr := d.(*redisServer).second.Addr()
	for range 2 {
		if err := r.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(entries(t, dir)); n != 1 || !refused(t, addr) {
		t.Errorf("%d directories of servers, or the replica listens", n)
	}
	// One that cannot follow, and one that nobody waits for.
	if _, err := s.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Replicate(t.Context()); err == nil || !strings.Contains(err.Error(), "is a replica itself") {
		t.Errorf("a replica of a replica: %v", err)
	}
	if _, err := s.Do(t.Context(), "REPLICAOF", "NO", "ONE"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Replicate(ctx); err == nil {
		t.Error("a replica, though nobody waits for it")
	}
	if n := len(entries(t, dir)); n != 1 {
		t.Errorf("%d directories of servers", n)
	}
	_, r = replicated(t, d) // all of them have let go of the store
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestReplicaEndsWithItsServer(t *testing.T) {
	t.Parallel()
	need(t, "redis")
	d, dir := startIn(t, spec.Dependency{Engine: "redis", Provide: "local"})
	_, r := replicated(t, d)
	addr := d.(*redisServer).second.Addr()
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := entries(t, dir); len(left) != 0 || !refused(t, addr) {
		t.Errorf("left behind: %q, or something on %s", left, addr)
	}
	if lost, promoted, err := r.Promote(t.Context()); lost != 0 || promoted || err != nil {
		t.Errorf("Promote = %d, %t, %v", lost, promoted, err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReplicaInAContainer(t *testing.T) {
	t.Parallel()
	dep := spec.Dependency{Engine: "redis", Provide: "docker"}
	if _, err := Choose(t.Context(), "dep", dep, "."); err != nil {
		if slices.Contains(strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ","), "docker") {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	p, err := Choose(t.Context(), "dep", dep, ".")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d, err := p.Start(t.Context(), dir, nobody)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	containers := func() int {
		t.Helper()
		ids, err := container.Left(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(ids)
	}
	speak(t, dial(t, d.Addr()), "SET k v", time.Second)
	_, r := replicated(t, d)
	if n := containers(); n != 2 {
		t.Errorf("%d containers", n)
	}
	if err := r.Detach(t.Context()); err != nil {
		t.Fatal(err)
	}
	speak(t, dial(t, d.Addr()), "SET k lost", time.Second)
	lost, promoted, err := r.Promote(t.Context())
	if lost == 0 || !promoted || err != nil {
		t.Fatalf("Promote = %d, %t, %v", lost, promoted, err)
	}
	if n := containers(); n != 1 {
		t.Errorf("%d containers", n)
	}
	if got := speak(t, dial(t, d.Addr()), "STRLEN k", time.Second); got != ":1" {
		t.Errorf("STRLEN k = %q", got)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, restart, err := proc(t, d).Kill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := speak(t, dial(t, d.Addr()), "EXISTS k", time.Second); got != ":0" { // published elsewhere
		t.Errorf("EXISTS k = %q", got)
	}
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := containers(); n != 0 {
		t.Errorf("%d containers are left", n)
	}
}
