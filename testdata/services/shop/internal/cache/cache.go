// Package cache keeps copies of items in Redis, and small things about users. Nothing
// in it is needed: whoever asks must be able to go on without an answer.
package cache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"example.com/shop/internal/store"
)

// ErrMiss is the error of a key that is not in the cache.
var ErrMiss = errors.New("not in the cache")

const (
	itemLife   = 5 * time.Second
	absentLife = time.Second // of the knowledge that there is no such item
	visitLife  = time.Hour

	journalLife = 24 * time.Hour
	journalSize = 20 // entries

	timeout = 300 * time.Millisecond // of one step: dial, read, write, wait for a connection
	budget  = 400 * time.Millisecond // of one operation, retries included
)

// Cache is a connection pool to Redis.
type Cache struct{ rdb *redis.Client }

// New returns a cache at addr. It does not connect yet.
func New(addr string) *Cache {
	return &Cache{redis.NewClient(&redis.Options{
		Addr:                  addr,
		DialTimeout:           timeout,
		ReadTimeout:           timeout,
		WriteTimeout:          timeout,
		PoolTimeout:           timeout,
		PoolSize:              16,
		DialerRetries:         1,
		MaxRetries:            1,
		ContextTimeoutEnabled: true,
		DisableIdentity:       true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	})}
}

// Close closes the connections.
func (c *Cache) Close() error { return c.rdb.Close() }

// Entry is what the cache knows about an item. Absent says that there is no such item.
type Entry struct {
	Absent bool        `json:"absent,omitempty"`
	Item   *store.Item `json:"item,omitempty"`
}

// Item returns what is known about an item, ErrMiss where nothing is, and any other error
// where the cache did not answer.
func (c *Cache) Item(ctx context.Context, sku string) (*Entry, error) {
	e := new(Entry)
	return e, c.get(ctx, "item:"+sku, e)
}

// PutItem keeps an item; nil says that there is no such item.
func (c *Cache) PutItem(ctx context.Context, sku string, item *store.Item) error {
	life := itemLife
	if item == nil {
		life = absentLife
	}
	return c.put(ctx, "item:"+sku, Entry{Absent: item == nil, Item: item}, life)
}

// Bundle is what the cache knows about the parts of a bundle.
type Bundle struct {
	Parts []store.Part `json:"parts"`
}

// Bundle returns the parts of a bundle, with the errors of Item.
func (c *Cache) Bundle(ctx context.Context, sku string) (*Bundle, error) {
	b := new(Bundle)
	if err := c.get(ctx, "bundle:"+sku, b); err != nil {
		return nil, err
	}
	return b, nil
}

// PutBundle keeps the parts of a bundle.
func (c *Cache) PutBundle(ctx context.Context, sku string, b *Bundle) error {
	return c.put(ctx, "bundle:"+sku, b, itemLife)
}

// Drop forgets items whose stock has changed.
func (c *Cache) Drop(ctx context.Context, skus ...string) error {
	keys := make([]string, len(skus))
	for i, sku := range skus {
		keys[i] = "item:" + sku
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	if err := c.rdb.Del(ctx, keys...).Err(); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return nil
}

// Visit counts a visit of a user and returns how many there were of late.
func (c *Cache) Visit(ctx context.Context, user string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	pipe := c.rdb.Pipeline()
	n := pipe.Incr(ctx, "visits:"+user)
	pipe.Expire(ctx, "visits:"+user, visitLife)
	if _, err := pipe.Exec(ctx); err != nil {
		return 0, fmt.Errorf("cache: %w", err)
	}
	return n.Val(), nil
}

// Deed is an entry of a journal: what a user has done, and how long it took.
type Deed struct {
	Did  string        `json:"did"`
	Took time.Duration `json:"took"`
}

// Keep adds to the journal of a user.
func (c *Cache) Keep(ctx context.Context, user string, d Deed) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	pipe := c.rdb.Pipeline()
	pipe.LPush(ctx, "journal:"+user, b)
	pipe.LTrim(ctx, "journal:"+user, 0, journalSize-1)
	pipe.Expire(ctx, "journal:"+user, journalLife)
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return nil
}

// Journal returns what a user has done of late, the latest first.
func (c *Cache) Journal(ctx context.Context, user string) ([]Deed, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	kept, err := c.rdb.LRange(ctx, "journal:"+user, 0, journalSize-1).Result()
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	deeds := make([]Deed, 0, len(kept))
	for _, k := range kept {
		var d Deed
		if json.Unmarshal([]byte(k), &d) == nil {
			deeds = append(deeds, d)
		}
	}
	return deeds, nil
}

func (c *Cache) get(ctx context.Context, key string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	b, err := c.rdb.Get(ctx, key).Bytes()
	switch {
	case errors.Is(err, redis.Nil):
		return ErrMiss
	case err != nil:
		return fmt.Errorf("cache: %w", err)
	case json.Unmarshal(b, into) != nil:
		return ErrMiss // written by another version: it is written anew
	}
	return nil
}

func (c *Cache) put(ctx context.Context, key string, v any, life time.Duration) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	if err := c.rdb.Set(ctx, key, b, life).Err(); err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return nil
}
