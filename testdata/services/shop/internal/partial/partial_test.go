package partial

import (
	"context"
	"fmt"
	"sync"
	"testing"
)

func TestManyMissAtOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(New(t.Context(), nil))
	defer cancel()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { Miss(ctx, fmt.Sprint(i), "timeout") })
	}
	wg.Wait()
	if got := Missing(ctx); len(got) != 8 || got["7"] != "timeout" {
		t.Errorf("missing %v", got)
	}
}

func TestNobodyWantsToKnow(t *testing.T) {
	t.Parallel()
	Miss(t.Context(), "cart", "timeout")
	if got := Missing(t.Context()); got != nil {
		t.Errorf("missing %v", got)
	}
}
