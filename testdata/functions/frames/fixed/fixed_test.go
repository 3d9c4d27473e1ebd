package fixed_test

import (
	"testing"

	"example.com/frames/frame"
)

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x02ab\x03"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if body, err := frame.Decode(b, false); err == nil && len(body) > len(b) {
			t.Fatalf("%d bytes of %d", len(body), len(b))
		}
	})
}
