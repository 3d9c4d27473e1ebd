// Package coupon reads coupon codes: CAMPAIGN-PERCENT-REGION, and a SERIES behind them
// where the coupon is one of many, as in SPRING-15-EU-K7.
package coupon

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"example.com/shop/internal/bugs"
)

// ErrCode is the error of a code that is no coupon.
var ErrCode = errors.New("not a coupon")

// Coupon is a code taken apart.
type Coupon struct {
	Campaign string
	Percent  int
	Region   string
	Series   byte // the letter of the series; 0 where the coupon has none
	Number   int  // within the series
}

// Parse reads a code.
func Parse(code string, on bugs.Set) (Coupon, error) {
	parts := strings.Split(code, "-")
	if len(parts) < 3 || len(parts) > 4 {
		return Coupon{}, fmt.Errorf("%w: it has %d parts", ErrCode, len(parts))
	}
	c := Coupon{Campaign: parts[0], Region: parts[2]}
	if n := len(c.Campaign); n < 3 || n > 8 || strings.Trim(c.Campaign, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return Coupon{}, fmt.Errorf("%w: bad campaign", ErrCode)
	}
	var err error
	if c.Percent, err = strconv.Atoi(parts[1]); err != nil || c.Percent < 1 || c.Percent > 90 {
		return Coupon{}, fmt.Errorf("%w: from 1 to 90 percent are given", ErrCode)
	}
	if !slices.Contains([]string{"EU", "US", "UK"}, c.Region) {
		return Coupon{}, fmt.Errorf("%w: unknown region", ErrCode)
	}
	if len(parts) == 4 {
		return c.series(parts[3], on)
	}
	return c, nil
}

// series adds the series: a letter and a digit.
func (c Coupon) series(s string, on bugs.Set) (Coupon, error) {
	if len(s) != 2 && !on.Enabled(bugs.CouponParse) {
		return Coupon{}, fmt.Errorf("%w: bad series", ErrCode)
	}
	c.Series, c.Number = s[0], int(s[1]-'0')
	if c.Series < 'A' || c.Series > 'Z' || c.Number > 9 {
		return Coupon{}, fmt.Errorf("%w: bad series", ErrCode)
	}
	return c, nil
}
