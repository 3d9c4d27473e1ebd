package dep

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Failover has a replica take the place of a Redis that is lost, at the same address for the
// service. Its connections are reset and nobody is told which of the commands under way were
// carried out; what was acknowledged before is there.
//
// With a lag the replica stops following when the fault comes, and takes over that much later:
// what the Redis acknowledges in between is undone, as replication that nobody waits for does
// it. The proof are the bytes of the replication stream by which the two servers differ, by
// their own count; without a lag, the connections.
var Failover = &harness.Fault{
	Name:    "dep/failover",
	Doc:     "a redis is lost, and a replica takes its place at the same address",
	Needs:   harness.CapStores | harness.CapLinks,
	Effect:  harness.EffectUndone,
	Variant: true,
	Params: []harness.Param{on(redis), {
		Name: "lag", Doc: "the replica is behind by so much when it takes over, and what was acknowledged in that time is lost; 0 loses nothing",
		Default: "0s", Domain: harness.Durations(0, 2*time.Second),
	}, harness.TTL},
	Heals:  "the replica takes over now, if it was to do so later; it stays, with its data",
	Unit:   "connections reset, or with lag bytes of replication lost",
	Inject: failover,
}

// takeOverTime bounds the taking over of a replica whose time has come.
const takeOverTime = 20 * time.Second

func failover(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	s, err := w.Store(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	l, err := w.Link(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	replica, err := s.Replicate(ctx)
	if err != nil {
		return harness.Injection{}, err
	}
	t := &takeover{link: l, replica: replica}
	fail := func(err error) (harness.Injection, error) {
		return harness.Injection{}, errors.Join(err, replica.Close(context.WithoutCancel(ctx)))
	}
	lag := args.Duration("lag")
	if lag == 0 {
		if err := t.happen(ctx); err != nil {
			return fail(err)
		}
		if !t.happened {
			return fail(fmt.Errorf("%s went away before its replica could take over", args.Text("store")))
		}
		return within(args, harness.Injection{Heal: replica.Close, Acted: t.reset.Load, Unit: "connections reset"}, nil)
	}
	if err := replica.Detach(ctx); err != nil {
		return fail(err)
	}
	timer := time.AfterFunc(lag, func() {
		ctx, cancel := context.WithTimeout(context.Background(), takeOverTime)
		defer cancel()
		_ = t.happen(ctx) // the heal has it
	})
	return within(args, harness.Injection{
		Heal: func(ctx context.Context) error {
			timer.Stop()
			return errors.Join(t.happen(ctx), replica.Close(ctx))
		},
		Acted: t.lost.Load,
		Unit:  "bytes of replication lost",
	}, nil)
}

// takeover is a replica's taking the place of the server that a link leads to.
type takeover struct {
	link    harness.Link
	replica harness.Replica

	once     sync.Once
	err      error
	happened bool // the server was there to be lost

	reset, lost atomic.Int64 // connections; bytes of the replication stream
}

// happen takes over once. Who calls it again, or meanwhile, gets the same. From the moment at
// which connections are reset nothing is acknowledged: what the server has by then is all
// that can be lost.
func (t *takeover) happen(ctx context.Context) error {
	t.once.Do(func() {
		away, err := t.link.Disturb(ctx, harness.Toxic{Refuse: true, Reset: true, TTL: 2 * takeOverTime})
		if err != nil {
			t.err = err
			return
		}
		var lost int64
		lost, t.happened, err = t.replica.Promote(ctx)
		t.lost.Store(lost) // before anybody finds it gone
		t.err = errors.Join(err, away.Heal(context.WithoutCancel(ctx)))
		if t.happened {
			t.reset.Store(away.Acted())
		}
	})
	return t.err
}
