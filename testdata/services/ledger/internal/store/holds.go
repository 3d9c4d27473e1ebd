package store

import (
	"context"
	"database/sql"
	"time"
)

const batch = 50 // rows of a kind that are expired at once

// Hold is money that is set aside until its time is up.
type Hold struct {
	ID      int64     `json:"id"`
	Account int64     `json:"account"`
	Amount  int64     `json:"amount"`
	Until   time.Time `json:"until"`
}

// Hold sets money of an owner aside for a while.
func (s *Store) Hold(ctx context.Context, once Once, account, amount int64, life time.Duration) (Hold, error) {
	return inOnce(ctx, s, once, func(ctx context.Context, tx *sql.Tx) (Hold, error) {
		h := Hold{Account: account, Amount: amount}
		if err := withdraw(ctx, tx, once.Owner, account, amount); err != nil {
			return h, err
		}
		err := tx.QueryRowContext(ctx, `INSERT INTO holds (account, amount, until) VALUES ($1, $2, now() + $3 * interval '1 ms') RETURNING id, until`,
			account, amount, life.Milliseconds()).Scan(&h.ID, &h.Until)
		return h, err
	})
}

// Release gives the money of a hold back, unless its time was up.
func (s *Store) Release(ctx context.Context, owner string, id int64) error {
	return s.in(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var account, amount int64
		err := tx.QueryRowContext(ctx, `DELETE FROM holds h USING accounts a
			WHERE h.id = $1 AND a.id = h.account AND a.owner = $2 RETURNING h.account, h.amount`, id, owner).Scan(&account, &amount)
		if err != nil {
			return err
		}
		return refund(ctx, tx, account, amount)
	})
}

// refund puts back what a hold took, even into an account that was closed meanwhile.
func refund(ctx context.Context, tx *sql.Tx, account, amount int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE accounts SET balance = balance + $2, version = version + 1 WHERE id = $1`, account, amount)
	return err
}

// Expire gives the money of holds back whose time is up, and forgets old answers and
// sessions, a few of each.
func (s *Store) Expire(ctx context.Context) error {
	// Rows that somebody else works on are left for the next time: no need to be serializable.
	return s.inLevel(ctx, sql.LevelReadCommitted, func(ctx context.Context, tx *sql.Tx) error {
		due, err := expired(ctx, tx)
		if err != nil {
			return err
		}
		for _, h := range due {
			if err := refund(ctx, tx, h.Account, h.Amount); err != nil {
				return err
			}
		}
		for _, text := range []string{
			`DELETE FROM answers WHERE (owner, key) IN (SELECT owner, key FROM answers WHERE until < now() LIMIT $1 FOR UPDATE SKIP LOCKED)`,
			`DELETE FROM sessions WHERE token IN (SELECT token FROM sessions WHERE until < now() LIMIT $1 FOR UPDATE SKIP LOCKED)`,
		} {
			if _, err := tx.ExecContext(ctx, text, batch); err != nil {
				return err
			}
		}
		return nil
	})
}

// expired deletes holds whose time is up, and returns how much of which account they held.
func expired(ctx context.Context, tx *sql.Tx) (due []Hold, err error) {
	rows, err := tx.QueryContext(ctx, `WITH due AS (DELETE FROM holds WHERE id IN (
			SELECT id FROM holds WHERE until < now() ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING account, amount)
		SELECT account, sum(amount)::bigint FROM due GROUP BY account ORDER BY account`, batch)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var h Hold
		if err := rows.Scan(&h.Account, &h.Amount); err != nil {
			return nil, err
		}
		due = append(due, h)
	}
	return due, rows.Err()
}
