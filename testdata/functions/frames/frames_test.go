package frames

import (
	"os"
	"testing"

	"example.com/frames/frame"
)

func FuzzDecode(f *testing.F) {
	whole, err := os.ReadFile("testdata/whole.bin")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := frame.Decode(b, true); err != nil {
			t.Skip()
		}
	})
}
