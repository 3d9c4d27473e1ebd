// Package fixed fuzzes the decoder of frames without its mistake.
package fixed
