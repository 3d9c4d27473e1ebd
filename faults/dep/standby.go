package dep

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Standby makes every transaction of a Postgres read only that does not ask to be otherwise,
// also in sessions that exist. A transaction under way goes on as it began. A Postgres counts
// no refusals: the proof is what it was sent meanwhile, a write or not.
var Standby = &harness.Fault{
	Name:   "dep/read_only",
	Doc:    "a postgres that is read only: it refuses writes (25006)",
	Needs:  harness.CapStores | harness.CapLinks,
	Effect: harness.EffectNotExecuted,
	Params: []harness.Param{on(postgres), harness.TTL},
	Heals:  "it takes writes",
	Unit:   "bytes sent to it meanwhile",
	Inject: standby,
}

func standby(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	s, err := w.Store(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	l, err := w.Link(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	// What a new session begins with; the harness's own have set theirs aside.
	const reads = "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only'"
	was, err := one(ctx, s, reads)
	if err == nil && was != "off" {
		err = errors.New("it is read only as it is")
	}
	if err != nil {
		return harness.Injection{}, err
	}
	// What ALTER SYSTEM has been told before, which pg_settings does not tell from other files.
	told, err := s.Do(ctx, `SELECT setting FROM pg_catalog.pg_file_settings
		WHERE name = 'default_transaction_read_only' AND sourcefile LIKE '%/postgresql.auto.conf' ORDER BY seqno DESC LIMIT 1`)
	if err != nil {
		return harness.Injection{}, err
	}
	back := "ALTER SYSTEM RESET default_transaction_read_only"
	if len(told) > 0 {
		back = "ALTER SYSTEM SET default_transaction_read_only = off"
	}
	heal, err := s.Change(ctx, harness.Change{
		Read: [][]string{{reads}},
		Do:   [][]string{{"ALTER SYSTEM SET default_transaction_read_only = on"}, {"SELECT pg_catalog.pg_reload_conf()"}},
		Undo: [][]string{{back}, {"SELECT pg_catalog.pg_reload_conf()"}},
		Set:  []string{"on"}, // it takes a moment until new sessions begin so
	})
	if err != nil {
		return harness.Injection{}, err
	}
	fail := func(err error) (harness.Injection, error) {
		return harness.Injection{}, errors.Join(err, heal(context.WithoutCancel(ctx)))
	}
	m, err := newMeter(ctx, func(context.Context) (int64, error) { return l.Stats().Up, nil })
	if err != nil {
		return fail(err)
	}
	return within(args, harness.Injection{Heal: m.closing(heal), Acted: m.acted, Unit: "bytes sent to it meanwhile"}, nil)
}
