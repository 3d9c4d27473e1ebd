// Package probe holds the samplers: what is measured while a case is played and has to be
// asked for, because the service does not say it by itself.
package probe

import "github.com/shakedown-go/shakedown/harness"

// All returns every probe.
func All() []*harness.Probe { return []*harness.Probe{Goroutines} }
