//go:build !linux && !darwin

package providers

// removeSharedMemory does nothing here: the segment stays until the system restarts.
func removeSharedMemory(string) {}
