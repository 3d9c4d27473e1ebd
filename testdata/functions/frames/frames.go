// Package frames fuzzes the decoder of frames, with its mistake.
package frames
