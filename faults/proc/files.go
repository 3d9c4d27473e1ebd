package proc

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// Files lets a process open a few files more, and not one beyond: neither can it then connect
// to a dependency, nor take a connection. Files that are open stay so. Whether it has tried
// to open one too many cannot be seen from outside: what is counted are the processes that
// have the limit.
var Files = &harness.Fault{
	Name:    "proc/files",
	Doc:     "let a process open no more files and sockets, or only a few",
	Needs:   harness.CapProcs,
	Effect:  harness.EffectMaybe,
	Variant: true,
	Params: []harness.Param{
		onProc,
		{Name: "more", Doc: "files that each process can still open", Default: "0", Domain: harness.Ints(0, 64)},
		harness.TTL,
	},
	Heals:  "it can open as many as before",
	Unit:   unit,
	Inject: files,
}

func files(ctx context.Context, w harness.World, args harness.Args, _ *rand.Rand) (harness.Injection, error) {
	p, err := w.Proc(args.Text("proc"))
	if err != nil {
		return harness.Injection{}, err
	}
	n, lift, err := p.LimitFiles(ctx, int(args.Int("more")))
	if err != nil {
		return harness.Injection{}, fmt.Errorf("limit the files of %s: %w", args.Text("proc"), err)
	}
	return injection(n, lift).Within(args.Duration(harness.TTL.Name)), nil
}
