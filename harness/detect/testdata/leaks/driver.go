package main

import (
	"bufio"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
)

// connector is a driver of database/sql: every query is a command of one word to a Redis,
// and its only row the reply. A connection has a goroutine that watches over it, as those of some
// real drivers do.
type connector struct{ addr string }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.addr)
	if err != nil {
		return nil, err
	}
	cn := &conn{Conn: nc, r: bufio.NewReader(nc), closing: make(chan bool)}
	go cn.watch()
	return cn, nil
}

func (c connector) Driver() driver.Driver { return nil }

type conn struct {
	net.Conn
	r       *bufio.Reader
	closing chan bool
}

func (c *conn) watch() { <-c.closing }

func (c *conn) Close() error {
	close(c.closing)
	return c.Conn.Close()
}

func (c *conn) Begin() (driver.Tx, error) { return nil, errors.New("there are no transactions") }

func (c *conn) Prepare(query string) (driver.Stmt, error) { return stmt{c, query}, nil }

type stmt struct {
	*conn
	query string
}

func (s stmt) Close() error                               { return nil }
func (s stmt) NumInput() int                              { return 0 }
func (s stmt) Exec([]driver.Value) (driver.Result, error) { return nil, errors.New("only queries") }

func (s stmt) Query([]driver.Value) (driver.Rows, error) {
	if _, err := fmt.Fprintf(s.Conn, "*1\r\n$%d\r\n%s\r\n", len(s.query), s.query); err != nil {
		return nil, driver.ErrBadConn
	}
	line, err := s.r.ReadString('\n')
	if err != nil {
		return nil, driver.ErrBadConn
	}
	return &rows{line}, nil
}

type rows struct{ line string }

func (r *rows) Columns() []string { return []string{"reply"} }
func (r *rows) Close() error      { return nil }

func (r *rows) Next(dest []driver.Value) error {
	if r.line == "" {
		return io.EOF
	}
	dest[0], r.line = r.line, ""
	return nil
}
