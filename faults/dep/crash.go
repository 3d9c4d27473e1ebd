package dep

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Crash has a Postgres lose one of its processes to SIGKILL, a session of the harness's own
// that sends it to itself. The server then cannot trust its shared memory: it closes all
// sessions, recovers from its log, and refuses new ones meanwhile (57P03). What was
// committed is there again, but for unlogged tables, which are empty. Where nobody has a
// session nothing is done.
var Crash = &harness.Fault{
	Name:    "dep/crash",
	Doc:     "a postgres that crashes and recovers, once; the heal waits until it serves again",
	Needs:   harness.CapStores,
	Effect:  harness.EffectUndone,
	Variant: true,
	Params:  []harness.Param{on(postgres)},
	Heals:   over,
	Unit:    "sessions",
	Inject:  crash,
}

func crash(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	s, err := w.Store(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	if _, err := w.Proc(args.Text("store")); err != nil { // nor is one of its processes
		return harness.Injection{}, fmt.Errorf("%w: %w", err, harness.ErrNotHere)
	}
	if err := needSuperuser(ctx, s); err != nil {
		return harness.Injection{}, err
	}
	n, err := number(ctx, s, "SELECT count(*)"+sessions)
	in := harness.Injection{Heal: done, Acted: func() int64 { return n }, Unit: "sessions"}
	if err != nil || n == 0 {
		return in, err
	}
	// This process begins anew after a crash.
	const life = "SELECT backend_start FROM pg_catalog.pg_stat_activity WHERE backend_type = 'checkpointer'"
	was, err := one(ctx, s, life)
	if err != nil {
		return harness.Injection{}, err
	}
	// Nothing is changed: all that the heal has to do is to see that it answers.
	if in.Heal, err = s.Change(ctx, harness.Change{Read: [][]string{{"SELECT 'it serves'"}}}); err != nil {
		return harness.Injection{}, err
	}
	// The shell is a child of the session, which ends: an error here, and what is meant.
	_, refused := s.Do(ctx, "COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'")
	if !gone(ctx, s, was, life) {
		return harness.Injection{}, errors.Join(errors.New("it did not crash"), refused, in.Heal(context.WithoutCancel(ctx)))
	}
	return in, nil
}

// gone waits until a value is another one, or the server does not answer.
func gone(ctx context.Context, s harness.Store, was, statement string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for {
		if got, _ := one(ctx, s, statement); got != was && ctx.Err() == nil {
			return true
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return false
		}
	}
}
