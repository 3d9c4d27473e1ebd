// Package store keeps the shop's data in Postgres.
package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/shop/internal/bugs"
)

// What the store refuses. Any other error is ErrDown.
var (
	ErrNotFound  = errors.New("not found")
	ErrStock     = errors.New("out of stock")
	ErrPaid      = errors.New("paid already")
	ErrCancelled = errors.New("cancelled already")
	ErrKeyReuse  = errors.New("the idempotency key belongs to another request")
	ErrTooMany   = errors.New("too many items are called so: say more")
	ErrDown      = errors.New("the database does not answer")
)

// Store is a connection pool to Postgres.
type Store struct {
	bugs bugs.Set
	pool *pgxpool.Pool
}

// New returns a store at a URL. It does not connect yet.
func New(ctx context.Context, url string, on bugs.Set) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.MinConns = 2
	cfg.MaxConns = 64
	cfg.MaxConnIdleTime = 30 * time.Second
	cfg.HealthCheckPeriod = time.Second
	// A broken connection is found out by using it, see twice: a ping costs a round trip.
	cfg.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	cfg.ConnConfig.ConnectTimeout = 500 * time.Millisecond
	// No prepared statements: they would be gone after a failover behind the same address.
	cfg.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &Store{on, pool}, nil
}

// Close closes the connections. It does not wait long for one that hangs: the process is
// about to end.
func (s *Store) Close() {
	closed := make(chan struct{})
	go func() {
		s.pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(time.Second):
	}
}

// Item is something that the shop sells.
type Item struct {
	SKU   string `json:"sku"`
	Name  string `json:"name"`
	Kind  string `json:"kind"` // simple, digital, bundle
	Price int    `json:"price"`
	Stock int    `json:"stock"`
}

// Item returns an item, or ErrNotFound.
func (s *Store) Item(ctx context.Context, sku string) (*Item, error) {
	items, err := query[Item](ctx, s, `SELECT sku, name, kind, price, stock FROM items WHERE sku = $1`, sku)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, ErrNotFound
	}
	return &items[0], nil
}

// Items returns all items.
func (s *Store) Items(ctx context.Context) ([]Item, error) {
	return query[Item](ctx, s, `SELECT sku, name, kind, price, stock FROM items ORDER BY sku`)
}

// maxHits is how many items a search may find.
const maxHits = 4

// Search returns the items whose names have a word in them, or ErrTooMany. Words are
// compared here: to LIKE some of their characters would mean something.
func (s *Store) Search(ctx context.Context, word string) ([]Item, error) {
	word = strings.ToLower(word)
	hits := []Item{}
	full := false
	err := s.twice(ctx, func() error {
		rows, err := s.pool.Query(ctx, `SELECT sku, name, kind, price, stock FROM items ORDER BY sku`)
		if err != nil {
			return err
		}
		if !s.bugs.Enabled(bugs.ConnLeak) { // they close themselves behind the last one
			defer rows.Close()
		}
		hits = hits[:0]
		for rows.Next() {
			item, err := pgx.RowToStructByPos[Item](rows)
			if err != nil {
				return err
			}
			if !strings.Contains(strings.ToLower(item.Name), word) {
				continue
			}
			if full = len(hits) == maxHits; full {
				return nil
			}
			hits = append(hits, item)
		}
		return rows.Err()
	})
	if full {
		return nil, ErrTooMany
	}
	return hits, explain(err)
}

// Related returns the items that are bought together with one, the most frequent first.
func (s *Store) Related(ctx context.Context, sku string) ([]string, error) {
	type related struct{ SKU string }
	found, err := query[related](ctx, s, `SELECT other.sku FROM order_lines mine JOIN order_lines other USING (order_id)
		WHERE mine.sku = $1 AND other.sku <> $1 GROUP BY other.sku ORDER BY count(*) DESC, other.sku LIMIT 3`, sku)
	skus := make([]string, len(found))
	for i, r := range found {
		skus[i] = r.SKU
	}
	return skus, err
}

// Part is one of the items that make a bundle.
type Part struct {
	SKU string `json:"sku"`
	Qty int    `json:"qty"`
}

// Parts returns what a bundle consists of.
func (s *Store) Parts(ctx context.Context, bundle string) ([]Part, error) {
	return query[Part](ctx, s, `SELECT sku, qty FROM parts WHERE bundle = $1 ORDER BY sku`, bundle)
}

// Level is how much of an item there is, and how much was ordered.
type Level struct {
	SKU     string `json:"sku"`
	Stock   int    `json:"stock"`
	Ordered int    `json:"ordered"`
}

// Levels returns the level of every item.
func (s *Store) Levels(ctx context.Context) ([]Level, error) {
	return query[Level](ctx, s, `SELECT i.sku, i.stock, coalesce(sum(l.qty), 0)::int AS ordered
		FROM items i LEFT JOIN order_lines l USING (sku) GROUP BY i.sku ORDER BY i.sku`)
}

// MaxPercent returns the most that a campaign's coupons give, or ErrNotFound.
func (s *Store) MaxPercent(ctx context.Context, campaign string) (int, error) {
	got, err := query[struct{ MaxPercent int }](ctx, s, `SELECT max_percent FROM campaigns WHERE name = $1`, campaign)
	if err != nil {
		return 0, err
	}
	if len(got) == 0 {
		return 0, ErrNotFound
	}
	return got[0].MaxPercent, nil
}

// Line is so much of an item, in a cart or an order.
type Line struct {
	SKU string `json:"sku"`
	Qty int    `json:"qty"`
}

// Cart returns what a user has put aside.
func (s *Store) Cart(ctx context.Context, owner string) ([]Line, error) {
	return query[Line](ctx, s, `SELECT sku, qty FROM cart WHERE owner = $1 ORDER BY sku`, owner)
}

// SetCart puts so much of an item into a cart; none takes it out.
func (s *Store) SetCart(ctx context.Context, owner string, l Line) error {
	return s.in(ctx, func(tx pgx.Tx) error {
		if l.Qty == 0 {
			_, err := tx.Exec(ctx, `DELETE FROM cart WHERE owner = $1 AND sku = $2`, owner, l.SKU)
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO cart (owner, sku, qty) VALUES ($1, $2, $3)
			ON CONFLICT (owner, sku) DO UPDATE SET qty = excluded.qty`, owner, l.SKU, l.Qty)
		return err
	})
}

// query returns the rows of a statement that only reads, and so may run twice.
func query[T any](ctx context.Context, s *Store, sql string, args ...any) ([]T, error) {
	var out []T
	err := s.twice(ctx, func() error {
		rows, err := s.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		out, err = pgx.CollectRows(rows, pgx.RowToStructByPos[T])
		return err
	})
	if out == nil {
		out = []T{}
	}
	return out, explain(err)
}

// in runs a transaction. What was begun and not committed is undone.
func (s *Store) in(ctx context.Context, do func(pgx.Tx) error) error {
	var tx pgx.Tx
	err := s.twice(ctx, func() (err error) {
		tx, err = s.pool.Begin(ctx)
		return err
	})
	if err != nil {
		return explain(err)
	}
	defer tx.Rollback(ctx) // says that it is too late after a commit
	if err := do(tx); err != nil {
		return explain(err)
	}
	return explain(tx.Commit(ctx))
}

// twice tries again, on a new connection, what failed because a connection broke while it
// lay in the pool. Where one did, the others are no better.
func (s *Store) twice(ctx context.Context, do func() error) error {
	err := do()
	var said *pgconn.PgError
	if err == nil || ctx.Err() != nil || errors.As(err, &said) {
		return err
	}
	s.pool.Reset()
	return do()
}

// explain says in the words of this package what went wrong.
func explain(err error) error {
	var said *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrStock), errors.Is(err, ErrPaid), errors.Is(err, ErrCancelled),
		errors.Is(err, ErrKeyReuse), errors.Is(err, ErrDown):
		return err
	case errors.As(err, &said) && strings.HasPrefix(said.Code, "23503"): // foreign key
		return ErrNotFound
	}
	return fmt.Errorf("%w: %w", ErrDown, err)
}
