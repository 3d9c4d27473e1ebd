package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/link"
	"github.com/shakedown-go/shakedown/targets/providers"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// fake is a provider and its store: it answers every line with its number of resets.
type fake struct {
	addr    string // claimed; zero is where it listens
	refuses error  // of Start
	breaks  error  // of Reset

	mu      sync.Mutex
	starts  int
	stops   int
	resets  int
	closers []func()
}

func (f *fake) Rung() string { return "fake@1" }

func (f *fake) Start(_ context.Context, _ string, emit func(harness.Event)) (providers.Dependency, error) {
	if f.refuses != nil {
		return nil, f.refuses
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts++
	if f.addr == "" || f.starts > 1 {
		f.addr = l.Addr().String()
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					if _, err := r.ReadString('\n'); err != nil {
						return
					}
					f.mu.Lock()
					fmt.Fprintf(c, "%d\n", f.resets)
					f.mu.Unlock()
				}
			})
		}
	})
	f.closers = append(f.closers, func() { l.Close() })
	emit(harness.Event{Kind: harness.Output, Name: "fake", Text: "up"})
	return f, nil
}

func (f *fake) Addr() string { return f.addr }

func (f *fake) Proc() (harness.Proc, error) { return nil, errors.New("it has no process") }

func (f *fake) Store() (harness.Store, error) { return nil, errors.New("a fake is no store") }

func (f *fake) Reset(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.resets++
	return f.breaks
}

func (f *fake) Stop(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stops++
	for _, c := range f.closers {
		c()
	}
	f.closers = nil
	return nil
}

func nobody(harness.Event) {}

func TestDependenciesComeUpBehindLinks(t *testing.T) {
	t.Parallel()
	f := &fake{}
	e, err := bringUp(t.Context(), []dependency{{name: "db", Provider: f}}, "", nobody)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", e.links["db"].Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func() string {
		c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintln(c, "how many?")
		s, err := bufio.NewReader(c).ReadString('\n')
		if err != nil {
			t.Error(err)
		}
		return strings.TrimSpace(s)
	}
	if got := ask(); got != "0" {
		t.Errorf("got %q", got)
	}
	if _, err := e.links["db"].Disturb(t.Context(), harness.Toxic{Hold: true}); err != nil {
		t.Fatal(err)
	}
	if err := e.reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask(); got != "1" { // the toxic is gone
		t.Errorf("got %q", got)
	}
	if err := e.close(t.Context()); err != nil {
		t.Error(err)
	}
	if f.stops != 1 {
		t.Errorf("stopped %d times", f.stops)
	}
	if _, err := net.Dial("tcp", e.links["db"].Addr()); err == nil {
		t.Error("the link still listens")
	}
}

func TestFailureToBringUpLeavesNothing(t *testing.T) {
	t.Parallel()
	no := errors.New("no room")
	for _, tt := range []struct {
		name string
		bad  *fake
		want string
	}{
		{"one does not start", &fake{refuses: no}, "dependency bad (fake@1): no room"},
		{"one is elsewhere", &fake{addr: "192.0.2.1:5432"}, "it is at 192.0.2.1:5432, which is neither this machine nor allowed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			good := &fake{}
			_, err := bringUp(t.Context(), []dependency{{name: "bad", Provider: tt.bad}, {name: "good", Provider: good}}, "", nobody)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if good.stops != good.starts || tt.bad.stops != tt.bad.starts {
				t.Errorf("good %d of %d stopped, bad %d of %d", good.stops, good.starts, tt.bad.stops, tt.bad.starts)
			}
		})
	}
}

// withStore opens a system whose only dependency is a fake.
func withStore(t *testing.T, f *fake) *System {
	t.Helper()
	s := open(t, file(t, "plain"), Options{})
	s.deps = []dependency{{name: "db", Provider: f}}
	env, err := bringUp(t.Context(), s.deps, s.scratch.dir, s.tap.emit)
	if err != nil {
		t.Fatal(err)
	}
	s.env = env
	return s
}

func TestDependenciesOutliveTheService(t *testing.T) {
	t.Parallel()
	f := &fake{}
	s := withStore(t, f)
	for n := range 3 {
		i, _ := running(t, s)
		// The first reset of all takes the state that the service has made: none comes
		// before it. Later lives begin with one.
		if f.resets != 2*n {
			t.Errorf("life %d: %d resets before its first case", n, f.resets)
		}
		if err := i.Reset(t.Context()); err != nil {
			t.Error(err)
		}
		if err := i.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if f.starts != 1 || f.stops != 0 {
		t.Errorf("started %d times, stopped %d times", f.starts, f.stops)
	}
}

func TestStoreThatCannotBeResetIsReplaced(t *testing.T) {
	t.Parallel()
	f := &fake{}
	s := withStore(t, f)
	i, _ := running(t, s)
	if err := i.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.breaks = errors.New("it was killed")
	if err := i.Reset(t.Context()); err == nil || !strings.Contains(err.Error(), "reset db: it was killed") {
		t.Errorf("got %v", err)
	}
	if err := i.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	running(t, s)
	if f.starts != 2 || f.stops != 1 {
		t.Errorf("started %d times, stopped %d times", f.starts, f.stops)
	}
}

func TestEventsOfDependenciesGoToWhoRuns(t *testing.T) {
	t.Parallel()
	var tp tap
	tp.emit(harness.Event{Text: "nobody"})
	l := &log{}
	tp.to(l.emit)
	tp.emit(harness.Event{Lane: "stdout", Text: "somebody"})
	tp.to(nil)
	tp.emit(harness.Event{Text: "nobody"})
	if len(l.events) != 1 || !slices.Equal(l.lines("stdout"), []string{"somebody"}) {
		t.Errorf("got %+v", l.events)
	}
}

// TestServiceWithARedis is the whole of it, with the store that needs nothing installed.
func TestServiceWithARedis(t *testing.T) {
	t.Parallel()
	f := file(t, "plain")
	f.Dependencies = map[string]spec.Dependency{"cache": {Engine: "redis", Provide: "embedded"}}
	f.Service.Env["CACHE"] = "{{link.cache}}"
	s := open(t, f, Options{Rungs: map[string]string{"cache": "embedded@0.0"}})
	rung := s.Target.Env["cache"]
	if !strings.HasPrefix(rung, "embedded@") || !slices.Equal(s.Target.Links, []string{"cache"}) || !s.Target.Caps.Has(harness.CapLinks) {
		t.Errorf("target %+v", s.Target)
	}
	if want := []string{"cache is " + rung + ", not embedded@0.0"}; !slices.Equal(s.Differs, want) {
		t.Errorf("differs %q, want %q", s.Differs, want)
	}
	i, _ := running(t, s)
	l, err := i.Link("cache")
	if err != nil {
		t.Fatal(err)
	}
	_, addr, _ := strings.Cut(get(t, i, "/env", 5*time.Second), "\nCACHE=")
	addr, _, _ = strings.Cut(addr, "\n")
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(c, "*1\r\n$4\r\nPING\r\n")
	if got, err := bufio.NewReader(c).ReadString('\n'); got != "+PONG\r\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if st := l.Stats(); st.Conns != 1 || st.Down == 0 {
		t.Errorf("stats %+v", st)
	}
	if err := i.Reset(t.Context()); err != nil {
		t.Error(err)
	}
	if worn := quiesce(t, i); worn != "" {
		t.Errorf("worn: %s", worn)
	}
}

func TestSettlingWaitsUntilNothingPassesTheLinks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		chunks int64 // one every few milliseconds
		rest   bool
	}{
		{"at rest", 0, true},
		{"pools are filled", 40, true},
		{"never at rest", 1000, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var sent int64
			for range 5 { // on a busy machine a sender may itself be at rest for a while
				if sent = sentWhenSettled(t, tt.chunks); (sent == tt.chunks) == tt.rest {
					return
				}
			}
			t.Errorf("%d of %d were sent when the links were said to be at rest", sent, tt.chunks)
		})
	}
}

// sentWhenSettled says how many of so many bytes had been sent over a link when it was said
// to be at rest.
func sentWhenSettled(t *testing.T, chunks int64) int64 {
	store, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	l, err := link.Listen("db", store.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var sent atomic.Int64
	var sender sync.WaitGroup
	defer sender.Wait()
	defer cancel()
	defer conn.Close()
	sender.Go(func() {
		for range chunks {
			if _, err := conn.Write([]byte("x")); err != nil || ctx.Err() != nil {
				return
			}
			sent.Add(1)
			time.Sleep(2 * time.Millisecond)
		}
	})
	until(t, "the first is sent", func() bool { return chunks == 0 || l.Stats().Up > 0 })
	(&environment{links: map[string]edge{"db": l}}).settle(ctx)
	return sent.Load()
}
