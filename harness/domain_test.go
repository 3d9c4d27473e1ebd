package harness_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	. "github.com/shakedown-go/shakedown/harness"
)

func pattern(t testing.TB, re string) Domain {
	t.Helper()
	d, err := Pattern(re)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func domains(t testing.TB) map[string]Domain {
	return map[string]Domain{
		"const":              Const(Text("x")),
		"one":                OneOf(Text("down"), Text("up"), Int(3)),
		"durations":          Durations(time.Millisecond, 30*time.Second),
		"durations from 0":   Durations(0, time.Minute),
		"one duration":       Durations(time.Second, time.Second),
		"odd duration":       Durations(123456789, 123456789),
		"ints":               Ints(1, 100),
		"negative ints":      Ints(-10, -5),
		"all ints":           Ints(math.MinInt64, math.MaxInt64),
		"one int":            Ints(7, 7),
		"fractions":          Fractions(0.001, 0.5),
		"fractions from 0":   Fractions(0, 1),
		"odd fractions":      Fractions(0.1234, 0.1239),
		"strings":            Strings(0, 20),
		"long strings":       Strings(5, 100_000),
		"no strings":         Strings(0, 0),
		"uuid":               pattern(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`),
		"date":               pattern(t, `^\d{4}-\d{2}-\d{2}$`),
		"e-mail":             pattern(t, `(?i)^[a-z0-9._%+-]+@[a-z0-9.-]+\.[a-z]{2,}$`),
		"alternatives":       pattern(t, `^(a|bb|c{3,5})*x?$`),
		"anything":           pattern(t, `.*`),
		"not a slash":        pattern(t, `^[^/]+$`),
		"word boundary":      pattern(t, `\bfoo\b.*\B`),
		"empty":              pattern(t, ``),
		"nested empty loops": pattern(t, strings.Repeat("(", 300)+"^"+strings.Repeat("$)*", 300)),
	}
}

func TestDrawnValuesAreInTheirDomain(t *testing.T) {
	t.Parallel()
	for name, d := range domains(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(1, 2))
			for range 200 {
				v := d.Draw(r)
				if err := d.(Checker).Check(v.Text); err != nil && len(v.Text) < 70_000 {
					t.Fatalf("%s: %v", v, err)
				}
				wellFormed(t, v)
			}
		})
	}
}

// wellFormed checks that a value can stand in a case file and be sent.
func wellFormed(t testing.TB, v Value) {
	t.Helper()
	if !utf8.ValidString(v.Text) || v.Form == FormJSON && !json.Valid([]byte(v.Text)) {
		t.Fatalf("%s is malformed", v)
	}
	var back Value
	if err := back.UnmarshalText([]byte(v.String())); err != nil || back != v {
		t.Fatalf("%s comes back as %s, %v", v, back, err)
	}
}

func TestMutationsAreWellFormedAndVaried(t *testing.T) {
	t.Parallel()
	for name, d := range domains(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(3, 4))
			seen := map[Value]bool{}
			v := d.Draw(r)
			for range 100 {
				v = d.Mutate(r, v)
				wellFormed(t, v)
				if len(v.Text) > 300_000 {
					t.Fatalf("%d bytes", len(v.Text))
				}
				seen[v] = true
				d.Mutate(r, Value{FormJSON, "null"})
				d.Mutate(r, Text(""))
				d.Mutate(r, Ref("o1.id"))
			}
			if name != "const" && name != "one duration" && name != "odd duration" && name != "odd fractions" && len(seen) < 5 {
				t.Fatalf("only %v", seen)
			}
		})
	}
}

// TestSimplifyingEnds takes the first simpler value, then the last, and so on, from
// values in the domain and from others, until nothing is simpler.
func TestSimplifyingEnds(t *testing.T) {
	t.Parallel()
	for name, d := range domains(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(5, 6))
			starts := []Value{Text(""), Text("what?"), Ref("a.b"), Int(math.MaxInt64), Int(math.MinInt64), {FormJSON, "null"}}
			for range 30 {
				if v := d.Mutate(r, d.Draw(r)); len(v.Text) < 1000 { // for the sake of speed
					starts = append(starts, v)
				}
			}
			for _, v := range starts {
				for n := 0; ; n++ {
					if n > 20_000 {
						t.Fatalf("no end in sight at %.80s", v)
					}
					simpler := slices.Collect(d.Simpler(v))
					if len(simpler) == 0 {
						break
					}
					if len(simpler) > 300 {
						t.Fatalf("%d values are simpler than %.80s", len(simpler), v)
					}
					if slices.Contains(simpler, v) {
						t.Fatalf("%.80s is simpler than itself", v)
					}
					v = simpler[r.IntN(len(simpler))]
				}
				for range d.Simpler(v) {
					break // stopping early must not panic
				}
			}
		})
	}
}

func texts(values ...Value) []string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = v.String()
	}
	return out
}

func TestSimpler(t *testing.T) {
	t.Parallel()
	tests := []struct {
		d    Domain
		v    Value
		want string
	}{
		{Const(Text("x")), Text("x"), ``},
		{OneOf(Text("a"), Text("b"), Text("c")), Text("c"), `"a" "b"`},
		{OneOf(Text("a"), Text("b")), Text("slip"), `"a" "b"`},
		{Durations(0, time.Second), Text("137ms"), `"0s" "68ms" "100ms" "110ms" "120ms" "130ms"`},
		{Durations(5*time.Millisecond, time.Second), Text("2h"), `"5ms"`},
		{Ints(1, 100), Int(9), `1 5 7 8`},
		{Ints(1, 100), Int(104), `1 100 101 103`},
		{Ints(1, 100), Int(0), `1`},
		{Ints(1, 100), Text("9"), `1`},
		{Strings(1, 9), Text("xyz"), `"a" "aa" "x" "xy" "ayz" "xaz" "xya"`},
		{Strings(2, 9), Text("aa"), ``},
		{pattern(t, `\d+-\d+`), Text("1-2"), `"" "1-" "-2" "1" "-2" "12" "1-"`},
	}
	for _, tt := range tests {
		got := strings.Join(texts(slices.Collect(tt.d.Simpler(tt.v))...), " ")
		if got != tt.want {
			t.Errorf("simpler than %s: got %s, want %s", tt.v, got, tt.want)
		}
	}
}

func TestDurationsAreSpreadAndRound(t *testing.T) {
	t.Parallel()
	d := Durations(time.Millisecond, 10*time.Second)
	r := rand.New(rand.NewPCG(1, 1))
	decades := map[int]int{}
	for range 1000 {
		v := d.Draw(r)
		got, err := time.ParseDuration(v.Text)
		if err != nil {
			t.Fatal(err)
		}
		if len(strings.TrimRight(strings.TrimLeft(fmt.Sprint(got.Nanoseconds()), "0"), "0")) > 2 {
			t.Fatalf("%s has more than two digits", v)
		}
		decades[int(math.Log10(float64(got/time.Millisecond)))]++
	}
	for n := range 4 {
		if decades[n] < 100 {
			t.Errorf("only %d of 1000 in the decade of %dms", decades[n], int(math.Pow10(n)))
		}
	}
}

func TestIntsAreMutatedBeyondNumbers(t *testing.T) {
	t.Parallel()
	d := Ints(1, 100)
	r := rand.New(rand.NewPCG(1, 1))
	seen := map[Value]bool{}
	for range 2000 {
		seen[d.Mutate(r, Int(50))] = true
	}
	for _, want := range []Value{
		Int(0), Int(1), Int(49), Int(51), Int(100), Int(101), Int(-50), Text("50"),
		{FormJSON, "null"}, {FormJSON, "50.5"}, {FormJSON, "1e400"}, {FormJSON, "9223372036854775808"},
	} {
		if !seen[want] {
			t.Errorf("%s is never tried", want)
		}
	}
}

func TestOneOfIsMisspelt(t *testing.T) {
	t.Parallel()
	d := OneOf(Text("pending"), Text("paid"))
	r := rand.New(rand.NewPCG(1, 1))
	seen := map[string]bool{}
	for range 3000 {
		seen[d.Mutate(r, Text("paid")).Text] = true
	}
	for _, want := range []string{"pending", "paid", "PAID", "Paid", "aid", "paaid", "pa", ""} {
		if !seen[want] {
			t.Errorf("%q is never tried", want)
		}
	}
}

func TestPatternSlips(t *testing.T) {
	t.Parallel()
	d := pattern(t, `^\d{4}-\d{2}-\d{2}$`)
	r := rand.New(rand.NewPCG(1, 1))
	seen := map[string]bool{}
	misses := 0
	valid := regexp.MustCompile(`^\d{4}-\d{2}-\d{2}$`)
	for range 10_000 {
		s := d.Mutate(r, Text("2024-02-29")).Text
		seen[s] = true
		if !valid.MatchString(s) {
			misses++
		}
	}
	for _, want := range []string{"2024-02", "2024--29", "2024-02-29-29", "2024-02-30", "2024-00-29", "2024-99-29", "2024-002-29", "202-02-29", "2024-02-"} {
		if !seen[want] {
			t.Errorf("%q is never tried", want)
		}
	}
	if misses < 5000 || misses > 9500 {
		t.Errorf("%d of 10000 do not match", misses)
	}
}

func TestPatternRejects(t *testing.T) {
	t.Parallel()
	for _, re := range []string{`(`, `a^b`, `[^\x00-\x{10ffff}]`, `(?=a)`} {
		if _, err := Pattern(re); err == nil {
			t.Errorf("%s: no error", re)
		}
	}
}

func FuzzPattern(f *testing.F) {
	for _, re := range []string{`^[a-z]+$`, `(a|b)*c{2,5}`, `\bx\B`, `[^\x00-\x7f]`, `(?i)k`} {
		f.Add(re, uint64(1))
	}
	f.Fuzz(func(t *testing.T, re string, seed uint64) {
		if len(re) > 100 {
			return
		}
		d, err := Pattern(re)
		if err != nil {
			return
		}
		r := rand.New(rand.NewPCG(seed, 0))
		v := d.Draw(r)
		if err := d.(Checker).Check(v.Text); err != nil {
			t.Fatalf("%q: %v", v.Text, err)
		}
		wellFormed(t, d.Mutate(r, v))
		for range d.Simpler(v) {
		}
	})
}

func TestBoundsCanBeWrittenInACase(t *testing.T) {
	t.Parallel()
	p, err := Pattern("(A|B)-[0-9]{2}(-X)?")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []Domain{Ints(1, 9), Strings(0, 20), p} {
		values := d.(Bounded).Bounds()
		if len(values) < 5 {
			t.Errorf("%T has only %d", d, len(values))
		}
		for _, v := range values {
			c := Case{Target: "x", Steps: []Step{{Lane: "a", Name: "get", Args: Args{{Key: "q", Value: v}}}}}
			back, err := ParseCase([]byte(c.String()))
			if err != nil {
				t.Fatalf("%T %q: %v", d, v.Text, err)
			}
			if got, _ := back.Steps[0].Args.Get("q"); got != v {
				t.Errorf("%T: got %q, want %q", d, got, v)
			}
		}
	}
}
