package detect

import (
	"fmt"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/census"
)

// FileLeak finds files, pipes and sockets that calls open and nobody closes. Pools and
// caches of open files fill up and stop growing; so it is a finding only where four rounds
// in a row of the same case, in one process, left more open each time, more than such a cache
// may hold, and they were still open eight seconds after the last. Sockets that are connections on
// a link are ConnectionLeak's.
var FileLeak = &harness.Detector{
	Name:    "file-leak",
	Doc:     "files or sockets stay open, more with every round of the same calls",
	Needs:   harness.CapAgent,
	Minimum: 20,
	Repeats: census.File,
	Detect:  fileLeak,
}

func fileLeak(rec *harness.Record) harness.Judgement {
	var j harness.Judgement
	t := trailOf(rec)
	if t == nil {
		return j
	}
	j.Checked = t.calls
	for _, k := range t.lasting(census.File) {
		n := t.more(k)
		if k.Name == "socket" {
			n -= t.onLinks(t.streak(k))
		}
		if n < t.least(k) {
			continue
		}
		add(&j, harness.Finding{
			Detector:  "file-leak",
			Signature: "file leak: " + k.Name,
			Title:     fmt.Sprintf("%d calls have left %d files open of the kind %s, more with every round", t.calls, n, k.Name),
			Detail:    t.series(k),
			Evidence:  t.evidence(),
		})
	}
	return j
}

// onLinks is how many connections more are open on the links than so many rounds before the
// last one's end.
func (t *trail) onLinks(rounds int) int {
	n := 0
	for k, open := range t.last {
		if k.Sort == census.Link {
			n += max(open-t.counts[t.rounds()-rounds][k], 0)
		}
	}
	return n
}
