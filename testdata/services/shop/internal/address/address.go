// Package address checks the addresses that orders go to.
package address

import (
	"errors"
	"regexp"
	"sync"

	"example.com/shop/internal/bugs"
)

// What is wrong with an address.
var (
	ErrCountry  = errors.New("we do not deliver there")
	ErrPostcode = errors.New("there is no such postcode in this country")
)

// forms are the postcodes of the countries that we deliver to.
var forms = map[string]string{
	"AT": `[1-9][0-9]{3}`,
	"CH": `[1-9][0-9]{3}`,
	"DE": `[0-9]{5}`,
	"FR": `[0-9]{5}`,
	"GB": `(GIR ?0AA|[A-PR-UWYZ]([0-9]{1,2}|[A-HK-Y][0-9]([0-9]|[ABEHMNPRV-Y])?|[0-9][A-HJKPS-UW]) ?[0-9][ABD-HJLNP-UW-Z]{2})`,
	"IE": `(D6W|[AC-FHKNPRTV-Y][0-9]{2}) ?[0-9AC-FHKNPRTV-Y]{4}`,
	"NL": `[1-9][0-9]{3} ?(S[BCE-RT-Z]|[A-RT-Z][A-Z])`,
	"PL": `[0-9]{2}-[0-9]{3}`,
	"PT": `[1-9][0-9]{3}(-[0-9]{3})?`,
	"US": `[0-9]{5}(-[0-9]{4})?`,
}

// The forms of the countries that anybody has asked for, compiled.
var (
	mu       sync.Mutex // guards compiled
	compiled = map[string]*regexp.Regexp{}
)

// Check returns what is wrong with an address.
func Check(country, postcode string, on bugs.Set) error {
	form, ok := forms[country]
	if !ok {
		return ErrCountry
	}
	if !pattern(country, form, on).MatchString(postcode) {
		return ErrPostcode
	}
	return nil
}

// pattern returns the form of a country, compiled when it is first asked for.
func pattern(country, form string, on bugs.Set) *regexp.Regexp {
	if !on.Enabled(bugs.InitRace) {
		mu.Lock()
		defer mu.Unlock()
	}
	re := compiled[country]
	if re == nil {
		re = regexp.MustCompile("^(" + form + ")$")
		compiled[country] = re
	}
	return re
}
