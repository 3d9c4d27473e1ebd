package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"time"
)

const sessionLife = 12 * time.Hour

// Open opens a session under a token that only its owner knows.
func (s *Store) Open(ctx context.Context, token, owner string) error {
	return s.in(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO sessions (token, owner, until) VALUES ($1, $2, $3)`,
			hash(token), owner, time.Now().Add(sessionLife))
		return err
	})
}

// Owner returns whose session it is, or ErrSession.
func (s *Store) Owner(ctx context.Context, token string) (owner string, err error) {
	err = s.read(ctx, `SELECT owner FROM sessions WHERE token = $1 AND until > now()`, []any{hash(token)},
		func() { owner = "" },
		func(rows *sql.Rows) error { return rows.Scan(&owner) })
	if err == nil && owner == "" {
		err = ErrSession
	}
	return owner, err
}

func hash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
