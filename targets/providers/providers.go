// Package providers brings up the stores that a service depends on: a local server, an
// embedded one, or one that is already there.
package providers

import (
	"context"

	"github.com/shakedown-go/shakedown/harness"
)

// Provider is a way to have one dependency, chosen but not started: its rung.
type Provider interface {
	// Rung names what was chosen, with its version: "local@15.18", "embedded@2.40.0".
	Rung() string
	// Start brings it up. Emit takes its output and exit events.
	Start(ctx context.Context, emit func(harness.Event)) (Dependency, error)
}

// Dependency is a store that runs.
type Dependency interface {
	// Addr is where it listens: host:port. It never changes while it runs, restarts included.
	Addr() string
	// Proc is its process tree; an error where nothing of it can be ended or paused.
	Proc() (harness.Proc, error)
	// Reset brings its data back to what they were after the start.
	Reset(context.Context) error
	// Stop ends it and removes what it left on disk. It may be called twice.
	Stop(context.Context) error
}
