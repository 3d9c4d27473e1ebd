package link

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// BenchmarkRoundTrip measures small requests to an echo server on loopback, one at a
// time and sixteen at once. What a path adds is its p50-ns less that of direct.
func BenchmarkRoundTrip(b *testing.B) {
	paths := []struct {
		name string
		addr func(b *testing.B, upstream string) string
	}{
		{"direct", func(_ *testing.B, upstream string) string { return upstream }},
		{"copy", bare},
		{"link", func(b *testing.B, upstream string) string { return listen(b, upstream).Addr() }},
		{"toxic", func(b *testing.B, upstream string) string {
			l := listen(b, upstream)
			disturb(b, l, harness.Toxic{Delay: 1})
			return l.Addr()
		}},
	}
	for _, load := range []struct {
		name  string
		depth int
	}{{"serial", 1}, {"pipelined", 16}} {
		for _, p := range paths {
			b.Run(load.name+"/"+p.name, func(b *testing.B) {
				trips(b, p.addr(b, serve(b, echo)), load.depth)
			})
		}
	}
}

// trips measures round trips of depth small requests each.
func trips(b *testing.B, addr string, depth int) {
	c := dial(b, addr)
	const request = "*1\r\n$4\r\nPING\r\n"
	out := []byte{}
	for range depth {
		out = append(out, request...)
	}
	in := make([]byte, len(out))
	took := make([]time.Duration, 0, 1<<20)
	for b.Loop() {
		start := time.Now()
		if _, err := c.Write(out); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, in); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
}

// bare is the smallest proxy that there is.
func bare(b *testing.B, upstream string) string {
	return serve(b, func(client *net.TCPConn) {
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

// BenchmarkControl measures Disturb and Heal on a link with fifty connections whose
// readers have stalled.
func BenchmarkControl(b *testing.B) {
	toxics := []struct {
		name  string
		toxic harness.Toxic
	}{
		{"delay", harness.Toxic{Delay: time.Millisecond}},
		{"hold", harness.Toxic{Hold: true}},
		{"refuse", harness.Toxic{Refuse: true}},
	}
	for _, tt := range toxics {
		b.Run(tt.name, func(b *testing.B) {
			l := listen(b, serve(b, func(c *net.TCPConn) {
				for block := make([]byte, 64<<10); ; {
					if _, err := c.Write(block); err != nil {
						return
					}
				}
			}))
			for range 50 {
				dial(b, l.Addr()).SetReadBuffer(8 << 10) // soon full
			}
			eventually(b, "the links are full", func() bool {
				before := l.Stats().Down
				time.Sleep(while)
				return before > 0 && l.Stats().Down == before
			})
			var took []time.Duration
			for b.Loop() {
				start := time.Now()
				inj := disturb(b, l, tt.toxic)
				set := time.Now()
				heal(b, inj)
				took = append(took, set.Sub(start), time.Since(set))
			}
			report(b, took)
		})
	}
}
