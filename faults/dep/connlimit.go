package dep

import (
	"context"
	"errors"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// ConnLimit has a Postgres refuse new sessions in its database, as one whose connections
// have all been taken. Sessions that exist are ended first, unless they are to live on: a
// service that keeps its connections may then never ask for a new one. No limit binds
// superusers: where they have sessions nothing is done, and the fault has no effect.
var ConnLimit = &harness.Fault{
	Name:    "dep/conn_limit",
	Doc:     "a postgres that takes no more sessions (53300)",
	Needs:   harness.CapStores | harness.CapLinks,
	Effect:  harness.EffectMaybe,
	Variant: true,
	Chance:  true,
	Params:  []harness.Param{on(postgres), either("existing", "end sessions that exist, too", "true"), harness.TTL},
	Heals:   "its limit is set back",
	Unit:    "sessions ended and refused",
	Inject:  connLimit,
}

func connLimit(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	s, err := w.Store(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	l, err := w.Link(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	// Another could not connect to undo it.
	if err := needSuperuser(ctx, s); err != nil {
		return harness.Injection{}, err
	}
	free, err := number(ctx, s, "SELECT count(*)"+sessions+" AND usename IN (SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper)")
	if err != nil {
		return harness.Injection{}, err
	}
	const unit = "sessions ended and refused"
	if free > 0 {
		return harness.Injection{Heal: done, Acted: func() int64 { return 0 }, Unit: unit}, nil
	}
	set, err := s.Do(ctx, `SELECT pg_catalog.format('ALTER DATABASE %I CONNECTION LIMIT 0', datname),
		pg_catalog.format('ALTER DATABASE %I CONNECTION LIMIT %s', datname, datconnlimit)`+thisDatabase)
	if err != nil || len(set) != 2 {
		return harness.Injection{}, errors.Join(err, errors.New("it does not say what its limit is"))
	}
	heal, err := s.Change(ctx, harness.Change{
		Read: [][]string{{"SELECT datconnlimit" + thisDatabase}},
		Do:   [][]string{{set[0]}},
		Undo: [][]string{{set[1]}},
		Set:  []string{"0"},
	})
	if err != nil {
		return harness.Injection{}, err
	}
	fail := func(err error) (harness.Injection, error) {
		return harness.Injection{}, errors.Join(err, heal(context.WithoutCancel(ctx)))
	}
	m, err := refused(ctx, s, l)
	if err != nil {
		return fail(err)
	}
	var ended int64
	if args.Text("existing") == "true" {
		if ended, err = terminate(ctx, s, l); err != nil {
			return fail(err)
		}
	}
	return within(args, harness.Injection{
		Heal: func(ctx context.Context) error {
			m.acted()
			err := heal(ctx)
			m.close() // only now: what was refused last may not have been counted before
			return err
		},
		Acted: func() int64 { return ended + m.acted() },
		Unit:  unit,
	}, nil)
}

const thisDatabase = " FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()"

// refused counts the sessions that are refused from now on: those that the server says have ended
// by a fatal error, which a refusal is, but no more than came to the link and are no session. A
// short one that was served is none of them. Servers before version 14 do not say it: of those
// nothing is counted.
func refused(ctx context.Context, s harness.Store, l harness.Link) (*meter, error) {
	const fatal = "SELECT sessions_fatal FROM pg_catalog.pg_stat_database WHERE datname = pg_catalog.current_database()"
	since, err := s.Do(ctx, "SELECT pg_catalog.clock_timestamp(), pg_catalog.current_setting('server_version_num')::int >= 140000")
	switch {
	case err != nil:
		return nil, err
	case len(since) != 2 || since[1] != "t":
		return newMeter(ctx, func(context.Context) (int64, error) { return 0, nil })
	}
	before, err := number(ctx, s, fatal)
	if err != nil {
		return nil, err
	}
	conns := l.Stats().Conns
	return newMeter(ctx, func(ctx context.Context) (int64, error) {
		came := l.Stats().Conns - conns
		taken, err := number(ctx, s, "SELECT count(*)"+sessions+" AND backend_start > $1::timestamptz", since[0])
		if err != nil {
			return 0, err
		}
		now, err := number(ctx, s, fatal)
		return min(now-before, came-taken), err
	})
}
