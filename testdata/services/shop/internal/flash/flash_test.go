package flash

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestSaleEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := new(Sale)
		defer s.Close()
		s.Start("mug", time.Second)
		time.Sleep(900 * time.Millisecond)
		s.Start("pen", time.Second) // the mug's timer must not end it
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		if got := s.Item(); got != "pen" {
			t.Errorf("on sale is %q, want pen", got)
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if got := s.Item(); got != "" {
			t.Errorf("on sale is %q, want nothing", got)
		}
	})
}
