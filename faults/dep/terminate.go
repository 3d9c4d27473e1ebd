package dep

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Terminate ends every session of a database once, as an administrator or a failover does,
// but for the harness's own. A statement under way is rolled back, and a COMMIT may have
// been carried out though nobody is told. New sessions are served. What others than the target
// have there is ended, too, and not counted.
var Terminate = &harness.Fault{
	Name:    "dep/terminate",
	Doc:     "a postgres ends the sessions of its clients (57P01), once",
	Needs:   harness.CapStores | harness.CapLinks,
	Effect:  harness.EffectMaybe,
	Variant: true,
	Params:  []harness.Param{on(postgres)},
	Heals:   over,
	Unit:    "sessions",
	Inject:  terminateAll,
}

func terminateAll(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	s, err := w.Store(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	l, err := w.Link(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	n, err := terminate(ctx, s, l)
	return harness.Injection{Heal: done, Acted: func() int64 { return n }, Unit: "sessions"}, err
}
