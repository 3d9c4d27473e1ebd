package toxi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	client "github.com/Shopify/toxiproxy/v2/client"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/link/linktest"
)

const soon = linktest.Soon

var (
	serve, echo, dial       = linktest.Serve, linktest.Echo, linktest.Dial
	roundTrip, refused      = linktest.RoundTrip, linktest.Refused
	heal, ended, eventually = linktest.Heal, linktest.Ended, linktest.Eventually
)

func disturb(t testing.TB, l *Link, x harness.Toxic) harness.Injection {
	t.Helper()
	return linktest.Disturb(t, l, x)
}

// while is how long a test watches that something does not happen.
const while = 50 * time.Millisecond

// flood answers without end.
func flood(c *net.TCPConn) {
	for block := make([]byte, 64<<10); ; {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// api starts a toxiproxy with its HTTP API and returns that one's URL.
func api(t testing.TB) string {
	t.Helper()
	return apiOn(t, "127.0.0.1")
}

// apiOn is api on another address of this machine.
func apiOn(t testing.TB, host string) string {
	t.Helper()
	zerolog.SetGlobalLevel(zerolog.Disabled)
	s := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Server{Handler: s.Routes()}
	var serving sync.WaitGroup
	serving.Go(func() { h.Serve(ln) })
	t.Cleanup(func() { // without waiting for requests: some hang
		h.Close()
		serving.Wait()
	})
	return "http://" + ln.Addr().String()
}

// engines runs a test on both kinds of engine.
func engines(t *testing.T, test func(*testing.T, *Engine)) {
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		test(t, Embedded())
	})
	t.Run("remote", func(t *testing.T) {
		t.Parallel()
		e, err := Remote(api(t))
		if err != nil {
			t.Fatal(err)
		}
		e.version = ownVersion // a server that is built from its module says "git"
		test(t, e)
	})
}

func listen(t testing.TB, e *Engine, upstream string) *Link {
	t.Helper()
	l, err := e.Listen("dep", upstream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func TestVersionIsThatOfTheModule(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Version}}", "github.com/Shopify/toxiproxy/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != "v"+ownVersion {
		t.Errorf("the module is %s, ownVersion says %s", got, ownVersion)
	}
	if got := Embedded().Name(); got != "toxiproxy@"+ownVersion {
		t.Errorf("it is called %s", got)
	}
}

// Toxiproxy takes attributes that it does not know, and does nothing then.
func TestAttributesAreKnown(t *testing.T) {
	t.Parallel()
	all := harness.Toxic{
		Delay: time.Second, Jitter: time.Second, Rate: 1, Slice: 1, Gap: time.Millisecond, Linger: time.Second,
		Hold: true, Drop: true, Expire: time.Second, Cut: true, CutAfter: 1, Reset: true,
	}
	parts, _, err := translate(all)
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, p := range parts {
		used[p.Type] = true
		w := &toxics.ToxicWrapper{Type: p.Type}
		if toxics.New(w) == nil {
			t.Errorf("there is no toxic %s", p.Type)
			continue
		}
		b, err := json.Marshal(p.Attributes)
		if err != nil {
			t.Fatal(err)
		}
		dec := json.NewDecoder(strings.NewReader(string(b)))
		dec.DisallowUnknownFields()
		if err := dec.Decode(w.Toxic); err != nil {
			t.Errorf("%s: %v", p.Type, err)
		}
	}
	for name := range toxics.ToxicRegistry {
		if name != "noop" && !used[name] {
			t.Errorf("toxic %s is not used", name)
		}
	}
}

func TestLinkCopiesAndCounts(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, e *Engine) {
		l := listen(t, e, serve(t, echo))
		c := dial(t, l.Addr())
		roundTrip(t, c, "hello")
		want := harness.LinkStats{Conns: 1, Open: 1, Up: 5, Down: 5}
		eventually(t, "all is counted", func() bool { return l.Stats() == want })
		c.Close()
		eventually(t, "the connection is gone", func() bool { return l.Stats().Open == 0 })
		if len(e.Notes()) > 0 {
			t.Errorf("notes: %q", e.Notes())
		}
	})
}

func TestUpstreamCanBeElsewhere(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, e *Engine) {
		l := listen(t, e, "127.0.0.1:1")
		if got, err := ended(dial(t, l.Addr())); got != "" {
			t.Fatalf("got %q, %v", got, err)
		}
		was := l.Addr()
		l.SetUpstream(serve(t, echo))
		c := dial(t, was)
		roundTrip(t, c, "hello")
		l.SetUpstream(serve(t, func(c *net.TCPConn) { io.WriteString(c, "other") }))
		roundTrip(t, c, "stays where it is")
		if got, _ := ended(dial(t, was)); got != "other" {
			t.Errorf("a new connection got %q", got)
		}
	})
}

func TestToxicsActAndAreCounted(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		toxic harness.Toxic
		acted int64 // of a round trip of five bytes on each of two connections
		unit  string
		got   string // what a client has then, before the end if there is one
		least time.Duration
		ends  bool
		after string // ... and once more after the heal
	}{
		{name: "latency down", toxic: harness.Toxic{Dir: harness.Down, Delay: 40 * time.Millisecond}, acted: 10, unit: "bytes", got: "hello", least: 40 * time.Millisecond},
		{name: "latency both", toxic: harness.Toxic{Delay: 20 * time.Millisecond}, acted: 20, unit: "bytes", got: "hello", least: 40 * time.Millisecond},
		{name: "bandwidth", toxic: harness.Toxic{Dir: harness.Up, Rate: 1}, acted: 10, unit: "bytes", got: "hello", least: 4 * time.Millisecond},
		{name: "slicer", toxic: harness.Toxic{Dir: harness.Up, Slice: 1, Gap: 5 * time.Millisecond}, acted: 10, unit: "bytes", got: "hello", least: 20 * time.Millisecond},
		{name: "hold", toxic: harness.Toxic{Dir: harness.Up, Hold: true}, acted: 10, unit: "bytes", after: "hello"},
		{name: "drop", toxic: harness.Toxic{Dir: harness.Up, Drop: true}, acted: 10, unit: "bytes", ends: true},
		{name: "expire", toxic: harness.Toxic{Dir: harness.Up, Drop: true, Expire: 50 * time.Millisecond}, acted: 10 + 2, unit: "bytes and connections", ends: true, least: 50 * time.Millisecond},
		{name: "limit", toxic: harness.Toxic{Dir: harness.Down, Cut: true, CutAfter: 3}, acted: 2, unit: "connections", got: "hel", ends: true},
		{name: "reset", toxic: harness.Toxic{Dir: harness.Down, Reset: true}, acted: 2, unit: "connections", ends: true},
	}
	engines(t, func(t *testing.T, e *Engine) {
		l := listen(t, e, serve(t, echo))
		first := l.back.Stats().Conns // a remote one is proven by a connection
		for i, tt := range tests {
			old := dial(t, l.Addr())
			roundTrip(t, old, "bytes before do not count")
			inj := disturb(t, l, tt.toxic)
			if n := inj.Acted(); n != 0 || inj.Unit != tt.unit {
				t.Errorf("%s: at first %d %s", tt.name, n, inj.Unit)
			}
			fresh := dial(t, l.Addr())
			eventually(t, "toxiproxy has taken it", func() bool { return l.back.Stats().Conns-first == int64(2+3*i) })
			start := time.Now()
			conns := []net.Conn{old, fresh}
			for _, c := range conns {
				c.SetDeadline(time.Now().Add(soon))
				io.WriteString(c, "hello")
				got := make([]byte, len(tt.got))
				if _, err := io.ReadFull(c, got); err != nil || string(got) != tt.got {
					t.Errorf("%s: got %q, %v; want %q", tt.name, got, err, tt.got)
				}
			}
			eventually(t, fmt.Sprintf("%s has touched %d %s", tt.name, tt.acted, tt.unit), func() bool { return inj.Acted() == tt.acted })
			if took := time.Since(start); took < tt.least {
				t.Errorf("%s: took %s, want %s or more", tt.name, took, tt.least)
			}
			time.Sleep(while) // what has come is on its way through toxiproxy
			heal(t, inj)
			for _, c := range conns {
				if tt.ends {
					if got, _ := ended(c); got != "" {
						t.Errorf("%s: after the heal %q", tt.name, got)
					}
					continue
				}
				got := make([]byte, len(tt.after))
				io.ReadFull(c, got)
				if string(got) != tt.after {
					t.Errorf("%s: after the heal %q, want %q", tt.name, got, tt.after)
				}
				roundTrip(t, c, "again")
			}
			if n := inj.Acted(); n != tt.acted {
				t.Errorf("%s: %d %s in the end, want %d", tt.name, n, inj.Unit, tt.acted)
			}
			last := dial(t, l.Addr())
			roundTrip(t, last, "new")
			for _, c := range append(conns, last) { // else a heal that ends connections ends these at any later time
				c.Close()
			}
			eventually(t, "all are gone", func() bool { return l.Stats().Open == 0 && l.back.Stats().Open == 0 })
		}
	})
}

func TestSlowClose(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, e *Engine) {
		const delay = 60 * time.Millisecond
		l := listen(t, e, serve(t, func(c *net.TCPConn) { io.WriteString(c, "bye") }))
		inj := disturb(t, l, harness.Toxic{Dir: harness.Down, Linger: delay})
		start := time.Now()
		if got, err := ended(dial(t, l.Addr())); got != "bye" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if took := time.Since(start); took < delay {
			t.Errorf("the end came after %s, want %s", took, delay)
		}
		if n := inj.Acted(); n != 1 || inj.Unit != "connections" {
			t.Errorf("acted on %d %s, want one connection", n, inj.Unit)
		}
		heal(t, inj)
	})
}

func TestDown(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, e *Engine) {
		l := listen(t, e, serve(t, echo))
		c := dial(t, l.Addr())
		roundTrip(t, c, "hello")
		one := disturb(t, l, harness.Toxic{Refuse: true, Close: true})
		two := disturb(t, l, harness.Toxic{Refuse: true, Reset: true})
		if got, err := ended(c); got != "" || err != nil {
			t.Errorf("got %q, %v; want the end", got, err)
		}
		refused(t, l.Addr())
		heal(t, one)
		refused(t, l.Addr()) // one of two has not healed
		if n := one.Acted(); n != 2 {
			t.Errorf("acted on %d %s, want 2", n, one.Unit)
		}
		heal(t, two)
		roundTrip(t, dial(t, l.Addr()), "hello")
	})
}

// While a proxy is stopped, somebody else can take its port.
func TestPortThatIsTaken(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, e *Engine) {
		l := listen(t, e, serve(t, echo))
		down := disturb(t, l, harness.Toxic{Refuse: true, Close: true})
		taken, err := net.Listen("tcp", l.proxy.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		refused(t, l.Addr())
		lag := disturb(t, l, harness.Toxic{Dir: harness.Up, Delay: 20 * time.Millisecond})
		heal(t, down)
		start := time.Now()
		roundTrip(t, dial(t, l.Addr()), "hello")
		if took := time.Since(start); took < 20*time.Millisecond {
			t.Errorf("the toxic that is in force is gone: a round trip took %s", took)
		}
		heal(t, lag)
		if notes := strings.Join(e.Notes(), ""); !strings.Contains(notes, "link dep: start the proxy again: ") {
			t.Errorf("notes %q", notes)
		}
	})
}

func TestResetHealsEverything(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, e *Engine) {
		l := listen(t, e, serve(t, echo))
		hold := disturb(t, l, harness.Toxic{Hold: true})
		down := disturb(t, l, harness.Toxic{Refuse: true, Close: true})
		if err := l.Reset(); err != nil {
			t.Fatal(err)
		}
		roundTrip(t, dial(t, l.Addr()), "hello")
		again := disturb(t, l, harness.Toxic{Dir: harness.Up, Hold: true})
		heal(t, hold)
		heal(t, down)
		c := dial(t, l.Addr())
		io.WriteString(c, "hello")
		eventually(t, "it is held", func() bool { return again.Acted() == 5 })
		c.SetReadDeadline(time.Now().Add(while))
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error("an earlier heal has healed a later toxic")
		}
		heal(t, again)
	})
}

// Toxics that overlap are healed in any order. Where an earlier one goes first, toxiproxy by
// itself would panic at the next limit_data.
func TestOverlappingToxics(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, e *Engine) {
		l := listen(t, e, serve(t, echo))
		for range 3 {
			c := dial(t, l.Addr())
			roundTrip(t, c, "warm")
			cut := disturb(t, l, harness.Toxic{Dir: harness.Down, Cut: true})
			linger := disturb(t, l, harness.Toxic{Dir: harness.Down, Linger: 200 * time.Millisecond})
			lag := disturb(t, l, harness.Toxic{Delay: 10 * time.Millisecond})
			io.WriteString(c, "hello")
			time.Sleep(2 * while) // long enough for the cut, mostly: its end shows late
			heal(t, cut)
			again := disturb(t, l, harness.Toxic{Dir: harness.Down, Cut: true, CutAfter: 3})
			c.SetReadDeadline(time.Now().Add(10 * while))
			io.ReadAll(c)
			heal(t, lag)
			heal(t, again)
			heal(t, linger)
			roundTrip(t, dial(t, l.Addr()), "hello")
		}
		slow := disturb(t, l, harness.Toxic{Dir: harness.Up, Slice: 1})
		lag := disturb(t, l, harness.Toxic{Delay: 20 * time.Millisecond})
		heal(t, slow)
		start := time.Now()
		roundTrip(t, dial(t, l.Addr()), "hello")
		if took := time.Since(start); took < 40*time.Millisecond {
			t.Errorf("a toxic was lost with an earlier one: a round trip took %s", took)
		}
		heal(t, lag)
		cut := disturb(t, l, harness.Toxic{Dir: harness.Up, Cut: true})
		if _, err := l.Disturb(t.Context(), harness.Toxic{Hold: true}); err == nil || !strings.Contains(err.Error(), "that is a data race in it") {
			t.Errorf("bandwidth behind limit_data: %v", err)
		}
		heal(t, disturb(t, l, harness.Toxic{Dir: harness.Down, Hold: true}))
		heal(t, cut)
	})
}

// TestEffectOfAnotherIsNotClaimed: what lies behind a toxic that lets nothing pass is not
// touched, and where two could have ended a connection neither counts it, but for the one
// that stops the proxy.
func TestEffectOfAnotherIsNotClaimed(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, e *Engine) {
		l := listen(t, e, serve(t, echo))
		c := dial(t, l.Addr())
		roundTrip(t, c, "warm")
		lag := disturb(t, l, harness.Toxic{Dir: harness.Up, Delay: time.Millisecond})
		hold := disturb(t, l, harness.Toxic{Dir: harness.Up, Hold: true})
		behind := disturb(t, l, harness.Toxic{Dir: harness.Up, Slice: 1})
		io.WriteString(c, "hello")
		eventually(t, "it is held", func() bool { return hold.Acted() == 5 })
		if n, m := behind.Acted(), lag.Acted(); n != 0 || m != 5 {
			t.Errorf("behind a stall %d bytes were sliced, before it %d delayed", n, m)
		}
		for _, inj := range []harness.Injection{behind, hold, lag} {
			heal(t, inj)
		}
		linktest.Expect(t, c, "hello") // it does not come to those below
		c = dial(t, l.Addr())
		roundTrip(t, c, "warm")
		cut := disturb(t, l, harness.Toxic{Dir: harness.Down, Cut: true, CutAfter: 1 << 20})
		expire := disturb(t, l, harness.Toxic{Dir: harness.Down, Drop: true, Expire: 50 * time.Millisecond})
		ended(c)
		c = dial(t, l.Addr())
		down := disturb(t, l, harness.Toxic{Refuse: true, Close: true})
		ended(c) // by the one or the other: it may have expired before
		refused(t, l.Addr())
		eventually(t, "that is counted", func() bool { return down.Acted() > 0 })
		if n, m := cut.Acted(), expire.Acted(); n != 0 || m != 0 {
			t.Errorf("of what another may have ended, %d were cut and %d expired", n, m)
		}
		for _, inj := range []harness.Injection{down, expire, cut} {
			heal(t, inj)
		}
	})
}

func TestWhatToxiproxyCannotDo(t *testing.T) {
	t.Parallel()
	l := listen(t, Embedded(), serve(t, echo))
	for name, x := range map[string]harness.Toxic{
		"cannot refuse new connections without":  {Refuse: true},
		"cannot close the connections":           {Close: true},
		"and do something else, too":             {Refuse: true, Close: true, Delay: 1},
		"the toxic does nothing":                 {Dir: harness.Up},
		"direction 3 is not known":               {Dir: 3, Hold: true},
		"a duration must be from 0":              {Delay: -1},
		"-1: a number must be from 0":            {Rate: -1},
		"nothing is dropped":                     {Hold: true, Expire: 1},
		"1000000000000: a number must be from 0": {Slice: 1e12},
		"a time to live of 11m0s":                {Hold: true, TTL: 11 * time.Minute},
		"do not come and go by themselves":       {Hold: true, On: time.Second, Off: time.Second},
		"jitter is uniform":                      {Delay: 1, Jitter: 1, Dist: harness.Normal},
		"cannot lose segments":                   {Loss: 0.1, RTO: time.Second},
		"draws each jitter anew":                 {Delay: 1, Jitter: 1, Corr: 0.5},
		"saves nothing up for a burst":           {Rate: 1, Burst: 1},
		"rate of each connection by itself":      {Rate: 1, Joint: true},
		"close them in good order":               {Refuse: true, Close: true, Orderly: true},
		"cannot reset one side":                  {Reset: true, Spare: harness.Up},
		"cannot end connections of an age":       {Refuse: true, Reset: true, Age: 1},
		"cannot let new connections hang":        {Hang: true},
		"does not count connections":             {Refuse: true, Reset: true, Over: 1},
		"cannot close one direction":             {Refuse: true, Close: true, Dir: harness.Up},
	} {
		if _, err := l.Disturb(t.Context(), x); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%+v: got %v, want %q", x, err, name)
		}
	}
	roundTrip(t, dial(t, l.Addr()), "hello")
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := l.Disturb(t.Context(), harness.Toxic{Hold: true}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed link: %v", err)
	}
}

func TestTimeToLive(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, e *Engine) {
		const ttl = time.Second // of which the test takes little
		l := listen(t, e, serve(t, echo))
		c := dial(t, l.Addr())
		roundTrip(t, c, "warm")
		start := time.Now()
		held := disturb(t, l, harness.Toxic{Hold: true, TTL: ttl})
		roundTrip(t, c, "hello") // nobody has healed it
		if took := time.Since(start); took < ttl {
			t.Errorf("it ended after %s, want %s", took, ttl)
		}
		if err := held.Heal(t.Context()); !errors.Is(err, harness.ErrExpired) {
			t.Errorf("the heal says %v, want %v", err, harness.ErrExpired)
		}
		if held.Acted() == 0 {
			t.Error("it has not acted")
		}
		before := disturb(t, l, harness.Toxic{Hold: true, TTL: harness.MaxTTL})
		reset := disturb(t, l, harness.Toxic{Delay: time.Hour, TTL: harness.MaxTTL})
		heal(t, before)
		if err := l.Reset(); err != nil {
			t.Error(err)
		}
		heal(t, reset)
		roundTrip(t, c, "again")
		disturb(t, l, harness.Toxic{Hold: true, TTL: harness.MaxTTL}) // the close does not wait for that
	})
}

// failing is a proxy from which nothing can be removed while it is to fail.
type failing struct {
	proxy
	fail *atomic.Bool
}

func (f failing) remove(name string) error {
	if f.fail.Load() {
		return errors.New("not now")
	}
	return f.proxy.remove(name)
}

// What could not be ended when its time to live was over, and is ended by now, is no error any
// more, whoever has ended it.
func TestExpiryThatFailedIsMended(t *testing.T) {
	t.Parallel()
	for name, mend := range map[string]func(*testing.T, *Link, harness.Injection) error{
		"by its heal":  func(*testing.T, *Link, harness.Injection) error { return nil },
		"by another's": func(t *testing.T, _ *Link, other harness.Injection) error { return other.Heal(t.Context()) },
		"by a reset":   func(_ *testing.T, l *Link, _ harness.Injection) error { return l.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := Embedded()
			create, fail := e.create, new(atomic.Bool)
			e.create = func(name, listen, upstream string) (proxy, error) {
				if fail.Load() {
					return nil, errors.New("nor one")
				}
				p, err := create(name, listen, upstream)
				return failing{p, fail}, err
			}
			l := listen(t, e, serve(t, echo))
			other := disturb(t, l, harness.Toxic{Dir: harness.Up, Delay: time.Millisecond})
			fail.Store(true)
			expired := disturb(t, l, harness.Toxic{Hold: true, TTL: 10 * time.Millisecond})
			eventually(t, "there is no proxy", func() bool {
				l.mu.Lock()
				defer l.mu.Unlock()
				return l.proxy == nil
			})
			fail.Store(false)
			if err := mend(t, l, other); err != nil {
				t.Error(err)
			}
			if err := expired.Heal(t.Context()); !errors.Is(err, harness.ErrExpired) {
				t.Errorf("the heal says %v, want %v", err, harness.ErrExpired)
			}
			roundTrip(t, dial(t, l.Addr()), "hello")
		})
	}
}

// stalled opens a connection to a server that is mixed on which much is unread, so that toxiproxy
// waits to write.
func stalled(t *testing.T, l *Link) *net.TCPConn {
	t.Helper()
	c := dial(t, l.Addr())
	c.SetReadBuffer(8 << 10)
	io.WriteString(c, "f")
	eventually(t, "the link is full", func() bool {
		before := l.back.Traffic().Down
		time.Sleep(4 * while)
		return before > 64<<10 && l.back.Traffic().Down == before
	})
	return c
}

// interrupting is how many goroutines wait in toxiproxy until something that passes can be
// interrupted, to change its toxics: some for good.
func interrupting() int {
	buf := make([]byte, 8<<20)
	return strings.Count(string(buf[:runtime.Stack(buf, true)]), "toxics.(*ToxicStub).InterruptToxic(")
}

// hang lets a client with unread bytes go away during a call, until the call hangs, and
// returns what it returned then. Now and then toxiproxy gets away with it.
func hang(t *testing.T, l *Link, prepare func() (call func() error)) error {
	t.Helper()
	for range 10 {
		call := prepare()
		lost, open := l.engine.lost, l.back.Stats().Open
		c := stalled(t, l)
		done := make(chan error, 1)
		start, others := time.Now(), interrupting()
		go func() { done <- call() }()
		// It waits for the stalled connection then, unless what others do was seen.
		for late := time.Now().Add(limit / 2); interrupting() <= others && time.Now().Before(late); {
			time.Sleep(time.Millisecond)
		}
		c.Close()
		err := <-done
		if took := time.Since(start); took > limit+soon {
			t.Errorf("the call took %s", took)
		}
		if l.engine.lost > lost {
			return err
		}
		// What is prepared next may hang where it meets the end of that connection, which
		// toxiproxy may never come to.
		for late := time.Now().Add(limit); l.back.Stats().Open > open && time.Now().Before(late); {
			time.Sleep(time.Millisecond)
		}
	}
	t.Fatal("toxiproxy did not hang in ten attempts")
	return nil
}

// mixed answers each connection by its first byte: a flood, or what it got.
func mixed(c *net.TCPConn) {
	var b [1]byte
	if _, err := c.Read(b[:]); err != nil {
		return
	}
	if b[0] == 'f' {
		flood(c)
	}
	c.Write(b[:])
	echo(c)
}

// A client with unread bytes that goes away while a toxic is added hangs toxiproxy for good.
func TestHangIsSurvived(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, e *Engine) {
		var mu sync.Mutex
		var said []string
		e.Say = func(s string) {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, s)
		}
		l := listen(t, e, serve(t, mixed))
		was := l.Addr()
		lag := disturb(t, l, harness.Toxic{Dir: harness.Up, Delay: 30 * time.Millisecond})

		// While one is added: an error of that injection.
		busy := dial(t, was)
		roundTrip(t, busy, "e")
		var survived harness.Injection
		err := hang(t, l, func() func() error {
			if survived.Heal != nil {
				heal(t, survived)
			}
			return func() (err error) {
				survived, err = l.Disturb(t.Context(), harness.Toxic{Dir: harness.Down, Delay: time.Millisecond})
				return err
			}
		})
		if err == nil || !strings.Contains(err.Error(), "toxiproxy hangs: no answer within 2s: its proxy was given up") {
			t.Fatalf("got %v, want that it hangs", err)
		}
		if _, err := ended(busy); err == nil {
			t.Error("a connection through the proxy that was given up was not reset")
		}
		again := dial(t, was)
		start := time.Now()
		roundTrip(t, again, "e")
		if took := time.Since(start); took < 30*time.Millisecond {
			t.Errorf("the toxic that was in force is gone: a round trip took %s", took)
		}

		// While one is removed: it is healed all the same.
		err = hang(t, l, func() func() error {
			slow := harness.Toxic{Dir: harness.Down, Rate: 1 << 20}
			drip, err := l.Disturb(t.Context(), slow)
			if err != nil { // it met what the attempt before has left, and the proxy is a new one now
				drip = disturb(t, l, slow)
			}
			return func() error { return drip.Heal(t.Context()) }
		})
		if err != nil {
			t.Errorf("the heal: %v", err)
		}
		heal(t, lag)
		roundTrip(t, dial(t, was), "e")
		mu.Lock()
		defer mu.Unlock()
		if len(said) == 0 || !strings.Contains(said[len(said)-1], "remove bandwidth: toxiproxy hangs") {
			t.Errorf("said %q, want the removal that hung at last", said)
		}
		notes := strings.Join(e.Notes(), "\n")
		if !strings.Contains(notes, "the first for this: link dep: ") || !strings.Contains(notes, "toxiproxy hangs: no answer within 2s") {
			t.Errorf("notes %q", notes)
		}
	})
}

func TestRemoteThatIsNotThere(t *testing.T) {
	t.Parallel()
	if _, err := Remote("http://127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "toxiproxy at http://127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
	other := httptest.NewServer(nil)
	defer other.Close()
	if _, err := Remote(other.URL); err == nil || !strings.Contains(err.Error(), "toxiproxy at "+other.URL) {
		t.Errorf("another server: %v", err)
	}
}

func TestLeftoversAreSweptAway(t *testing.T) {
	t.Parallel()
	at := api(t)
	c := client.NewClient(at)
	alive := serve(t, echo)
	for name, upstream := range map[string]string{
		"shakedown-db-dead": "127.0.0.1:1", "shakedown-db-alive": alive, "shakedown-db-elsewhere": "127.0.0.2:1", "mine": "127.0.0.1:1",
	} {
		if _, err := c.CreateProxy(name, "127.0.0.1:0", upstream); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Remote(at); err != nil {
		t.Fatal(err)
	}
	left, err := c.Proxies()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range left {
		defer p.Delete()
	}
	if got := slices.Sorted(maps.Keys(left)); !slices.Equal(got, []string{"mine", "shakedown-db-alive", "shakedown-db-elsewhere"}) {
		t.Errorf("there are %q", got)
	}
}

// A remote that goes away is the harness's failure: nothing can be healed then.
func TestRemoteThatGoesAway(t *testing.T) {
	t.Parallel()
	s := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	h := httptest.NewServer(s.Routes())
	defer h.Close()
	e, err := Remote(h.URL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Listen("dep", serve(t, echo))
	if err != nil {
		t.Fatal(err)
	}
	inj := disturb(t, l, harness.Toxic{Hold: true})
	h.Close()
	if _, err := l.Disturb(t.Context(), harness.Toxic{Delay: 1}); err == nil || !strings.Contains(err.Error(), "toxiproxy gives no proxy") {
		t.Errorf("disturb: %v", err)
	}
	if err := inj.Heal(t.Context()); err == nil {
		t.Error("a heal that could not be done is no error")
	}
	if err := l.Reset(); err == nil {
		t.Error("a reset that could not be done is no error")
	}
	if c, err := net.DialTimeout("tcp", l.Addr(), soon); err == nil {
		if got, err := ended(c); got != "" || err == nil {
			t.Errorf("a link without a proxy: %q, %v", got, err)
		}
		c.Close()
	}
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestCloseEndsTheProxyWhateverBecameOfItsToxics: who else uses that toxiproxy may have taken
// them away.
func TestCloseEndsTheProxyWhateverBecameOfItsToxics(t *testing.T) {
	t.Parallel()
	at := api(t)
	e, err := Remote(at)
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Listen("dep", serve(t, echo))
	if err != nil {
		t.Fatal(err)
	}
	disturb(t, l, harness.Toxic{Hold: true})
	c := client.NewClient(at)
	if err := c.ResetState(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err == nil {
		t.Error("that toxics were gone is not said")
	}
	left, err := c.Proxies()
	if err != nil || len(left) != 0 {
		t.Errorf("there are %q, %v", slices.Sorted(maps.Keys(left)), err)
	}
}

// A remote at another address than loopback, as that of a container, leads back to the
// address from which it is reached.
func TestRemoteAtAnotherAddress(t *testing.T) {
	t.Parallel()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		return ok && n.IP.To4() != nil && !n.IP.IsLoopback()
	})
	if i < 0 {
		t.Skip("this machine has no address but loopback")
	}
	host := addrs[i].(*net.IPNet).IP.String()
	e, err := Remote(apiOn(t, host))
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, e, serve(t, echo))
	inj := disturb(t, l, harness.Toxic{Dir: harness.Up, Delay: 20 * time.Millisecond})
	start := time.Now()
	roundTrip(t, dial(t, l.Addr()), "hello")
	if took := time.Since(start); took < 20*time.Millisecond || inj.Acted() != 5 {
		t.Errorf("a round trip took %s, and the toxic touched %d bytes", took, inj.Acted())
	}
	heal(t, inj)
	if !strings.HasPrefix(l.back.Addr(), host) || !strings.HasPrefix(l.Addr(), "127.0.0.1:") {
		t.Errorf("the front is at %s, the back at %s", l.Addr(), l.back.Addr())
	}
}

// A remote whose proxies are not where it says is found out when a link is made.
func TestRemoteThatIsOutOfReach(t *testing.T) {
	t.Parallel()
	e, err := Remote(api(t))
	if err != nil {
		t.Fatal(err)
	}
	e.listen = "127.0.0.1:0"
	e.host = "127.0.0.2" // nothing listens there
	if _, err := e.Listen("dep", "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "let it have the host's network") {
		t.Errorf("got %v", err)
	}
}

// TestCloseLeavesNothing runs in a process of its own: other tests leave what hangs.
func TestCloseLeavesNothing(t *testing.T) {
	const alone = "SHAKEDOWN_TEST_ALONE"
	if os.Getenv(alone) == "" {
		t.Parallel()
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCloseLeavesNothing$")
		cmd.Env = append(os.Environ(), alone+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	before := runtime.NumGoroutine()
	t.Run("many", func(t *testing.T) {
		engines(t, func(t *testing.T, e *Engine) {
			l := listen(t, e, serve(t, echo))
			for range 20 {
				roundTrip(t, dial(t, l.Addr()), "hello")
			}
			disturb(t, l, harness.Toxic{Delay: time.Millisecond})
			roundTrip(t, dial(t, l.Addr()), "hello")
			disturb(t, l, harness.Toxic{Hold: true})
			io.WriteString(dial(t, l.Addr()), "hello")
		})
	})
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
	if n := goroutines(); n != 0 {
		t.Errorf("%d goroutines of toxiproxy are left", n)
	}
}

// TestStorm changes toxics while connections come, talk and go.
func TestStorm(t *testing.T) {
	t.Parallel()
	engines(t, func(t *testing.T, e *Engine) {
		l := listen(t, e, serve(t, echo))
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					c, err := net.Dial("tcp", l.Addr())
					if err != nil {
						continue
					}
					c.SetDeadline(time.Now().Add(20 * time.Millisecond))
					for range 3 {
						io.WriteString(c, "hello")
						io.ReadFull(c, make([]byte, 5))
					}
					c.Close()
				}
			})
		}
		kinds := []harness.Toxic{
			{Delay: time.Millisecond, Jitter: time.Millisecond}, {Rate: 10}, {Hold: true}, {Drop: true}, {Slice: 2, Gap: time.Millisecond},
			{Linger: time.Millisecond}, {Cut: true, CutAfter: 7}, {Reset: true}, {Refuse: true, Close: true}, {Drop: true, Expire: 5 * time.Millisecond},
		}
		var others sync.WaitGroup
		for i := range 2 {
			others.Go(func() {
				for k := range 30 {
					inj, err := l.Disturb(t.Context(), kinds[(k+5*i)%len(kinds)])
					if err != nil {
						t.Log(err) // toxiproxy may hang: that is what the guard is for
						continue
					}
					time.Sleep(3 * time.Millisecond)
					inj.Acted()
					l.Stats()
					if err := inj.Heal(t.Context()); err != nil {
						t.Error(err)
					}
				}
			})
		}
		others.Wait()
		close(stop)
		wg.Wait()
		if err := l.Reset(); err != nil {
			t.Fatal(err)
		}
		roundTrip(t, dial(t, l.Addr()), "hello")
		eventually(t, "only one connection is open", func() bool { return l.Stats().Open <= 1 })
		t.Log(e.Notes())
	})
}
