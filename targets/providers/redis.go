package providers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/spec"
)

func chooseRedis(ctx context.Context, name string, dep spec.Dependency, _ string) (Provider, error) {
	switch dep.Provide {
	case "url":
		return chooseRedisURL(ctx, dep)
	case "embedded":
		return embeddedRedis{miniredisVersion()}, nil
	}
	if p, settled, err := redisImage().choose(ctx, name, dep); settled {
		return p, err
	}
	f, err := find(ctx, "redis-server", dep.Version, []string{"/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"})
	switch {
	case err == nil:
		return localRedis{name, f}, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case dep.Provide == "auto" && dep.Version == "":
		return embeddedRedis{miniredisVersion()}, nil
	}
	return nil, fmt.Errorf("%w; install redis (apt-get install redis-server, brew install redis), "+
		"or say where one is (provide: url), or take the embedded one (provide: embedded, no version)", err)
}

// localRedis is a redis-server of this machine. It keeps its data in memory alone: a
// crash loses them.
type localRedis struct {
	name string
	found
}

func (l localRedis) Rung() string { return "local@" + l.version }

func (l localRedis) Start(ctx context.Context, dir string, emit func(harness.Event)) (Dependency, error) {
	s, err := l.serve(ctx, dir, emit)
	if err != nil {
		return nil, err
	}
	s.twin = func(ctx context.Context) (*server, error) { return l.serve(ctx, dir, emit) }
	return newRedisServer(s), nil
}

// serve brings up one redis-server.
func (l localRedis) serve(ctx context.Context, dir string, emit func(harness.Event)) (*server, error) {
	dir, err := os.MkdirTemp(dir, "redis-")
	if err != nil {
		return nil, err
	}
	s := newLocal(l.name, dir, emit)
	s.ready = pong
	s.args = func(port int) child.Options {
		return child.Options{Path: l.path, Args: append([]string{
			"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--daemonize", "no", "--dir", dir,
		}, redisSettings()...)}
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.bury(ctx))
	}
	return &s.server, nil
}

// redisSettings are those of every Redis of ours. What a replica is sent goes by no file, from
// which the server would fetch it again when it is started anew, and is sent at once.
func redisSettings() []string {
	return []string{
		"--protected-mode", "no", "--save", "", "--appendonly", "no", "--loglevel", "warning",
		"--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0",
	}
}

// newRedisServer returns a dependency whose server runs and is ours alone.
func newRedisServer(s *server) *redisServer {
	keys := &keyspace{own: true, exact: true, options: func() *redis.Options {
		return &redis.Options{Addr: s.Addr()}
	}}
	s.gauge = redisGauge{keys.command}
	r := &redisServer{server: s, keys: keys}
	r.store = &store{command: keys.command, ours: s, replicate: r.replicate}
	return r
}

type redisServer struct {
	*server
	keys   *keyspace
	store  *store
	resets atomic.Int64
}

func (r *redisServer) Store() (harness.Store, error) { return r.store, nil }

func (r *redisServer) Reset(ctx context.Context) error {
	r.refill()
	r.resets.Add(1)
	return r.keys.reset(ctx)
}

// redisImage says how a Redis is had in a container.
func redisImage() image {
	return image{
		engine: "redis", names: []string{"redis:7"}, stand: "shakedown/redis:7", port: 6379,
		versions: []string{"REDIS_VERSION", "REDIS_DOWNLOAD_URL"},
		args:     append([]string{"redis-server", "--bind", "0.0.0.0"}, redisSettings()...),
		ready:    pong,
		depend:   func(_ context.Context, s *server) (Dependency, error) { return newRedisServer(s), nil },
	}
}

// pong asks a Redis whether it serves: while it loads its data it answers, but not so.
func pong(ctx context.Context, addr string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if t, bounded := ctx.Deadline(); bounded {
		if err := conn.SetDeadline(t); err != nil {
			return err
		}
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	b := make([]byte, 64)
	n, err := conn.Read(b)
	if err != nil {
		return err
	}
	if got := strings.TrimSpace(string(b[:n])); got != "+PONG" {
		return fmt.Errorf("it answers %q to PING", got)
	}
	return nil
}

// redisHost returns the host that a redis:// URL leads to.
func redisHost(url string) (string, error) {
	o, err := redisURL(url)
	if err != nil {
		return "", err
	}
	host, _, err := net.SplitHostPort(o.Addr)
	return host, err
}

func redisURL(url string) (*redis.Options, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		// The library's words may hold the URL, and that a password.
		return nil, errors.New("url: not a redis URL: it should read redis://user:password@host:port/database")
	}
	if o.Network != "tcp" {
		return nil, errors.New("url: a unix socket cannot stand behind a link: give host and port")
	}
	return o, nil
}

// dialRedis returns what runs commands at a URL.
func dialRedis(url string) (command, error) {
	o, err := redisURL(url)
	if err != nil {
		return nil, err
	}
	return (&keyspace{options: func() *redis.Options { c := *o; return &c }}).command, nil
}

// remoteRedis is one database of a Redis that somebody else runs.
type remoteRedis struct {
	version string
	addr    string
	url     string
	keys    *keyspace
	store   *store // nil before a start
}

func chooseRedisURL(ctx context.Context, dep spec.Dependency) (Provider, error) {
	o, err := redisURL(dep.URL)
	if err != nil {
		return nil, err
	}
	r := &remoteRedis{addr: o.Addr, url: dep.URL}
	r.keys = &keyspace{exact: true, options: func() *redis.Options {
		o, _ := redisURL(dep.URL) // it was parsed before
		return o
	}}
	if r.version, err = r.keys.version(ctx); err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	if !isVersion(r.version, dep.Version) {
		return nil, fmt.Errorf("version %s is wanted, but the redis at %s is %s", dep.Version, o.Addr, r.version)
	}
	return r, nil
}

func (r *remoteRedis) Rung() string { return "url@" + r.version }

// Start takes nothing over yet: every start has a first Reset of its own.
func (r *remoteRedis) Start(_ context.Context, dir string, _ func(harness.Event)) (Dependency, error) {
	started := *r
	started.keys = &keyspace{exact: true, options: r.keys.options}
	started.store = &store{command: started.keys.command, journal: dir, engine: "redis", url: r.url}
	return &started, nil
}

func (r *remoteRedis) Store() (harness.Store, error) { return r.store, nil }

func (r *remoteRedis) Addr() string                    { return r.addr }
func (r *remoteRedis) Reset(ctx context.Context) error { return r.keys.reset(ctx) }
func (r *remoteRedis) Stop(context.Context) error      { return nil }

func (r *remoteRedis) Proc() (harness.Proc, error) {
	return nil, fmt.Errorf("the redis at %s is not ours to end or pause: use provide: local", r.addr)
}
