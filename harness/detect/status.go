package detect

import (
	"fmt"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
)

// Status finds replies that the description rules out, and replies that never came, while
// nothing had been injected.
//
// A connection that has served before may be closed by the service at any time, and it
// cannot know that a call is on its way: a reply that is lost there proves nothing.
//
// A handler that panics with http.ErrAbortHandler hangs up on purpose. Where something
// printed that panic, its silence is no finding; net/http itself does not, and then the
// caller cannot tell it from a reply that was lost.
var Status = &harness.Detector{
	Name:    "status",
	Doc:     "a call is answered with a status that the description does not allow, or not at all, while nothing is injected",
	Minimum: 20,
	Data:    true,
	Detect:  status,
}

func status(rec *harness.Record) harness.Judgement {
	var j harness.Judgement
	// What explains a reply may come after it, and be among what was dropped.
	recovered := rec.Truncated || len(recoveries(rec)) > 0
	gone := rec.Truncated || len(crashes(rec)) > 0 || aborts(rec) // the service ended, or hung up on purpose
	for _, e := range rec.Events {
		gone = gone || unexpected(e)
	}
	asked := map[string]harness.Event{} // by lane
	for _, e := range rec.Events {
		switch {
		case e.Kind == harness.Inject, e.Kind == harness.Exit:
			// From here on the service may be recovering: any status may be right.
			return j
		case e.Kind == harness.Reset:
			clear(asked)
		case e.Kind == harness.Invoke:
			asked[e.Lane] = e
		case e.Returned():
			call, known := asked[e.Lane]
			delete(asked, e.Lane)
			if !known || call.Name != e.Name {
				continue
			}
			code := e.Args.Int("status")
			switch {
			case e.Args.Text("timeout") == "true":
				continue
			case code == 0 && (gone || recovered || e.Args.Text("reused") == "true" || !hungUp(e.Args.Text("error"))):
				continue
			case code == 500 && recovered, code != 0 && e.Args.Text("expect") != "false":
			default:
				add(&j, wrong(call, e, code))
			}
			j.Checked++
		}
	}
	return j
}

// hungUp reports whether an error in the client's words is the other side's doing.
func hungUp(err string) bool {
	for _, s := range []string{"EOF", "connection reset", "connection refused", "broken pipe", "malformed HTTP"} {
		if strings.Contains(err, s) {
			return true
		}
	}
	return false
}

func wrong(call, reply harness.Event, code int64) harness.Finding {
	f := harness.Finding{Detector: "status", Detail: reply.Text, Evidence: []uint64{call.Seq, reply.Seq}}
	if code == 0 {
		f.Signature = fmt.Sprintf("status: %s no reply", reply.Name)
		f.Title = fmt.Sprintf("%s got no reply while nothing was injected", reply.Name)
		f.Detail = reply.Args.Text("error")
		return f
	}
	f.Signature = fmt.Sprintf("status: %s %d", reply.Name, code)
	f.Title = fmt.Sprintf("%s was answered with %d while nothing was injected", reply.Name, code)
	return f
}
