package providers

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/targets/spec"
)

// mysqlShop is a schema with most of what a reset can stumble over.
const mysqlShop = `
CREATE TABLE customers (id bigint AUTO_INCREMENT PRIMARY KEY, name varchar(80) NOT NULL);
CREATE TABLE ` + "`odd ``name`" + ` (id int PRIMARY KEY AUTO_INCREMENT, ` + "`select`" + ` text);
CREATE TABLE items (id int PRIMARY KEY, stock int NOT NULL, price int, gross int GENERATED ALWAYS AS (price * 2) STORED, doc json);
CREATE TABLE orders (id bigint AUTO_INCREMENT PRIMARY KEY, customer bigint NOT NULL, parent bigint, FOREIGN KEY (customer) REFERENCES customers (id), FOREIGN KEY (parent) REFERENCES orders (id));
CREATE TABLE order_lines (item int, ` + "`order`" + ` bigint, qty int, PRIMARY KEY (item, ` + "`order`" + `), FOREIGN KEY (item) REFERENCES items (id) ON DELETE CASCADE);
CREATE TABLE changes (id int AUTO_INCREMENT PRIMARY KEY, n int);
CREATE TABLE zero (id int AUTO_INCREMENT PRIMARY KEY, n int);
CREATE VIEW totals AS SELECT count(*) AS n FROM orders;
CREATE TRIGGER note AFTER INSERT ON items FOR EACH ROW INSERT INTO changes (n) VALUES (new.id);
CREATE TRIGGER noted AFTER DELETE ON items FOR EACH ROW INSERT INTO changes (n) VALUES (-old.id);
INSERT INTO customers (name) VALUES ('a'), ('b'), ('c');
INSERT INTO ` + "`odd ``name`" + ` (` + "`select`" + `) VALUES ('it''s'), ('\\');
INSERT INTO items (id, stock, price, doc) VALUES (1, 10, 5, '{"a": [1, null]}'), (2, 10, 6, NULL);
INSERT INTO orders (customer) VALUES (1), (2);
UPDATE orders SET parent = 2 WHERE id = 1;
INSERT INTO order_lines VALUES (1, 1, 2);
INSERT INTO zero (n) VALUES (1);
UPDATE zero SET id = 0;
`

// mysqlState is all that a reset must bring back.
const mysqlState = `SELECT concat_ws('|',
	(SELECT group_concat(concat_ws(',', id, name) ORDER BY id) FROM customers), (SELECT group_concat(concat_ws(',', id, ` + "`select`" + `) ORDER BY id) FROM ` + "`odd ``name`" + `),
	(SELECT group_concat(concat_ws(',', id, stock, price, gross, doc) ORDER BY id) FROM items), (SELECT group_concat(concat_ws(',', id, customer, coalesce(parent, '-')) ORDER BY id) FROM orders),
	(SELECT group_concat(concat_ws(',', item, ` + "`order`" + `, qty)) FROM order_lines), (SELECT group_concat(concat_ws(',', id, n) ORDER BY id) FROM changes),
	(SELECT group_concat(concat_ws(',', id, n)) FROM zero))`

const mysqlMess = `
DELETE FROM order_lines; UPDATE orders SET parent = NULL; INSERT INTO customers (name) VALUES ('new'); INSERT INTO orders (customer) VALUES (4);
UPDATE items SET stock = 0, price = 1 WHERE id = 1; DELETE FROM items WHERE id = 2; INSERT INTO items (id, stock) VALUES (3, 1);
DELETE FROM ` + "`odd ``name`" + ` WHERE id = 1; INSERT INTO ` + "`odd ``name`" + ` () VALUES (); DELETE FROM zero;
CREATE TABLE IF NOT EXISTS late (x int); INSERT INTO late VALUES (1);
`

func mysqlText(t testing.TB, db *sql.DB, query string) (out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := db.QueryRowContext(ctx, query).Scan(&out); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return out
}

func mysqlRun(t testing.TB, db interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, batch string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := db.ExecContext(ctx, batch); err != nil {
		t.Fatalf("%s: %v", batch, err)
	}
}

func TestMySQLResetBringsBackTheFirst(t *testing.T) {
	t.Parallel()
	d := startDocker(t, spec.Dependency{Engine: "mysql", Init: "schema.sql", Database: "shop", User: "shop"}, writeInit(t, mysqlShop))
	db, err := mysqlOpen(d.Addr(), "shop", "shop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.ExecContext(t.Context(), "CREATE DATABASE other"); err == nil {
		t.Error("the user is no ordinary one")
	}
	mysqlRun(t, db, "CREATE TABLE migrations (v int); INSERT INTO migrations VALUES (3)") // as a service does when it starts
	root, err := mysqlOpen(d.Addr(), mysqlRoot, "shop")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	wide := "n int"
	for i := range 120 {
		wide += fmt.Sprintf(", column_%d int", i)
	}
	mysqlRun(t, root, "SET GLOBAL group_concat_max_len = 1024; CREATE TABLE wide ("+wide+"); INSERT INTO wide (column_119) VALUES (7)") // MySQL's length
	want := mysqlText(t, db, mysqlState)
	reset(t, d)
	if got := mysqlText(t, db, mysqlState); got != want {
		t.Errorf("the first reset has changed something:\n got %s\nwant %s", got, want)
	}
	for round := range 3 {
		mysqlRun(t, db, mysqlMess+"UPDATE wide SET column_119 = 8;")
		if got := mysqlText(t, db, mysqlState); got == want {
			t.Fatal("the mess has changed nothing")
		}
		for range 2 { // the second one with nothing to do
			reset(t, d)
			if got := mysqlText(t, db, mysqlState); got != want {
				t.Errorf("round %d:\n got %s\nwant %s", round, got, want)
			}
		}
		if got := mysqlText(t, db, "SELECT count(*) FROM late"); got != "0" {
			t.Errorf("a table that was made later holds %s rows, want none", got)
		}
		if got := mysqlText(t, db, "SELECT column_119 FROM wide"); got != "7" {
			t.Errorf("the last of many columns: %s", got)
		}
		if got := mysqlText(t, db, "SELECT v FROM migrations"); got != "3" {
			t.Errorf("migrations: %s", got)
		}
	}
	// Nothing that was restored is broken: keys hold, numbers go on.
	mysqlRun(t, db, "INSERT INTO customers (name) VALUES ('next')")
	if got := mysqlText(t, db, "SELECT max(id) FROM customers"); got != "4" {
		t.Errorf("the next number is %s, want 4", got)
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO orders (customer) VALUES (4711)"); err == nil {
		t.Error("a foreign key is no longer heeded")
	}
	t.Run("a transaction that was left open", func(t *testing.T) {
		for _, left := range []string{
			"BEGIN; INSERT INTO customers (name) VALUES ('ghost')",
			"BEGIN; SELECT * FROM items FOR UPDATE",
		} {
			conn, err := db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			mysqlRun(t, conn, left)
			reset(t, d)
			if _, err := conn.ExecContext(t.Context(), "COMMIT"); err == nil {
				t.Errorf("%s: it could commit after the reset", left)
			}
			if got := mysqlText(t, db, mysqlState); got != want {
				t.Errorf("%s:\n got %s\nwant %s", left, got, want)
			}
		}
	})
	t.Run("a table that is gone", func(t *testing.T) {
		mysqlRun(t, db, "DROP TABLE order_lines")
		if err := d.Reset(t.Context()); err == nil {
			t.Error("the reset says nothing")
		}
	})
}
