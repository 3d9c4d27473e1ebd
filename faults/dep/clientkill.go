package dep

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/shakedown-go/shakedown/harness"
)

// ClientKill closes every connection to a Redis once, but for those of replicas, of
// subscribers and the harness's own. New ones are served.
var ClientKill = &harness.Fault{
	Name:    "dep/client_kill",
	Doc:     "a redis closes its clients' connections, once",
	Needs:   harness.CapStores,
	Effect:  harness.EffectMaybe,
	Variant: true,
	Params:  []harness.Param{on(redis)},
	Heals:   over,
	Unit:    "connections",
	Inject:  clientKill,
}

func clientKill(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	s, err := w.Store(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	got, err := s.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	if err != nil {
		return harness.Injection{}, err
	}
	n, err := count(got)
	return harness.Injection{Heal: done, Acted: func() int64 { return n }, Unit: "connections"}, err
}

// count reads a reply that is one number.
func count(reply []string) (int64, error) {
	if len(reply) != 1 {
		return 0, fmt.Errorf("%d values for one number", len(reply))
	}
	return strconv.ParseInt(reply[0], 10, 64)
}
