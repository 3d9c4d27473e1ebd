package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Order is what a user has bought.
type Order struct {
	ID     int64  `json:"id"`
	Total  int64  `json:"total"` // in cents
	Status string `json:"status"`
	Lines  []Line `json:"lines"`
}

// Once identifies a request that must have its effect once, however often it comes.
type Once struct {
	Key     string // of idempotency; "" where the request has none
	Request string // the request that the key is for
}

// Place reserves stock and makes an order, with so many percent off.
func (s *Store) Place(ctx context.Context, once Once, owner string, lines []Line, percent int) (Order, error) {
	lines = slices.Clone(lines)
	// Rows are locked in one order, so that two orders cannot wait for each other.
	slices.SortFunc(lines, func(a, b Line) int { return cmp.Compare(a.SKU, b.SKU) })
	return once.in(ctx, s, owner, func(tx pgx.Tx) (Order, error) {
		o := Order{Status: "open", Lines: lines}
		prices := make([]int, len(lines))
		for i, l := range lines {
			var err error
			if prices[i], err = reserve(ctx, tx, l); err != nil {
				return o, err
			}
			o.Total += int64(prices[i]) * int64(l.Qty)
		}
		o.Total -= o.Total * int64(percent) / 100
		err := tx.QueryRow(ctx, `INSERT INTO orders (owner, total, status) VALUES ($1, $2, 'open') RETURNING id`,
			owner, o.Total).Scan(&o.ID)
		if err != nil {
			return o, err
		}
		for i, l := range lines {
			if _, err := tx.Exec(ctx, `INSERT INTO order_lines (order_id, sku, qty, price) VALUES ($1, $2, $3, $4)`,
				o.ID, l.SKU, l.Qty, prices[i]); err != nil {
				return o, err
			}
		}
		return o, nil
	})
}

// reserve takes stock away and returns the price of one.
func reserve(ctx context.Context, tx pgx.Tx, l Line) (price int, err error) {
	err = tx.QueryRow(ctx, `UPDATE items SET stock = stock - $2 WHERE sku = $1 AND stock >= $2 RETURNING price`,
		l.SKU, l.Qty).Scan(&price)
	if !errors.Is(err, pgx.ErrNoRows) {
		return price, err
	}
	var known bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM items WHERE sku = $1)`, l.SKU).Scan(&known); err != nil {
		return 0, err
	}
	if known {
		return 0, ErrStock
	}
	return 0, ErrNotFound
}

// Pay pays an order.
func (s *Store) Pay(ctx context.Context, once Once, owner string, id int64) (Order, error) {
	return once.in(ctx, s, owner, func(tx pgx.Tx) (Order, error) {
		o, err := order(ctx, tx, owner, id, "FOR UPDATE")
		if err != nil {
			return o, err
		}
		switch o.Status {
		case "paid":
			return o, ErrPaid
		case "cancelled":
			return o, ErrCancelled
		}
		o.Status = "paid"
		if _, err := tx.Exec(ctx, `INSERT INTO payments (order_id, amount) VALUES ($1, $2)`, id, o.Total); err != nil {
			return o, err
		}
		_, err = tx.Exec(ctx, `UPDATE orders SET status = 'paid' WHERE id = $1`, id)
		return o, err
	})
}

// Cancel gives back what an order that is not paid has reserved.
func (s *Store) Cancel(ctx context.Context, owner string, id int64) (o Order, err error) {
	err = s.in(ctx, func(tx pgx.Tx) error {
		if o, err = order(ctx, tx, owner, id, "FOR UPDATE"); err != nil {
			return err
		}
		switch o.Status {
		case "paid":
			return ErrPaid
		case "cancelled":
			return ErrCancelled
		}
		o.Status = "cancelled"
		for _, l := range o.Lines { // they are sorted, as those of Place
			if _, err := tx.Exec(ctx, `UPDATE items SET stock = stock + $2 WHERE sku = $1`, l.SKU, l.Qty); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `UPDATE orders SET status = 'cancelled' WHERE id = $1`, id)
		return err
	})
	return o, err
}

// Head is an order without its lines.
type Head struct {
	ID     int64  `json:"id"`
	Total  int64  `json:"total"` // in cents
	Status string `json:"status"`
}

// Orders returns the latest orders of a user.
func (s *Store) Orders(ctx context.Context, owner string) ([]Head, error) {
	return query[Head](ctx, s, `SELECT id, total, status FROM orders WHERE owner = $1 ORDER BY id DESC LIMIT 10`, owner)
}

// Order returns an order of a user, or ErrNotFound.
func (s *Store) Order(ctx context.Context, owner string, id int64) (o Order, err error) {
	err = s.in(ctx, func(tx pgx.Tx) error {
		o, err = order(ctx, tx, owner, id, "")
		return err
	})
	return o, err
}

func order(ctx context.Context, tx pgx.Tx, owner string, id int64, lock string) (Order, error) {
	o := Order{ID: id}
	err := tx.QueryRow(ctx, `SELECT total, status FROM orders WHERE id = $1 AND owner = $2 `+lock, id, owner).Scan(&o.Total, &o.Status)
	if errors.Is(err, pgx.ErrNoRows) {
		return o, ErrNotFound
	}
	if err != nil {
		return o, err
	}
	rows, err := tx.Query(ctx, `SELECT sku, qty FROM order_lines WHERE order_id = $1 ORDER BY sku`, id)
	if err != nil {
		return o, err
	}
	o.Lines, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Line])
	return o, err
}

// in does something in one transaction with the memory of its answer: who comes with the
// same key while it is under way waits for the answer, who comes later is given it.
func (once Once) in(ctx context.Context, s *Store, owner string, do func(pgx.Tx) (Order, error)) (o Order, err error) {
	err = s.in(ctx, func(tx pgx.Tx) error {
		if once.Key == "" {
			o, err = do(tx)
			return err
		}
		mine, err := tx.Exec(ctx, `INSERT INTO answers (owner, key, request) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
			owner, once.Key, once.Request)
		if err != nil {
			return err
		}
		if mine.RowsAffected() == 0 {
			o, err = once.recall(ctx, tx, owner)
			return err
		}
		if o, err = do(tx); err != nil {
			return err
		}
		answer, err := json.Marshal(o)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE answers SET answer = $3 WHERE owner = $1 AND key = $2`, owner, once.Key, string(answer))
		return err
	})
	return o, err
}

// recall returns what was answered to the key before.
func (once Once) recall(ctx context.Context, tx pgx.Tx, owner string) (o Order, err error) {
	var request, answer string
	err = tx.QueryRow(ctx, `SELECT request, answer FROM answers WHERE owner = $1 AND key = $2`, owner, once.Key).Scan(&request, &answer)
	if err != nil {
		return o, err
	}
	if request != once.Request {
		return o, ErrKeyReuse
	}
	return o, json.Unmarshal([]byte(answer), &o)
}
