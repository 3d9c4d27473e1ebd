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
	const ttl = 100 * time.Millisecond
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
	<-time.After(ttl)
	expired(t, refuse)
	roundTrip(t, dial(t, l.Addr()), "new")

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
			fresh, err := net.DialTimeout("tcp", l.Addr(), soon)
			if err != nil {
				return false // a reset can come as early as that
			}
			t.Cleanup(func() { fresh.Close() })
			fresh.SetDeadline(time.Now().Add(soon))
			fresh.Write([]byte("x"))
			_, err = fresh.Read(make([]byte, 1))
			c = fresh.(*net.TCPConn)
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

func TestBytesUnderWhatComesAndGoes(t *testing.T) {
	t.Parallel()
	l := listen(t, serve(t, echo))
	c := dial(t, l.Addr())
	hold := disturb(t, l, harness.Toxic{Dir: harness.Up, Hold: true, On: 100 * time.Millisecond, Off: 100 * time.Millisecond})
	send(t, c, "held")
	expect(t, c, "held")
	if hold.Acted() == 0 {
		t.Error("it has not acted")
	}
	heal(t, hold)
	drop := disturb(t, l, harness.Toxic{Dir: harness.Up, Drop: true, On: 100 * time.Millisecond, Off: time.Hour})
	send(t, c, "lost")
	wantReset(t, c) // as at a heal
	acted(t, drop, 4, "bytes")
	roundTrip(t, dial(t, l.Addr()), "while it is gone")
	heal(t, drop)
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
