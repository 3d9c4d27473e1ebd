// Package frame reads frames: a byte that says how many follow, those, and a checksum.
package frame

import "errors"

// ErrShort says that a frame ends too early.
var ErrShort = errors.New("short frame")

// Decode returns the bytes of a frame. Careless believes what the frame says of itself.
func Decode(b []byte, careless bool) ([]byte, error) {
	if len(b) < 2 {
		return nil, ErrShort
	}
	n := int(b[0])
	if !careless && len(b) < n+2 {
		return nil, ErrShort
	}
	body := b[1 : n+1]
	sum := byte(0)
	for _, c := range body {
		sum ^= c
	}
	if sum != b[n+1] {
		return nil, errors.New("wrong checksum")
	}
	return body, nil
}
