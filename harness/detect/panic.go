package detect

import "github.com/shakedown-go/shakedown/harness"

// Panic finds panics that ended a process.
var Panic = &harness.Detector{
	Name:    "panic",
	Doc:     "a panic that nobody recovered ends the process",
	Needs:   harness.CapOutput,
	Minimum: 20,
	Proof:   true,
	Detect: func(rec *harness.Record) harness.Judgement {
		return crashed(rec, false, "panic", "panic", "a panic")
	},
}
