package dep

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// ClientPause has a Redis hold what its clients ask for, and do it when the pause ends,
// whether or not somebody still waits for it. Writes are held until the heal, or the end of the time to live, which the Redis keeps, too;
// everything only for a time that is fixed before, since the heal is held, too.
var ClientPause = &harness.Fault{
	Name:    "dep/client_pause",
	Doc:     "a redis holds commands",
	Needs:   harness.CapStores | harness.CapLinks,
	Effect:  harness.EffectMaybe,
	Variant: true,
	Params: []harness.Param{
		on(redis),
		{
			Name: "mode", Doc: "what is held: every write, or all commands", Default: "write",
			Domain: harness.OneOf(harness.Text("write"), harness.Text("all")),
		},
		{
			Name: "span", Doc: "with mode=all, when the redis ends the pause, healed or not", Default: "500ms",
			Domain: harness.Durations(10*time.Millisecond, 2*time.Second),
		},
		harness.TTL,
	},
	Heals:  "what was held is done",
	Unit:   "clients held, or bytes",
	Inject: clientPause,
}

func clientPause(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	s, err := w.Store(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	c := harness.Change{
		Read: [][]string{{"DEL", "shakedown-there-is-no-such-key"}}, // a write that changes nothing
		Undo: [][]string{{"CLIENT", "UNPAUSE"}},
	}
	l, err := w.Link(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	if args.Text("mode") == "all" {
		return pauseAll(ctx, s, l, c, args.Duration("span"))
	}
	c.Do = [][]string{{"CLIENT", "PAUSE", strconv.FormatInt(args.Duration(harness.TTL.Name).Milliseconds(), 10), "WRITE"}}
	before, err := waiting(ctx, s)
	if err != nil {
		return harness.Injection{}, err
	}
	held := map[string]bool{} // until they give up, or the heal
	had := conns(l)
	m, err := newMeter(ctx, func(ctx context.Context) (int64, error) {
		ids, err := waiting(ctx, s)
		for _, id := range ids {
			if !slices.Contains(before, id) {
				held[id] = true
			}
		}
		return min(int64(len(held)), had()), err // the others are not the target's
	})
	if err != nil {
		return harness.Injection{}, err
	}
	heal, err := s.Change(ctx, c)
	if err != nil {
		return harness.Injection{}, err
	}
	m.follow()
	return within(args, harness.Injection{Heal: m.closing(heal), Acted: m.acted, Unit: "clients held"}, nil)
}

// pauseAll holds everything. Nothing can be asked of the Redis meanwhile: what the link has
// passed on to it since has been held.
func pauseAll(ctx context.Context, s harness.Store, l harness.Link, c harness.Change, span time.Duration) (harness.Injection, error) {
	c.Do = [][]string{{"CLIENT", "PAUSE", strconv.FormatInt(span.Milliseconds(), 10), "ALL"}}
	began := time.Now()
	heal, err := s.Change(ctx, c)
	if err != nil {
		return harness.Injection{}, err
	}
	m, err := newMeter(ctx, func(context.Context) (int64, error) { return l.Stats().Up, nil })
	over := time.AfterFunc(span-time.Since(began), m.close) // sooner than the Redis, which began later
	return harness.Injection{
		Heal: m.closing(func(ctx context.Context) error {
			over.Stop()
			return heal(ctx)
		}),
		Acted: m.acted,
		Unit:  "bytes held",
	}, err
}

// waits are the commands that wait by themselves, though they write nothing.
var waits = []string{"xread", "wait", "waitaof"}

// waiting returns the ids of the clients, but for the harness's own, that wait for the reply to
// a command which is not known to wait by itself.
func waiting(ctx context.Context, s harness.Store) ([]string, error) {
	all, err := clients(ctx, s)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, c := range all {
		if strings.Contains(c["flags"], "b") && !slices.Contains(waits, c["cmd"]) {
			ids = append(ids, c["id"])
		}
	}
	return ids, nil
}
