package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"
)

const answerLife = 24 * time.Hour

// Once says whose request it is, with which key it comes, and what it asks for. Without a
// key it is done each time.
type Once struct{ Owner, Key, Request string }

// inOnce does something in one transaction with the memory of its answer, so that who
// comes again with the same key gets that.
func inOnce[T any](ctx context.Context, s *Store, once Once, do func(context.Context, *sql.Tx) (T, error)) (out T, err error) {
	err = s.in(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
		if once.Key == "" {
			out, err = do(ctx, tx)
			return err
		}
		var request, answer string
		err = tx.QueryRowContext(ctx, `SELECT request, answer FROM answers WHERE owner = $1 AND key = $2`, once.Owner, once.Key).Scan(&request, &answer)
		switch {
		case err == nil && request != once.Request:
			return ErrKeyReuse
		case err == nil:
			var was T
			err = json.Unmarshal([]byte(answer), &was)
			out = was
			return err
		case !errors.Is(err, sql.ErrNoRows):
			return err
		}
		if out, err = do(ctx, tx); err != nil {
			return err
		}
		b, err := json.Marshal(out)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO answers (owner, key, request, answer, until) VALUES ($1, $2, $3, $4, $5)`,
			once.Owner, once.Key, once.Request, string(b), time.Now().Add(answerLife))
		return err
	})
	return out, err
}

// Transfer is money that went from one account to another.
type Transfer struct {
	ID     int64  `json:"id"`
	Source int64  `json:"source"`
	Target int64  `json:"target"`
	Amount int64  `json:"amount"`
	Memo   string `json:"memo"`
}

// Transfer moves money out of an account of the owner into any other.
func (s *Store) Transfer(ctx context.Context, once Once, t Transfer) (Transfer, error) {
	return inOnce(ctx, s, once, func(ctx context.Context, tx *sql.Tx) (Transfer, error) {
		t := t
		out := func() error { return withdraw(ctx, tx, once.Owner, t.Source, t.Amount) }
		in := func() error { return deposit(ctx, tx, t.Target, t.Amount) }
		steps := []func() error{out, in}
		if t.Target < t.Source { // rows are locked in one order: two transfers do not wait for each other
			steps = []func() error{in, out}
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return t, err
			}
		}
		err := tx.QueryRowContext(ctx, `INSERT INTO transfers (source, target, amount, memo) VALUES ($1, $2, $3, $4) RETURNING id`,
			t.Source, t.Target, t.Amount, t.Memo).Scan(&t.ID)
		return t, err
	})
}

const transferFields = `t.id, t.source, t.target, t.amount, t.memo`

// Transfers returns up to limit transfers from or to an account of an owner, with an id
// above after.
func (s *Store) Transfers(ctx context.Context, owner string, account, after int64, limit int) ([]Transfer, error) {
	if _, err := s.Account(ctx, owner, account); err != nil {
		return nil, err
	}
	return s.transfers(ctx, `SELECT `+transferFields+` FROM transfers t WHERE (t.source = $1 OR t.target = $1) AND t.id > $2 ORDER BY t.id LIMIT $3`,
		account, after, limit)
}

// TransferByID returns a transfer that its owner made or got, or ErrNotFound.
func (s *Store) TransferByID(ctx context.Context, owner string, id int64) (Transfer, error) {
	found, err := s.transfers(ctx, `SELECT `+transferFields+` FROM transfers t
		WHERE t.id = $2 AND EXISTS (SELECT FROM accounts a WHERE a.owner = $1 AND a.id IN (t.source, t.target))`, owner, id)
	if err != nil {
		return Transfer{}, err
	}
	if len(found) == 0 {
		return Transfer{}, ErrNotFound
	}
	return found[0], nil
}

func (s *Store) transfers(ctx context.Context, text string, args ...any) (out []Transfer, err error) {
	err = s.read(ctx, text, args, func() { out = []Transfer{} }, func(rows *sql.Rows) error {
		var t Transfer
		err := rows.Scan(&t.ID, &t.Source, &t.Target, &t.Amount, &t.Memo)
		out = append(out, t)
		return err
	})
	return out, err
}
