package providers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	resetTime    = 10 * time.Second
	databases    = 16       // of a Redis as it comes
	scanCount    = 512      // keys for one SCAN
	maxKeptRedis = 64 << 20 // bytes of keys and values
)

// keyspace brings the keys of a Redis back to what they were at its first reset: a
// service may have made its consumer groups or taken its leader's lock when it started,
// and would not work without them. Keys that then had a time to live have it again.
// Scripts, functions, the configuration and connections are left alone: a service loads
// its scripts once.
type keyspace struct {
	options func() *redis.Options // of a new client
	own     bool                  // the whole server is ours; else the options' database alone
	exact   bool                  // it has a DUMP that can be restored

	mu    sync.Mutex // guards the rest
	taken bool
	kept  []kept
}

// kept are the keys of one database, as the commands that make them.
type kept struct {
	database int
	commands [][]any
}

// reset keeps the keys when called first, and from then on brings them back.
func (k *keyspace) reset(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.with(ctx, k.takeOrRestore); err != nil {
		return fmt.Errorf("reset redis: %w", err)
	}
	return nil
}

func (k *keyspace) takeOrRestore(ctx context.Context, c *redis.Conn) error {
	if k.taken {
		return k.restore(ctx, c)
	}
	k.kept = nil
	room := maxKeptRedis
	for db := range databases {
		if !k.own {
			db = k.options().DB
		}
		keep, err := k.take(ctx, c, db, &room)
		if err != nil {
			return err
		}
		if len(keep.commands) > 0 {
			k.kept = append(k.kept, keep)
		}
		if !k.own {
			break
		}
	}
	k.taken = true
	return nil
}

// restore is one transaction: nobody sees the keyspace without what was kept.
func (k *keyspace) restore(ctx context.Context, c *redis.Conn) error {
	_, err := c.TxPipelined(ctx, func(p redis.Pipeliner) error {
		if k.own {
			p.FlushAll(ctx)
		} else {
			p.Select(ctx, k.options().DB)
			p.FlushDB(ctx)
		}
		for _, keep := range k.kept {
			p.Select(ctx, keep.database)
			for _, args := range keep.commands {
				p.Do(ctx, args...)
			}
		}
		return nil
	})
	return err
}

// take returns the keys of a database.
func (k *keyspace) take(ctx context.Context, c *redis.Conn, db int, room *int) (kept, error) {
	keep := kept{database: db}
	if err := c.Select(ctx, db).Err(); err != nil {
		return keep, err
	}
	seen := map[string]bool{} // SCAN may name a key twice
	for cursor := uint64(0); ; {
		keys, next, err := c.Scan(ctx, cursor, "*", scanCount).Result()
		if err != nil {
			return keep, err
		}
		for _, key := range keys {
			if seen[key] {
				continue
			}
			seen[key] = true
			commands, err := k.takeKey(ctx, c, key)
			if err != nil {
				return keep, fmt.Errorf("keep key %q of database %d: %w", key, db, err)
			}
			if *room -= size(commands); *room < 0 {
				return keep, fmt.Errorf("it holds more than %d MiB when the first case begins: "+
					"bringing that back between cases is not possible, start with less", maxKeptRedis>>20)
			}
			keep.commands = append(keep.commands, commands...)
		}
		if cursor = next; cursor == 0 {
			return keep, nil
		}
	}
}

// takeKey returns the commands that make a key; none where it is gone.
func (k *keyspace) takeKey(ctx context.Context, c *redis.Conn, key string) ([][]any, error) {
	// Not Result: go-redis makes a duration of it, in which -1 and -2 are nanoseconds.
	left, err := c.Do(ctx, "PTTL", key).Int64()
	if err != nil || left == -2 {
		return nil, err
	}
	if k.exact {
		blob, err := c.Dump(ctx, key).Result()
		if errors.Is(err, redis.Nil) {
			return nil, nil
		}
		return [][]any{{"RESTORE", key, max(left, 0), blob, "REPLACE"}}, err
	}
	out, err := rebuild(ctx, c, key)
	if len(out) > 0 && left >= 0 {
		out = append(out, []any{"PEXPIRE", key, max(left, 1)})
	}
	return out, err
}

// rebuild returns commands that make a key of any type but HyperLogLog, without the
// pending entries of a stream's groups.
func rebuild(ctx context.Context, c *redis.Conn, key string) (out [][]any, err error) {
	kind, err := c.Type(ctx, key).Result()
	if err != nil {
		return nil, err
	}
	one := func(command string, values []string) [][]any {
		if len(values) == 0 {
			return nil
		}
		args := []any{command, key}
		for _, v := range values {
			args = append(args, v)
		}
		return [][]any{args}
	}
	switch kind {
	case "none":
		return nil, nil
	case "string":
		v, err := c.Get(ctx, key).Result()
		return [][]any{{"SET", key, v}}, err
	case "list":
		v, err := c.LRange(ctx, key, 0, -1).Result()
		return one("RPUSH", v), err
	case "set":
		v, err := c.SMembers(ctx, key).Result()
		return one("SADD", v), err
	case "hash":
		v, err := c.HGetAll(ctx, key).Result()
		args := []any{"HSET", key}
		for field, value := range v {
			args = append(args, field, value)
		}
		return [][]any{args}, err
	case "zset":
		v, err := c.ZRangeWithScores(ctx, key, 0, -1).Result()
		args := []any{"ZADD", key}
		for _, z := range v {
			args = append(args, z.Score, z.Member)
		}
		return [][]any{args}, err
	case "stream":
		return rebuildStream(ctx, c, key)
	}
	return nil, fmt.Errorf("the embedded redis cannot bring back a %s: use provide: local", kind)
}

func rebuildStream(ctx context.Context, c *redis.Conn, key string) (out [][]any, err error) {
	entries, err := c.XRange(ctx, key, "-", "+").Result()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		args := []any{"XADD", key, e.ID}
		for field, value := range e.Values {
			args = append(args, field, value)
		}
		out = append(out, args)
	}
	groups, err := c.XInfoGroups(ctx, key).Result()
	if err != nil {
		return nil, err
	}
	for _, g := range groups {
		out = append(out, []any{"XGROUP", "CREATE", key, g.Name, g.LastDeliveredID, "MKSTREAM"})
	}
	return out, nil
}

func size(commands [][]any) int {
	n := 0
	for _, args := range commands {
		for _, a := range args {
			if s, ok := a.(string); ok {
				n += len(s)
			}
		}
	}
	return n
}

// version asks a Redis for its version.
func (k *keyspace) version(ctx context.Context) (v string, err error) {
	err = k.with(ctx, func(ctx context.Context, c *redis.Conn) error {
		info, err := c.Info(ctx, "server").Result()
		if err != nil {
			return err
		}
		for line := range strings.Lines(info) {
			if text, found := strings.CutPrefix(line, "redis_version:"); found {
				v = strings.TrimSpace(text)
				return nil
			}
		}
		return errors.New("INFO names no redis_version")
	})
	return v, err
}

// command runs one command and returns the values of its reply.
func (k *keyspace) command(ctx context.Context, words []string) (out []string, err error) {
	args := make([]any, len(words))
	for i, w := range words {
		args[i] = w
	}
	err = k.with(ctx, func(ctx context.Context, c *redis.Conn) error {
		reply, err := c.Do(ctx, args...).Result()
		if errors.Is(err, redis.Nil) {
			reply, err = nil, nil
		}
		out = flat(reply)
		return err
	})
	return out, err
}

// flat returns the values of a reply, in order.
func flat(reply any) (out []string) {
	switch r := reply.(type) {
	case nil:
		return []string{""}
	case []any:
		for _, x := range r {
			out = append(out, flat(x)...)
		}
		return out
	}
	return []string{fmt.Sprint(reply)}
}

// with does something on a connection of its own, made anew: a restart in between is no
// concern then. We dial ourselves, once, because the client would dial again, and would
// write to stderr when it fails.
func (k *keyspace) with(ctx context.Context, do func(context.Context, *redis.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, resetTime)
	defer cancel()
	o := k.options()
	o.MaxRetries, o.DialerRetries = -1, 1
	o.PoolSize, o.PipelinePoolSize = 1, -1
	o.MinIdleConns, o.MaxIdleConns, o.MaxActiveConns = 0, 0, 0
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 2*time.Second, 5*time.Second, 5*time.Second
	o.Protocol, o.DisableIdentity = 2, true
	o.OnConnect = func(ctx context.Context, c *redis.Conn) error {
		_ = c.ClientSetName(ctx, application).Err() // who may not do that may do other things
		return nil
	}
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	conn, err := redis.NewDialer(o)(ctx, "tcp", o.Addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })() // the client heeds no ctx while it reads
	used := false
	o.Dialer = func(context.Context, string, string) (net.Conn, error) {
		if used {
			return nil, errors.New("the connection was lost")
		}
		used = true
		return conn, nil
	}
	client := redis.NewClient(o)
	defer client.Close()
	c := client.Conn()
	defer c.Close()
	err = do(ctx, c)
	if over := context.Cause(ctx); err != nil && over != nil {
		return over // that is why
	}
	return err
}
