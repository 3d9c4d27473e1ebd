package link

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/link/linktest"
)

// counted is an echo server that counts its connections.
func counted(t *testing.T) (addr string, conns *atomic.Int64) {
	conns = new(atomic.Int64)
	return serve(t, func(c *net.TCPConn) {
		conns.Add(1)
		echo(c)
	}), conns
}

func TestHang(t *testing.T) {
	t.Parallel()
	upstream, conns := counted(t)
	l := listen(t, upstream)
	old := dial(t, l.Addr())
	roundTrip(t, old, "warm")
	inj := disturb(t, l, harness.Toxic{Hang: true})
	acted(t, inj, 0, "connections")
	fresh, gone := dial(t, l.Addr()), dial(t, l.Addr())
	send(t, fresh, "hello")
	send(t, gone, "and away")
	gone.Close()
	silent(t, fresh)
	roundTrip(t, old, "lives on")
	acted(t, inj, 2, "connections")
	if n := conns.Load(); n != 1 {
		t.Errorf("the server has seen %d connections, want that of before", n)
	}
	heal(t, inj)
	expect(t, fresh, "hello") // it goes on
	roundTrip(t, fresh, "and on")
	eventually(t, "what has hung up is gone", func() bool { return l.Stats().Open == 2 })
	if n := conns.Load(); n != 3 {
		t.Errorf("the server has seen %d connections, want 3", n)
	}
	acted(t, inj, 2, "connections")
}

func TestWhatHangsCanBeEnded(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	inj := disturb(t, l, harness.Toxic{Hang: true})
	reset, closed, last := dial(t, l.Addr()), dial(t, l.Addr()), dial(t, l.Addr())
	eventually(t, "they hang", func() bool { return inj.Acted() == 3 })
	heal(t, disturb(t, l, harness.Toxic{Reset: true}))
	for _, c := range []net.Conn{reset, closed, last} {
		wantReset(t, c)
	}
	eventually(t, "they are gone", func() bool { return l.Stats().Open == 0 })
	finished := dial(t, l.Addr())
	eventually(t, "it hangs", func() bool { return inj.Acted() == 4 })
	heal(t, disturb(t, l, harness.Toxic{Close: true}))
	if got, err := ended(finished); got != "" || err != nil {
		t.Errorf("got %q, %v; want the end", got, err)
	}
	still := dial(t, l.Addr())
	eventually(t, "it hangs", func() bool { return inj.Acted() == 5 })
	start := time.Now()
	l.Close()
	if took := time.Since(start); took > soon/4 {
		t.Errorf("the close took %s", took)
	}
	wantReset(t, still)
}

// What a client has sent before it learns of the end does not make a reset of it.
func TestRefusedInGoodOrder(t *testing.T) {
	t.Parallel()
	upstream, conns := counted(t)
	l := listen(t, upstream)
	old := dial(t, l.Addr())
	roundTrip(t, old, "warm")
	inj := disturb(t, l, harness.Toxic{Refuse: true, Orderly: true})
	for i := range 100 {
		c := dial(t, l.Addr())
		send(t, c, "hello")
		if got, err := ended(c); got != "" || err != nil {
			t.Fatalf("connection %d got %q, %v; want the end", i, got, err)
		}
	}
	roundTrip(t, old, "lives on")
	acted(t, inj, 100, "connections")
	rst := disturb(t, l, harness.Toxic{Refuse: true})
	linktest.Refused(t, l.Addr()) // the reset wins
	acted(t, rst, 1, "connections")
	heal(t, rst)
	heal(t, inj)
	roundTrip(t, dial(t, l.Addr()), "hello")
	if n := conns.Load(); n != 2 {
		t.Errorf("the server has seen %d connections, want 2", n)
	}

	hang := disturb(t, l, harness.Toxic{Hang: true})
	c := dial(t, l.Addr())
	send(t, c, "hello")
	eventually(t, "it hangs", func() bool { return hang.Acted() == 1 })
	inj = disturb(t, l, harness.Toxic{Refuse: true, Orderly: true})
	heal(t, hang)
	if got, err := ended(c); got != "" || err != nil {
		t.Errorf("what hung got %q, %v; want the end", got, err)
	}
	acted(t, inj, 1, "connections")
}

// What is refused does not hang, and is not counted as if it did.
func TestRefusedBeforeItHangs(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	hang := disturb(t, l, harness.Toxic{Hang: true})
	refuse := disturb(t, l, harness.Toxic{Refuse: true})
	linktest.Refused(t, l.Addr())
	acted(t, refuse, 1, "connections")
	acted(t, hang, 0, "connections")
}

// Nobody notices that the clients of connections that hang have gone, so there is a bound.
func TestHangIsBounded(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	inj := disturb(t, l, harness.Toxic{Hang: true})
	for range maxHanging {
		c, err := net.Dial("tcp", l.Addr())
		if errors.Is(err, syscall.EMFILE) {
			t.Skip("too few file descriptors")
		}
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	eventually(t, "they hang", func() bool { return inj.Acted() == maxHanging })
	linktest.Refused(t, l.Addr())
	acted(t, inj, maxHanging+1, "connections")
	heal(t, inj)
	eventually(t, "they are gone", func() bool { return l.Stats().Open == 0 })
}

func TestOver(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	var conns []*net.TCPConn
	for range 4 {
		conns = append(conns, dial(t, l.Addr()))
		roundTrip(t, conns[len(conns)-1], "x")
	}
	inj := disturb(t, l, harness.Toxic{Over: 2, Reset: true, Refuse: true})
	acted(t, inj, 2, "connections")
	for _, c := range conns[2:] { // the newest
		wantReset(t, c)
	}
	for _, c := range conns[:2] {
		roundTrip(t, c, "lives on")
	}
	linktest.Refused(t, l.Addr())
	acted(t, inj, 3, "connections")
	conns[0].Close()
	eventually(t, "there is room", func() bool { return l.Stats().Open == 1 })
	roundTrip(t, dial(t, l.Addr()), "new")
	acted(t, inj, 3, "connections")
	linktest.Refused(t, l.Addr())
	heal(t, inj)
	roundTrip(t, dial(t, l.Addr()), "new")
	roundTrip(t, conns[1], "still there")
}

// What hangs beyond a number goes on when there is room, the oldest first.
func TestOverThatHangs(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	inj := disturb(t, l, harness.Toxic{Over: 1, Hang: true})
	first := dial(t, l.Addr())
	roundTrip(t, first, "x")
	second := dial(t, l.Addr())
	eventually(t, "the second hangs", func() bool { return inj.Acted() == 1 })
	third := dial(t, l.Addr())
	eventually(t, "the third hangs", func() bool { return inj.Acted() == 2 })
	send(t, second, "2")
	send(t, third, "3")
	silent(t, second)
	first.Close()
	expect(t, second, "2")
	silent(t, third)
	heal(t, inj)
	expect(t, third, "3")
	acted(t, inj, 2, "connections")
}

func TestHalfClose(t *testing.T) {
	t.Parallel()
	for _, dir := range []harness.Dir{harness.Up, harness.Down} {
		saw := make(chan string, 1) // by the server, until its stream ended
		behind := make(chan struct{})
		l := listen(t, serve(t, func(c *net.TCPConn) {
			b, err := io.ReadAll(c)
			if err == nil {
				saw <- string(b)
				<-behind
				c.Write([]byte("reply"))
			}
		}))
		c := dial(t, l.Addr())
		send(t, c, "request")
		eventually(t, "it has passed", func() bool { return l.Stats().Up == 7 })
		inj := disturb(t, l, harness.Toxic{Dir: dir, Close: true})
		acted(t, inj, 1, "connections")
		switch dir {
		case harness.Up:
			if got := <-saw; got != "request" {
				t.Errorf("the server got %q", got)
			}
			close(behind)
			expect(t, c, "reply") // the other direction goes on
			heal(t, inj)
			if got, err := ended(c); got != "" || err != nil {
				t.Errorf("got %q, %v; want the server's end", got, err)
			}
		case harness.Down:
			if got, err := ended(c); got != "" || err != nil {
				t.Errorf("got %q, %v; want the end", got, err)
			}
			send(t, c, ", more")
			c.CloseWrite()
			if got := <-saw; got != "request, more" {
				t.Errorf("the server got %q", got)
			}
			heal(t, inj)
			close(behind)
			// The reply that cannot be passed on any more resets the connection.
			eventually(t, "it is gone", func() bool { return l.Stats().Open == 0 })
		}
		acted(t, inj, 1, "connections")
	}
}

// A connection on which bytes came behind the end is reset at the heal.
func TestHalfClosedThatLostBytesIsReset(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, flood))
	c := dial(t, l.Addr())
	eventually(t, "the link is full", func() bool {
		before := l.Stats().Down
		time.Sleep(while)
		return before > 0 && l.Stats().Down == before
	})
	inj := disturb(t, l, harness.Toxic{Dir: harness.Down, Close: true})
	came := l.Traffic().Down
	eventually(t, "what comes is lost", func() bool { return l.Traffic().Down > came+(16<<20) })
	if _, err := ended(c); err != nil { // what had been passed on, and the end
		t.Errorf("got %v, want the end", err)
	}
	if l.Stats().Open != 1 {
		t.Error("the connection is gone before the heal")
	}
	heal(t, inj)
	eventually(t, "the connection is gone", func() bool { return l.Stats().Open == 0 })
}

// A stream that is half closed says nothing of the other streams that lose bytes.
func TestLossesBesideHalfCloseEndInAReset(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	half := disturb(t, l, harness.Toxic{Dir: harness.Down, Close: true})
	c := dial(t, l.Addr())
	roundTrip(t, c, "before")
	drop := disturb(t, l, harness.Toxic{Dir: harness.Down, Drop: true})
	send(t, c, "lost")
	eventually(t, "the reply is lost", func() bool { return drop.Acted() > 0 })
	heal(t, drop)
	wantReset(t, c)
	heal(t, half)
}

// flood writes without end.
func flood(c *net.TCPConn) {
	for block := make([]byte, 64<<10); ; {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

func TestContradictionsAreNamed(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	for want, x := range map[string]harness.Toxic{
		"a time to live of 11m0s":                       {Hold: true, TTL: 11 * time.Minute},
		"a time to live of -1ns":                        {Hold: true, TTL: -1},
		"the toxic does nothing":                        {TTL: time.Second, On: time.Second, Off: time.Second},
		"neither or both must be set":                   {Hold: true, On: time.Second},
		"each must be from 1ms to 1h0m0s":               {Hold: true, On: time.Second, Off: 1},
		"by a toxic that comes and goes":                {Drop: true, Expire: 1, On: time.Second, Off: time.Second},
		"distribution 3 is not known":                   {Delay: 1, Jitter: 1, Dist: 3},
		"but there is none":                             {Delay: 1, Dist: harness.Normal},
		"a loss of 1.5":                                 {Loss: 1.5, RTO: 1},
		"with correlation 1":                            {Loss: 0.5, RTO: 1, Corr: 1},
		"made up for after 0s":                          {Loss: 0.5},
		"a loss of 0 that is made up for after 1s":      {Hold: true, RTO: time.Second},
		"but nothing is lost":                           {Hold: true, Corr: 0.5},
		"but nothing is refused or cut":                 {Close: true, Orderly: true},
		"side 1 is spared":                              {Close: true, Spare: harness.Up},
		"side 3 is spared":                              {Reset: true, Spare: 3},
		"a burst, or a rate of all connections":         {Hold: true, Joint: true},
		"together, but no rate":                         {Hold: true, Burst: 1},
		"2000000 kB at once":                            {Rate: 1, Burst: 2e6},
		"-1 kB at once":                                 {Rate: 1, Burst: -1},
		"a burst, by a toxic that does more":            {Rate: 1, Burst: 1, Delay: 1},
		"and they must be refused, reset or closed":     {Cut: true, Age: 1},
		"9 bits of a share of 0.5":                      {Corrupt: 0.5, Bits: 9},
		"0 bits of a share of 0.1":                      {Corrupt: 0.1},
		"1 bits of a share of 0 ":                       {Hold: true, Bits: 1},
		"1 bits of a share of 1.1":                      {Corrupt: 1.1, Bits: 1},
		"no answer cannot be refused or hang":           {Deaf: true, Hang: true},
		"no answer, for a part of the connections":      {Deaf: true, Reset: true, Over: 1},
		"no answer, for a part of the connections:":     {Deaf: true, Share: 0.5},
		"cannot be refused and hang":                    {Refuse: true, Hang: true},
		"cannot be reset and closed":                    {Reset: true, Close: true, Age: 1},
		"beyond -1 connections":                         {Refuse: true, Over: -1},
		"but nothing is done at once to those beyond":   {Hold: true, Over: 1},
		"a number of connections, but nothing is done ": {Reset: true, Age: 1, Over: 1},
	} {
		if _, err := l.Disturb(t.Context(), x); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", x, err, want)
		}
	}
	roundTrip(t, dial(t, l.Addr()), "hello")
}
