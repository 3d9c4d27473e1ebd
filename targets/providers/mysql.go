package providers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/spec"
)

const (
	mysqlRoot     = "root"
	mysqlDatabase = "test" // where the description names none
)

// chooseMySQL knows containers only.
func chooseMySQL(ctx context.Context, name string, dep spec.Dependency, dir string) (Provider, error) {
	init := dep.Init
	if init != "" && !filepath.IsAbs(init) {
		init = filepath.Join(dir, init)
	}
	dep.Provide = "docker"
	p, _, err := mysqlImage(dep, init).choose(ctx, name, dep)
	return p, err
}

// mysqlImage says how a MySQL or a MariaDB is had in a container.
func mysqlImage(dep spec.Dependency, init string) image {
	return image{
		engine: "mysql", names: []string{"mysql:8", "mariadb:11"}, stand: "shakedown/mariadb:10.11", port: 3306,
		versions: []string{"MYSQL_VERSION", "MARIADB_VERSION"},
		env: map[string]string{
			"MYSQL_ALLOW_EMPTY_PASSWORD": "yes", "MYSQL_ROOT_HOST": "%",
			"MARIADB_ALLOW_EMPTY_ROOT_PASSWORD": "yes", "MARIADB_ROOT_HOST": "%",
		},
		// As Postgres' settings: a crash of the process loses nothing that was committed.
		args: []string{
			"--skip-log-bin", "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=64M", "--performance-schema=OFF",
			"--skip-name-resolve", "--max-connections=200", "--character-set-server=utf8mb4", "--default-time-zone=+00:00",
		},
		ready: func(ctx context.Context, addr string) error {
			db, err := mysqlOpen(addr, mysqlRoot, "")
			if err != nil {
				return err
			}
			return errors.Join(db.PingContext(ctx), db.Close())
		},
		depend: func(ctx context.Context, s *server) (Dependency, error) {
			d := &mysqlServer{server: s}
			d.data.open = func() (*sql.DB, error) { return mysqlOpen(s.Addr(), mysqlRoot, "") }
			return d, mysqlPopulate(ctx, s.Addr(), dep, init)
		},
	}
}

// mysqlOpen returns a database that connects without a password.
func mysqlOpen(addr, user, database string) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.DBName = "tcp", addr, user, database
	cfg.MultiStatements = true
	cfg.Timeout, cfg.Logger = 5*time.Second, &mysql.NopLogger{}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

// mysqlPopulate makes the user and the database that the service uses, and runs init. The
// user may do anything only until then.
func mysqlPopulate(ctx context.Context, addr string, dep spec.Dependency, init string) error {
	ctx, cancel := context.WithTimeout(ctx, initTime)
	defer cancel()
	user, database := dep.User, dep.Database
	if user == "" {
		user = mysqlRoot
	}
	if database == "" {
		database = mysqlDatabase
	}
	db, err := mysqlOpen(addr, mysqlRoot, "")
	if err != nil {
		return err
	}
	defer db.Close()
	account, schema := mysqlString(user)+"@'%'", mysqlName(database)
	batch := "CREATE DATABASE IF NOT EXISTS " + schema + ";"
	if user != mysqlRoot {
		batch += "CREATE USER " + account + " IDENTIFIED BY ''; GRANT ALL ON *.* TO " + account + ";"
	}
	if _, err := db.ExecContext(ctx, batch); err != nil {
		return fmt.Errorf("make the user and the database: %w", err)
	}
	if err := mysqlInit(ctx, addr, user, database, init); err != nil {
		return err
	}
	if user != mysqlRoot {
		batch := "REVOKE ALL PRIVILEGES, GRANT OPTION FROM " + account + "; GRANT ALL ON " + schema + ".* TO " + account
		if _, err := db.ExecContext(ctx, batch); err != nil {
			return fmt.Errorf("make the user an ordinary one: %w", err)
		}
	}
	return nil
}

// mysqlClient is what the mysql program takes from SQL files, and the server does not know.
var mysqlClient = regexp.MustCompile(`(?im)^\s*(delimiter|source|\\\.)\s`)

// mysqlInit runs an SQL file. What MySQL has against it is a *spec.Error, at the place where
// the statement is that it quotes.
func mysqlInit(ctx context.Context, addr, user, database, path string) error {
	if path == "" {
		return nil
	}
	text, err := readInit(path)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	db, err := mysqlOpen(addr, user, database)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, text); err != nil {
		return mysqlBlame(path, text, err)
	}
	return nil
}

// mysqlNear is how MySQL says where it no longer understands; it counts the lines from the
// start of the statement.
var mysqlNear = regexp.MustCompile(`(?s)near '(.+)' at line \d+$`)

func mysqlBlame(path, text string, err error) error {
	msg := "init: "
	if mysqlClient.MatchString(text) {
		msg += "DELIMITER and SOURCE are commands of the mysql program, and not SQL: "
	}
	var refused *mysql.MySQLError
	if !errors.As(err, &refused) {
		return fmt.Errorf("%s: %s%w", path, msg, err)
	}
	if m := mysqlNear.FindStringSubmatch(refused.Message); m != nil && strings.Count(text, m[1]) == 1 {
		before := text[:strings.Index(text, m[1])]
		line, column, _ := position(text, utf8.RuneCountInString(before)+1)
		return spec.ErrorAt(path, []byte(text), line, column, msg+err.Error())
	}
	return &spec.Error{File: path, Msg: msg + err.Error()}
}

// mysqlServer is a MySQL that is ours alone.
type mysqlServer struct {
	*server
	data mysqlData
}

// Store implements Dependency: no fault is for its states.
func (m *mysqlServer) Store() (harness.Store, error) {
	return nil, errors.New("a mysql takes no commands")
}

// Reset implements Dependency.
func (m *mysqlServer) Reset(ctx context.Context) error {
	m.refill()
	return m.data.reset(ctx)
}
