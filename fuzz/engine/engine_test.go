package engine

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestTextsOfTheGoCommand(t *testing.T) {
	t.Parallel()
	// As internal/fuzz of the go command writes them.
	const file = "go test fuzz v1\n" +
		`[]byte("a\x00\xff")` + "\n" +
		`string("x\n")` + "\n" +
		`bool(true)` + "\n" +
		`byte('ÿ')` + "\n" +
		`rune('é')` + "\n" +
		"int32(-1)\n" +
		"int(-3)\n" +
		"uint64(18446744073709551615)\n" +
		"float64(NaN)\n" +
		"float64(-Inf)\n" +
		"float64(-0)\n" +
		"float32(1.5)\n" +
		"math.Float64frombits(0x7ff8000000000002)\n"
	in, err := Parse([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(in.Text()); got != file {
		t.Errorf("got\n%s\nwant\n%s", got, file)
	}
	want := []any{[]byte("a\x00\xff"), "x\n", true, byte(255), 'é', int32(-1), -3, uint64(math.MaxUint64)}
	if !reflect.DeepEqual([]any(in[:len(want)]), want) {
		t.Errorf("got %#v", in)
	}
}

func TestBrokenTexts(t *testing.T) {
	t.Parallel()
	for _, file := range []string{
		"", "x", "go test fuzz v2\nint(1)", "go test fuzz v1\n", "go test fuzz v1\nint(", "go test fuzz v1\nint(1, 2)",
		"go test fuzz v1\nint8(300)", "go test fuzz v1\n[]int(\"x\")", "go test fuzz v1\nos.Exit(1)", "go test fuzz v1\nbyte('é\u0100')",
		"go test fuzz v1\nbool(1)", "go test fuzz v1\nmath.Exit(1)", "go test fuzz v1\nstring(x)", "go test fuzz v1\nfloat64(x)",
		"go test fuzz v1\n" + strings.Repeat("(", 100000),
	} {
		if in, err := Parse([]byte(file)); err == nil {
			t.Errorf("%.40q was taken as %v", file, in)
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add("go test fuzz v1\nint(1)\n", []byte("x"), "y", 1.5, int32(0xd800), byte(200))
	f.Fuzz(func(t *testing.T, file string, b []byte, s string, x float64, r int32, c byte) {
		same := func(in Input) {
			back, err := Parse(in.Text())
			if err != nil {
				t.Fatalf("%q: %v", in.Text(), err)
			}
			if !bytes.Equal(back.Text(), in.Text()) {
				t.Fatalf("%q became %q", in.Text(), back.Text())
			}
		}
		same(Input{b, s, x, float32(x), r, c, int(r), uint16(c)})
		if back, err := Parse((Input{b, s, r, c}).Text()); err != nil || !reflect.DeepEqual(back, Input{append([]byte{}, b...), s, r, c}) {
			t.Fatalf("%#v became %#v: %v", Input{b, s, r, c}, back, err)
		}
		if in, err := Parse([]byte(file)); err == nil {
			same(in)
		}
	})
}

func TestReadTakesBothFormats(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"raw": "\x00x", "text": string(Input{[]byte("y")}.Text()), "pair": "go test fuzz v1\nint(1)\nint(2)\n", "broken": "go test fuzz v1\n?"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ins, err := ReadAll(dir)
	if err != nil || len(ins) != 3 {
		t.Fatalf("%v, %v", ins, err)
	}
	if got := Bytes(ins); !reflect.DeepEqual(got, [][]byte{[]byte("\x00x"), []byte("y")}) {
		t.Errorf("got %q", got)
	}
	if ins, err := ReadAll(filepath.Join(dir, "absent")); ins != nil || err != nil {
		t.Errorf("no directory: %v, %v", ins, err)
	}
}

func TestAnInputAsOtherTypes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in    Input
		types string
		want  Input
	}{
		{Input{[]byte("x")}, "[]byte", Input{[]byte("x")}},
		{Input{[]byte("x")}, "string", Input{"x"}},
		{Input{"x"}, "[]byte", Input{[]byte("x")}},
		{Input{"x", byte(1), 'r'}, "string,uint8,int32", Input{"x", byte(1), 'r'}},
		{Input{"x"}, "string,int", nil},
		{Input{1}, "int64", nil},
		{Input{"x"}, "", nil},
	} {
		got, ok := tt.in.As(tt.types)
		if !reflect.DeepEqual(got, tt.want) || ok != (tt.want != nil) {
			t.Errorf("%v as %q: got %v, %v", tt.in, tt.types, got, ok)
		}
	}
}

func TestMinimizeReachesAFixedPoint(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		in    Input
		shows func(Input) bool
		want  Input
	}{
		{"a needle", Input{[]byte("haystack NEEDLE haystack")},
			func(in Input) bool { return bytes.Contains(in[0].([]byte), []byte("NEEDLE")) }, Input{[]byte("NEEDLE")}},
		{"two places", Input{"xx(yy)zz"},
			func(in Input) bool {
				s := in[0].(string)
				i := strings.Index(s, "(")
				return i >= 0 && strings.Contains(s[i:], ")")
			}, Input{"()"}},
		{"a length", Input{[]byte("\xff\xfe\xfd\xfc\xfb")},
			func(in Input) bool { return len(in[0].([]byte)) >= 3 }, Input{[]byte("000")}},
		{"numbers", Input{"long", 1000, true, int8(-128), 2.5},
			func(in Input) bool { return in[1].(int) > 41 && in[3].(int8) < 0 }, Input{"", 42, false, int8(-1), 0.0}},
		{"nothing needed", Input{[]byte("abc"), uint8(9)}, func(Input) bool { return true }, Input{[]byte{}, uint8(0)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			was := string(tt.in.Text())
			got, done := Minimize(tt.in, func(in Input) (bool, bool) { return tt.shows(in), true })
			if !reflect.DeepEqual(got, tt.want) || !done {
				t.Errorf("got %q, want %q, done %v", got.Text(), tt.want.Text(), done)
			}
			if string(tt.in.Text()) != was {
				t.Error("the input was changed")
			}
		})
	}
}

func TestMinimizeStopsWhenTimeIsUp(t *testing.T) {
	t.Parallel()
	n := 0
	got, done := Minimize(Input{bytes.Repeat([]byte("x"), 1000)}, func(in Input) (bool, bool) {
		n++
		return in.Size() >= 100, n < 5
	})
	if done || n != 5 || got.Size() < 100 || got.Size() >= 1000 {
		t.Errorf("%d bytes after %d tries, done %v", got.Size(), n, done)
	}
}
