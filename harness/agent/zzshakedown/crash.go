//go:build go1.23

package zzshakedown

import (
	"os"
	"runtime/debug"
)

// setCrashOutput has the runtime write panics and fatal errors to f as well as to
// standard error, apart from what the service prints.
func setCrashOutput(f *os.File) error {
	defer f.Close() // the runtime keeps a duplicate
	return debug.SetCrashOutput(f, debug.CrashOptions{})
}
