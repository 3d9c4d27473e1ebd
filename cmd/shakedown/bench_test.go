package main

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadEnvironmentIsSaidFirst: not hours later, when its column is to be measured.
func TestBadEnvironmentIsSaidFirst(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing is to be measured
	shop := filepath.Join("..", "..", "testdata", "services", "shop")
	for _, f := range []benchFlags{
		{environments: []string{"native", "dockr"}},
		{environments: []string{"local"}, settings: settings{provide: []string{"cash=local"}}},
	} {
		var out strings.Builder
		err := f.run(ctx, shop, &out, io.Discard)
		var bad usage
		if !errors.As(err, &bad) || out.String() != "" {
			t.Errorf("%v: %v, and %q was printed", f.environments, err, &out)
		}
	}
}
