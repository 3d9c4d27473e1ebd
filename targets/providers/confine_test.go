package providers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// eaters are statements by which a store takes some 64 MiB at once.
var eaters = map[string]question{
	"redis": func(ctx context.Context, addr string) (string, error) {
		return redisDo(ctx, addr, "SETRANGE", "big", "64000000", "x")
	},
	"postgres": func(ctx context.Context, addr string) (string, error) {
		return pgDo(ctx, addr, "SELECT length(repeat('x', 64000000))")
	},
}

// confined skips the test where this user may make no control group, or fails it where
// SHAKEDOWN_REQUIRE names cgroups.
func confined(t *testing.T, p harness.Proc, q harness.Quota) harness.Injection {
	t.Helper()
	in, err := p.Confine(t.Context(), q)
	switch {
	case errors.Is(err, harness.ErrNotHere) && !slices.Contains(strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ","), "cgroups"):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	return in
}

// A Redis is one process, and is started again; of a Postgres the session is ended, and the rest
// recovers by itself.
func TestStoreThatStarvesServesAgainAfterTheHeal(t *testing.T) {
	t.Parallel()
	for _, s := range stores {
		eat := eaters[s.dep.Engine]
		if eat == nil {
			continue
		}
		for _, rung := range []string{"local", "docker"} {
			t.Run(fmt.Sprint(s.dep.Engine, " ", rung), func(t *testing.T) {
				t.Parallel()
				var d Dependency
				if rung == "docker" {
					d = startDocker(t, s.dep, ".")
				} else {
					need(t, s.dep.Engine)
					d = start(t, s.dep, ".")
				}
				if _, err := within(t, 10*time.Second, s.write, d.Addr()); err != nil {
					t.Fatal(err)
				}
				p := proc(t, d)
				in := confined(t, p, harness.Quota{Memory: 48 << 20})
				if got, err := within(t, 10*time.Second, s.ask, d.Addr()); got != "v" || err != nil {
					t.Errorf("with enough memory it says %q, %v", got, err)
				}
				if err := in.Heal(t.Context()); err != nil || in.Acted() != 0 {
					t.Errorf("acted %d, %v", in.Acted(), err)
				}
				if _, err := within(t, 10*time.Second, eat, d.Addr()); err != nil {
					t.Errorf("without a limit: %v", err)
				}
				if _, err := redisDel(t, s.dep, d.Addr()); err != nil {
					t.Error(err)
				}
				in = confined(t, p, harness.Quota{Memory: 16 << 20})
				if got, err := within(t, 10*time.Second, eat, d.Addr()); err == nil {
					t.Errorf("it said %q", got)
				}
				if err := in.Heal(t.Context()); err != nil {
					t.Fatal(err)
				}
				if in.Acted() == 0 {
					t.Error("it has not acted")
				}
				got, err := within(t, 10*time.Second, s.ask, d.Addr())
				if s.keeps && (got != "v" || err != nil) || !s.keeps && err == nil {
					t.Errorf("after the heal: %q, %v", got, err)
				}
				if _, err := within(t, 10*time.Second, eat, d.Addr()); err != nil {
					t.Errorf("after the heal: %v", err)
				}
			})
		}
	}
}

// redisDel removes what a Redis has eaten.
func redisDel(t *testing.T, dep spec.Dependency, addr string) (string, error) {
	if dep.Engine != "redis" {
		return "", nil
	}
	return within(t, 10*time.Second, func(ctx context.Context, addr string) (string, error) {
		return redisDo(ctx, addr, "DEL", "big")
	}, addr)
}

// What starves while its settings are changed gets them back when it is there again.
func TestStoreThatStarvesIsUndoneWhenItIsBack(t *testing.T) {
	t.Parallel()
	need(t, "redis")
	d := start(t, spec.Dependency{Engine: "redis"}, ".")
	s := admin(t, d)
	read := []string{"CONFIG", "GET", "min-replicas-to-write"}
	undo, err := s.Change(t.Context(), harness.Change{
		Read: [][]string{read},
		Do:   [][]string{{"CONFIG", "SET", "min-replicas-max-lag", "11"}},
		Undo: [][]string{{"CONFIG", "SET", "min-replicas-max-lag", "10"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	in := confined(t, proc(t, d), harness.Quota{Memory: 16 << 20})
	if got, err := within(t, 10*time.Second, eaters["redis"], d.Addr()); err == nil {
		t.Errorf("it said %q", got)
	}
	for late := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := s.Do(t.Context(), read...); err != nil && err.Error() == "dep is down" {
			break
		}
		if time.Now().After(late) {
			t.Fatal("nobody knows that it is down")
		}
	}
	if err := undo(t.Context()); err != nil {
		t.Errorf("it is down, and is undone later: %v", err)
	}
	if err := in.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Do(t.Context(), read...); err != nil {
		t.Error(err)
	}
}

func TestEmbeddedStoreHasNoMemoryOfItsOwn(t *testing.T) {
	t.Parallel()
	d := start(t, spec.Dependency{Engine: "redis", Provide: "embedded"}, ".")
	if _, err := proc(t, d).Confine(t.Context(), harness.Quota{Memory: 1 << 20}); !errors.Is(err, harness.ErrNotHere) {
		t.Errorf("a quota: %v", err)
	}
}
