package runner_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
	"github.com/shakedown-go/shakedown/harness/runner"
)

func TestTriggers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, text string
		met        string // the calls during which the link was disturbed, in order
		skipped    string // why the fault was not injected
	}{
		{name: "the first call", text: "+ net/break link=db when=calls\na get\nb pay\n", met: "get pay"},
		{name: "the second of an op", text: "+ net/break link=db when=calls:pay>=2\na pay\na get\na pay\na get\n", met: "pay get"},
		{name: "a route", text: "+ net/break link=db when=\"calls:POST /pay\"\na get\na pay\n", met: "pay"},
		{name: "calls before its turn", text: "a pay\n+ net/break link=db when=calls:pay\na get\na pay\n", met: "pay"},
		{name: "repeats", text: "+ net/break link=db when=calls:get>=3\na get *4\n", met: "get get"},
		{name: "in flight at once", text: "+ net/break link=db when=inflight:meet>=2\na get\na meet &\nb meet\na get\n", met: "meet get"},
		{name: "in flight when its turn comes", text: "a linger &\n+ net/break link=db when=inflight at=1ms\n", met: "linger"},
		{name: "one after another", text: "+ net/break link=db when=inflight>=2\na get\nb get\n",
			skipped: "its trigger inflight>=2 did not come: it came to 1"},
		{name: "bytes", text: "+ f = net/break link=db when=bytes:cache>=100\na load\na pause\na get\n", met: "get"},
		{name: "bytes of another link", text: "+ f = net/break link=db when=bytes:db>=100\na load\na pause\na get\n",
			skipped: "its trigger bytes:db>=100 did not come: it came to 0"},
		{name: "never", text: "+ f = net/break link=db when=calls:pay>=3\na pay\na get\n",
			skipped: "its trigger calls:pay>=3 did not come: it came to 1"},
		{name: "in one group", text: "+ f = net/break link=db when=calls:pay &\na pay\na get\n- f\na get\n", met: "pay get"},
		{name: "healed in its group", text: "+ f = net/break link=db when=calls:pay &\n- f &\na pause &\nb pause\na pay\n",
			skipped: "its trigger calls:pay did not come: it came to 0"},
		{name: "healed before", text: "+ f = net/break link=db when=calls:pay\na get\n- f\na pay\n",
			skipped: "its trigger calls:pay did not come: it came to 0"},
		{name: "reset before", text: "+ f = net/break link=db when=calls:pay\na get\nreset\na pay\n",
			skipped: "its trigger calls:pay did not come: it came to 0"},
		{name: "healed behind", text: "+ f = net/break link=db when=calls:pay\na pay\n- f\na get\n", met: "pay"},
		{name: "later", text: "+ f = net/break link=db when=calls:pay at=1ms\na pay\na pause\na get\n", met: "get"},
		{name: "for a while", text: "+ f = net/break link=db when=calls:pay for=1ms\na pay\na pause\na get\n", met: "pay"},
		{name: "healed before its delay is over", text: "+ f = net/break link=db when=calls:pay at=1h\na pay\n- f\na get\n",
			skipped: "it was to be healed before it was injected"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var met []string
				meeting := make(chan struct{}, 2)
				s := &harnesstest.Service{
					Ops: []harness.Op{{Name: "get", Route: "GET /"}, {Name: "pay", Route: "POST /pay"}, {Name: "meet"}, {Name: "linger"}, {Name: "load"}, {Name: "pause"}},
					Handle: func(_ context.Context, l *harnesstest.Life, call harnesstest.Call) harness.Reply {
						disturbed := l.Disturbed("db")
						switch call.Op {
						case "meet": // both are under way when one of them goes on
							meeting <- struct{}{}
							for len(meeting) < 2 {
								time.Sleep(time.Millisecond)
							}
						case "linger":
							for deadline := time.Now().Add(time.Second); !disturbed && time.Now().Before(deadline); disturbed = l.Disturbed("db") {
								time.Sleep(time.Millisecond)
							}
						case "load":
							l.Pass("cache", 100)
						case "pause":
							time.Sleep(100 * time.Millisecond)
							return harnesstest.OK("")
						}
						if disturbed {
							mu.Lock()
							defer mu.Unlock()
							met = append(met, call.Op)
						}
						return harnesstest.OK("")
					},
				}
				rec, _, err := play(t, t.Context(), s, runner.Options{}, tt.text)
				if err != nil {
					t.Fatal(err)
				}
				if got := strings.Join(met, " "); got != tt.met {
					t.Errorf("the fault was met by %q, want %q\n%s", got, tt.met, story(rec))
				}
				times := 1
				if tt.skipped != "" {
					times = 0
					i := slices.IndexFunc(rec.Events, func(e harness.Event) bool { return e.Kind == harness.Skip })
					if i < 0 || rec.Events[i].Text != tt.skipped {
						t.Errorf("it was not said that %s\n%s", tt.skipped, story(rec))
					}
				}
				if rec.Count(harness.Inject) != times || rec.Count(harness.Heal) != times {
					t.Errorf("not injected and healed %d times:\n%s", times, story(rec))
				}
			})
		})
	}
}

// A fault that a call triggers is in force, and recorded, before the call is written.
func TestTriggerComesBeforeTheCall(t *testing.T) {
	t.Parallel()
	s := &harnesstest.Service{Handle: answer("")}
	rec, _, err := play(t, t.Context(), s, runner.Options{}, "+ net/break link=db when=calls\na get\n")
	if err != nil {
		t.Fatal(err)
	}
	at := func(k harness.Kind) int {
		return slices.IndexFunc(rec.Events, func(e harness.Event) bool { return e.Kind == k })
	}
	if at(harness.Invoke) > at(harness.Inject) || at(harness.Inject) > at(harness.Forwarded) {
		t.Errorf("in another order:\n%s", story(rec))
	}
}

func TestCallIsRepeatedForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &harnesstest.Service{Handle: func(context.Context, *harnesstest.Life, harnesstest.Call) harness.Reply {
			time.Sleep(60 * time.Millisecond)
			return harnesstest.OK("")
		}}
		for text, want := range map[string]int{"a get *1m\n": 1001, "a get *50\n": 34} { // 50 calls take longer than one may
			rec, _, err := play(t, t.Context(), s, runner.Options{Timeout: 2 * time.Second}, text)
			if n := rec.Count(harness.OK); err != nil || n != want {
				t.Errorf("%s%d calls, want %d, %v", text, n, want, err)
			}
		}
	})
}
