package faults_test

import (
	"flag"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/faults/faulttest"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/link/linktest"
)

// The bar is 10,000; the default keeps the test in seconds.
var cycles = flag.Int("cycles", 2200, "how often TestCyclesLeaveNothing injects a fault and heals it")

// slack is by how much the heap may have grown after any number of cycles, in bytes: the
// runtime's own books are in it.
const slack = 128 << 10

// TestCyclesLeaveNothing injects and heals every fault of links in turn while clients come,
// talk and go.
func TestCyclesLeaveNothing(t *testing.T) {
	c := startCycling(t)
	before := c.rest()
	c.play(*cycles)
	left := c.rest().less(before)
	t.Logf("%d cycles left %+v", *cycles, left)
	if left.goroutines > 0 || left.descriptors > 0 || left.heap > slack {
		t.Errorf("%d cycles left %+v", *cycles, left)
	}
	for name, n := range c.acted {
		if n == 0 {
			t.Errorf("%s never acted", name)
		}
	}
}

// BenchmarkCycles measures the same. For 10,000 cycles: -bench Cycles -benchtime 10000x
func BenchmarkCycles(b *testing.B) {
	c := startCycling(b)
	before := c.rest()
	n := 0
	for b.Loop() {
		c.play(1)
		n++
	}
	left := c.rest().less(before)
	b.ReportMetric(float64(left.goroutines), "goroutines-left")
	b.ReportMetric(float64(left.descriptors), "fds-left")
	b.ReportMetric(float64(left.heap)/float64(n), "heap-B/cycle")
	b.ReportMetric(float64(left.heap), "heap-B")
}

// holdings is what the process has.
type holdings struct {
	goroutines, descriptors int
	heap                    int64 // bytes
}

func (h holdings) less(had holdings) holdings {
	return holdings{h.goroutines - had.goroutines, h.descriptors - had.descriptors, h.heap - had.heap}
}

// cycling is a bench whose faults are injected and healed again and again.
type cycling struct {
	t      testing.TB
	bench  *faulttest.Bench
	faults []*harness.Fault
	args   []harness.Args
	next   int
	acted  map[string]int64
}

// startCycling plays every fault often enough that nothing is there for the first time later.
func startCycling(t testing.TB) *cycling {
	t.Helper()
	c := &cycling{t: t, bench: faulttest.New(t, faulttest.Native()), faults: onLinks(), acted: map[string]int64{}}
	for _, f := range c.faults {
		c.args = append(c.args, c.bench.Args(f, surely[f.Name]...))
	}
	c.play(10 * len(c.faults))
	return c
}

// rest is what the process has when no client is there any more.
func (c *cycling) rest() holdings {
	c.t.Helper()
	linktest.Eventually(c.t, "every connection is gone", func() bool { return c.bench.Link.Stats().Open == 0 })
	var have holdings
	last := -1
	linktest.Eventually(c.t, "the goroutines have ended", func() bool {
		have.goroutines, have.descriptors = runtime.NumGoroutine(), linktest.Descriptors(c.t)
		now := have.goroutines + have.descriptors
		rested := now == last
		last = now
		time.Sleep(50 * time.Millisecond)
		return rested
	})
	var m runtime.MemStats
	for range 3 { // what a pool holds is gone after two
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	have.heap = int64(m.HeapAlloc)
	return have
}

// play plays n cycles under live traffic. A fault is healed when it has acted, or
// soon, and the next one comes when requests pass again.
func (c *cycling) play(n int) {
	c.t.Helper()
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					visit(c.bench.Link.Addr())
				}
			}
		})
	}
	defer clients.Wait()
	defer close(stop)
	for range n {
		f, args := c.faults[c.next%len(c.faults)], c.args[c.next%len(c.faults)]
		c.next++
		inj := c.bench.Inject(f, args)
		for end := time.Now().Add(5 * time.Millisecond); inj.Acted() == 0 && time.Now().Before(end); {
			time.Sleep(100 * time.Microsecond)
		}
		c.bench.Heal(inj)
		c.acted[f.Name] += inj.Acted()
		served := c.bench.Executed()
		linktest.Eventually(c.t, "requests pass again after "+f.Name, func() bool { return c.bench.Executed() > served })
	}
}

// visit is a client that asks a few times, on a connection on which anything can happen.
func visit(addr string) {
	const patience = 20 * time.Millisecond
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	for range 5 {
		if _, err := io.WriteString(c, "inc\n"); err != nil {
			return
		}
		if _, err := io.ReadFull(c, make([]byte, 9)); err != nil {
			return
		}
	}
}
