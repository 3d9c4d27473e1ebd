package views

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestViewsAreWrittenOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		written := map[string]int64{}
		writes := 0
		c := &Counter{Write: func(_ context.Context, views map[string]int64) error {
			if writes++; writes < 3 {
				return errors.New("the store is away")
			}
			for topic, n := range views {
				written[topic] += n
			}
			return nil
		}}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { c.Add("go"); c.Add("redis") })
		}
		wg.Wait()
		time.Sleep(2*every + time.Millisecond)
		c.Add("go")
		c.Close()
		if writes != 3 || written["go"] != 11 || written["redis"] != 10 {
			t.Errorf("after %d writes %v", writes, written)
		}
	})
}

func TestUnusedCounterEnds(t *testing.T) {
	t.Parallel()
	(&Counter{}).Close()
}
