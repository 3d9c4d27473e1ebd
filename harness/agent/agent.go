// Package agent talks to the agent inside a service, and holds the agent's source. The
// source is the package zzshakedown below this one: an overlay makes it a package of the
// service's own module, so that neither the service's source nor its go.mod changes.
package agent

import (
	"context"
	"embed"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"sync/atomic"
	"time"
)

// Package is the name of the agent's package, in the root of the service's module.
const Package = "zzshakedown"

// The environment that the agent reads, and removes from what the service's own children
// inherit. Without AgentVar there is no agent.
const (
	AgentVar = "SHAKEDOWN_AGENT"    // path of the unix socket to listen on
	AliveVar = "SHAKEDOWN_ALIVE_FD" // a pipe's read end: at its end the service exits
	CrashVar = "SHAKEDOWN_CRASH_FD" // a pipe's write end: takes what the runtime says of a crash
)

const (
	maxHello  = 64 << 10
	maxAnswer = 64<<20 + 1
)

//go:embed zzshakedown/*.go
var source embed.FS

// Source returns the files of the agent's package, by name.
func Source() (map[string][]byte, error) {
	out := map[string][]byte{}
	names, err := fs.Glob(source, Package+"/*.go")
	for _, n := range names {
		b, readErr := source.ReadFile(n)
		err = errors.Join(err, readErr)
		out[n[len(Package)+1:]] = b
	}
	return out, err
}

// Hello is how an agent introduces itself.
type Hello struct {
	PID      int      `json:"pid"`
	Go       string   `json:"go"`   // version of Go that the service was built with
	Race     bool     `json:"race"` // the race detector is on
	Features []string `json:"features"`
}

// Conn is a connection to an agent. It may be used by several goroutines, whose
// questions are answered one after another.
type Conn struct {
	socket string
	turn   chan struct{} // holds one token: whoever has it may use conn
	conn   net.Conn      // nil when the last question failed: the next one dials anew
	closed atomic.Bool
}

// Dial connects to the agent that listens on socket, or will before ctx ends.
func Dial(ctx context.Context, socket string) (*Conn, Hello, error) {
	c := &Conn{socket: socket, turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	for {
		hello, err := c.dial(ctx)
		if err == nil {
			return c, hello, nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return nil, Hello{}, fmt.Errorf("agent: %w", err)
		}
	}
}

func (c *Conn) dial(ctx context.Context) (Hello, error) {
	var hello Hello
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err != nil {
		return hello, err
	}
	release := bound(ctx, conn)
	defer release()
	text, err := readFrame(conn, maxHello)
	if err == nil {
		err = json.Unmarshal(text, &hello)
	}
	if err != nil {
		conn.Close()
		return hello, fmt.Errorf("handshake: %w", err)
	}
	c.conn = conn
	return hello, nil
}

// Ask returns the agent's answer to a question:
//
//	goroutines   the stacks of all goroutines
//	leaks        the same, where the runtime can tell with "(leaked)" behind what those wait for that nobody can wake
//	census       how many goroutines there are of each sort, and files: see package census
//	census heap  the same, and how much of the heap is in use, which takes two collections
//	heap         where most of the heap that is in use was allocated
//	flush TOKEN  a line that ends in TOKEN is now on the streams that the answer names
//
// It returns when ctx ends, at the latest.
func (c *Conn) Ask(ctx context.Context, question string) ([]byte, error) {
	select {
	case <-c.turn:
		defer func() { c.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, fmt.Errorf("ask the agent: %w", ctx.Err())
	}
	if c.closed.Load() {
		return nil, fmt.Errorf("ask the agent: %w", net.ErrClosed)
	}
	if c.conn == nil {
		if _, err := c.dial(ctx); err != nil {
			return nil, fmt.Errorf("ask the agent: %w", err)
		}
	}
	release := bound(ctx, c.conn)
	answer, err := c.ask(question)
	release()
	var refused refusal
	if err != nil && !errors.As(err, &refused) {
		// What is left of this answer must not be taken for the next one.
		c.conn.Close()
		c.conn = nil
		if ctx.Err() != nil {
			err = ctx.Err()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ask the agent: %w", err)
	}
	return answer, nil
}

func (c *Conn) ask(question string) ([]byte, error) {
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(question)))
	if _, err := c.conn.Write(append(frame, question...)); err != nil {
		return nil, err
	}
	return readFrame(c.conn, maxAnswer)
}

// Close lets go of the connection. The agent goes on to listen.
func (c *Conn) Close() error {
	if c.closed.Swap(true) {
		return nil
	}
	// A question under way is bounded by its own ctx.
	<-c.turn
	defer func() { c.turn <- struct{}{} }()
	if c.conn == nil {
		return nil
	}
	return c.conn.Close()
}

// refusal is an answer that is an error.
type refusal string

func (r refusal) Error() string { return string(r) }

func readFrame(r io.Reader, limit uint32) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > limit {
		return nil, fmt.Errorf("a frame of %d bytes, beyond 1 to %d", n, limit)
	}
	// The length is a claim: the buffer grows with what really comes.
	body, err := io.ReadAll(io.LimitReader(r, int64(n)))
	switch {
	case err != nil:
		return nil, err
	case len(body) < int(n):
		return nil, io.ErrUnexpectedEOF
	case body[0] == '-':
		return nil, refusal(body[1:])
	case body[0] != '+':
		return nil, fmt.Errorf("an answer that begins with %q", body[0])
	}
	return body[1:], nil
}

// bound makes reads and writes on conn end with ctx, until release is called.
func bound(ctx context.Context, conn net.Conn) (release func()) {
	past := time.Unix(1, 0)
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		conn.SetDeadline(past)
		close(ended)
	})
	return func() {
		if !stop() {
			<-ended
		}
		conn.SetDeadline(time.Time{})
	}
}
