package providers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shakedown-go/shakedown/targets/spec"
)

const (
	maxInit  = 64 << 20 // bytes of an init file
	initTime = 2 * time.Minute
)

// populate makes the role and the database that the service uses, and runs init. The role
// is a superuser only until then: what init makes belongs to it, and the service meets
// the limits that it would meet in earnest, row-level security among them.
func populate(ctx context.Context, addr string, dep spec.Dependency, init string) error {
	ctx, cancel := context.WithTimeout(ctx, initTime)
	defer cancel()
	user, database := orSuperuser(dep.User), orSuperuser(dep.Database)
	conn, err := pgConnect(ctx, addr, superuser, superuser)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	role := pgx.Identifier{user}.Sanitize()
	if user != superuser {
		if _, err := conn.Exec(ctx, "CREATE ROLE "+role+" LOGIN SUPERUSER"); err != nil {
			return fmt.Errorf("make the user: %w", err)
		}
	}
	if database != superuser {
		if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{database}.Sanitize()+" OWNER "+role); err != nil {
			return fmt.Errorf("make the database: %w", err)
		}
	} else if user != superuser {
		if _, err := conn.Exec(ctx, "ALTER DATABASE "+superuser+" OWNER TO "+role); err != nil {
			return fmt.Errorf("hand over the database: %w", err)
		}
	}
	connect := func(ctx context.Context) (*pgx.Conn, error) { return pgConnect(ctx, addr, user, database) }
	if err := runInit(ctx, connect, init); err != nil {
		return err
	}
	if user != superuser {
		if _, err := conn.Exec(ctx, "ALTER ROLE "+role+" NOSUPERUSER"); err != nil {
			return fmt.Errorf("make the user an ordinary one: %w", err)
		}
	}
	return nil
}

// runInit runs an SQL file on a connection of its own, as one transaction unless the file
// says otherwise. What Postgres has against the file is a *spec.Error, at the line where it
// tells that, else with how many statements went before.
func runInit(ctx context.Context, connect func(context.Context) (*pgx.Conn, error), path string) error {
	if path == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, initTime)
	defer cancel()
	sql, err := readInit(path)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	conn, err := connect(ctx)
	if err != nil {
		return fmt.Errorf("init: %w", err)
	}
	defer conn.Close(ctx)
	done := 0
	results := conn.PgConn().Exec(ctx, sql)
	for results.NextResult() {
		if _, err := results.ResultReader().Close(); err == nil {
			done++
		}
	}
	if err := results.Close(); err != nil {
		return blame(path, sql, done, err)
	}
	return nil
}

func readInit(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxInit+1))
	if err == nil && len(b) > maxInit {
		err = fmt.Errorf("%s is larger than %d MiB", path, maxInit>>20)
	}
	return string(b), err
}

// psqlCopy is what pg_dump writes by default. What follows it is data, which psql alone
// tells from SQL.
var psqlCopy = regexp.MustCompile(`(?i)\bcopy\b[^;]*\bfrom\s+stdin\b`)

// blame says which part of a file an error is about, and what is known to go wrong there.
func blame(path, sql string, done int, err error) error {
	var pe *pgconn.PgError
	told := errors.As(err, &pe)
	line, column, rest := 0, 0, ""
	if told && pe.Position > 0 {
		line, column, rest = position(sql, int(pe.Position))
	}
	msg := "init: "
	switch {
	case psqlCopy.MatchString(sql):
		msg += "COPY FROM stdin cannot be run here: dump with pg_dump --inserts: "
	case strings.HasPrefix(rest, `\`):
		msg += "the commands of psql, which begin with a backslash, are not SQL: "
	}
	switch {
	case line > 0:
		return spec.ErrorAt(path, []byte(sql), line, column, msg+err.Error())
	case told && pe.Severity == "ERROR": // a FATAL one is about the connection or the server
		return &spec.Error{File: path, Msg: fmt.Sprintf("%safter %d statements: %v", msg, done, err)}
	}
	return fmt.Errorf("%s: %safter %d statements: %w", path, msg, done, err)
}

// position returns the line and column, from one, of a character, from one, and what
// follows it.
func position(sql string, at int) (line, column int, rest string) {
	line = 1
	for i, r := range sql {
		column++
		if at--; at == 0 {
			return line, column, sql[i:]
		}
		if r == '\n' {
			line, column = line+1, 0
		}
	}
	return line, max(column, 1), ""
}
