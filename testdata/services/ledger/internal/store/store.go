// Package store keeps the ledger in Postgres, over database/sql.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// What the store refuses. Any other error is ErrDown or ErrLate.
var (
	ErrNotFound = errors.New("not found")
	ErrFunds    = errors.New("there is not enough money in the account")
	ErrClosed   = errors.New("the account is closed")
	ErrMoney    = errors.New("there is money in the account")
	ErrVersion  = errors.New("the account has changed")
	ErrKeyReuse = errors.New("the idempotency key belongs to another request")
	ErrSession  = errors.New("there is no such session")
	ErrDown     = errors.New("the database does not answer")
	ErrLate     = errors.New("the database did not answer in time")
)

const (
	tries   = 4
	first   = 10 * time.Millisecond // before the second try
	longest = 80 * time.Millisecond
)

// Store is a connection pool to Postgres, with the statements that were prepared on it.
type Store struct {
	db *sql.DB

	mu    sync.Mutex // guards stmts
	stmts map[string]*sql.Stmt
}

// New returns a store at a URL. It does not connect yet.
func New(url string) (*Store, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.ConnectTimeout = 400 * time.Millisecond
	db := stdlib.OpenDB(*cfg)
	db.SetMaxOpenConns(10)
	db.SetMaxIdleConns(5)
	db.SetConnMaxLifetime(30 * time.Second)
	db.SetConnMaxIdleTime(5 * time.Second)
	return &Store{db: db, stmts: map[string]*sql.Stmt{}}, nil
}

// Close closes the statements and the connections.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, s.db.Close())...)
}

// Stats returns what the pool counts.
func (s *Store) Stats() sql.DBStats { return s.db.Stats() }

// prepared returns a statement, prepared on the first use of it.
func (s *Store) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	s.mu.Lock()
	stmt := s.stmts[text]
	s.mu.Unlock()
	if stmt != nil {
		return stmt, nil
	}
	made, err := s.db.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if stmt := s.stmts[text]; stmt != nil { // another one was faster
		return stmt, made.Close()
	}
	s.stmts[text] = made
	return made, nil
}

// read runs a prepared query that changes nothing, and hands each row to scan. Before is
// called for each try.
func (s *Store) read(ctx context.Context, text string, args []any, before func(), scan func(*sql.Rows) error) error {
	return again(ctx, func(ctx context.Context) error {
		before()
		stmt, err := s.prepared(ctx, text)
		if err != nil {
			return &unsent{err}
		}
		rows, err := stmt.QueryContext(ctx, args...)
		if err != nil {
			return &unsent{err}
		}
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		if err := rows.Err(); err != nil {
			return &unsent{err}
		}
		return nil
	})
}

// in runs a serializable transaction, again where it got in the way of another one. Do may
// run several times.
func (s *Store) in(ctx context.Context, do func(context.Context, *sql.Tx) error) error {
	return s.inLevel(ctx, sql.LevelSerializable, do)
}

func (s *Store) inLevel(ctx context.Context, level sql.IsolationLevel, do func(context.Context, *sql.Tx) error) error {
	return again(ctx, func(ctx context.Context) error {
		tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: level})
		if err != nil {
			return &unsent{err}
		}
		defer tx.Rollback() // says that it is too late after a commit
		if err := do(ctx, tx); err != nil {
			return err
		}
		return tx.Commit()
	})
}

// unsent is the error of what did nothing, or only read: it may be done again.
type unsent struct{ error }

func (u *unsent) Unwrap() error { return u.error }

// again does something up to four times, while it is known to have done nothing, each a
// little later.
func again(ctx context.Context, do func(context.Context) error) error {
	pause := first
	for n := 1; ; n++ {
		err := do(ctx)
		if err == nil || n == tries || !repeatable(err) {
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

// repeatable reports whether what failed did nothing and may do better soon.
func repeatable(err error) bool {
	var said *pgconn.PgError
	if errors.As(err, &said) {
		switch said.Code {
		case "40001", "40P01": // serialization failure, deadlock
			return true
		case "23505": // two with one new idempotency key: the other one was faster
			return said.ConstraintName == "answers_pkey"
		}
	}
	var u *unsent
	return errors.As(err, &u) && !late(err)
}

func late(err error) bool {
	var n net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &n) && n.Timeout()
}

// explain says in the words of this package what went wrong.
func explain(err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{ErrNotFound, ErrFunds, ErrClosed, ErrMoney, ErrVersion, ErrKeyReuse, ErrSession} {
		if errors.Is(err, known) {
			return err
		}
	}
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	if late(err) {
		return fmt.Errorf("%w: %w", ErrLate, err)
	}
	return fmt.Errorf("%w: %w", ErrDown, err)
}
