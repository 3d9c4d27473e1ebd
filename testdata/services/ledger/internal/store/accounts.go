package store

import (
	"context"
	"database/sql"
	"fmt"
)

// Account holds the money of an owner.
type Account struct {
	ID      int64  `json:"id"`
	Name    string `json:"name"`
	Balance int64  `json:"balance"`
	Closed  bool   `json:"closed"`
	ETag    string `json:"etag"`

	version int
}

func (a *Account) scan(row interface{ Scan(...any) error }) error {
	err := row.Scan(&a.ID, &a.Name, &a.Balance, &a.Closed, &a.version)
	a.ETag = fmt.Sprintf("%q", fmt.Sprint("v", a.version))
	return err
}

const accountFields = `id, name, balance, closed, version`

// Create opens an account with some money in it.
func (s *Store) Create(ctx context.Context, once Once, name string, balance int64) (a Account, err error) {
	return inOnce(ctx, s, once, func(ctx context.Context, tx *sql.Tx) (a Account, err error) {
		err = a.scan(tx.QueryRowContext(ctx, `INSERT INTO accounts (owner, name, balance) VALUES ($1, $2, $3) RETURNING `+accountFields,
			once.Owner, name, balance))
		return a, err
	})
}

// Account returns an account of an owner, or ErrNotFound.
func (s *Store) Account(ctx context.Context, owner string, id int64) (Account, error) {
	found, err := s.accounts(ctx, `SELECT `+accountFields+` FROM accounts WHERE owner = $1 AND id = $2`, owner, id)
	if err != nil {
		return Account{}, err
	}
	if len(found) == 0 {
		return Account{}, ErrNotFound
	}
	return found[0], nil
}

// Accounts returns up to limit accounts of an owner with an id above after.
func (s *Store) Accounts(ctx context.Context, owner string, after int64, limit int) ([]Account, error) {
	return s.accounts(ctx, `SELECT `+accountFields+` FROM accounts WHERE owner = $1 AND id > $2 ORDER BY id LIMIT $3`, owner, after, limit)
}

func (s *Store) accounts(ctx context.Context, text string, args ...any) (out []Account, err error) {
	err = s.read(ctx, text, args, func() { out = []Account{} }, func(rows *sql.Rows) error {
		var a Account
		err := a.scan(rows)
		out = append(out, a)
		return err
	})
	return out, err
}

// Change is what is to be changed of an account; nil leaves it as it is.
type Change struct {
	Name   *string
	Closed *bool
}

// Change changes an account that still has this ETag: else it is ErrVersion.
func (s *Store) Change(ctx context.Context, owner string, id int64, etag string, c Change) (a Account, err error) {
	err = s.in(ctx, func(ctx context.Context, tx *sql.Tx) error {
		a = Account{}
		if err := a.scan(tx.QueryRowContext(ctx, `SELECT `+accountFields+` FROM accounts WHERE owner = $1 AND id = $2 FOR UPDATE`, owner, id)); err != nil {
			return err
		}
		if etag != "*" && a.ETag != etag {
			return ErrVersion
		}
		if c.Name != nil {
			a.Name = *c.Name
		}
		if c.Closed != nil {
			a.Closed = *c.Closed
		}
		if a.Closed && a.Balance > 0 {
			return ErrMoney
		}
		return a.scan(tx.QueryRowContext(ctx, `UPDATE accounts SET name = $2, closed = $3, version = version + 1 WHERE id = $1 RETURNING `+accountFields,
			id, a.Name, a.Closed))
	})
	return a, err
}

// withdraw takes money out of an account of an owner.
func withdraw(ctx context.Context, tx *sql.Tx, owner string, id, amount int64) error {
	res, err := tx.ExecContext(ctx, `UPDATE accounts SET balance = balance - $3, version = version + 1
		WHERE id = $1 AND owner = $2 AND NOT closed AND balance >= $3`, id, owner, amount)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	var closed bool
	if err := tx.QueryRowContext(ctx, `SELECT closed FROM accounts WHERE id = $1 AND owner = $2`, id, owner).Scan(&closed); err != nil {
		return err
	}
	if closed {
		return ErrClosed
	}
	return ErrFunds
}

// deposit puts money into anybody's account.
func deposit(ctx context.Context, tx *sql.Tx, id, amount int64) error {
	var closed bool
	if err := tx.QueryRowContext(ctx, `SELECT closed FROM accounts WHERE id = $1 FOR UPDATE`, id).Scan(&closed); err != nil {
		return err
	}
	if closed {
		return ErrClosed
	}
	_, err := tx.ExecContext(ctx, `UPDATE accounts SET balance = balance + $2, version = version + 1 WHERE id = $1`, id, amount)
	return err
}
