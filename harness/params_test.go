package harness_test

import (
	"reflect"
	"testing"
	"time"

	. "github.com/shakedown-go/shakedown/harness"
)

var sluggish = &Fault{Name: "net/sluggish", Params: []Param{
	{Name: "link", Of: OfLink},
	{Name: "mode", Doc: "how it is done", Domain: OneOf(Text("soft"), Text("hard mode"))},
	{Name: "delay", Default: "80ms", Domain: Durations(time.Millisecond, time.Minute)},
	{Name: "after", Optional: true, Domain: Ints(0, 100)},
	{Name: "p", Optional: true, Domain: Fractions(0, 0.5)},
	{Name: "life", Optional: true, Given: Durations(time.Second, time.Minute)},
}}

func TestFaultCheck(t *testing.T) {
	t.Parallel()
	shop := &Target{Name: "shop", Links: []string{"cache", "db"}}
	good := Args{{"link", Text("db")}, {"mode", Text("soft")}}
	tests := []struct {
		args   Args
		target *Target
		want   string
	}{
		{good, shop, ""},
		{good.Set("delay", Text("1m")).Set("after", Text("100")), shop, ""},
		{good.Set("after", Int(3)), shop, ""},
		{good.Set("dellay", Text("1s")), shop, "net/sluggish has no parameter dellay, only link, mode, delay, after, p, life"},
		{good.Without("link"), shop, "net/sluggish needs link=, one of cache, db"},
		{good.Without("mode"), shop, "net/sluggish needs mode=, how it is done"},
		{good.Set("link", Text("dbb")), shop, "net/sluggish link=dbb: shop has no such link, only cache, db"},
		{good, &Target{Name: "lone"}, "net/sluggish link=db: lone has no such link, only none"},
		{good.Set("mode", Text("mild")), shop, `net/sluggish mode=mild: expected one of soft, "hard mode"`},
		{good.Set("delay", Text("80")), shop, "net/sluggish delay=80: expected a duration, such as 80ms"},
		{good.Set("delay", Text("2m")), shop, "net/sluggish delay=2m: it must be from 1ms to 1m0s"},
		{good.Set("after", Text("many")), shop, "net/sluggish after=many: expected a whole number"},
		{good.Set("after", Text("101")), shop, "net/sluggish after=101: it must be from 0 to 100"},
		{good.Set("p", Text("0.25")).Set("life", Text("1m")), shop, ""},
		{good.Set("p", Text("1%")), shop, "net/sluggish p=1%: expected a number, such as 0.01"},
		{good.Set("p", Text("NaN")), shop, "net/sluggish p=NaN: it must be from 0 to 0.5"},
		{good.Set("life", Text("1h")), shop, "net/sluggish life=1h: it must be from 1s to 1m0s"},
		{good.Set("after", Text("99999999999999999999")), shop, "net/sluggish after=99999999999999999999: it must be from 0 to 100"},
	}
	for _, tt := range tests {
		got := ""
		if err := sluggish.Check(tt.args, tt.target); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.args, got, tt.want)
		}
	}
}

func TestFaultOfStoresIsForThoseOfItsEngine(t *testing.T) {
	t.Parallel()
	full := &Fault{Name: "dep/full", Params: []Param{{Name: "store", Of: OfStore, Engine: "redis"}}}
	shop := &Target{Name: "shop", Links: []string{"cache", "db"}, Stores: map[string]string{"db": "postgres", "queue": "redis", "cache": "redis"}}
	for _, tt := range []struct {
		args Args
		want string
	}{
		{Args{{"store", Text("queue")}}, ""},
		{Args{{"store", Text("db")}}, "dep/full store=db: shop has no such redis store, only cache, queue"},
		{nil, "dep/full needs store=, one of cache, queue"},
	} {
		got := ""
		if err := full.Check(tt.args, shop); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%v: got %q, want %q", tt.args, got, tt.want)
		}
	}
}

func TestFaultFillAddsDefaults(t *testing.T) {
	t.Parallel()
	given := Args{{"after", Int(3)}, {"link", Text("db")}}
	got := sluggish.Fill(given)
	want := Args{{"after", Text("3")}, {"link", Text("db")}, {"delay", Text("80ms")}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if given[0].Value != Int(3) {
		t.Error("the arguments that were given have changed")
	}
	if got := sluggish.Fill(got); !reflect.DeepEqual(got, want) {
		t.Errorf("filled again: %v", got)
	}
}
