package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/shakedown-go/shakedown/fuzz/engine"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/function"
)

// A message that holds the input is the same for all inputs.
func TestInputsAreNoPartOfSignatures(t *testing.T) {
	t.Parallel()
	p := &function.Package{Module: "example.com/m", ImportPath: "example.com/m/x"}
	for _, input := range []string{"abcd", "a\xff\xfe\x01b\x80", "12 monkeys", "first line\r\nsecond", "\x00\x01\x02\xe5U"} {
		in := engine.Input{input}
		first, _, _ := strings.Cut(strings.ToValidUTF8(input, "\uFFFD"), "\n")
		lines := []string{"panic: no rule for " + strings.TrimRight(first, "\r") + " here", "", "goroutine 1 [running]:", "example.com/m/x.FuzzX(...)", "\t/src/x.go:9 +0x1", "exit status 2"}
		found := function.Judge(p, function.Func{Name: "FuzzX", Sort: function.GoFuzz}, texts(in), lines)
		if len(found) != 1 || found[0].Signature != "panic: no rule for _ here: example.com/m/x.FuzzX" {
			t.Errorf("%q: got %+v", input, found)
		}
	}
}

func TestSuspectsInOnePlaceAreFew(t *testing.T) {
	t.Parallel()
	h := &hunting{}
	add := func(detector, signature string) *suspect {
		s := &suspect{Signature: signature, found: harness.Finding{Detector: detector, Signature: signature}}
		h.suspects = append(h.suspects, s)
		return s
	}
	a := add("panic", "panic: x: m.F")
	b := add("panic", "panic: y: z: m.F")
	add("fatal", "fatal: x: m.F")
	add("panic", "panic: x: m.G")
	unknown := add("", "")
	if got := h.like(a); !slices.Equal(got, []*suspect{a, b}) {
		t.Errorf("got %v", got)
	}
	if got := h.like(unknown); !slices.Equal(got, []*suspect{unknown}) {
		t.Errorf("of no signature: got %v", got)
	}
}
