package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Bandwidth lets so many bytes pass in a second, in each direction by itself: on each connection,
// or on all of a link together, which take turns then, so that none waits for all that another
// has to send. What is saved up for a burst is full at the beginning; what passes as one was not
// slowed down, and is not counted. At a rate of 0 it is a stall: all bytes are held until the
// heal, and a request that its caller has long given up may be executed then.
var Bandwidth = &harness.Fault{
	Name:   "net/bandwidth",
	Doc:    "let so many bytes pass in a second, and the rest wait",
	Needs:  harness.CapLinks,
	Effect: harness.EffectMaybe,
	Params: []harness.Param{
		onLink,
		direction("down", "up", "both"),
		{Name: "rate", Doc: "kB per second; 0 holds all", Default: "10", Domain: harness.Ints(0, 1000)},
		{Name: "scope", Doc: "what the rate is for: each connection, or all of the link together", Default: "conn", Given: harness.OneOf(harness.Text("conn"), harness.Text("link"))},
		{Name: "burst", Doc: "kB that pass at once after a silence, saved up at the rate", Default: "0", Given: harness.Ints(0, 1<<16)},
		harness.TTL,
	},
	Heals:  "what waits is passed on",
	Unit:   "bytes",
	Inject: bandwidth,
}

func bandwidth(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	rate, burst, joint := args.Int("rate"), args.Int("burst"), args.Text("scope") == "link"
	return disturb(ctx, w, args, harness.Toxic{Rate: rate, Burst: burst, Joint: joint, Hold: rate == 0})
}
