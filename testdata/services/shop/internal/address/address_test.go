package address

import (
	"errors"
	"sync"
	"testing"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for _, tc := range []struct {
		country, postcode string
		want              error
	}{
		{"DE", "10115", nil},
		{"DE", "1011", ErrPostcode},
		{"DE", "10115\n", ErrPostcode},
		{"NL", "1012 AB", nil},
		{"NL", "1012 SS", ErrPostcode},
		{"GB", "SW1A 1AA", nil},
		{"GB", "GIR 0AA", nil},
		{"GB", "XGIR 0AA", ErrPostcode},
		{"IE", "D6W F8H2", nil},
		{"PT", "1000-205", nil},
		{"PL", "00950", ErrPostcode},
		{"US", "20500-0003", nil},
		{"XX", "1000", ErrCountry},
		{"", "", ErrCountry},
	} {
		for range 2 {
			wg.Go(func() {
				if err := Check(tc.country, tc.postcode, nil); !errors.Is(err, tc.want) || tc.want == nil && err != nil {
					t.Errorf("Check(%q, %q) = %v, want %v", tc.country, tc.postcode, err, tc.want)
				}
			})
		}
	}
	wg.Wait()
}
