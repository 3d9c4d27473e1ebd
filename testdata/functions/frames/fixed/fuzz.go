//go:build gofuzz

package fixed

import "example.com/frames/frame"

// FuzzFrame decodes a frame.
func FuzzFrame(data []byte) int {
	if _, err := frame.Decode(data, false); err != nil {
		return 0
	}
	return 1
}
