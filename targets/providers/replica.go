package providers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/shakedown-go/shakedown/harness"
)

const (
	followTime = 15 * time.Second // until a replica has what the server has
	followGap  = 2 * time.Millisecond
)

// replica is a redis-server that follows another one.
//
//	server   --- replication stream --->  replica
//	   ^                                     ^
//	  link  . . . . . after Promote . . . . .'
//
// Both count the bytes of the stream. A replica that becomes a master remembers how far it
// has followed whom: what the server has counted beyond that is lost.
type replica struct {
	of       *redisServer
	life     unit   // of the server: another one has other data
	resets   int64  // of its data, when it was begun to be followed
	addr     string // the replica's own
	detached bool
	promoted bool
	history  string // the server's, since the replica is detached
	has      int64  // bytes of the stream that it has then
}

var _ harness.Replica = (*replica)(nil)

// replicate brings up a replica that has all that the server has.
func (r *redisServer) replicate(ctx context.Context) (*replica, error) {
	p := &replica{of: r, resets: r.resets.Load()}
	var err error
	if p.life, p.addr, err = r.double(ctx); err != nil {
		return nil, fmt.Errorf("a replica of %s: %w", r.name, err)
	}
	if err := p.follow(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("a replica of %s: %w", r.name, err), r.discard(ctx))
	}
	return p, nil
}

// follow begins to follow the server and waits until nothing is missing.
func (p *replica) follow(ctx context.Context) error {
	if _, err := p.master(ctx); err != nil {
		return err
	}
	at, err := p.of.inside(ctx)
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(at)
	if err != nil {
		return err
	}
	// By a file, it would remember all that when it is started anew.
	const load = "repl-diskless-load"
	own := redisAt(p.addr)
	got, err := own(ctx, []string{"CONFIG", "GET", load})
	if err == nil && len(got) == 0 {
		err = fmt.Errorf("a redis before 6.0 has no %s: %w", load, harness.ErrNotHere)
	}
	if err != nil {
		return err
	}
	if _, err := own.all(ctx, [][]string{{"CONFIG", "SET", load, "on-empty-db"}, {"REPLICAOF", host, port}}); err != nil {
		return err
	}
	// The server begins a new history for its first replica.
	if err := p.until(ctx, func(is replication) bool { return is["master_link_status"] == "up" }); err != nil {
		return err
	}
	_, err = p.catchUp(ctx)
	return err
}

// master returns what the server says, which must be a master.
func (p *replica) master(ctx context.Context) (replication, error) {
	now, err := replicationOf(ctx, redisAt(p.of.Addr()))
	if err == nil && now["role"] != "master" {
		err = errors.New("this redis is a replica itself")
	}
	return now, err
}

// catchUp waits until the replica has what the server has now, and returns that.
func (p *replica) catchUp(ctx context.Context) (replication, error) {
	now, err := p.master(ctx)
	if err != nil {
		return nil, err
	}
	return now, p.until(ctx, func(is replication) bool {
		return is["master_link_status"] == "up" && is["master_replid"] == now["master_replid"] &&
			is.number("slave_repl_offset") >= now.number("master_repl_offset")
	})
}

// until asks the replica until what it says will do.
func (p *replica) until(ctx context.Context, will func(replication) bool) error {
	ctx, cancel := context.WithTimeout(ctx, followTime)
	defer cancel()
	again := time.NewTicker(followGap)
	defer again.Stop()
	for {
		is, err := replicationOf(ctx, redisAt(p.addr))
		if err == nil && will(is) {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("it does not follow: %w", errors.Join(ctx.Err(), err))
		}
	}
}

// Detach implements harness.Replica.
func (p *replica) Detach(ctx context.Context) error {
	was, err := p.catchUp(ctx)
	if err != nil {
		return err
	}
	if _, err := redisAt(p.addr)(ctx, []string{"REPLICAOF", "NO", "ONE"}); err != nil {
		return err
	}
	is, err := replicationOf(ctx, redisAt(p.addr))
	if err != nil {
		return err
	}
	if is["master_replid2"] != was["master_replid"] {
		return errors.New("it has not followed the server to the end")
	}
	p.detached, p.history = true, was["master_replid"]
	p.has = is.number("second_repl_offset") - 1 // the first byte that is not the server's
	return nil
}

// Promote implements harness.Replica.
func (p *replica) Promote(ctx context.Context) (lost int64, promoted bool, err error) {
	s := p.of.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || s.now != p.life || s.serving() != nil || over(s.now) || p.of.resets.Load() != p.resets {
		return 0, false, nil
	}
	had, err := replicationOf(ctx, redisAt(p.of.Addr()))
	if err != nil {
		return 0, false, err
	}
	if !p.detached {
		if err := p.Detach(ctx); err != nil {
			return 0, false, err
		}
	}
	if had["master_replid"] != p.history {
		return 0, false, errors.New("the server is not the one any more that was followed")
	}
	if err := copySettings(ctx, redisAt(p.of.Addr()), redisAt(p.addr)); err != nil {
		return 0, false, err
	}
	p.promoted = true
	return max(had.number("master_repl_offset")-p.has, 0), true, s.yield(ctx)
}

// Close implements harness.Replica. Where it fails it may be called again.
func (p *replica) Close(ctx context.Context) error {
	if !p.promoted {
		if err := p.of.discard(ctx); err != nil {
			return err
		}
		p.of.store.release()
		return nil
	}
	return p.of.back(ctx, func(ctx context.Context) error {
		is, err := replicationOf(ctx, redisAt(p.of.Addr()))
		if err == nil && (is["role"] != "master" || is["connected_slaves"] != "0") {
			err = fmt.Errorf("it is a %s with %s replicas", is["role"], is["connected_slaves"])
		}
		if err != nil {
			return fmt.Errorf("the replica that has taken the place of %s: %w", p.of.name, err)
		}
		p.of.store.release()
		return nil
	})
}

// over reports whether a life has ended.
func over(u unit) bool {
	select {
	case <-u.Done():
		return true
	default:
		return false
	}
}

// redisAt returns what runs commands on the Redis at an address.
func redisAt(addr string) command {
	k := &keyspace{options: func() *redis.Options { return &redis.Options{Addr: addr} }}
	return command(k.command).within(commandTime)
}

// replication is what a Redis says of its replication.
type replication map[string]string

func replicationOf(ctx context.Context, c command) (replication, error) {
	got, err := c(ctx, []string{"INFO", "replication"})
	if err != nil {
		return nil, err
	}
	is := replication{}
	for line := range strings.Lines(strings.Join(got, "\n")) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), ":"); found {
			is[name] = value
		}
	}
	if is["role"] == "" || is["master_replid"] == "" {
		return nil, errors.New("this redis says nothing of its replication")
	}
	return is, nil
}

// number returns a value that is a number; -1 where it is none.
func (r replication) number(name string) int64 {
	n, err := strconv.ParseInt(r[name], 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// copySettings gives one Redis the settings that the other was given since it was started, but
// for where it listens and works.
func copySettings(ctx context.Context, from, to command) error {
	read := func(c command) (map[string]string, error) {
		got, err := c(ctx, []string{"CONFIG", "GET", "*"})
		if err != nil {
			return nil, err
		}
		out := map[string]string{}
		for pair := range slices.Chunk(got, 2) {
			if len(pair) == 2 && pair[0] != "port" && pair[0] != "dir" {
				out[pair[0]] = pair[1]
			}
		}
		return out, nil
	}
	want, err := read(from)
	if err != nil {
		return err
	}
	have, err := read(to)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if want[name] == have[name] {
			continue
		}
		if _, err := to(ctx, []string{"CONFIG", "SET", name, want[name]}); err != nil {
			return fmt.Errorf("its setting %s: %w", name, err)
		}
	}
	if have, err = read(to); err == nil && !maps.Equal(have, want) {
		err = errors.New("it has not taken over all settings")
	}
	return err
}
