package harness_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/shakedown-go/shakedown/harness"
)

func TestWithin(t *testing.T) {
	t.Parallel()
	const ttl = time.Minute
	broken := errors.New("broken")
	tests := []struct {
		name    string
		after   time.Duration // until Heal is called
		results []error       // of the heals, one after another
		want    error
	}{
		{"healed before", ttl - 1, []error{nil}, nil},
		{"the heal fails", ttl - 1, []error{broken}, broken},
		{"ended by itself", ttl + 1, []error{nil}, ErrExpired},
		{"it could not end by itself", ttl + 1, []error{broken, nil}, nil},
		{"it cannot be ended", ttl + 1, []error{broken, broken}, broken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				healed := 0
				in := Injection{Heal: func(ctx context.Context) error {
					if ctx.Err() != nil {
						t.Error(ctx.Err())
					}
					healed++
					return tt.results[healed-1]
				}}.Within(ttl)
				time.Sleep(tt.after)
				synctest.Wait()
				if tt.after > ttl && healed != 1 {
					t.Errorf("healed %d times when its time was over", healed)
				}
				if err := in.Heal(t.Context()); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				time.Sleep(2 * ttl)
				if healed != len(tt.results) {
					t.Errorf("healed %d times, want %d", healed, len(tt.results))
				}
			})
		})
	}
}

// A heal that comes while the injection ends by itself waits for that, and no longer than it may.
func TestHealWaitsForTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := Injection{Heal: func(context.Context) error {
			time.Sleep(10 * time.Second)
			return nil
		}}
		in, other := slow.Within(time.Second), slow.Within(time.Second)
		time.Sleep(2 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := in.Heal(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		start := time.Now()
		if err := other.Heal(t.Context()); !errors.Is(err, ErrExpired) || time.Since(start) != 8*time.Second {
			t.Errorf("got %v after %s", err, time.Since(start))
		}
	})
}

func TestCheckStep(t *testing.T) {
	t.Parallel()
	lasting := &Fault{Name: "net/lasting", Params: []Param{TTL}}
	once := &Fault{Name: "net/once"}
	tests := []struct {
		fault *Fault
		step  string
		want  string
	}{
		{lasting, "+ net/lasting", ""},
		{lasting, "+ net/lasting for=30s", ""},
		{lasting, "+ net/lasting for=31s", "net/lasting for=31s: it ends by itself after ttl=30s, its time to live, which can be set, up to 10m0s"},
		{lasting, "+ net/lasting for=31s ttl=1m", ""},
		{lasting, "+ net/lasting for=2s ttl=1s", "net/lasting for=2s: it ends by itself after ttl=1s"},
		{lasting, "+ net/lasting ttl=11m", "net/lasting ttl=11m: it must be from 1ms to 10m0s"},
		{lasting, "+ net/lasting ttl=0s", "it must be from 1ms"},
		{once, "+ net/once for=1h", ""},
		{once, "+ net/once ttl=1s", "net/once has no parameter ttl"},
	}
	for _, tt := range tests {
		c, err := ParseCase([]byte("target x\n" + tt.step + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		err = tt.fault.CheckStep(c.Steps[0], &Target{})
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.step, err, tt.want)
		}
	}
}
