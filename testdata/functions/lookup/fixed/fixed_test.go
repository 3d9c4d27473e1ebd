package fixed

import (
	"os"
	"testing"

	"example.com/lookup/prices"
)

func FuzzLabel(f *testing.F) {
	s := prices.Store{Addr: os.Getenv("REDIS_ADDR")}
	f.Add("tea")
	f.Fuzz(func(t *testing.T, item string) {
		if s.Label(item) == "" {
			t.Error("no label")
		}
	})
}
