package related

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestNobodyWaitsLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		slow := true
		f := New(nil, func(ctx context.Context, sku string) ([]string, error) {
			if slow {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []string{"not " + sku}, nil
		})
		start := time.Now()
		done := make(chan error, 2*most)
		for range 2 * most {
			go func() {
				skus, err := f.Get(t.Context(), "mug")
				if len(skus) > 0 {
					t.Errorf("got %v of a search that did not end", skus)
				}
				done <- err
			}()
		}
		for range 2 * most {
			if err := <-done; err != nil {
				t.Errorf("error %v: it can be done without", err)
			}
		}
		if took := time.Since(start); took != patience {
			t.Errorf("all were answered after %v, want %v", took, patience)
		}
		slow = false
		if skus, err := f.Get(t.Context(), "mug"); err != nil || len(skus) != 1 {
			t.Errorf("then %v, %v: the slots were not given back", skus, err)
		}
	})
}
