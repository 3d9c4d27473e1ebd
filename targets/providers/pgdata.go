package providers

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shakedown-go/shakedown/harness/journal"
)

// pgData brings the rows of a database back to what they were at its first reset.
//
// The first reset copies every table into the schema shakedown_snapshot, beside a
// function that puts the rows back, so that a reset is one round trip. By then the
// service has migrated and seeded: that is part of the state.
//
//	shakedown_snapshot.t0, t1, ...   the rows of the n-th table
//	shakedown_snapshot.tables        which table that is, and the transaction that last restored it
//	shakedown_snapshot.restore()     puts back what has changed
//
// Rows that a restore has written carry its transaction's number, so a table needs
// restoring only where a row carries another, or their number differs.
// docs/decisions/0001-reset-between-cases.md has the alternatives and the figures.
//
// Sequences go back too. Tables that were not there at the first reset are emptied in a
// database of our own, and left alone elsewhere. Left alone everywhere: what belongs to
// an extension, materialized views, foreign tables, large objects, and definitions; a
// table that is gone or has lost a column is an error.
type pgData struct {
	connect func(context.Context) (*pgx.Conn, error)
	own     bool // the whole database is ours
	// note notes on disk that there is a snapshot with a tag, for who removes it in our place, and
	// returns what strikes that out; nil where the server ends with us.
	note func(tag string) (strike func() error, err error)

	mu      sync.Mutex // guards the rest
	tag     string     // of our snapshot, "" before there is a note
	strike  func() error
	conn    *pgx.Conn // nil before the first reset and where it was lost
	restore string    // "" before the first reset
}

const (
	snapshotSchema = "shakedown_snapshot"
	maxKeptPG      = 256 << 20 // bytes of all tables

	patience = "300ms" // for whoever holds a lock in a transaction; then that is ended
	lastWait = "2s"    // until what was ended has let go
)

// theirs selects the relations c in the namespaces n that hold the service's state.
const theirs = `c.relpersistence <> 't'
	AND n.nspname NOT IN ('pg_catalog', 'information_schema', '` + snapshotSchema + `') AND n.nspname !~ '^pg_'
	AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
		WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')`

// table is one that is brought back. Of a partitioned table that is each partition.
type table struct {
	name    string // quoted, with its schema
	columns string // quoted, those that can be written; "" for none
	kept    string // quoted, where its rows are kept
	rows    int64  // that are kept
}

// sequence is one that is brought back.
type sequence struct {
	name   string // quoted, with its schema
	last   int64
	called bool
}

// reset keeps the rows when called first, and from then on brings them back.
func (p *pgData) reset(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, resetTime)
	defer cancel()
	err := p.onConn(ctx, p.takeOrRestore)
	var pe *pgconn.PgError
	switch {
	case err == nil:
		return nil
	case p.restore != "" && errors.As(err, &pe) && (pe.Code == "42P01" || pe.Code == "42703" || pe.Code == "3F000"):
		return fmt.Errorf("reset postgres: a table or column of the first reset is gone, which only a fresh start brings back: %w", err)
	}
	return fmt.Errorf("reset postgres: %w", err)
}

// onConn does something on the connection that is kept. Where that turns out to be lost,
// as after a restart of the server, it does it again on a new one.
func (p *pgData) onConn(ctx context.Context, do func(context.Context, *pgx.Conn) error) error {
	if p.conn != nil {
		err := do(ctx, p.conn)
		if !p.conn.IsClosed() || ctx.Err() != nil {
			return err
		}
		p.conn = nil
	}
	conn, err := p.connect(ctx)
	if err != nil {
		return err
	}
	p.conn = conn
	return do(ctx, conn)
}

func (p *pgData) takeOrRestore(ctx context.Context, conn *pgx.Conn) error {
	if p.restore != "" {
		return p.bringBack(ctx, conn)
	}
	restore, err := p.take(ctx, conn)
	if err == nil {
		p.restore = restore
	}
	return err
}

// bringBack restores. Whoever keeps it from locking the tables for too long has left a
// transaction open: those are ended, and it is tried once more.
func (p *pgData) bringBack(ctx context.Context, conn *pgx.Conn) error {
	err := run(ctx, conn, setLocal(patience)+p.restore)
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "55P03" && pe.Code != "40P01" && pe.Code != "40001" {
		return err
	}
	if err := endTransactions(ctx, conn); err != nil {
		return err
	}
	return run(ctx, conn, setLocal(lastWait)+p.restore)
}

// setLocal holds for one batch: foreign keys and triggers are for the service's own
// writes, and were heeded when the rows were written first.
func setLocal(lockTimeout string) string {
	return "SET LOCAL lock_timeout = '" + lockTimeout + "'; SET LOCAL session_replication_role = replica;\n"
}

// run runs a batch of statements in one round trip and one transaction.
func run(ctx context.Context, conn *pgx.Conn, batch string) error {
	_, err := conn.PgConn().Exec(ctx, batch).ReadAll()
	return err
}

func endTransactions(ctx context.Context, conn *pgx.Conn) error {
	return run(ctx, conn, `SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
		WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid()
		AND backend_type = 'client backend' AND xact_start IS NOT NULL`)
}

// take keeps all rows, and returns the batch that restores them.
func (p *pgData) take(ctx context.Context, conn *pgx.Conn) (restore string, err error) {
	if p.note != nil && p.strike == nil {
		p.tag = rand.Text()
		strike, err := p.note(p.tag)
		if err != nil {
			return "", err
		}
		p.strike = strike
	}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return "", err
	}
	defer tx.Rollback(ctx) // nothing after a commit
	// One that is there was left by a harness that died.
	if _, err := tx.Exec(ctx, "DROP SCHEMA IF EXISTS "+snapshotSchema+" CASCADE"); err != nil {
		return "", err
	}
	tables, err := tablesOf(ctx, tx)
	if err != nil {
		return "", err
	}
	sequences, err := sequencesOf(ctx, tx)
	if err != nil {
		return "", err
	}
	if err := keep(ctx, tx, tables); err != nil {
		return "", err
	}
	if _, err := tx.Exec(ctx, "COMMENT ON SCHEMA "+snapshotSchema+" IS "+literal(p.tag)); err != nil {
		return "", err
	}
	if _, err := tx.Exec(ctx, restoreFunction(tables, sequences, p.own)); err != nil {
		return "", err
	}
	return restoreSQL(tables), tx.Commit(ctx)
}

func tablesOf(ctx context.Context, tx pgx.Tx) ([]table, error) {
	rows, err := tx.Query(ctx, `SELECT n.nspname::text, c.relname::text, pg_catalog.pg_table_size(c.oid),
			coalesce(pg_catalog.array_agg(a.attname::text ORDER BY a.attnum)
				FILTER (WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''), '{}')
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
		WHERE c.relkind = 'r' AND `+theirs+`
		GROUP BY c.oid, n.nspname, c.relname ORDER BY 1, 2`)
	if err != nil {
		return nil, err
	}
	var out []table
	var schema, name string
	var size, total int64
	var columns []string
	_, err = pgx.ForEachRow(rows, []any{&schema, &name, &size, &columns}, func() error {
		var quoted []string
		for _, c := range columns {
			quoted = append(quoted, pgx.Identifier{c}.Sanitize())
		}
		out = append(out, table{
			name:    pgx.Identifier{schema, name}.Sanitize(),
			columns: strings.Join(quoted, ", "),
			kept:    fmt.Sprintf("%s.t%d", snapshotSchema, len(out)),
		})
		if total += size; total > maxKeptPG {
			return fmt.Errorf("the database holds more than %d MiB when the first case begins: "+
				"bringing that back between cases is not possible, start with less", maxKeptPG>>20)
		}
		return nil
	})
	return out, err
}

func sequencesOf(ctx context.Context, tx pgx.Tx) ([]sequence, error) {
	rows, err := tx.Query(ctx, `SELECT n.nspname::text, c.relname::text
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind = 'S' AND `+theirs+` ORDER BY 1, 2`)
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
		var schema, name string
		err := r.Scan(&schema, &name)
		return pgx.Identifier{schema, name}.Sanitize(), err
	})
	if err != nil {
		return nil, err
	}
	var out []sequence
	for _, name := range names {
		s := sequence{name: name}
		if err := tx.QueryRow(ctx, "SELECT last_value, is_called FROM "+name).Scan(&s.last, &s.called); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// keep makes the snapshot schema, copies the rows into it, and notes how many they are.
func keep(ctx context.Context, tx pgx.Tx, tables []table) error {
	_, err := tx.Exec(ctx, "CREATE SCHEMA "+snapshotSchema)
	if err == nil {
		_, err = tx.Exec(ctx, "CREATE TABLE "+snapshotSchema+".tables (n int PRIMARY KEY, oid regclass, restored xid)")
	}
	for i := range tables {
		if err != nil {
			return err
		}
		t := &tables[i]
		tag, failed := tx.Exec(ctx, "CREATE TABLE "+t.kept+" AS SELECT "+t.columns+" FROM ONLY "+t.name)
		if err = failed; err == nil {
			t.rows = tag.RowsAffected()
			_, err = tx.Exec(ctx, "INSERT INTO "+snapshotSchema+".tables VALUES ($1, $2::text::regclass)", i, t.name)
		}
	}
	return err
}

// restoreSQL fences the tables off from writers, those included that have not committed
// yet, and calls the function.
func restoreSQL(tables []table) string {
	return lockSQL(tables) + "SELECT " + snapshotSchema + ".restore();"
}

// lockSQL waits for every transaction that has written to a table or locked a row of it.
// Readers go on.
func lockSQL(tables []table) string {
	if len(tables) == 0 {
		return ""
	}
	var names []string
	for _, t := range tables {
		names = append(names, "ONLY "+t.name)
	}
	return "LOCK TABLE " + strings.Join(names, ", ") + " IN EXCLUSIVE MODE;\n"
}

// restoreFunction makes the function that puts back what has changed. Its statements are
// planned once per connection. They hold the service's columns, whose names may be those
// of variables: the columns win.
func restoreFunction(tables []table, sequences []sequence, own bool) string {
	var b strings.Builder
	b.WriteString("#variable_conflict use_column\nDECLARE name text;\nBEGIN\n")
	if own {
		fmt.Fprintf(&b, `FOR name IN SELECT c.oid::regclass::text
	FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind = 'r' AND NOT EXISTS (SELECT FROM %s.tables t WHERE t.oid = c.oid) AND %s
LOOP
	EXECUTE 'DELETE FROM ONLY ' || name;
END LOOP;
`, snapshotSchema, theirs)
	}
	for i, t := range tables {
		fmt.Fprintf(&b, `IF (SELECT count(*) <> %[4]d OR count(*) FILTER (WHERE xmin = (SELECT restored FROM %[2]s.tables WHERE n = %[1]d)) <> %[4]d FROM ONLY %[3]s) THEN
	DELETE FROM ONLY %[3]s;
	%[5]s;
	UPDATE %[2]s.tables SET restored = pg_catalog.pg_current_xact_id()::xid WHERE n = %[1]d;
END IF;
`, i, snapshotSchema, t.name, t.rows, insertSQL(t))
	}
	for _, s := range sequences {
		fmt.Fprintf(&b, `IF (SELECT last_value <> %[2]d OR is_called <> %[3]t FROM %[1]s) THEN
	PERFORM pg_catalog.setval(%[4]s, %[2]d, %[3]t);
END IF;
`, s.name, s.last, s.called, literal(s.name))
	}
	b.WriteString("END")
	return "CREATE FUNCTION " + snapshotSchema + ".restore() RETURNS void LANGUAGE plpgsql AS " + literal(b.String()) + ";\n"
}

// literal quotes a text for SQL, whatever standard_conforming_strings says.
func literal(s string) string {
	s = strings.ReplaceAll(s, "'", "''")
	if strings.Contains(s, `\`) {
		return " E'" + strings.ReplaceAll(s, `\`, `\\`) + "'"
	}
	return "'" + s + "'"
}

// snapshotNote says how a snapshot is removed for a harness that has died, unless another one has
// made its own since.
func snapshotNote(url, tag string) journal.Note {
	tagged := " FROM pg_catalog.pg_namespace WHERE nspname = '" + snapshotSchema + "' AND pg_catalog.obj_description(oid, 'pg_namespace') = " + literal(tag)
	return journal.Note{
		Engine: "postgres", URL: url, What: "schema " + snapshotSchema,
		Undo: [][]string{{"DO " + literal("BEGIN IF EXISTS (SELECT"+tagged+") THEN DROP SCHEMA "+snapshotSchema+" CASCADE; END IF; END")}},
		Read: [][]string{{"SELECT count(*)" + tagged}},
		Was:  []string{"0"},
	}
}

// forget removes the snapshot from the database.
func (p *pgData) forget(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.drop(ctx); err != nil || p.strike == nil {
		return err
	}
	err := p.strike()
	if err == nil {
		p.strike = nil
	}
	return err
}

// drop is forget while mu is held, but for the note.
func (p *pgData) drop(ctx context.Context) error {
	if p.restore == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resetTime)
	defer cancel()
	err := p.onConn(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return run(ctx, conn, "SET client_min_messages = error; DROP SCHEMA IF EXISTS "+snapshotSchema+" CASCADE")
	})
	if err != nil {
		return fmt.Errorf("remove the schema %s: %w", snapshotSchema, err)
	}
	p.restore = ""
	return nil
}

// close lets go of the connection.
func (p *pgData) close(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTime)
	defer cancel()
	p.conn.Close(ctx)
	p.conn = nil
}

// insertSQL puts the kept rows of a table back, identity columns included.
func insertSQL(t table) string {
	columns := ""
	if t.columns != "" {
		columns = " (" + t.columns + ")"
	}
	return "INSERT INTO " + t.name + columns + " OVERRIDING SYSTEM VALUE SELECT " + t.columns + " FROM " + t.kept
}
