//go:build gofuzz

package frames

import "example.com/frames/frame"

// FuzzFrame decodes a frame.
func FuzzFrame(data []byte) int {
	if _, err := frame.Decode(data, true); err != nil {
		return 0
	}
	return 1
}
