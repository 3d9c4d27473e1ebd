package providers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

const (
	clockLook  = 2 * time.Second        // for one look at a server's clock, or at who has met it
	clockSlack = 500 * time.Millisecond // beyond the time that the look took
)

// gauge tells the time of a server, and who has met a clock that was moved.
type gauge interface {
	// time reads the clock.
	time(context.Context) (time.Time, error)
	// watch looks before the clock is moved. What it returns looks again, the last time right
	// before the clock is set back, and counts in unit.
	watch(ctx context.Context, by time.Duration) (met, error)
	unit() string
}

// met returns how much has met the moved clock so far.
type met func(ctx context.Context, last bool) (int64, error)

// Jump implements harness.Proc. A server that is down or paused reads the moved clock when it
// is back.
func (s *server) Jump(ctx context.Context, by time.Duration) (harness.Injection, error) {
	if s.fixed != nil {
		return harness.Injection{}, s.fixed
	}
	w := &clockWatch{s: s}
	looking, cancel := context.WithTimeout(ctx, clockLook)
	defer cancel()
	if s.serves() == nil {
		w.met, _ = s.gauge.watch(looking, by) // where it does not answer nothing is counted
	}
	if err := s.move(ctx, by); err != nil {
		return harness.Injection{}, err
	}
	return harness.Injection{
		Heal: func(ctx context.Context) error {
			w.look(true)
			return s.move(ctx, -by)
		},
		Acted: func() int64 { return w.look(false) },
		Unit:  s.gauge.unit(),
	}, nil
}

// move moves the clock by so much from what it is. An error leaves it where it was.
func (s *server) move(ctx context.Context, by time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ahead := s.ahead + by
	if s.now != nil {
		_, err := s.now.SetClock(ctx, ahead)
		if err == nil {
			err = s.follows(ctx, ahead)
		}
		if err != nil {
			_, back := s.now.SetClock(context.WithoutCancel(ctx), s.ahead)
			return errors.Join(err, back)
		}
	}
	s.ahead = ahead
	return nil
}

// follows reads the clock of a server that answers. The caller holds mu.
func (s *server) follows(ctx context.Context, ahead time.Duration) error {
	if s.dying || s.pauses > 0 || s.limits > 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, clockLook)
	defer cancel()
	from := time.Now()
	got, err := s.gauge.time(ctx)
	to := time.Now()
	if err != nil { // another fault may be in force
		return nil
	}
	if got.Before(from.Add(ahead-clockSlack)) || got.After(to.Add(ahead+clockSlack)) {
		return fmt.Errorf("the clock of %s is %s ahead of the machine's, and should be %s: %w",
			s.name, got.Sub(to).Round(time.Millisecond), ahead, harness.ErrNotHere)
	}
	return nil
}

// clockWatch counts who has met a moved clock until that is set right.
type clockWatch struct {
	s *server

	mu   sync.Mutex // guards the rest
	met  met        // nil when nothing more is counted
	most int64
}

// look returns what is known. Where the server does not answer that is what was seen before.
func (w *clockWatch) look(last bool) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	met := w.met
	if last {
		w.met = nil
	}
	if met == nil || w.s.serves() != nil {
		return w.most
	}
	ctx, cancel := context.WithTimeout(context.Background(), clockLook)
	defer cancel()
	if n, err := met(ctx, last); err == nil {
		w.most = max(w.most, n)
	}
	return w.most
}

// redisClockUnit is what is counted of every Redis.
const redisClockUnit = "keys ended by it and looks at its clock"

// redisGauge counts the keys whose time to live is over by the jump, and how often the clock is
// asked for with TIME, in scripts, too. What a jump forward ends it ends at once; a jump back
// ends, when it is healed, what was given less time to live meanwhile than the clock then jumps.
type redisGauge struct{ command }

func (redisGauge) unit() string { return redisClockUnit }

func (g redisGauge) time(ctx context.Context) (time.Time, error) {
	us, err := g.info(ctx, "server", "server_time_usec:")
	return time.UnixMicro(us), err
}

// info returns the number behind a prefix in a section of INFO; 0 where nothing begins so.
func (g redisGauge) info(ctx context.Context, section, prefix string) (int64, error) {
	got, err := g.command(ctx, []string{"INFO", section})
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(strings.Join(got, "")) {
		if rest, found := strings.CutPrefix(strings.TrimSpace(line), prefix); found {
			number, _, _ := strings.Cut(rest, ",")
			return strconv.ParseInt(number, 10, 64)
		}
	}
	return 0, nil
}

func (g redisGauge) watch(ctx context.Context, by time.Duration) (met, error) {
	looks, err := g.info(ctx, "commandstats", "cmdstat_time:calls=")
	if err != nil {
		return nil, err
	}
	var ended int64
	if by > 0 {
		// What has no more time than this would have ended anyway.
		if ended, err = g.ending(ctx, 100*time.Millisecond, by); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context, last bool) (int64, error) {
		now, err := g.info(ctx, "commandstats", "cmdstat_time:calls=")
		if err != nil {
			return 0, err
		}
		if last && by < 0 {
			if ended, err = g.ending(ctx, 0, -by); err != nil {
				return 0, err
			}
		}
		return ended + max(0, now-looks), nil
	}, nil
}

// endingScript counts keys by what is left of their time to live, of so many at most in each
// database: nobody is to wait for it.
const endingScript = `
local n = 0
for i = 3, #ARGV do
  redis.call('SELECT', ARGV[i])
  local cursor, seen = '0', 0
  repeat
    local got = redis.call('SCAN', cursor, 'COUNT', 500)
    for _, key in ipairs(got[2]) do
      local left = redis.call('PTTL', key)
      if left > tonumber(ARGV[1]) and left <= tonumber(ARGV[2]) then n = n + 1 end
    end
    cursor, seen = got[1], seen + 500
  until cursor == '0' or seen >= 10000
end
return n`

// ending returns how many keys have more than least to live, and no more than most.
func (g redisGauge) ending(ctx context.Context, least, most time.Duration) (int64, error) {
	got, err := g.command(ctx, []string{"INFO", "keyspace"})
	if err != nil {
		return 0, err
	}
	words := []string{"EVAL", endingScript, "0", strconv.FormatInt(least.Milliseconds(), 10), strconv.FormatInt(most.Milliseconds(), 10)}
	for line := range strings.Lines(strings.Join(got, "")) {
		rest, found := strings.CutPrefix(line, "db")
		number, _, _ := strings.Cut(rest, ":")
		if found && !strings.Contains(line, "expires=0,") {
			words = append(words, number)
		}
	}
	if got, err = g.command(ctx, words); err != nil {
		return 0, err
	}
	return strconv.ParseInt(got[0], 10, 64)
}

// pgGauge counts the sessions that have begun a statement by the moved clock. Whether that has
// looked at the clock nobody tells; the server did, for now() and its own timeouts.
type pgGauge struct{ command }

func (pgGauge) unit() string { return "sessions that asked it meanwhile" }

func (g pgGauge) time(ctx context.Context) (time.Time, error) {
	got, err := g.command(ctx, []string{"SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"})
	if err != nil {
		return time.Time{}, err
	}
	us, err := strconv.ParseInt(got[0], 10, 64)
	return time.UnixMicro(us), err
}

// statements returns when each session of others has begun its last statement, by the process
// that serves it.
func (g pgGauge) statements(ctx context.Context) (map[string]string, error) {
	got, err := g.command(ctx, []string{"SELECT pid, query_start FROM pg_catalog.pg_stat_activity " +
		"WHERE backend_type = 'client backend' AND application_name <> '" + application + "' AND query_start IS NOT NULL"})
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for i := 0; i+1 < len(got); i += 2 {
		out[got[i]] = got[i+1]
	}
	return out, nil
}

func (g pgGauge) watch(ctx context.Context, _ time.Duration) (met, error) {
	before, err := g.statements(ctx)
	if err != nil {
		return nil, err
	}
	sessions := map[string]bool{} // those that have ended since count as well
	return func(ctx context.Context, _ bool) (int64, error) {
		now, err := g.statements(ctx)
		for pid, began := range now {
			if began != before[pid] {
				sessions[pid] = true
			}
		}
		return int64(len(sessions)), err
	}, nil
}
