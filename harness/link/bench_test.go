package link_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/link"
	"github.com/shakedown-go/shakedown/harness/link/linktest"
	"github.com/shakedown-go/shakedown/harness/link/toxi"
)

// The benchmarks of links compare them with the smallest proxy that there is and with
// toxiproxy. On a busy machine two figures can be compared only if they were measured at the
// same time. So each line is measured together with what its ratios name, in turn, and what a
// path adds is taken round by round. In a unit, x_ stands for a ratio: cpu_x_iocopy is the
// processor time that the path adds to a request, in that which iocopy adds.
//
// The process of the benchmark holds the proxies and nothing else: what it spends on a path
// above what it spends on direct is spent by the proxy.

// path is a way from the clients to the dependency.
type path struct {
	name string
	open func(b *testing.B, upstream string) (addr string)
}

var (
	direct = path{"direct", func(_ *testing.B, upstream string) string { return upstream }}
	iocopy = path{"iocopy", bare}
	native = path{"link", func(b *testing.B, upstream string) string { return listen(b, upstream).Addr() }}
	toxic  = path{"link-toxic", func(b *testing.B, upstream string) string {
		l := listen(b, upstream)
		linktest.Disturb(b, l, harness.Toxic{Delay: 1}) // as little as there is: every chunk is queued
		return l.Addr()
	}}
	stock  = path{"toxiproxy", func(b *testing.B, upstream string) string { return toxiproxyTo(b, upstream).Listen }}
	engine = path{"engine", func(b *testing.B, upstream string) string { // links of engine: toxiproxy
		l, err := toxi.Embedded().Listen("dep", upstream)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { l.Close() })
		return l.Addr()
	}}
)

func listen(b *testing.B, upstream string) *link.Link {
	b.Helper()
	l, err := link.Listen("dep", upstream)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	return l
}

// bare is the smallest proxy that there is: the kernel moves the bytes.
func bare(b *testing.B, upstream string) string {
	return linktest.Serve(b, func(client *net.TCPConn) {
		server, err := net.Dial("tcp", upstream)
		if err != nil {
			b.Error(err)
			return
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			io.Copy(client, server)
			client.CloseWrite()
		})
		io.Copy(server, client)
		server.Close()
		wg.Wait()
	})
}

// toxiproxyTo starts a proxy of toxiproxy itself, without metrics and without a log.
func toxiproxyTo(b *testing.B, upstream string) *toxiproxy.Proxy {
	b.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled)
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, "dep", "127.0.0.1:0", upstream)
	if err := p.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { patient(func() error { p.Stop(); return nil }) })
	return p
}

// hangsAfter is when a call is said to hang. Toxiproxy has calls that never return.
const hangsAfter = 2 * time.Second

var errHangs = errors.New("it hangs")

// patient calls f and returns how long that took. It leaves behind what hangs.
func patient(f func() error) (time.Duration, error) {
	type result struct {
		took time.Duration
		err  error
	}
	done := make(chan result, 1)
	go func() {
		start := time.Now()
		err := f()
		done <- result{time.Since(start), err}
	}()
	select {
	case r := <-done:
		return r.took, r.err
	case <-time.After(hangsAfter):
		return hangsAfter, errHangs
	}
}

// entrant is a path that is compared, with what was seen of it.
type entrant struct {
	path
	addr  string
	trips []time.Duration // of all rounds
	p50   []float64       // of each round, in microseconds
	cpu   []float64       // of this process, of each round: microseconds per request
	rate  []float64       // of each round: requests per second
}

// compare has clients talk on a path and on those that it is compared with, in rounds.
func compare(b *testing.B, p path, l *load, upstream string, o order) map[string]*entrant {
	b.Helper()
	entrants := []*entrant{{path: direct}, {path: iocopy}, {path: stock}}
	if !slices.ContainsFunc(entrants, func(e *entrant) bool { return e.name == p.name }) {
		entrants = append(entrants, &entrant{path: p})
	}
	byName := map[string]*entrant{}
	for _, e := range entrants {
		byName[e.name] = e
		e.addr = e.open(b, upstream)
		e.play(b, l, o)
		*e = entrant{path: e.path, addr: e.addr} // that was to connect and to warm up
	}
	for b.Loop() {
		for first := range entrants { // everybody comes first once, and so on
			for i := range entrants {
				entrants[(first+i)%len(entrants)].play(b, l, o)
			}
		}
	}
	return byName
}

// play has clients talk on the path once.
func (e *entrant) play(b *testing.B, l *load, o order) {
	b.Helper()
	o.Addr = e.addr
	before := spent(b)
	r, err := l.do(o)
	if err != nil {
		b.Fatalf("%s: %v", e.name, err)
	}
	cost := spent(b) - before
	requests := float64(o.Conns * o.Depth * o.Trips)
	e.trips = append(e.trips, r.Trips...)
	e.p50 = append(e.p50, us(quantile(r.Trips, 0.5)))
	e.cpu = append(e.cpu, us(cost)/requests)
	e.rate = append(e.rate, requests/r.Took.Seconds())
}

// spent is the processor time that this process has taken.
func spent(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func us(d time.Duration) float64 { return float64(d) / 1e3 }

// quantile returns what a part of the values is not above.
func quantile[T time.Duration | float64](values []T, part float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(part*float64(len(sorted))))]
}

// added is what the second of two series has more than the first, in the median of the rounds.
func added(than, have []float64) float64 {
	more := make([]float64, len(have))
	for i := range have {
		more[i] = have[i] - than[i]
	}
	return quantile(more, 0.5)
}

// reportRatio reports a value as a multiple of that of another path, where that one is something.
func reportRatio(b *testing.B, what, than string, value, base float64) {
	if base > 0 {
		b.ReportMetric(value/base, what+"_x_"+than)
	}
}

// reportCPU reports the processor time that a path adds to a request.
func reportCPU(b *testing.B, seen map[string]*entrant, name string) {
	cost := func(name string) float64 { return added(seen["direct"].cpu, seen[name].cpu) }
	b.ReportMetric(cost(name), "cpu-us/req")
	for _, than := range []string{"iocopy", "toxiproxy"} {
		if than != name {
			reportRatio(b, "cpu", than, cost(name), cost(than))
		}
	}
}

// BenchmarkSerial measures small requests on one connection, one after the other: how much
// later the reply comes than without a proxy.
func BenchmarkSerial(b *testing.B) {
	for _, p := range []path{direct, iocopy, native, toxic, stock, engine} {
		b.Run(p.name, func(b *testing.B) {
			l := startLoad(b)
			seen := compare(b, p, l, l.upstream, order{Do: "talk", Conns: 1, Depth: 1, Trips: 200})
			b.ReportMetric(0, "ns/op") // says nothing: it is that of a round on all of them
			e := seen[p.name]
			b.ReportMetric(quantile(e.p50, 0.5), "p50-us")
			if p.name == direct.name {
				return
			}
			later := func(name string) float64 { return added(seen["direct"].p50, seen[name].p50) }
			b.ReportMetric(later(p.name), "added-p50-us")
			b.ReportMetric(us(quantile(e.trips, 0.99)-quantile(seen["direct"].trips, 0.99)), "added-p99-us")
			for _, than := range []string{"iocopy", "toxiproxy"} {
				if than != p.name {
					reportRatio(b, "added-p50", than, later(p.name), later(than))
				}
			}
			reportCPU(b, seen, p.name)
		})
	}
}

// BenchmarkThroughput measures as many requests as pass on fifty connections, in pipelines of
// one and of sixteen, to a server that does nothing else and to a Redis where there is one.
func BenchmarkThroughput(b *testing.B) {
	servers := []struct {
		name string
		addr func(*testing.B, *load) string
	}{
		{"echo", func(_ *testing.B, l *load) string { return l.upstream }},
		{"redis", func(b *testing.B, _ *load) string { return startRedis(b) }},
	}
	for _, s := range servers {
		for _, o := range []order{{Depth: 1, Trips: 40}, {Depth: 16, Trips: 15}} {
			o.Do, o.Conns = "talk", 50
			for _, p := range []path{direct, iocopy, native, toxic, stock, engine} {
				b.Run(fmt.Sprintf("%s/pipeline=%d/%s", s.name, o.Depth, p.name), func(b *testing.B) {
					l := startLoad(b)
					seen := compare(b, p, l, s.addr(b, l), o)
					b.ReportMetric(0, "ns/op")
					rate := func(name string) float64 { return quantile(seen[name].rate, 0.5) }
					b.ReportMetric(rate(p.name), "req/s")
					for _, than := range []string{"direct", "iocopy", "toxiproxy"} {
						if than != p.name {
							reportRatio(b, "rate", than, rate(p.name), rate(than))
						}
					}
					if p.name != direct.name {
						reportCPU(b, seen, p.name)
					}
				})
			}
		}
	}
}

// startRedis starts a Redis that ends with the benchmark.
func startRedis(b *testing.B) string {
	b.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		b.Skip(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	host, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(program, "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", b.TempDir())
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	linktest.Eventually(b, "the Redis answers", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return addr
}
