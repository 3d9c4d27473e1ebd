package detect

import (
	"fmt"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/census"
)

// ConnectionLeak finds connections to a dependency that calls open and nobody gives back. A
// pool has what it needs after a round or two, and a connection that a fault has broken is
// replaced; so it asks for what FileLeak asks for, of sockets. A service without dependencies has
// none to leak.
var ConnectionLeak = &harness.Detector{
	Name:    "connection-leak",
	Doc:     "connections to a dependency stay open, more with every round of the same calls",
	Needs:   harness.CapAgent,
	Minimum: 20,
	Repeats: census.Link,
	Detect:  connectionLeak,
}

func connectionLeak(rec *harness.Record) harness.Judgement {
	var j harness.Judgement
	t := trailOf(rec)
	if t == nil {
		return j
	}
	j.Checked = t.calls
	for _, k := range t.lasting(census.Link) {
		add(&j, harness.Finding{
			Detector:  "connection-leak",
			Signature: "connection leak: " + k.Name,
			Title:     fmt.Sprintf("%d calls have left %d connections to %s open, more with every round", t.calls, t.more(k), k.Name),
			Detail:    t.series(k),
			Evidence:  t.evidence(),
		})
	}
	return j
}
