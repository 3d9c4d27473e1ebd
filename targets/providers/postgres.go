package providers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/journal"
	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/spec"
)

const (
	superuser  = "postgres"
	initdbTime = time.Minute
	dataDir    = "data" // in the server's own
)

// StoreUser is who a Postgres runs as where the harness is root: it refuses root.
const StoreUser = 65534

func choosePostgres(ctx context.Context, name string, dep spec.Dependency, dir string) (Provider, error) {
	init := dep.Init
	if init != "" && !filepath.IsAbs(init) {
		init = filepath.Join(dir, init)
	}
	if dep.Provide == "url" {
		return choosePostgresURL(ctx, dep, init)
	}
	if p, settled, err := postgresImage(dep, init).choose(ctx, name, dep); settled {
		return p, err
	}
	f, err := find(ctx, "postgres", dep.Version, postgresDirs(ctx), "initdb")
	switch {
	case err == nil:
		return localPostgres{name, f, dep, init}, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%w; install postgresql (apt-get install postgresql, brew install postgresql), "+
		"or say where one is (provide: url)", err)
}

// postgresDirs returns where installations keep their programs: many leave them out of PATH.
func postgresDirs(ctx context.Context) []string {
	dirs := globs("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/local/opt/postgresql*/bin")
	ctx, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append([]string{strings.TrimSpace(string(out))}, dirs...)
	}
	return dirs
}

// localPostgres is an installed Postgres, run with a data directory of our own.
type localPostgres struct {
	name string
	found
	dep  spec.Dependency
	init string // "" for none
}

func (l localPostgres) Rung() string { return "local@" + l.version }

func (l localPostgres) Start(ctx context.Context, dir string, emit func(harness.Event)) (Dependency, error) {
	dir, err := os.MkdirTemp(dir, "postgres-")
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, dataDir)
	s := newLocal(l.name, dir, emit)
	s.ready = func(ctx context.Context, addr string) error { return pgReady(ctx, data, addr) }
	s.buried = func() { removeSharedMemory(data) }
	s.args = func(port int) child.Options {
		return child.Options{Path: l.path, Args: l.arguments(data, port), Env: pgEnviron(), Credential: pgCredential()}
	}
	d := newPGServer(&s.server, l.dep)
	if err := l.bringUp(ctx, s, data); err != nil {
		return nil, errors.Join(err, d.Stop(ctx))
	}
	return d, nil
}

func (l localPostgres) bringUp(ctx context.Context, s *local, data string) error {
	if c := pgCredential(); c != nil {
		if err := os.Chown(s.dir, int(c.Uid), int(c.Gid)); err != nil {
			return err
		}
	}
	if err := l.fill(ctx, data); err != nil {
		return err
	}
	if err := s.start(ctx); err != nil {
		return err
	}
	return populate(ctx, s.Addr(), l.dep, l.init)
}

func (l localPostgres) arguments(data string, port int) []string {
	return append([]string{"-D", data, "-p", strconv.Itoa(port), "-h", "127.0.0.1", "-c", "unix_socket_directories="}, pgSettings()...)
}

// pgSettings turn off what guards against a loss of power, which nobody simulates here; a
// crash of the processes loses nothing that was acknowledged.
func pgSettings() (args []string) {
	for _, setting := range []string{
		"fsync=off", "full_page_writes=off", "synchronous_commit=on",
		"max_connections=200", "shared_buffers=32MB", "dynamic_shared_memory_type=mmap",
		"log_min_messages=log", "log_checkpoints=off", "timezone=UTC", "log_timezone=UTC",
	} {
		args = append(args, "-c", setting)
	}
	return args
}

// initdb makes a new data directory.
func (l localPostgres) initdb(ctx context.Context, data string) error {
	ctx, cancel := context.WithTimeout(ctx, initdbTime)
	defer cancel()
	c, err := child.Start(child.Options{
		Name: "initdb", Path: filepath.Join(filepath.Dir(l.path), "initdb"), Args: append(initdbArgs(), "-D", data),
		Env: pgEnviron(), Dir: filepath.Dir(data), Credential: pgCredential(),
	})
	if err != nil {
		return err
	}
	select {
	case <-c.Done():
	case <-ctx.Done():
	}
	_, killed := c.Kill(ctx) // no more than collects it where it has ended
	status, code := c.Exited()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("initdb: %w%s", ctx.Err(), quote(c.Tail()))
	case code != 0:
		return fmt.Errorf("initdb: %s%s", status, quote(c.Tail()))
	}
	return killed
}

func initdbArgs() []string {
	return []string{"-A", "trust", "-N", "--no-instructions", "--locale=C", "-E", "UTF8", "-U", superuser, "--wal-segsize=4"}
}

// pgEnviron is what every child gets, but in one language and one time zone.
func pgEnviron() []string { return append(child.Environ(), "LC_ALL=C", "TZ=UTC") }

func pgCredential() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	return &syscall.Credential{Uid: StoreUser, Gid: StoreUser}
}

func orSuperuser(name string) string {
	if name == "" {
		return superuser
	}
	return name
}

// pgServer is a Postgres that is ours alone.
type pgServer struct {
	*server
	data  pgData
	store *store
}

func (p *pgServer) Store() (harness.Store, error) { return p.store, nil }

func newPGServer(s *server, dep spec.Dependency) *pgServer {
	d := &pgServer{server: s, data: pgData{own: true}}
	d.data.connect = func(ctx context.Context) (*pgx.Conn, error) {
		return pgConnect(ctx, s.Addr(), superuser, orSuperuser(dep.Database))
	}
	d.store = &store{command: pgCommand(d.data.connect), ours: s}
	s.gauge = pgGauge{d.store.command}
	return d
}

// postgresImage says how a Postgres is had in a container.
func postgresImage(dep spec.Dependency, init string) image {
	return image{
		engine: "postgres", names: []string{"postgres:15"}, stand: "shakedown/postgres:15", port: 5432,
		versions: []string{"PG_VERSION"},
		env: map[string]string{
			"POSTGRES_HOST_AUTH_METHOD": "trust", "POSTGRES_INITDB_ARGS": "-N --locale=C -E UTF8 --wal-segsize=4",
			"LC_ALL": "C", "TZ": "UTC",
		},
		args: append([]string{"postgres", "-c", "listen_addresses=*"}, pgSettings()...),
		ready: func(ctx context.Context, addr string) error {
			conn, err := pgConnect(ctx, addr, superuser, superuser)
			if err != nil {
				return err
			}
			return conn.Close(ctx)
		},
		depend: func(ctx context.Context, s *server) (Dependency, error) {
			return newPGServer(s, dep), populate(ctx, s.Addr(), dep, init)
		},
	}
}

func (p *pgServer) Reset(ctx context.Context) error {
	p.refill()
	return p.data.reset(ctx)
}

func (p *pgServer) Stop(ctx context.Context) error {
	err := p.server.Stop(ctx)
	p.data.close(ctx)
	return err
}

// pgConnect connects without a password. What the environment says about a Postgres is
// not meant for this one.
func pgConnect(ctx context.Context, addr, user, database string) (*pgx.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	cfg, err := pgx.ParseConfig("host=" + host + " port=" + port + " user=" + superuser + " sslmode=disable")
	if err != nil {
		return nil, err
	}
	cfg.User, cfg.Database, cfg.Password = user, database, ""
	cfg.RuntimeParams = map[string]string{"application_name": application}
	cfg.ValidateConnect = nil
	return pgx.ConnectConfig(ctx, cfg)
}

// application is what the harness's own sessions and clients are called.
const application = "shakedown"

// pgCommand returns what runs statements, each on a connection of its own that a database
// which is read only binds as little as others' locks.
func pgCommand(connect func(context.Context) (*pgx.Conn, error)) command {
	return func(ctx context.Context, words []string) (out []string, err error) {
		conn, err := connect(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
		if _, err := conn.Exec(ctx, "SET default_transaction_read_only = off; SET lock_timeout = '"+lastWait+"'"); err != nil {
			return nil, err
		}
		var args [][]byte
		for _, w := range words[1:] {
			args = append(args, []byte(w))
		}
		r := conn.PgConn().ExecParams(ctx, words[0], args, nil, nil, nil).Read()
		for _, row := range r.Rows {
			for _, value := range row {
				out = append(out, string(value))
			}
		}
		return out, r.Err
	}
}

// dialPostgres returns what runs statements at a URL.
func dialPostgres(url string) (command, error) {
	cfg, err := pgURL(url)
	if err != nil {
		return nil, err
	}
	return pgCommand(remotePostgres{cfg: cfg}.connect), nil
}

// pgReady asks a Postgres whether it serves. A line of postmaster.pid says when that is
// worth trying: every try before would be printed as a fatal error.
func pgReady(ctx context.Context, data, addr string) error {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return err
	}
	if lines := strings.Split(string(b), "\n"); len(lines) < 8 || strings.TrimSpace(lines[7]) != "ready" {
		return errors.New("it is still starting")
	}
	conn, err := pgConnect(ctx, addr, superuser, superuser)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// pgURL reads a postgres:// URL. Of its parameters only those are taken that lead to no
// other place and no file.
func pgURL(url string) (*pgx.ConnConfig, error) {
	if !strings.HasPrefix(url, "postgres://") && !strings.HasPrefix(url, "postgresql://") {
		return nil, errors.New("url: not a postgres URL: it should read postgres://user:password@host:port/database")
	}
	cfg, err := pgx.ParseConfigWithOptions(url, pgx.ParseConfigOptions{ParseConfigOptions: pgconn.ParseConfigOptions{
		ConnStringAllowedKeys: []string{"user", "password", "host", "port", "database", "sslmode", "connect_timeout", "search_path"},
	}})
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	if cfg.Host == "" || strings.HasPrefix(cfg.Host, "/") {
		return nil, errors.New("url: a unix socket cannot stand behind a link: give host and port")
	}
	for _, f := range cfg.Fallbacks {
		if f.Host != cfg.Host || f.Port != cfg.Port {
			return nil, errors.New("url: it names several hosts: give one")
		}
	}
	cfg.RuntimeParams["application_name"] = application
	return cfg, nil
}

// postgresHost returns the host that a postgres:// URL leads to.
func postgresHost(url string) (string, error) {
	cfg, err := pgURL(url)
	if err != nil {
		return "", err
	}
	return cfg.Host, nil
}

// remotePostgres is a database that somebody else runs. It is the harness's to overwrite:
// init runs in it at each start, Reset rewrites the tables that are there at the first
// one, and the schema shakedown_snapshot is made and removed.
type remotePostgres struct {
	version string
	url     string
	cfg     *pgx.ConnConfig
	init    string
}

func choosePostgresURL(ctx context.Context, dep spec.Dependency, init string) (Provider, error) {
	cfg, err := pgURL(dep.URL)
	if err != nil {
		return nil, err
	}
	r := remotePostgres{url: dep.URL, cfg: cfg, init: init}
	ctx, cancel := context.WithTimeout(ctx, resetTime)
	defer cancel()
	conn, err := r.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	defer conn.Close(ctx)
	r.version = digits.FindString(conn.PgConn().ParameterStatus("server_version"))
	if !isVersion(r.version, dep.Version) {
		return nil, fmt.Errorf("version %s is wanted, but the postgres at %s is %s", dep.Version, r.addr(), r.version)
	}
	if _, err := conn.Exec(ctx, "SET session_replication_role = replica"); err != nil {
		return nil, fmt.Errorf("url: resetting needs a superuser, or from 15 on GRANT SET ON PARAMETER session_replication_role TO %s: %w",
			pgx.Identifier{cfg.User}.Sanitize(), err)
	}
	return r, nil
}

func (r remotePostgres) connect(ctx context.Context) (*pgx.Conn, error) {
	return pgx.ConnectConfig(ctx, r.cfg.Copy())
}

func (r remotePostgres) addr() string {
	return net.JoinHostPort(r.cfg.Host, strconv.Itoa(int(r.cfg.Port)))
}

func (r remotePostgres) Rung() string { return "url@" + r.version }

func (r remotePostgres) Start(ctx context.Context, dir string, _ func(harness.Event)) (Dependency, error) {
	if err := runInit(ctx, r.connect, r.init); err != nil {
		return nil, err
	}
	admin := &store{command: pgCommand(r.connect), journal: dir, engine: "postgres", url: r.url}
	note := func(tag string) (func() error, error) {
		id, err := journal.Write(dir, snapshotNote(r.url, tag))
		return func() error { return journal.Strike(dir, id) }, err
	}
	return &pgRemote{addr: r.addr(), data: pgData{connect: r.connect, note: note}, store: admin}, nil
}

type pgRemote struct {
	addr  string
	data  pgData
	store *store
}

func (p *pgRemote) Store() (harness.Store, error) { return p.store, nil }

func (p *pgRemote) Addr() string                    { return p.addr }
func (p *pgRemote) Reset(ctx context.Context) error { return p.data.reset(ctx) }

func (p *pgRemote) Proc() (harness.Proc, error) {
	return nil, fmt.Errorf("the postgres at %s is not ours to end or pause: use provide: local", p.addr)
}

// Stop removes the snapshot from the database.
func (p *pgRemote) Stop(ctx context.Context) error {
	err := p.data.forget(ctx)
	p.data.close(ctx)
	return err
}
