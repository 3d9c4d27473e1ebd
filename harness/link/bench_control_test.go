package link_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/link/linktest"
)

// controlled is a proxy whose toxics are set and lifted.
type controlled struct {
	name string
	ours bool
	addr string
	// set puts a toxic in force, and lift ends it.
	set, lift func() error
	took      []float64 // of each call, in microseconds
	hung      int       // calls that did not return; none is made after that
}

func (c *controlled) call(b *testing.B, f func() error) {
	if c.hung > 0 {
		return
	}
	took, err := patient(f)
	switch {
	case errors.Is(err, errHangs):
		c.hung++
	case err != nil:
		b.Fatalf("%s: %v", c.name, err)
	default:
		c.took = append(c.took, us(took))
	}
}

func controlledLink(b *testing.B, upstream string, x harness.Toxic) *controlled {
	l := listen(b, upstream)
	var inj harness.Injection
	set := func() (err error) {
		inj, err = l.Disturb(context.Background(), x)
		return err
	}
	return &controlled{name: "link", ours: true, addr: l.Addr(), set: set, lift: func() error { return inj.Heal(context.Background()) }}
}

func controlledToxiproxy(b *testing.B, upstream, kind string, attributes map[string]int) *controlled {
	p := toxiproxyTo(b, upstream)
	text, err := json.Marshal(map[string]any{"name": "x", "type": kind, "stream": "downstream", "attributes": attributes})
	if err != nil {
		b.Fatal(err)
	}
	set := func() error {
		_, err := p.Toxics.AddToxicJson(strings.NewReader(string(text)))
		return err
	}
	return &controlled{name: "toxiproxy", addr: p.Listen, set: set, lift: func() error { return p.Toxics.RemoveToxic(context.Background(), "x") }}
}

// BenchmarkControl measures the calls that put a toxic in force and end it, on links with
// fifty connections: on live ones, each with a request every ten milliseconds, and on such
// whose readers have stalled and whose buffers are full.
func BenchmarkControl(b *testing.B) {
	const conns = 50
	states := []struct {
		name  string
		begin func(b *testing.B, l *load, c *controlled)
	}{
		{"live", func(b *testing.B, l *load, c *controlled) {
			talk := order{Do: "talk", Addr: c.addr, Conns: conns, Depth: 1, Trips: 20, Pause: 10 * time.Millisecond}
			connecting := talk
			connecting.Trips = 1
			if _, err := l.do(connecting); err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
			ctx, stop := context.WithCancel(context.Background())
			var talking sync.WaitGroup
			talking.Go(func() {
				for ctx.Err() == nil {
					if _, err := l.do(talk); err != nil {
						if c.ours {
							b.Error(err)
						}
						return // toxiproxy can lose connections that it is controlled on
					}
				}
			})
			b.Cleanup(func() {
				stop()
				talking.Wait()
			})
		}},
		{"stalled", func(b *testing.B, l *load, c *controlled) {
			if _, err := l.do(order{Do: "stall", Addr: c.addr, Conns: conns}); err != nil {
				b.Fatalf("%s: %v", c.name, err)
			}
		}},
	}
	toxics := []struct {
		name       string
		toxic      harness.Toxic
		kind       string
		attributes map[string]int
	}{
		{"delay", harness.Toxic{Dir: harness.Down, Delay: time.Millisecond}, "latency", map[string]int{"latency": 1}},
		{"hold", harness.Toxic{Dir: harness.Down, Hold: true}, "bandwidth", map[string]int{"rate": 0}},
		{"deaf", harness.Toxic{Deaf: true}, "", nil}, // toxiproxy has nothing for it
	}
	for _, state := range states {
		for _, x := range toxics {
			for i, name := range []string{"link", "toxiproxy"} {
				if x.kind == "" && name == "toxiproxy" {
					continue
				}
				b.Run(state.name+"/"+x.name+"/"+name, func(b *testing.B) {
					of, to := startLoad(b), startLoad(b)
					both := []*controlled{controlledLink(b, of.upstream, x.toxic), {name: "toxiproxy"}}
					state.begin(b, of, both[0])
					if x.kind != "" {
						both[1] = controlledToxiproxy(b, to.upstream, x.kind, x.attributes)
						state.begin(b, to, both[1])
					}
					round := func() {
						for _, c := range both {
							if c.set == nil {
								continue
							}
							c.call(b, c.set)
							time.Sleep(time.Millisecond) // so long it is in force
							c.call(b, c.lift)
						}
					}
					round() // what hangs takes its time here
					for b.Loop() {
						round()
					}
					reportCalls(b, both[i], both[1-i])
				})
			}
		}
	}
}

// reportCalls reports how long calls took, and how many hung.
func reportCalls(b *testing.B, c, other *controlled) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(c.hung), "hung")
	if len(c.took) == 0 {
		return
	}
	for _, part := range []float64{0.5, 0.99} {
		b.ReportMetric(quantile(c.took, part), fmt.Sprintf("p%g-us", 100*part))
		if len(other.took) > 0 {
			reportRatio(b, fmt.Sprintf("p%g", 100*part), other.name, quantile(c.took, part), quantile(other.took, part))
		}
	}
	b.ReportMetric(slices.Max(c.took), "max-us")
}

// BenchmarkStop measures how long it takes to end a proxy to which ten clients have connected
// and whose dependency never answers a connect.
func BenchmarkStop(b *testing.B) {
	for i, name := range []string{"link", "toxiproxy"} {
		b.Run(name, func(b *testing.B) {
			upstream := linktest.Deaf(b)
			both := []*controlled{{name: "link", ours: true}, {name: "toxiproxy"}}
			round := func() {
				l := listen(b, upstream)
				leave := connect10(b, l.Addr())
				linktest.Eventually(b, "the connections wait for the dependency", func() bool { return l.Stats().Open == 10 })
				both[0].call(b, l.Close)
				leave()
				if both[1].hung > 0 {
					return
				}
				p := toxiproxyTo(b, upstream)
				leave = connect10(b, p.Listen)
				time.Sleep(10 * time.Millisecond) // it takes the first, and waits there
				both[1].call(b, func() error { p.Stop(); return nil })
				leave()
			}
			round() // what hangs takes its time here
			for b.Loop() {
				round()
			}
			reportCalls(b, both[i], both[1-i])
		})
	}
}

// connect10 connects ten clients, until they leave.
func connect10(b *testing.B, addr string) (leave func()) {
	b.Helper()
	conns, err := connect(addr, 10)
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		for _, c := range conns {
			c.Close()
		}
	}
}

// BenchmarkHangUps measures what is left of clients that went away in the midst of a reply:
// 10,000 of them, a tenth with -short.
func BenchmarkHangUps(b *testing.B) {
	conns := 10_000
	if testing.Short() {
		conns /= 10
	}
	for _, p := range []path{iocopy, native, toxic, stock} { // the last may leave much behind
		b.Run(p.name, func(b *testing.B) {
			l := startLoad(b)
			addr := p.open(b, l.upstream)
			settle()
			goroutines, descriptors := runtime.NumGoroutine(), linktest.Descriptors(b)
			var done int
			for b.Loop() {
				r, err := l.do(order{Do: "hang up", Addr: addr, Conns: conns})
				if err != nil {
					b.Log(err)
				}
				done += r.Done
			}
			settle()
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(done), "hang-ups")
			b.ReportMetric(us(b.Elapsed())/float64(done), "us/hang-up")
			b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "goroutines-left")
			b.ReportMetric(float64(linktest.Descriptors(b)-descriptors), "fds-left")
		})
	}
}

// settle waits until the goroutines that are about to end have ended, and gives back what is
// kept for later: io.Copy keeps pipes.
func settle() {
	defer func() {
		runtime.GC()
		runtime.GC() // what a pool holds is gone after two
	}()
	for n := runtime.NumGoroutine(); ; {
		time.Sleep(500 * time.Millisecond)
		now := runtime.NumGoroutine()
		if now >= n {
			return
		}
		n = now
	}
}
