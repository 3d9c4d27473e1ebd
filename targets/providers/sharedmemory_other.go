//go:build !linux && !darwin

package providers

import "iter"

// removeSharedMemory does nothing here: the segment stays until the system restarts.
func removeSharedMemory(string) {}

func segments(string) iter.Seq[int] { return func(func(int) bool) {} }
