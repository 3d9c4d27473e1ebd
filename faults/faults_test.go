package faults_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/faults"
	"github.com/shakedown-go/shakedown/faults/faulttest"
	"github.com/shakedown-go/shakedown/harness"
)

func TestNetworkFaults(t *testing.T) {
	t.Parallel()
	const (
		replied = faulttest.Replied
		silent  = faulttest.Silent
		reset   = faulttest.Reset
		torn    = faulttest.Torn
		closed  = faulttest.Closed
		tornEnd = faulttest.TornEnd
		served  = faulttest.Finished // and then closed
		broken  = faulttest.Broken   // served, and then reset
	)
	const altered, unanswered = faulttest.Altered, faulttest.Unanswered
	life := func(during, after faulttest.Outcome) faulttest.Life {
		return faulttest.Life{During: during, After: after}
	}
	type test struct {
		fault                       string
		args                        []string
		old, new                    faulttest.Life
		executed, late, acted, idle int64
		least                       time.Duration // that a round trip on the old connection takes
	}
	tests := []test{
		{fault: "net/latency", args: []string{"delay", "30ms", "jitter", "5ms"},
			old: life(replied, replied), new: life(replied, replied), executed: 2, acted: 18},
		{fault: "net/latency", args: []string{"delay", "30ms", "dir", "both"},
			old: life(replied, replied), new: life(replied, replied), executed: 2, acted: 26},
		{fault: "net/stall",
			old: life(silent, replied), new: life(silent, replied), late: 2, acted: 8},
		{fault: "net/stall", args: []string{"dir", "up"},
			old: life(silent, replied), new: life(silent, replied), late: 2, acted: 8},
		{fault: "net/stall", args: []string{"dir", "down"},
			old: life(silent, replied), new: life(silent, replied), executed: 2, acted: 18},
		{fault: "net/blackhole",
			old: life(silent, reset), new: life(silent, reset), acted: 8},
		{fault: "net/blackhole", args: []string{"dir", "up"},
			old: life(silent, reset), new: life(silent, reset), acted: 8},
		{fault: "net/blackhole", args: []string{"dir", "down"},
			old: life(silent, reset), new: life(silent, reset), executed: 2, acted: 18},
		{fault: "net/refuse",
			old: life(reset, reset), new: life(reset, reset), acted: 3, idle: 2},
		{fault: "net/refuse", args: []string{"existing", "false"},
			old: life(replied, replied), new: life(reset, reset), executed: 1, acted: 1},
		{fault: "net/rst",
			old: life(reset, reset), new: life(replied, replied), executed: 1, acted: 2, idle: 2},
		{fault: "net/cut",
			old: life(reset, reset), new: life(reset, reset), executed: 2, acted: 2},
		{fault: "net/cut", args: []string{"after", "4"},
			old: life(torn, torn), new: life(torn, torn), executed: 2, acted: 2},
		{fault: "net/cut", args: []string{"after", "3", "dir", "up"},
			old: life(reset, reset), new: life(reset, reset), acted: 2},
		{fault: "net/cut", args: []string{"after", "9"},
			old: life(replied, replied), new: life(replied, replied), executed: 2},
		{fault: "net/cut", args: []string{"how", "fin"},
			old: life(closed, closed), new: life(closed, closed), executed: 2, acted: 2},
		{fault: "net/cut", args: []string{"after", "4", "how", "fin"},
			old: life(tornEnd, tornEnd), new: life(tornEnd, tornEnd), executed: 2, acted: 2},
		{fault: "net/cut", args: []string{"after", "3", "dir", "up", "how", "fin"},
			old: life(closed, closed), new: life(closed, closed), acted: 2},
		{fault: "net/bandwidth", args: []string{"rate", "1"},
			old: life(replied, replied), new: life(replied, replied), executed: 2, acted: 18, least: 9 * time.Millisecond},
		{fault: "net/bandwidth", args: []string{"rate", "0"},
			old: life(silent, replied), new: life(silent, replied), executed: 2, acted: 18},
		{fault: "net/bandwidth", args: []string{"rate", "0", "dir", "up"},
			old: life(silent, replied), new: life(silent, replied), late: 2, acted: 8},
		{fault: "net/bandwidth", args: []string{"rate", "1", "scope", "link"},
			old: life(replied, replied), new: life(replied, replied), executed: 2, acted: 18, least: 9 * time.Millisecond},
		{fault: "net/bandwidth", args: []string{"rate", "1", "burst", "1"}, // which all of it is
			old: life(replied, replied), new: life(replied, replied), executed: 2},
		{fault: "net/slice", args: []string{"size", "2", "gap", "5ms"},
			old: life(replied, replied), new: life(replied, replied), executed: 2, acted: 18, least: 20 * time.Millisecond},
		{fault: "net/slow_close",
			old: life(replied, replied), new: life(replied, replied), executed: 2},
		{fault: "net/timeout", args: []string{"after", "200ms"},
			old: life(closed, closed), new: life(closed, closed), executed: 2, acted: 18 + 3},
		{fault: "net/timeout", args: []string{"after", "200ms", "dir", "up"},
			old: life(closed, closed), new: life(closed, closed), acted: 8 + 3},
		{fault: "net/timeout", args: []string{"after", "5s"},
			old: life(silent, reset), new: life(silent, reset), executed: 2, acted: 18},
		{fault: "net/down",
			old: life(closed, closed), new: life(reset, reset), acted: 3, idle: 2},
		{fault: "net/fin",
			old: life(closed, closed), new: life(replied, replied), executed: 1, acted: 2, idle: 2},
		{fault: "net/half_close",
			old: life(closed, closed), new: life(replied, replied), executed: 1, acted: 2, idle: 2},
		{fault: "net/half_close", args: []string{"dir", "up"},
			old: life(closed, closed), new: life(replied, replied), executed: 1, acted: 2, idle: 2},
		{fault: "net/syn_drop",
			old: life(reset, reset), new: life(unanswered, replied), acted: 3, idle: 2},
		{fault: "net/syn_drop", args: []string{"existing", "false"},
			old: life(replied, replied), new: life(unanswered, replied), executed: 1, acted: 1},
		{fault: "net/corrupt", args: []string{"p", "1", "bits", "8"},
			old: life(altered, replied), new: life(altered, replied), executed: 2, acted: 18},
		{fault: "net/corrupt",
			old: life(replied, replied), new: life(replied, replied), executed: 2},
		{fault: "net/flap", args: []string{"down", "5s"},
			old: life(reset, reset), new: life(reset, reset), acted: 3, idle: 2},
		{fault: "net/conn_cap",
			old: life(replied, replied), new: life(reset, reset), executed: 1, acted: 2, idle: 1},
		{fault: "net/conn_cap", args: []string{"over", "hang"},
			old: life(replied, replied), new: life(silent, replied), executed: 1, late: 1, acted: 2, idle: 1},
		{fault: "net/conn_cap", args: []string{"n", "3"},
			old: life(replied, replied), new: life(replied, replied), executed: 2},
		{fault: "net/accept_close",
			old: life(replied, replied), new: life(closed, closed), executed: 1, acted: 1},
		{fault: "net/accept_close", args: []string{"how", "rst"},
			old: life(replied, replied), new: life(reset, reset), executed: 1, acted: 1},
		{fault: "net/accept_close", args: []string{"existing", "true"},
			old: life(closed, closed), new: life(closed, closed), acted: 3, idle: 2},
		{fault: "net/accept_close", args: []string{"after", "200ms"},
			old: life(replied, replied), new: life(served, served), executed: 2, acted: 1},
		{fault: "net/accept_close", args: []string{"after", "200ms", "how", "rst", "existing", "true"},
			old: life(broken, broken), new: life(broken, broken), executed: 2, acted: 3},
		{fault: "net/accept_close", args: []string{"after", "5s", "existing", "true"},
			old: life(replied, replied), new: life(replied, replied), executed: 2},
		{fault: "net/accept_hang",
			old: life(replied, replied), new: life(silent, replied), executed: 1, late: 1, acted: 1},
		{fault: "net/accept_hang", args: []string{"existing", "true"},
			old: life(reset, reset), new: life(silent, replied), late: 1, acted: 3, idle: 2},
		{fault: "net/loss", args: []string{"p", "0.5", "rto", "20ms", "dir", "both"},
			old: life(replied, replied), new: life(replied, replied), executed: 2, acted: 4, least: 20 * time.Millisecond},
		{fault: "net/loss", args: []string{"p", "0.001"},
			old: life(replied, replied), new: life(replied, replied), executed: 2},
		{fault: "net/latency", args: []string{"delay", "30ms", "jitter", "2ms", "dist", "pareto"},
			old: life(replied, replied), new: life(replied, replied), executed: 2, acted: 18},
		{fault: "net/latency", args: []string{"delay", "30ms", "jitter", "5ms", "corr", "0.5"},
			old: life(replied, replied), new: life(replied, replied), executed: 2, acted: 18},
		{fault: "net/profile",
			old: life(replied, replied), new: life(replied, replied), executed: 2, acted: 26, least: 40 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(strings.Join(append([]string{tt.fault}, tt.args...), " "), func(t *testing.T) {
			t.Parallel()
			f := faults.ByName(tt.fault)
			b := faulttest.New(t, faulttest.Native())
			args := b.Args(f, tt.args...)
			r := b.Play(f, args)
			if again := r.Acted - tt.acted; tt.fault == "net/syn_drop" && again > 0 && again < 4 {
				r.Acted = tt.acted // on a slow machine the kernel has asked once more
			}
			if r.Old != tt.old || r.New != tt.new || r.Executed != tt.executed || r.Late != tt.late || r.Acted != tt.acted || r.Idle != tt.idle {
				t.Errorf("got %+v\nwant %+v", r, tt)
			}
			if r.Unit != f.Unit {
				t.Errorf("it counts %s, and is declared to count %s", r.Unit, f.Unit)
			}
			if r.Next != replied {
				t.Errorf("a connection after the heal: %s", r.Next)
			}
			if want := max(tt.least, args.Duration("delay")-args.Duration("jitter")); tt.fault != "net/slow_close" && r.Took < want {
				t.Errorf("took %s, want %s or more", r.Took, want)
			}
			if got := r.Effect(); f.Effect != harness.EffectMaybe && f.Effect != harness.EffectCorrupt && got != f.Effect && got != harness.EffectNone {
				t.Errorf("its effect is declared as %s, and was seen to be %s", f.Effect, got)
			}
		})
	}
	for _, f := range onLinks() {
		if !slices.ContainsFunc(tests, func(tt test) bool { return tt.fault == f.Name }) {
			t.Errorf("%s is not tested", f.Name)
		}
	}
}

func onLinks() []*harness.Fault {
	return slices.DeleteFunc(faults.All(), func(f *harness.Fault) bool {
		return !slices.ContainsFunc(f.Params, func(p harness.Param) bool { return p.Of == harness.OfLink })
	})
}

func TestWithoutTrafficNothingIsClaimed(t *testing.T) {
	t.Parallel()
	for _, e := range []faulttest.Engine{faulttest.Native(), faulttest.Toxiproxy()} {
		for _, f := range onLinks() {
			t.Run(f.Name+" "+e.Name, func(t *testing.T) {
				t.Parallel()
				b := faulttest.New(t, e)
				inj, err := b.TryInject(f, b.Args(f))
				if err != nil && e.Name != "native" {
					t.Skip(err)
				} else if err != nil {
					t.Fatal(err)
				}
				b.Heal(inj)
				if n := inj.Acted(); n != 0 {
					t.Errorf("acted on %d %s", n, inj.Unit)
				}
				if got := b.Dial().Request(); got != faulttest.Replied {
					t.Errorf("after the heal: %s", got)
				}
			})
		}
	}
}

// surely are arguments under which a fault acts in little traffic, where the defaults leave that
// to chance.
var surely = map[string][]string{
	"net/corrupt": {"p", "0.5", "dir", "both"},
	"net/loss":    {"p", "0.5", "rto", "1ms", "dir", "both"},
}

// A fault that nobody heals ends by itself: requests pass, and it touches none of them. That can
// be late on a busy machine.
func TestTimeToLive(t *testing.T) {
	t.Parallel()
	for _, f := range onLinks() {
		if f.Heals == nothing {
			continue
		}
		for _, e := range []faulttest.Engine{faulttest.Native(), faulttest.Toxiproxy()} {
			t.Run(f.Name+" "+e.Name, func(t *testing.T) {
				t.Parallel()
				for wait := 100 * time.Millisecond; ; wait *= 10 {
					b := faulttest.New(t, e)
					inj, err := b.TryInject(f, b.Args(f, append([]string{"ttl", "20ms"}, surely[f.Name]...)...))
					if err != nil && e.Name != "native" {
						t.Skip(err)
					} else if err != nil {
						t.Fatal(err)
					}
					time.Sleep(wait)
					acted := inj.Acted()
					got := b.Dial().Request() // nobody has called anything
					more := inj.Acted() - acted
					err = inj.Heal(t.Context())
					if (got != faulttest.Replied || more > 0 || err == nil) && wait < 10*time.Second {
						continue // it was still in force
					}
					if got != faulttest.Replied || more > 0 {
						t.Errorf("before the heal: %s, and it acted on %d %s more", got, more, inj.Unit)
					}
					if !errors.Is(err, harness.ErrExpired) {
						t.Errorf("the heal says %v, want %v", err, harness.ErrExpired)
					}
					if got := b.Dial().Request(); got != faulttest.Replied {
						t.Errorf("afterwards: %s", got)
					}
					return
				}
			})
		}
	}
}

// nothing is what faults say at whose end there is nothing to undo.
const nothing = "there is nothing to heal"

func TestFaultsAreDescribed(t *testing.T) {
	t.Parallel()
	all := faults.All()
	if !slices.IsSortedFunc(all, func(a, b *harness.Fault) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the list is not sorted by name")
	}
	for _, f := range all {
		if f.Doc == "" || f.Needs == 0 || f.Inject == nil || f.Unit == "" {
			t.Errorf("%s lacks something: %+v", f.Name, f)
		}
		if lives := slices.ContainsFunc(f.Params, func(p harness.Param) bool { return p.Name == harness.TTL.Name }); lives == (f.Heals == nothing) {
			t.Errorf("%s has a time to live: %v; at its heal %s", f.Name, lives, f.Heals)
		}
		if faults.ByName(f.Name) != f {
			t.Errorf("%s is not found by its name", f.Name)
		}
		target := &harness.Target{Links: []string{"dep"}, Procs: []string{"db"}, Stores: map[string]string{"cache": "redis", "db": "postgres"}}
		for _, p := range f.Params {
			if p.Doc == "" || p.Domain == nil && p.Given == nil && p.Of == harness.OfNothing {
				t.Errorf("%s %s lacks something: %+v", f.Name, p.Name, p)
			}
			if names := p.Names(target); len(names) > 0 {
				args := f.Fill(harness.Args{{Key: p.Name, Value: harness.Text(names[0])}})
				if err := f.Check(args, target); err != nil {
					t.Errorf("the defaults: %v", err)
				}
			}
		}
	}
	if faults.ByName("net/none") != nil {
		t.Error("a fault that there is not was found")
	}
}
