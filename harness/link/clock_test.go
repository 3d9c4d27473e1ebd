package link

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/link/linktest"
)

func expired(t testing.TB, inj harness.Injection) {
	t.Helper()
	if err := inj.Heal(t.Context()); !errors.Is(err, harness.ErrExpired) {
		t.Errorf("the heal says %v, want %v", err, harness.ErrExpired)
	}
}

func TestTimeToLive(t *testing.T) {
	t.Parallel()
	const ttl = time.Second // of which the test takes little
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	roundTrip(t, c, "warm")
	start := time.Now()
	held := disturb(t, l, harness.Toxic{Hold: true, TTL: ttl})
	send(t, c, "hello")
	expect(t, c, "hello") // nobody has healed it
	if took := time.Since(start); took < ttl {
		t.Errorf("it ended after %s, want %s", took, ttl)
	}
	acted(t, held, 5, "bytes")
	expired(t, held)
	roundTrip(t, c, "again")
	acted(t, held, 5, "bytes")

	refuse := disturb(t, l, harness.Toxic{Refuse: true, TTL: ttl})
	linktest.Refused(t, l.Addr())
	eventually(t, "new connections are served", func() bool { return replies(l) })
	expired(t, refuse)

	drop := disturb(t, l, harness.Toxic{Drop: true, TTL: ttl})
	send(t, c, "lost")
	wantReset(t, c)
	expired(t, drop)
}

func TestHealedBeforeItsTime(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	one := disturb(t, l, harness.Toxic{Hold: true, TTL: harness.MaxTTL})
	other := disturb(t, l, harness.Toxic{Hold: true, TTL: harness.MaxTTL})
	disturb(t, l, harness.Toxic{Hold: true, TTL: harness.MaxTTL})
	heal(t, one)
	l.Reset()
	heal(t, other)
	roundTrip(t, dial(t, l.Addr()), "hello")
	disturb(t, l, harness.Toxic{Refuse: true, TTL: harness.MaxTTL, On: time.Hour, Off: time.Hour})
	l.Close() // waits for whatever waits
}

// A link that goes down and comes up by itself is down each time: for what exists and for what
// is new.
func TestComesAndGoes(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	roundTrip(t, c, "warm")
	inj := disturb(t, l, harness.Toxic{Refuse: true, Reset: true, On: 100 * time.Millisecond, Off: 100 * time.Millisecond})
	for range 3 {
		wantReset(t, c)
		eventually(t, "it is up", func() bool {
			fresh, err := reply(l)
			if err == nil {
				c = fresh
				t.Cleanup(func() { c.Close() })
			}
			return err == nil
		})
	}
	if inj.Acted() < 3 || inj.Unit != "connections" {
		t.Errorf("acted on %d %s", inj.Acted(), inj.Unit)
	}
	heal(t, inj)
	c = dial(t, l.Addr())
	roundTrip(t, c, "x")
	was := inj.Acted()
	time.Sleep(250 * time.Millisecond)
	roundTrip(t, c, "it stays")
	acted(t, inj, was, "connections")
}

// reply returns a new connection on which the echo of one byte has come back.
func reply(l *Link) (*net.TCPConn, error) {
	c, err := net.DialTimeout("tcp", l.Addr(), soon)
	if err != nil {
		return nil, err // a reset can come as early as that
	}
	c.SetDeadline(time.Now().Add(soon))
	c.Write([]byte("x"))
	if _, err := c.Read(make([]byte, 1)); err != nil {
		c.Close()
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

func replies(l *Link) bool {
	c, err := reply(l)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// Each time a toxic goes, that is a heal; the clock is turned by hand.
func TestBytesUnderWhatComesAndGoes(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	turned := func(x harness.Toxic) (harness.Injection, func()) {
		x.On, x.Off = time.Hour, time.Hour
		inj := disturb(t, l, x)
		return inj, func() { l.turn(l.toxics[0]) }
	}
	hold, turn := turned(harness.Toxic{Dir: harness.Up, Hold: true})
	for range 3 {
		send(t, c, "held")
		silent(t, c)
		turn()
		expect(t, c, "held")
		roundTrip(t, c, "free")
		turn()
	}
	acted(t, hold, 12, "bytes")
	heal(t, hold)
	drop, turn := turned(harness.Toxic{Dir: harness.Up, Drop: true})
	send(t, c, "lost")
	eventually(t, "it is lost", func() bool { return drop.Acted() == 4 })
	turn()
	wantReset(t, c)
	roundTrip(t, dial(t, l.Addr()), "while it is gone")
	acted(t, drop, 4, "bytes")
	heal(t, drop) // also while it is gone
	roundTrip(t, dial(t, l.Addr()), "for good")
}

// Toxics that end by themselves, come and go leave nothing behind, whatever else is done.
func TestClockStorm(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	for i := range 300 {
		x := []harness.Toxic{
			{Hold: true, TTL: time.Millisecond},
			{Drop: true, On: time.Millisecond, Off: time.Millisecond, TTL: 3 * time.Millisecond},
			{Refuse: true, Reset: true, On: time.Millisecond, Off: time.Millisecond},
			{Hang: true, Over: 2, TTL: 2 * time.Millisecond},
			{Close: true, Dir: harness.Down, TTL: time.Millisecond},
		}[i%5]
		inj := disturb(t, l, x)
		c, err := net.Dial("tcp", l.Addr())
		if err == nil {
			c.Write([]byte("hello"))
		}
		if i%2 == 0 {
			time.Sleep(time.Millisecond)
		}
		if i%3 > 0 {
			if err := inj.Heal(t.Context()); err != nil && !errors.Is(err, harness.ErrExpired) {
				t.Error(err)
			}
		}
		if err == nil {
			c.Close()
		}
	}
	l.Reset()
	eventually(t, "every connection is gone", func() bool { return l.Stats().Open == 0 })
	roundTrip(t, dial(t, l.Addr()), "hello")
}
