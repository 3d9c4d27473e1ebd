package link

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
	"github.com/shakedown-go/shakedown/harness/link/linktest"
)

// kinds is at least one toxic of everything that a link can do.
func kinds() map[string]harness.Toxic {
	const ms = time.Millisecond
	return map[string]harness.Toxic{
		"delay":                 {Delay: ms, Jitter: ms, Seed: 1},
		"delay of a share":      {Delay: ms, Share: 0.5, Seed: 2},
		"long delay":            {Dir: harness.Down, Delay: longest},
		"normal jitter":         {Delay: ms, Jitter: ms / 2, Dist: harness.Normal, Seed: 6},
		"pareto, correlated":    {Delay: ms, Jitter: ms / 2, Dist: harness.Pareto, Corr: 0.9, Seed: 7},
		"loss":                  {Loss: 0.3, RTO: ms, Corr: 0.5, Seed: 8},
		"rate":                  {Rate: 1000},
		"rate with bursts":      {Rate: 1000, Burst: 4},
		"rate of all":           {Rate: 1000, Joint: true},
		"low rate of all":       {Dir: harness.Down, Rate: 1, Joint: true, Burst: 1},
		"rate that comes, goes": {Rate: 1000, Joint: true, On: ms, Off: ms},
		"slice":                 {Slice: 700, Vary: 300, Gap: ms / 10},
		"linger":                {Linger: ms},
		"hold":                  {Hold: true},
		"hold one way":          {Dir: harness.Up, Hold: true},
		"hold that comes, goes": {Hold: true, On: ms, Off: ms},
		"drop":                  {Drop: true},
		"drop of a share":       {Dir: harness.Down, Drop: true, Share: 0.5, Seed: 3},
		"expire":                {Drop: true, Expire: 2 * ms},
		"refuse":                {Refuse: true},
		"refuse a share":        {Refuse: true, Share: 0.5, Seed: 4},
		"refuse in good order":  {Refuse: true, Orderly: true},
		"refuse at an age":      {Refuse: true, Age: 2 * ms},
		"hang":                  {Hang: true},
		"hang beyond some":      {Hang: true, Over: 2},
		"reset beyond some":     {Refuse: true, Reset: true, Over: 2},
		"reset":                 {Reset: true},
		"reset of one side":     {Reset: true, Spare: harness.Down},
		"reset of a share":      {Reset: true, Share: 0.5, Seed: 5},
		"reset at an age":       {Refuse: true, Reset: true, Age: 2 * ms},
		"close":                 {Close: true},
		"close one way":         {Dir: harness.Down, Close: true},
		"close at an age":       {Refuse: true, Close: true, Orderly: true, Age: 2 * ms},
		"close one way, aged":   {Dir: harness.Up, Close: true, Age: 2 * ms},
		"close and refuse":      {Refuse: true, Close: true},
		"down and up":           {Refuse: true, Close: true, On: ms, Off: ms},
		"cut":                   {Cut: true, CutAfter: 7},
		"cut in good order":     {Cut: true, CutAfter: 7, Orderly: true},
		"cut of what floods":    {Dir: harness.Down, Cut: true, CutAfter: 10_000},
		"corrupt":               {Corrupt: 0.01, Bits: 2, Seed: 6},
		"corrupt a share":       {Corrupt: 0.01, Bits: 1, Share: 0.5, Seed: 7},
		"deaf":                  {Deaf: true},
		"deaf now and then":     {Deaf: true, On: ms, Off: ms},
		"deaf and reset":        {Deaf: true, Reset: true},
	}
}

// wordy answers a first byte f with a long reply and an end, and everything else with itself.
func wordy(c *net.TCPConn) {
	b := make([]byte, 1)
	if _, err := io.ReadFull(c, b); err != nil {
		return
	}
	if b[0] == 'f' {
		c.Write(make([]byte, 64<<10))
		return
	}
	if _, err := c.Write(b); err == nil {
		echo(c)
	}
}

// hangUp asks for a long reply, reads the beginning of it, and goes away: its peer gets a
// reset.
func hangUp(addr string, patience time.Duration) error {
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("f")); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 100))
	return err
}

// holdings is what the process has.
type holdings struct{ goroutines, descriptors int }

func count(t testing.TB) holdings {
	t.Helper()
	return holdings{runtime.NumGoroutine(), linktest.Descriptors(t)}
}

// nothingLeft wants that the process has no more than it had.
func nothingLeft(t testing.TB, had holdings) {
	t.Helper()
	var have holdings
	defer func() {
		if t.Failed() {
			t.Logf("there were %+v, there are %+v", had, have)
		}
	}()
	eventually(t, "nothing is left", func() bool {
		have = count(t)
		return have.goroutines <= had.goroutines && have.descriptors <= had.descriptors
	})
}

func TestHangUpsLeaveNothing(t *testing.T) {
	total := 10_000
	if testing.Short() {
		total /= 10
	}
	rules := []harness.Toxic{
		{}, // none
		{Delay: time.Millisecond},
		{Slice: 1000, Vary: 500},
		{Linger: time.Millisecond},
		{Dir: harness.Down, Cut: true, CutAfter: 10_000},
	}
	l := listen(t, serve(t, wordy))
	had := count(t)
	for _, x := range rules {
		if x != (harness.Toxic{}) {
			disturb(t, l, x)
		}
		var left atomic.Int64
		left.Store(int64(total / len(rules)))
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for left.Add(-1) >= 0 {
					if err := hangUp(l.Addr(), soon); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		clients.Wait()
		l.Reset()
	}
	if got := l.Stats().Conns; got != int64(total) && !t.Failed() {
		t.Errorf("%d connections came, want %d", got, total)
	}
	eventually(t, "every connection is gone", func() bool { return l.Stats().Open == 0 })
	nothingLeft(t, had)
}

// TestNoControlCallWaitsForAPeer: the readers never read, and every buffer is full.
func TestNoControlCallWaitsForAPeer(t *testing.T) {
	upstream := serve(t, linktest.Flood)
	for name, x := range kinds() {
		t.Run(name, func(t *testing.T) {
			had := count(t)
			harnesstest.Within(t, 250*time.Millisecond, func() time.Duration {
				l, err := Listen("dep", upstream)
				if err != nil {
					t.Fatal(err)
				}
				for range 50 {
					c := dial(t, l.Addr())
					defer c.Close()
					c.SetReadBuffer(8 << 10)
				}
				full(t, l)
				var most time.Duration
				prompt := func(what string, call func() error) {
					t.Helper()
					most = max(most, promptly(t, what, call))
				}
				var inj harness.Injection
				inject := func() (err error) {
					inj, err = l.Disturb(context.Background(), x)
					return err
				}
				look := func() error {
					inj.Acted()
					l.Stats()
					l.Traffic()
					return nil
				}
				prompt("disturb", inject)
				prompt("the counters", look)
				prompt("heal", func() error { return inj.Heal(context.Background()) })
				prompt("disturb again", inject)
				prompt("reset", l.Reset)
				prompt("close", l.Close)
				return most
			})
			nothingLeft(t, had)
		})
	}
}

// full waits until nothing more passes to readers that do not read.
func full(t testing.TB, l *Link) {
	t.Helper()
	eventually(t, "the link is full", func() bool {
		before := l.Stats().Down
		time.Sleep(while)
		return before > 0 && l.Stats().Down == before
	})
}

// promptly returns how long a call took. One that does not return ends the test.
func promptly(t testing.TB, what string, call func() error) time.Duration {
	t.Helper()
	var took time.Duration
	done := make(chan error, 1)
	go func() {
		start := time.Now()
		err := call()
		took = time.Since(start)
		done <- err
	}()
	var err error
	eventually(t, what+" returns", func() bool {
		select {
		case err = <-done:
			return true
		default:
			return false
		}
	})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return took
}

// TestUpdateStorm changes the rules as fast as it can while numbered bytes pass, and
// wants all of them back in order.
func TestUpdateStorm(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for {
				select {
				case <-stop:
					return
				default:
				}
				x := harness.Toxic{Dir: harness.Dir(rng.IntN(3)), Hold: rng.IntN(3) == 0, Deaf: rng.IntN(8) == 0, Delay: time.Duration(rng.IntN(2e6) + 1), Jitter: time.Duration(rng.IntN(1e6)), Rate: rng.Int64N(3) * 20_000, Slice: rng.Int64N(3) * 300}
				x.Joint = x.Rate > 0 && rng.IntN(2) == 0
				inj, err := l.Disturb(context.Background(), x)
				if err != nil {
					t.Error(err)
					return
				}
				runtime.Gosched()
				inj.Heal(context.Background())
				inj.Acted()
				l.Stats()
			}
		})
	}
	var clients sync.WaitGroup
	for i := range 4 {
		c := dial(t, l.Addr())
		clients.Go(func() {
			const size = 1 << 20
			sent := make([]byte, size)
			for k := range sent {
				sent[k] = byte(k*7 + k>>8 + i)
			}
			go func() {
				for b := sent; len(b) > 0; {
					n := min(len(b), 700)
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
					b = b[n:]
				}
				c.CloseWrite()
			}()
			got, err := ended(c)
			if err != nil || got != string(sent) {
				t.Errorf("%d of %d bytes, %v; a prefix: %t", len(got), size, err, strings.HasPrefix(string(sent), got))
			}
		})
	}
	clients.Wait()
	close(stop)
	wg.Wait()
}

// TestControlStorm calls everything at once while clients come and go in every way, and wants
// a link that is as new when it is over.
func TestControlStorm(t *testing.T) {
	upstreams := []string{serve(t, wordy), serve(t, wordy)}
	had := count(t)
	l, err := Listen("dep", upstreams[0])
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	stop := make(chan struct{})
	var clients, controls sync.WaitGroup
	for i := range 6 {
		rng := rand.New(rand.NewPCG(2, uint64(i)))
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					visit(l.Addr(), rng)
				}
			}
		})
	}
	kinds := kinds()
	names := slices.Sorted(maps.Keys(kinds))
	for i := range 6 {
		rng := rand.New(rand.NewPCG(3, uint64(i)))
		controls.Go(func() {
			for range 150 {
				inj, err := l.Disturb(context.Background(), kinds[names[rng.IntN(len(names))]])
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Duration(rng.Int64N(int64(time.Millisecond))))
				switch rng.IntN(4) {
				case 0:
					l.SetUpstream(upstreams[rng.IntN(2)])
				case 1:
					l.Reset()
				case 2:
					l.Traffic()
				}
				if s := l.Stats(); s.Open < 0 || s.Open > s.Conns {
					t.Errorf("%d of %d connections are open", s.Open, s.Conns)
				}
				if err := inj.Heal(context.Background()); err != nil {
					t.Error(err)
				}
				if n := inj.Acted(); n < 0 {
					t.Errorf("acted on %d %s", n, inj.Unit)
				}
			}
		})
	}
	controls.Wait()
	close(stop)
	clients.Wait()

	eventually(t, "every connection is gone", func() bool { return l.Stats().Open == 0 })
	for i := range 8 { // small enough for the buffers on the way
		c := dial(t, l.Addr())
		roundTrip(t, c, strings.Repeat(fmt.Sprintf("%d, as it came. ", i), 4<<10))
		c.Close()
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, had)
}

// visit makes one connection to a link in a storm, on which anything can happen.
func visit(addr string, rng *rand.Rand) {
	const patience = 10 * time.Millisecond
	how := rng.IntN(5)
	if how == 0 {
		hangUp(addr, patience)
		return
	}
	d, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return
	}
	defer d.Close()
	c := d.(*net.TCPConn)
	c.SetDeadline(time.Now().Add(patience))
	switch how {
	case 1: // goes at once
	case 2: // has all that it wants
		io.WriteString(c, "hello")
		io.ReadFull(c, make([]byte, 5))
	case 3: // closes its half first
		io.WriteString(c, "hello")
		c.CloseWrite()
		io.Copy(io.Discard, c)
	case 4: // stalls, and goes with a reset
		c.SetReadBuffer(8 << 10)
		io.WriteString(c, "f")
		time.Sleep(time.Duration(rng.Int64N(int64(patience))))
		c.SetLinger(0)
	}
}
