// Package partial carries through a context which parts of a reply had to be left out, so
// that whoever loads a part need not know who asked for it.
package partial

import (
	"context"
	"maps"
	"sync"

	"example.com/shop/internal/bugs"
)

// key is that of the parts in a context.
type key struct{}

// parts are the parts that are missing.
type parts struct {
	bugs bugs.Set

	mu      sync.Mutex // guards missing
	missing map[string]string
}

// New returns a context in which missing parts can be noted.
func New(ctx context.Context, on bugs.Set) context.Context {
	return context.WithValue(ctx, key{}, &parts{bugs: on, missing: map[string]string{}})
}

// Miss notes that a part is missing, and why. Without New nobody wants to know.
func Miss(ctx context.Context, part, why string) {
	p, ok := ctx.Value(key{}).(*parts)
	if !ok {
		return
	}
	if p.bugs.Enabled(bugs.CtxMap) { // a request is nobody else's
		p.missing[part] = why
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.missing[part] = why
}

// Missing returns what was noted so far.
func Missing(ctx context.Context) map[string]string {
	p, ok := ctx.Value(key{}).(*parts)
	if !ok {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.missing)
}
