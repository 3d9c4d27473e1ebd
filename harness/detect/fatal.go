package detect

import "github.com/shakedown-go/shakedown/harness"

// Fatal finds errors after which the Go runtime does not go on: concurrent map writes,
// stack overflow, deadlock, no memory, a signal in foreign code.
var Fatal = &harness.Detector{
	Name:    "fatal",
	Doc:     "a fatal error of the Go runtime ends the process",
	Needs:   harness.CapOutput,
	Minimum: 20,
	Proof:   true,
	Detect: func(rec *harness.Record) harness.Judgement {
		return crashed(rec, true, "fatal", "fatal", "a fatal error")
	},
}
