package net

import (
	"context"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// SynDrop leaves every connect on a link without an answer, as if its SYN were lost on the way or
// the server's accept queue were full: it does not fail before the caller's own time is up, and
// nothing can be sent on it. Connections that exist live on, unless they are reset first. Who
// still waits at the heal connects when the kernel asks again: a second after it asked last, or
// later the longer the fault was in force. A service that keeps its connections may never ask for
// a new one: then the fault has no effect.
//
// Only on Linux is it known what becomes of SYNs, and not where tcp_abort_on_overflow is set: the
// kernel would answer.
var SynDrop = &harness.Fault{
	Name:    "net/syn_drop",
	Doc:     "leave every connect without an answer, as if its SYN were lost",
	Needs:   harness.CapLinks | harness.CapNative,
	Effect:  harness.EffectMaybe,
	Variant: true,
	Chance:  true,
	Params: []harness.Param{
		onLink,
		choice("existing", "reset connections that exist", "true"),
		harness.TTL,
	},
	Heals:  "connects that still wait come about when the kernel asks again",
	Unit:   "SYNs and connections",
	Inject: synDrop,
}

func synDrop(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	return disturb(ctx, w, args, harness.Toxic{Deaf: true, Reset: args.Text("existing") == "true"})
}
