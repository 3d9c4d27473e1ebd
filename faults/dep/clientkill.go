package dep

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"

	"github.com/shakedown-go/shakedown/harness"
)

// ClientKill closes every connection to a Redis once, but for those of replicas and of
// subscribers. New ones are served. The harness's own go, too, and what others than the target
// have there: neither are counted.
var ClientKill = &harness.Fault{
	Name:    "dep/client_kill",
	Doc:     "a redis closes its clients' connections, once",
	Needs:   harness.CapStores | harness.CapLinks,
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
	l, err := w.Link(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	open := l.Stats().Open
	before, err := clients(ctx, s, "TYPE", "normal")
	if err != nil {
		return harness.Injection{}, err
	}
	if _, err := s.Do(ctx, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"); err != nil {
		return harness.Injection{}, err
	}
	after, err := clients(ctx, s, "TYPE", "normal")
	if err != nil {
		return harness.Injection{}, err
	}
	var n int64
	for _, c := range before {
		if !slices.ContainsFunc(after, func(left client) bool { return left["id"] == c["id"] }) {
			n++
		}
	}
	n = min(n, open) // no more than the target had
	return harness.Injection{Heal: done, Acted: func() int64 { return n }, Unit: "connections"}, nil
}

// count reads a reply that is one number.
func count(reply []string) (int64, error) {
	if len(reply) != 1 {
		return 0, fmt.Errorf("%d values for one number", len(reply))
	}
	return strconv.ParseInt(reply[0], 10, 64)
}
