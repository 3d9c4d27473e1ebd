package report

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"example.com/shop/internal/store"
)

func TestSlowLoadHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Stock{Load: func(ctx context.Context) ([]store.Level, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		done := make(chan error, 3)
		for range 3 {
			go func() {
				_, err := s.Get(ctx)
				done <- err
			}()
		}
		for range 3 {
			if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want a deadline", err)
			}
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("all were answered after %v, want 1s", took)
		}
	})
}

func TestReportIsKeptForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		loads := 0
		s := &Stock{Load: func(context.Context) ([]store.Level, error) {
			loads++
			return []store.Level{{SKU: "mug"}}, nil
		}}
		for _, want := range []int{1, 1, 2} {
			if got, err := s.Get(t.Context()); err != nil || len(got) != 1 || loads != want {
				t.Errorf("%v, %v after %d loads, want %d", got, err, loads, want)
			}
			time.Sleep(30 * time.Millisecond)
		}
	})
}
