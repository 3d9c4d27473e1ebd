package providers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"
)

// mysqlData brings the rows of all databases of a server back to what they were at its first
// reset, which copies every table into the database shakedown_snapshot:
//
//	shakedown_snapshot.t0, t1, ...   the rows of the n-th table
//
// A table is rewritten where its checksum or its next number is another one. Triggers cannot
// be kept from firing meanwhile; so tables that have some come first, and what their
// triggers wrote is put right after that. Tables that were not there at the first reset are
// emptied. Left alone: views, routines, MariaDB's sequences, and definitions; a table that is
// gone or has lost a column is an error.
type mysqlData struct {
	open func() (*sql.DB, error)

	mu     sync.Mutex // guards the rest
	taken  bool
	tables []*mysqlTable // those with triggers first
}

// mysqlTable is one that is brought back.
type mysqlTable struct {
	name     string // quoted, with its database
	columns  string // quoted, those that can be written
	kept     string // quoted, where its rows are kept
	triggers bool
	sum      int64
	next     sql.NullInt64 // number of the next row
}

const (
	mysqlKept = 256 << 20 // bytes of all tables
	mysqlWait = 300 * time.Millisecond
	// mysqlGap is more than the 100ms for which InnoDB tells who asks again what it told
	// before.
	mysqlGap = 110 * time.Millisecond
	// mysqlSession holds for the connection of a reset: keys were heeded when the rows were
	// written first, and a row whose number is 0 keeps that. The names of a table's columns are
	// one text, which MySQL would cut off after 1024 bytes.
	mysqlSession = "SET SESSION foreign_key_checks = 0, unique_checks = 0, sql_mode = 'NO_AUTO_VALUE_ON_ZERO', group_concat_max_len = 1048576, " +
		"lock_wait_timeout = 2, innodb_lock_wait_timeout = 2"
	mysqlOthers = "NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys', '" + snapshotSchema + "')"
	// mysqlRounds is how often tables are put right after another one's triggers.
	mysqlRounds = 4
)

// reset keeps the rows when called first, and from then on brings them back.
func (m *mysqlData) reset(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, resetTime)
	defer cancel()
	if err := m.onConn(ctx, m.takeOrRestore); err != nil {
		return fmt.Errorf("reset mysql: %w", err)
	}
	return nil
}

// onConn does something on a connection of its own, made anew: a restart in between is no
// concern then.
func (m *mysqlData) onConn(ctx context.Context, do func(context.Context, *sql.Conn) error) error {
	db, err := m.open()
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := mysqlExec(ctx, conn, mysqlSession); err != nil {
		return err
	}
	// MySQL keeps numbers for a day unless it is told not to; MariaDB does not know that.
	if err := mysqlExec(ctx, conn, "SET SESSION information_schema_stats_expiry = 0"); err != nil && !mysqlIs(err, 1193) {
		return err
	}
	return do(ctx, conn)
}

func (m *mysqlData) takeOrRestore(ctx context.Context, conn *sql.Conn) error {
	if !m.taken {
		return m.take(ctx, conn)
	}
	if err := mysqlSettle(ctx, conn); err != nil {
		return err
	}
	err := m.bringBack(ctx, conn)
	if mysqlIs(err, 1205, 1213, 3572) { // somebody holds a lock: once more, and not for long
		if err := mysqlSettle(ctx, conn); err != nil {
			return err
		}
		err = m.bringBack(ctx, conn)
	}
	if mysqlIs(err, 1146, 1054, 1049) {
		return fmt.Errorf("a table or column of the first reset is gone, which only a fresh start brings back: %w", err)
	}
	return err
}

// take keeps all rows.
func (m *mysqlData) take(ctx context.Context, conn *sql.Conn) error {
	tables, err := mysqlTables(ctx, conn)
	if err != nil {
		return err
	}
	batch := "DROP DATABASE IF EXISTS " + snapshotSchema + "; CREATE DATABASE " + snapshotSchema + ";"
	for _, t := range tables {
		batch += "CREATE TABLE " + t.kept + " LIKE " + t.name + ";"
	}
	batch += "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION;"
	for _, t := range tables {
		batch += fmt.Sprintf("INSERT INTO %s (%s) SELECT %[2]s FROM %s;", t.kept, t.columns, t.name)
	}
	if err := mysqlExec(ctx, conn, batch+"COMMIT"); err != nil {
		return err
	}
	for _, t := range tables {
		if err := conn.QueryRowContext(ctx, "CHECKSUM TABLE "+t.kept).Scan(new(string), &t.sum); err != nil {
			return err
		}
	}
	m.tables, m.taken = tables, true
	return nil
}

// mysqlTables returns the tables of all databases, those with triggers first.
func mysqlTables(ctx context.Context, conn *sql.Conn) ([]*mysqlTable, error) {
	rows, err := conn.QueryContext(ctx, `SELECT t.table_schema, t.table_name, coalesce(t.data_length, 0), t.auto_increment,
			EXISTS (SELECT 1 FROM information_schema.triggers g WHERE g.event_object_schema = t.table_schema AND g.event_object_table = t.table_name),
			(SELECT group_concat(concat('`+"`', replace(c.column_name, '`', '``'), '`"+`') ORDER BY c.ordinal_position SEPARATOR ', ')
				FROM information_schema.columns c WHERE c.table_schema = t.table_schema AND c.table_name = t.table_name
				AND coalesce(c.generation_expression, '') = '')
		FROM information_schema.tables t
		WHERE t.table_type = 'BASE TABLE' AND t.table_schema `+mysqlOthers+` ORDER BY 5 DESC, 1, 2`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []*mysqlTable
	total := int64(0)
	for rows.Next() {
		var schema, name string
		var size int64
		t := &mysqlTable{kept: fmt.Sprintf("%s.t%d", snapshotSchema, len(out))}
		if err := rows.Scan(&schema, &name, &size, &t.next, &t.triggers, &t.columns); err != nil {
			return nil, err
		}
		if total += size; total > mysqlKept {
			return nil, fmt.Errorf("the databases hold more than %d MiB when the first case begins: "+
				"bringing that back between cases is not possible, start with less", mysqlKept>>20)
		}
		t.name = mysqlName(schema) + "." + mysqlName(name)
		out = append(out, t)
	}
	return out, rows.Err()
}

// bringBack rewrites the tables that have changed, until none has.
func (m *mysqlData) bringBack(ctx context.Context, conn *sql.Conn) error {
	for range mysqlRounds {
		batch, fired, err := m.changed(ctx, conn)
		if err != nil {
			return err
		}
		if len(batch) > 0 {
			if err := mysqlExec(ctx, conn, strings.Join(batch, "")); err != nil {
				_ = mysqlExec(ctx, conn, "ROLLBACK") // the connection is let go of anyway
				return err
			}
		}
		if !fired {
			return nil
		}
	}
	return errors.New("the triggers of one table change another one again and again")
}

// changed returns the statements that put right what has changed. Fired says that triggers
// may write when they are run.
func (m *mysqlData) changed(ctx context.Context, conn *sql.Conn) (batch []string, fired bool, err error) {
	now, err := mysqlTables(ctx, conn)
	if err != nil {
		return nil, false, err
	}
	var numbers []string
	batch = append(batch, "START TRANSACTION;")
	for _, t := range m.tables {
		var sum sql.NullInt64
		if err := conn.QueryRowContext(ctx, "CHECKSUM TABLE "+t.name).Scan(new(string), &sum); err != nil {
			return nil, false, err
		}
		if !sum.Valid || sum.Int64 != t.sum {
			batch = append(batch, fmt.Sprintf("DELETE FROM %s; INSERT INTO %[1]s (%s) SELECT %[2]s FROM %s;", t.name, t.columns, t.kept))
			fired = fired || t.triggers
		}
		i := slices.IndexFunc(now, func(n *mysqlTable) bool { return n.name == t.name })
		if i >= 0 && t.next.Valid && now[i].next != t.next {
			numbers = append(numbers, fmt.Sprintf("ALTER TABLE %s AUTO_INCREMENT = %d;", t.name, t.next.Int64))
		}
	}
	for _, n := range now { // those of later
		if !slices.ContainsFunc(m.tables, func(t *mysqlTable) bool { return t.name == n.name }) {
			batch = append(batch, "DELETE FROM "+n.name+";")
		}
	}
	if len(batch) == 1 {
		return numbers, false, nil
	}
	return append(append(batch, "COMMIT;"), numbers...), fired, nil
}

// mysqlSettle waits a moment until nobody else is in a transaction, and then ends who is:
// none but leftovers are, and what they hold locked cannot be brought back.
func mysqlSettle(ctx context.Context, conn *sql.Conn) error {
	for late := time.Now().Add(mysqlWait); ; {
		ids, err := mysqlBusy(ctx, conn)
		if err != nil || len(ids) == 0 {
			return err
		}
		if time.Now().After(late) {
			for _, id := range ids {
				if err := mysqlExec(ctx, conn, fmt.Sprintf("KILL %d", id)); err != nil && !mysqlIs(err, 1094) {
					return err
				}
			}
			late = time.Now().Add(mysqlWait) // they roll back
		}
		gap := time.NewTimer(mysqlGap)
		select {
		case <-gap.C:
		case <-ctx.Done():
			gap.Stop()
			return ctx.Err()
		}
	}
}

// mysqlBusy returns the connections of others that are in a transaction.
func mysqlBusy(ctx context.Context, conn *sql.Conn) (ids []int64, err error) {
	rows, err := conn.QueryContext(ctx, `SELECT trx_mysql_thread_id FROM information_schema.innodb_trx
		WHERE trx_mysql_thread_id NOT IN (0, connection_id())`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

func mysqlExec(ctx context.Context, conn *sql.Conn, batch string) error {
	_, err := conn.ExecContext(ctx, batch)
	return err
}

func mysqlIs(err error, numbers ...uint16) bool {
	var refused *mysql.MySQLError
	return errors.As(err, &refused) && slices.Contains(numbers, refused.Number)
}

// mysqlName quotes a name for SQL.
func mysqlName(s string) string { return "`" + strings.ReplaceAll(s, "`", "``") + "`" }

// mysqlString quotes a text for SQL.
func mysqlString(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", "''").Replace(s) + "'"
}
