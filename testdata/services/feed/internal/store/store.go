// Package store keeps messages in Redis: each topic is a stream, and who listens is told
// of new ones by publish and subscribe.
package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"example.com/feed/internal/hub"
)

// What the store says instead of an answer. Any other error is ErrDown.
var (
	ErrKeyReuse = errors.New("the idempotency key belongs to another message")
	ErrDown     = errors.New("the store does not answer")
	ErrLate     = errors.New("the store did not answer in time")
)

const (
	timeout = 250 * time.Millisecond // of one step: dial, read, write, wait for a connection
	tries   = 3
	first   = 20 * time.Millisecond // before the second try
	longest = 80 * time.Millisecond

	maxMessages = 500              // kept of a topic, about
	keyLife     = 10 * time.Minute // of an idempotency key
	channel     = "feed:live:"
)

// Store is a connection pool to Redis.
type Store struct{ rdb *redis.Client }

// New returns a store at addr. It does not connect yet.
func New(addr string) *Store {
	return &Store{redis.NewClient(&redis.Options{
		Addr:                  addr,
		DialTimeout:           timeout,
		ReadTimeout:           timeout,
		WriteTimeout:          timeout,
		PoolTimeout:           timeout,
		PoolSize:              12,
		MinIdleConns:          2,
		ConnMaxIdleTime:       30 * time.Second,
		MaxRetries:            -1, // see try
		DialerRetries:         1,
		ContextTimeoutEnabled: true,
		DisableIdentity:       true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	})}
}

// Close closes the connections.
func (s *Store) Close() error { return s.rdb.Close() }

// Ping asks whether the store answers.
func (s *Store) Ping(ctx context.Context) error {
	return s.try(ctx, func(ctx context.Context) error { return s.rdb.Ping(ctx).Err() })
}

// publish appends a message, unless the key was seen: then it returns what was said of it.
// So it can be run again when its answer was lost.
var publish = redis.NewScript(`
local seen = redis.call('GET', KEYS[2])
if seen then return seen .. ' again' end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*', 'author', ARGV[2], 'text', ARGV[3])
redis.call('SET', KEYS[2], id .. ' ' .. ARGV[4], 'PX', ARGV[5])
redis.call('PUBLISH', ARGV[6], id .. ' ' .. ARGV[7])
return id .. ' ' .. ARGV[4] .. ' new'`)

// Publish appends a message to a topic and returns it with its id. Who comes again with the
// same key is told of the message that there is, which is then not fresh.
func (s *Store) Publish(ctx context.Context, topic, key string, m hub.Message) (out hub.Message, fresh bool, err error) {
	body, err := json.Marshal(m)
	if err != nil {
		return m, false, err
	}
	sum := sha256.Sum256([]byte(topic + "\x00" + string(body)))
	is := hex.EncodeToString(sum[:8])
	var said string
	err = s.try(ctx, func(ctx context.Context) (err error) {
		said, err = publish.Run(ctx, s.rdb, []string{"feed:topic:" + topic, "feed:once:" + key},
			maxMessages, m.Author, m.Text, is, keyLife.Milliseconds(), channel+topic, body).Text()
		return err
	})
	if err != nil {
		return m, false, err
	}
	words := strings.Fields(said)
	if len(words) != 3 {
		return m, false, fmt.Errorf("%w: it said %q", ErrDown, said)
	}
	if words[1] != is {
		return m, false, ErrKeyReuse
	}
	m.ID = words[0]
	return m, words[2] == "new", nil
}

// After returns up to limit messages of a topic behind the one with that id; "" is before
// the first.
func (s *Store) After(ctx context.Context, topic, id string, limit int) ([]hub.Message, error) {
	from := "-"
	if id != "" {
		from = "(" + id
	}
	var found []redis.XMessage
	err := s.try(ctx, func(ctx context.Context) (err error) {
		found, err = s.rdb.XRangeN(ctx, "feed:topic:"+topic, from, "+", int64(limit)).Result()
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make([]hub.Message, len(found))
	for i, x := range found {
		author, _ := x.Values["author"].(string)
		text, _ := x.Values["text"].(string)
		out[i] = hub.Message{ID: x.ID, Author: author, Text: text}
	}
	return out, nil
}

// AddTags counts tags. A count may be too high where an answer was lost.
func (s *Store) AddTags(ctx context.Context, tags []string) error {
	return s.try(ctx, func(ctx context.Context) error {
		_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, tag := range tags {
				p.ZIncrBy(ctx, "feed:tags", 1, tag)
			}
			return nil
		})
		return err
	})
}

// Tag is a tag and how often it was used.
type Tag struct {
	Name string  `json:"name"`
	Uses float64 `json:"uses"`
}

// Tags returns the tags that are used most.
func (s *Store) Tags(ctx context.Context) ([]Tag, error) {
	out := []Tag{}
	err := s.try(ctx, func(ctx context.Context) error {
		found, err := s.rdb.ZRevRangeWithScores(ctx, "feed:tags", 0, 9).Result()
		out = out[:0]
		for _, z := range found {
			name, _ := z.Member.(string)
			out = append(out, Tag{name, z.Score})
		}
		return err
	})
	return out, err
}

// AddViews adds to the views of topics. It is tried once: they would count twice.
func (s *Store) AddViews(ctx context.Context, views map[string]int64) error {
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for topic, n := range views {
			p.HIncrBy(ctx, "feed:views", topic, n)
		}
		return nil
	})
	return err
}

// Views returns how often a topic was looked at, as far as it has been written.
func (s *Store) Views(ctx context.Context, topic string) (n int64, err error) {
	err = s.try(ctx, func(ctx context.Context) error {
		n, err = s.rdb.HGet(ctx, "feed:views", topic).Int64()
		if errors.Is(err, redis.Nil) {
			return nil
		}
		return err
	})
	return n, err
}

// Listen hands every message that is published to take, until ctx ends. A connection that
// breaks is made anew; what was said meanwhile is not told, and can be read with After.
func (s *Store) Listen(ctx context.Context, take func(topic string, m hub.Message)) {
	sub := s.rdb.PSubscribe(ctx, channel+"*")
	defer sub.Close()
	said := sub.Channel(redis.WithChannelHealthCheckInterval(time.Second))
	for {
		select {
		case <-ctx.Done():
			return
		case got := <-said:
			id, body, _ := strings.Cut(got.Payload, " ")
			var m hub.Message
			if json.Unmarshal([]byte(body), &m) == nil {
				m.ID = id
				take(strings.TrimPrefix(got.Channel, channel), m)
			}
		}
	}
}

// try does something that may be done twice, up to three times, each a little later.
func (s *Store) try(ctx context.Context, do func(context.Context) error) error {
	pause := first
	for n := 1; ; n++ {
		err := once(ctx, do)
		if err == nil || n == tries || !passes(err) {
			return explain(err)
		}
		wait := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return explain(err)
		}
		pause = min(2*pause, longest)
	}
}

func once(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return do(ctx)
}

// passes reports whether an error may be gone soon: all but what the server objects to.
func passes(err error) bool {
	var said redis.Error
	if !errors.As(err, &said) {
		return true
	}
	for _, prefix := range []string{"LOADING", "BUSY", "TRYAGAIN", "READONLY", "MASTERDOWN"} {
		if strings.HasPrefix(said.Error(), prefix) {
			return true
		}
	}
	return false
}

// explain says in the words of this package what went wrong.
func explain(err error) error {
	var n net.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &n) && n.Timeout():
		return fmt.Errorf("%w: %w", ErrLate, err)
	}
	return fmt.Errorf("%w: %w", ErrDown, err)
}
