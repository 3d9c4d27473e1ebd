package coupon

import (
	"errors"
	"testing"

	"example.com/shop/internal/bugs"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		code string
		want Coupon
		ok   bool
	}{
		{"SPRING-15-EU", Coupon{Campaign: "SPRING", Percent: 15, Region: "EU"}, true},
		{"SPRING-15-EU-K7", Coupon{Campaign: "SPRING", Percent: 15, Region: "EU", Series: 'K', Number: 7}, true},
		{"SPRING-15-EU-", Coupon{}, false},
		{"SPRING-15-EU-K", Coupon{}, false},
		{"SPRING-15-EU-7K", Coupon{}, false},
		{"SPRING-15-EU-K7-", Coupon{}, false},
		{"SPRING-0-EU", Coupon{}, false},
		{"SPRING-91-EU", Coupon{}, false},
		{"SPRING-15-FR", Coupon{}, false},
		{"spring-15-EU", Coupon{}, false},
		{"", Coupon{}, false},
	} {
		got, err := Parse(tc.code, nil)
		if (err == nil) != tc.ok || err != nil && !errors.Is(err, ErrCode) || tc.ok && got != tc.want {
			t.Errorf("Parse(%q) = %+v, %v", tc.code, got, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("SPRING-15-EU-K7")
	f.Fuzz(func(t *testing.T, code string) {
		c, err := Parse(code, bugs.Set{})
		if err == nil && (c.Percent < 1 || c.Percent > 90 || c.Number < 0 || c.Number > 9) {
			t.Errorf("Parse(%q) = %+v", code, c)
		}
	})
}
