package dep_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shakedown-go/shakedown/faults"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/process"
	"github.com/shakedown-go/shakedown/targets/providers"
	"github.com/shakedown-go/shakedown/targets/spec"
)

const (
	patience = 400 * time.Millisecond // before a server is called silent
	soon     = 10 * time.Second       // bounds what must happen
)

// bench is a server behind a link.
type bench struct {
	t      *testing.T
	engine string
	world  *process.Surroundings
	store  harness.Store
	opened []client
}

// newBench brings a server up, or skips the test where there is none.
func newBench(t *testing.T, engine string) *bench {
	t.Helper()
	return newBenchOn(t, dependency(engine, "local"))
}

func dependency(engine, provide string) spec.Dependency {
	dep := spec.Dependency{Engine: engine, Provide: provide}
	if engine == "postgres" {
		dep.Database, dep.User = "shop", "shop"
	}
	return dep
}

func newBenchOn(t *testing.T, dep spec.Dependency) *bench {
	t.Helper()
	return newBenchBehind(t, "native", dep)
}

// newBenchBehind is newBenchOn with a link of an engine.
func newBenchBehind(t *testing.T, links string, dep spec.Dependency) *bench {
	t.Helper()
	if dep.Provide != "url" {
		need(t, dep.Engine, dep.Provide)
	}
	w, err := process.Surround(t.Context(), &spec.File{Dependencies: map[string]spec.Dependency{"dep": dep}}, process.Options{Engine: links})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	b := &bench{t: t, engine: dep.Engine, world: w}
	if b.store, err = w.Store("dep"); err != nil {
		t.Fatal(err)
	}
	if b.engine == "postgres" {
		b.do("CREATE TABLE IF NOT EXISTS n (n int)")
		b.do("GRANT ALL ON n TO PUBLIC")
	}
	return b
}

// need skips the test where a program or a container's image is missing, or fails it where
// SHAKEDOWN_REQUIRE names the engine, or docker.
func need(t *testing.T, engine, provide string) {
	t.Helper()
	_, err := providers.Choose(t.Context(), "dep", spec.Dependency{Engine: engine, Provide: provide}, ".")
	if err == nil {
		return
	}
	what := engine
	if provide == "docker" {
		what = provide
	}
	if slices.Contains(strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ","), what) {
		t.Fatal(err)
	}
	t.Skip(err)
}

// do runs an administrator's command.
func (b *bench) do(command ...string) []string {
	b.t.Helper()
	out, err := b.store.Do(b.t.Context(), command...)
	if err != nil {
		b.t.Fatalf("%q: %v", command, err)
	}
	return out
}

// executed is how many writes the server has executed.
func (b *bench) executed() int {
	b.t.Helper()
	got := b.do(map[string][]string{"redis": {"GET", "n"}, "postgres": {"SELECT count(*) FROM n"}}[b.engine]...)
	if got[0] == "" {
		return 0
	}
	n, err := strconv.Atoi(got[0])
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// args returns the arguments of a fault: those given in pairs, with the store and defaults.
func (b *bench) args(f *harness.Fault, pairs ...string) harness.Args {
	b.t.Helper()
	args := harness.Args{{Key: "store", Value: harness.Text("dep")}}
	for kv := range slices.Chunk(pairs, 2) {
		args = args.Set(kv[0], harness.Text(kv[1]))
	}
	if err := f.Check(args, b.world.Target); err != nil {
		b.t.Fatal(err)
	}
	return f.Fill(args)
}

func (b *bench) inject(f *harness.Fault, args harness.Args) harness.Injection {
	b.t.Helper()
	inj, err := f.Inject(b.t.Context(), b.world, args, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		b.t.Fatalf("inject %s: %v", f.Name, err)
	}
	return inj
}

func (b *bench) heal(inj harness.Injection) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), soon)
	defer cancel()
	if err := inj.Heal(ctx); err != nil {
		b.t.Fatalf("heal: %v", err)
	}
}

// client is one connection to the server, through the link.
type client interface {
	// ask sends a write or a read and returns what came of it: ok, an error's code, silence,
	// closed. What comes late is waited for by late.
	ask(write bool) string
	late() string
	close()
}

// dial connects. What came of that is not "" where it is no connection.
func (b *bench) dial() (client, string) {
	b.t.Helper()
	if b.engine == "redis" {
		conn, err := net.DialTimeout("tcp", b.world.Addr("dep"), soon)
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { conn.Close() })
		c := &redisClient{conn, bufio.NewReader(conn)}
		b.opened = append(b.opened, c)
		return c, ""
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), soon)
	defer cancel()
	conn, err := pgx.Connect(ctx, "postgres://shop@"+b.world.Addr("dep")+"/shop?sslmode=disable")
	if err != nil {
		return nil, outcome(err)
	}
	c := &pgClient{conn: conn}
	b.t.Cleanup(c.close)
	b.opened = append(b.opened, c)
	return c, ""
}

// hangUp closes all connections, and waits until the server has seen it.
func (b *bench) hangUp() {
	b.t.Helper()
	for _, c := range b.opened {
		c.close()
	}
	b.opened = nil
	for late := time.Now().Add(soon); b.connections() > 1; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(late) {
			b.t.Fatalf("%d connections are left", b.connections())
		}
	}
}

// open connects to a server that takes connections.
func (b *bench) open() client {
	b.t.Helper()
	c, not := b.dial()
	if not != "" {
		b.t.Fatalf("connect: %s", not)
	}
	return c
}

const (
	fine   = "ok"
	silent = "silence"
	closed = "closed"
	sent   = 1
)

type redisClient struct {
	conn net.Conn
	r    *bufio.Reader
}

func (c *redisClient) ask(write bool) string {
	command := "GET n\r\n"
	if write {
		command = "INCR n\r\n"
	}
	if _, err := io.WriteString(c.conn, command); err != nil {
		return closed
	}
	return c.reply(patience)
}

func (c *redisClient) late() string { return c.reply(soon) }

func (c *redisClient) reply(within time.Duration) string {
	c.conn.SetReadDeadline(time.Now().Add(within))
	line, err := c.r.ReadString('\n')
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return silent
	case err != nil:
		return closed
	case strings.HasPrefix(line, "-"):
		code, _, _ := strings.Cut(strings.TrimSpace(line[1:]), " ")
		return code
	case strings.HasPrefix(line, "$") && !strings.HasPrefix(line, "$-1"):
		c.r.ReadString('\n')
	}
	return fine
}

func (c *redisClient) close() { c.conn.Close() }

type pgClient struct{ conn *pgx.Conn }

func (c *pgClient) ask(write bool) string {
	statement := "SELECT count(*) FROM n"
	if write {
		statement = "INSERT INTO n VALUES (1)"
	}
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	_, err := c.conn.Exec(ctx, statement)
	return outcome(err)
}

func (c *pgClient) late() string { return silent }

func (c *pgClient) close() {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	c.conn.Close(ctx)
}

// outcome is what an error of Postgres comes to.
func outcome(err error) string {
	var pe *pgconn.PgError
	switch {
	case err == nil:
		return fine
	case errors.As(err, &pe):
		return pe.Code
	}
	return closed
}

// seen is what came of a fault.
type seen struct {
	Old, OldRead, OldAfter string // a connection that was there, and writes and reads
	IdleAfter              string // one that was there and did nothing
	New, NewRead, NewAfter string // one made meanwhile
	Fresh                  string // one made after the heal
	Executed, Late, Lost   int    // of the writes, during the fault, only at its heal, and undone by then
	Acted                  int64
	Unit                   string
}

// play plays a fault on three connections.
func (b *bench) play(f *harness.Fault, args harness.Args) (s seen) {
	b.t.Helper()
	old, idle := b.open(), b.open()
	for _, c := range []client{old, idle} {
		if got := c.ask(true); got != fine {
			b.t.Fatalf("before the fault: %s", got)
		}
	}
	before := b.executed()
	inj := b.inject(f, args)
	s.Old = old.ask(true)
	s.OldRead = next(old, s.Old, false)
	fresh, not := b.dial()
	if s.New = not; not == "" {
		s.New = fresh.ask(true)
		s.NewRead = next(fresh, s.New, false)
	}
	b.heal(inj)
	late := false
	for c, was := range map[client]string{old: s.Old, fresh: s.New} {
		if was != silent {
			continue
		}
		late = true
		if got := c.late(); got != fine {
			b.t.Errorf("what was held comes to %s", got)
		}
	}
	if s.Executed = b.executed() - before; late {
		s.Executed, s.Late = 0, s.Executed
	}
	acknowledged := 0
	for _, was := range []string{s.Old, s.New} {
		if was == fine {
			acknowledged++
		}
	}
	if s.Lost = max(acknowledged-s.Executed, 0); s.Lost > 0 {
		s.Executed = acknowledged
	}
	s.OldAfter, s.IdleAfter = next(old, s.OldRead, true), idle.ask(true)
	if fresh != nil {
		s.NewAfter = next(fresh, s.NewRead, true)
	}
	s.Fresh = b.open().ask(true)
	s.Acted, s.Unit = inj.Acted(), inj.Unit
	if f.Name == "dep/read_only" && s.Acted > 0 {
		s.Acted = sent // so many as a client of Postgres takes
	}
	if f.Name == "dep/crash" && s.New == fine { // it had recovered by then
		s.New, s.NewRead, s.NewAfter, s.Executed = "57P03", "", "", s.Executed-1
	}
	return s
}

// next asks on a connection where this came last.
func next(c client, was string, write bool) string {
	if was == closed || was == "57P01" {
		return closed
	}
	if was == silent && !write {
		return silent
	}
	return c.ask(write)
}

// test is a fault with arguments, and what comes of it.
type test struct {
	fault, engine string
	args          []string
	want          seen
}

func (tt test) String() string {
	return strings.Join(append([]string{tt.fault}, pairs(tt.args)...), " ")
}

// check plays a fault and compares what was seen. On a busy machine that can come out
// otherwise: only what does so three times is wrong.
func (b *bench) check(tt test) {
	b.t.Helper()
	f := faults.ByName(tt.fault)
	settings := b.settings()
	var got seen
	for range 3 {
		got = b.play(f, b.args(f, tt.args...))
		if now := b.settings(); now != settings {
			b.t.Errorf("%s: settings were\n%s\nand are\n%s", tt, settings, now)
		}
		if f.Effect != harness.EffectUndone && got.Lost > 0 {
			b.t.Errorf("%s: its effect is declared as %s, but %d were acknowledged and undone", tt, f.Effect, got.Lost)
		}
		if f.Effect == harness.EffectNotExecuted && got.Executed+got.Late > 0 {
			b.t.Errorf("%s: its effect is declared as %s, but %d were executed", tt, f.Effect, got.Executed+got.Late)
		}
		if b.hangUp(); got == tt.want {
			return
		}
	}
	b.t.Errorf("%s\ngot  %+v\nwant %+v", tt, got, tt.want)
}

// tests are all faults of the package.
var tests = []test{
	{"dep/client_kill", "redis", nil, seen{
		Old: closed, OldRead: closed, OldAfter: closed, IdleAfter: closed, New: fine, NewRead: fine, NewAfter: fine, Fresh: fine,
		Executed: 1, Acted: 2, Unit: "connections"}},
	{"dep/client_pause", "redis", nil, seen{
		Old: silent, OldRead: silent, OldAfter: fine, IdleAfter: fine, New: silent, NewRead: silent, NewAfter: fine, Fresh: fine,
		Late: 2, Acted: 2, Unit: "clients held"}},
	{"dep/client_pause", "redis", []string{"mode", "all", "span", "2s"}, seen{
		Old: silent, OldRead: silent, OldAfter: fine, IdleAfter: fine, New: silent, NewRead: silent, NewAfter: fine, Fresh: fine,
		Late: 2, Acted: 16, Unit: "bytes held"}},
	{"dep/failover", "redis", nil, seen{
		Old: closed, OldRead: closed, OldAfter: closed, IdleAfter: closed, New: fine, NewRead: fine, NewAfter: fine, Fresh: fine,
		Executed: 1, Acted: 2, Unit: "connections reset"}},
	{"dep/failover", "redis", []string{"lag", "2s"}, seen{
		Old: fine, OldRead: fine, OldAfter: closed, IdleAfter: closed, New: fine, NewRead: fine, NewAfter: closed, Fresh: fine,
		Executed: 2, Lost: 2, Acted: 65, Unit: "bytes of replication lost"}},
	{"dep/masterdown", "redis", nil, seen{
		Old: "READONLY", OldRead: "MASTERDOWN", OldAfter: fine, IdleAfter: fine, New: "READONLY", NewRead: "MASTERDOWN", NewAfter: fine, Fresh: fine,
		Acted: 4, Unit: "commands refused with MASTERDOWN or READONLY"}},
	{"dep/noreplicas", "redis", nil, seen{
		Old: "NOREPLICAS", OldRead: fine, OldAfter: fine, IdleAfter: fine, New: "NOREPLICAS", NewRead: fine, NewAfter: fine, Fresh: fine,
		Acted: 2, Unit: "commands refused with NOREPLICAS"}},
	{"dep/oom", "redis", nil, seen{
		Old: "OOM", OldRead: fine, OldAfter: fine, IdleAfter: fine, New: "OOM", NewRead: fine, NewAfter: fine, Fresh: fine,
		Acted: 2, Unit: "commands refused with OOM"}},
	{"dep/readonly", "redis", nil, seen{
		Old: "READONLY", OldRead: fine, OldAfter: fine, IdleAfter: fine, New: "READONLY", NewRead: fine, NewAfter: fine, Fresh: fine,
		Acted: 2, Unit: "commands refused with READONLY"}},
	{"dep/conn_limit", "postgres", nil, seen{
		Old: "57P01", OldRead: closed, OldAfter: closed, IdleAfter: "57P01", New: "53300", Fresh: fine,
		Acted: 3, Unit: "sessions ended and refused"}},
	{"dep/conn_limit", "postgres", []string{"existing", "false"}, seen{
		Old: fine, OldRead: fine, OldAfter: fine, IdleAfter: fine, New: "53300", Fresh: fine,
		Executed: 1, Acted: 1, Unit: "sessions ended and refused"}},
	{"dep/crash", "postgres", nil, seen{
		Old: closed, OldRead: closed, OldAfter: closed, IdleAfter: closed, New: "57P03", Fresh: fine,
		Acted: 2, Unit: "sessions"}},
	{"dep/read_only", "postgres", nil, seen{
		Old: "25006", OldRead: fine, OldAfter: fine, IdleAfter: fine, New: "25006", NewRead: fine, NewAfter: fine, Fresh: fine,
		Acted: sent, Unit: "bytes sent to it meanwhile"}},
	{"dep/terminate", "postgres", nil, seen{
		Old: "57P01", OldRead: closed, OldAfter: closed, IdleAfter: "57P01", New: fine, NewRead: fine, NewAfter: fine, Fresh: fine,
		Executed: 1, Acted: 2, Unit: "sessions"}},
}

var update = flag.Bool("update", false, "write the table of docs/faults.md")

// The table stands between these lines.
const (
	tableBegin = "<!-- The table is written by: go test ./faults/dep -run Table -update -->\n"
	tableEnd   = "<!-- End of the table of dependencies. -->\n"
)

// TestTable plays every fault and compares what was seen with what is expected, and with the
// table of docs/faults.md.
func TestTable(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "..", "docs", "faults.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begun := strings.Cut(string(text), tableBegin)
	table, behind, ended := strings.Cut(rest, tableEnd)
	if !begun || !ended {
		t.Fatalf("%s has no place for the table", file)
	}
	lines := "| fault | busy connection | idle connection | new connection | executed | counts |\n| --- | --- | --- | --- | --- | --- |\n"
	for _, tt := range tests {
		lines += tt.want.line(tt.String()) + "\n"
	}
	t.Run("rows", func(t *testing.T) {
		for _, tt := range tests {
			t.Run(tt.String(), func(t *testing.T) {
				t.Parallel()
				newBench(t, tt.engine).check(tt)
			})
		}
	})
	for _, f := range faults.All() {
		if f.Needs.Has(harness.CapStores) && !strings.Contains(lines, "| "+f.Name+" ") {
			t.Errorf("%s is not in the table", f.Name)
		}
	}
	switch {
	case *update && !t.Failed():
		if err := os.WriteFile(file, []byte(before+tableBegin+lines+tableEnd+behind), 0o644); err != nil {
			t.Fatal(err)
		}
	case lines != table:
		t.Errorf("the table is another one; write it with -update\ngot\n%s", lines)
	}
}

// TestElsewhere plays the same faults on servers in containers, and on those of somebody
// else.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	play := func(t *testing.T, b *bench, without ...string) {
		for _, tt := range tests {
			if tt.engine == b.engine && !slices.Contains(without, tt.fault) {
				b.check(tt)
			}
		}
	}
	for _, engine := range []string{"redis", "postgres"} {
		t.Run(engine+" docker", func(t *testing.T) {
			t.Parallel()
			play(t, newBenchOn(t, dependency(engine, "docker")))
		})
		t.Run(engine+" url", func(t *testing.T) {
			t.Parallel()
			host := newBench(t, engine)
			play(t, host.outlived(), "dep/crash", "dep/failover") // nobody's process is killed there
		})
	}
}

// outlived is a bench whose server is that of another one: at a URL.
func (b *bench) outlived() *bench {
	b.t.Helper()
	url := map[string]string{"redis": "redis://%s/0", "postgres": "postgres://postgres@%s/shop?sslmode=disable"}[b.engine]
	return newBenchOn(b.t, spec.Dependency{Engine: b.engine, Provide: "url", URL: fmt.Sprintf(url, b.world.Addr("dep"))})
}

// pairs joins the keys and values of arguments.
func pairs(args []string) (out []string) {
	for kv := range slices.Chunk(args, 2) {
		out = append(out, strings.Join(kv, "="))
	}
	return out
}

// line is a line of the table.
func (s seen) line(name string) string {
	executed := fmt.Sprintf("%d of 2", s.Executed)
	if s.Late > 0 {
		executed += fmt.Sprintf(", %d at the heal", s.Late)
	}
	if s.Lost > 0 {
		executed += fmt.Sprintf(", %d of these undone", s.Lost)
	}
	idle := "open; goes on"
	if s.IdleAfter != fine {
		idle = cell(s.IdleAfter, closed)
	}
	busy, fresh := cell(s.Old, s.OldRead), cell(s.New, s.NewRead)
	if s.OldRead == fine && s.OldAfter == closed {
		busy = "reply; closed at the heal"
	}
	if s.NewRead == fine && s.NewAfter == closed {
		fresh = "reply; closed at the heal"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", name, busy, idle, fresh, executed, s.Unit)
}

// cell says what a client saw of a connection.
func cell(write, read string) string {
	switch {
	case write == closed:
		return closed
	case read == closed:
		return write + ", closed"
	case read == "":
		return "refused: " + write
	case write == silent:
		return "silence; the reply comes at the heal, goes on"
	case write == fine && read == fine:
		return "reply; goes on"
	}
	return fmt.Sprintf("write %s, read %s; goes on", write, read)
}

// TestCyclesLeaveNothingBehind injects and heals each fault many times while a client
// writes, and compares settings, connections and data.
func TestCyclesLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	const cycles = 50
	for _, tt := range tests {
		t.Run(tt.String(), func(t *testing.T) {
			t.Parallel()
			b := newBench(t, tt.engine)
			f := faults.ByName(tt.fault)
			args := b.args(f, tt.args...)
			if _, spans := args.Get("span"); spans {
				args = args.Set("span", harness.Text("200ms"))
			}
			b.fill()
			writer := b.open()
			writer.ask(true)
			settings, data := b.settings(), b.data()
			var acted int64
			for range cycles {
				inj := b.inject(f, args)
				write := make(chan string, 1)
				go func() { write <- writer.ask(true) }()
				if c, not := b.dial(); not == "" {
					c.close()
				}
				if tt.want.Old == silent {
					for late := time.Now().Add(soon); inj.Acted() == 0 && time.Now().Before(late); {
						time.Sleep(time.Millisecond) // it is on its way
					}
				}
				got := silent
				if tt.want.Old != silent {
					got = <-write
				}
				b.heal(inj)
				if tt.want.Old == silent {
					got = <-write
				}
				// A crash may have let one more write through before it ended the connection.
				if acted += inj.Acted(); got == closed || got == "57P01" || tt.want.OldAfter == closed {
					writer.close()
					writer = b.open()
					writer.ask(false) // or the server may not have it yet when the next fault comes
				}
			}
			if acted < cycles {
				t.Errorf("acted on %d %s in %d cycles", acted, tt.want.Unit, cycles)
			}
			if got := writer.ask(true); got != fine {
				t.Errorf("the writer ends with %s", got)
			}
			if got := b.settings(); got != settings {
				t.Errorf("settings were\n%s\nand are\n%s", settings, got)
			}
			if got := b.data(); got != data {
				t.Errorf("data were\n%s\nand are\n%s", data, got)
			}
			// The writer's, and the one that asks: a session that has ended is there for a moment.
			for late := time.Now().Add(soon); b.connections() != 2; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(late) {
					t.Fatalf("there are %d connections, want 2", b.connections())
				}
			}
		})
	}
}

// fill writes what is to survive.
func (b *bench) fill() {
	b.t.Helper()
	if b.engine == "postgres" {
		b.do("CREATE TABLE kept AS SELECT i, i::text AS t FROM generate_series(1, 100) i")
		return
	}
	for i := range 100 {
		b.do("SET", fmt.Sprint("k", i), strings.Repeat("v", i))
	}
	b.do("RPUSH", "list", "a", "b")
	b.do("SET", "lease", "me", "PX", "100000000")
}

// data returns what fill has written, as it is now.
func (b *bench) data() string {
	b.t.Helper()
	if b.engine == "postgres" {
		return strings.Join(b.do("SELECT count(*), md5(string_agg(t, ',' ORDER BY i)) FROM kept"), " ")
	}
	out := b.do("DBSIZE")
	for i := range 100 {
		out = append(out, b.do("GET", fmt.Sprint("k", i))...)
	}
	return strings.Join(append(append(out, b.do("LRANGE", "list", "0", "-1")...), b.do("GET", "lease")...), " ")
}

// connections is how many there are to the server, the harness's own included.
func (b *bench) connections() int {
	b.t.Helper()
	if b.engine == "redis" {
		return strings.Count(b.do("CLIENT", "LIST")[0], "id=")
	}
	n, err := strconv.Atoi(b.do("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")[0])
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// Nothing meets a fault, and nothing is claimed.
func TestWithoutTrafficNothingIsClaimed(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"redis", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, engine)
			for _, tt := range tests {
				if tt.engine != engine {
					continue
				}
				f := faults.ByName(tt.fault)
				inj := b.inject(f, b.args(f, tt.args...))
				during := inj.Acted()
				b.heal(inj)
				if n := inj.Acted(); n != 0 || during != 0 {
					t.Errorf("%s: acted on %d %s, and then on %d", tt.fault, during, inj.Unit, n)
				}
			}
		})
	}
}

// What others have at a server meets a fault, and proves nothing of the target.
func TestWhatOthersMeetIsNotClaimed(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"redis", "postgres"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			others := newBench(t, engine)
			b := others.outlived()
			for _, tt := range tests {
				if tt.engine != engine || tt.fault == "dep/crash" || tt.fault == "dep/failover" { // nobody's server is ended there
					continue
				}
				old := others.open()
				old.ask(true)
				f := faults.ByName(tt.fault)
				inj := b.inject(f, b.args(f, tt.args...))
				met := old.ask(true)
				fresh, not := others.dial()
				if not == "" {
					fresh.ask(true)
				}
				b.heal(inj)
				if n := inj.Acted(); n != 0 || met != tt.want.Old {
					t.Errorf("%s: acted on %d %s, and others meet %q", tt, n, inj.Unit, met)
				}
				if met == silent {
					old.late()
				}
				for _, c := range others.opened {
					c.close()
				}
				for late := time.Now().Add(soon); b.connections() > 1; time.Sleep(10 * time.Millisecond) {
					if time.Now().After(late) {
						t.Fatalf("%d connections are left", b.connections())
					}
				}
			}
		})
	}
	t.Run("beside the target", func(t *testing.T) {
		t.Parallel()
		for _, name := range []string{"dep/client_kill", "dep/terminate"} {
			f := faults.ByName(name)
			others := newBench(t, f.Params[0].Engine)
			b := others.outlived()
			others.open().ask(true)
			b.open().ask(true)
			inj := b.inject(f, b.args(f))
			if n := inj.Acted(); n != 1 {
				t.Errorf("%s: acted on %d %s, want 1", name, n, inj.Unit)
			}
			b.heal(inj)
		}
	})
}

// waits waits until the server lists clients in whose lines all words are.
func (b *bench) waits(words ...string) {
	b.t.Helper()
	for late := time.Now().Add(soon); ; time.Sleep(time.Millisecond) {
		for line := range strings.Lines(b.do("CLIENT", "LIST")[0]) {
			if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
				return
			}
		}
		if time.Now().After(late) {
			b.t.Fatalf("no client has %q", words)
		}
	}
}

// What the harness itself asks of a server while a fault is in force is no proof.
func TestWhatTheHarnessMeetsIsNotClaimed(t *testing.T) {
	t.Parallel()
	for fault, command := range map[string][]string{"dep/client_kill": {"BLPOP", "none", "0"}, "dep/client_pause": {"INCR", "n"}} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, "redis")
			idle := b.open() // there is a target, and nothing of it is met
			idle.ask(false)
			f := faults.ByName(fault)
			asked := make(chan error, 1)
			ask := func() {
				go func() {
					_, err := b.store.Do(t.Context(), command...)
					asked <- err
				}()
				b.waits("cmd="+strings.ToLower(command[0]), "flags=b", "name=shakedown")
			}
			want := int64(0)
			if fault == "dep/client_kill" {
				ask()
				want = 1 // the idle one
			}
			inj := b.inject(f, b.args(f))
			if fault != "dep/client_kill" {
				ask()
			}
			during := inj.Acted()
			b.heal(inj)
			if n := inj.Acted(); n != want || during != want {
				t.Errorf("acted on %d %s, and then on %d, want %d", during, inj.Unit, n, want)
			}
			<-asked
		})
	}
}

// No limit binds a superuser. Its sessions that come and go are neither refused nor ended.
func TestShortSessionsOfASuperuserAreNotRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, "postgres")
	b.do("ALTER ROLE shop SUPERUSER")
	f := faults.ByName("dep/conn_limit")
	for _, existing := range []string{"true", "false"} {
		inj := b.inject(f, b.args(f, "existing", existing))
		for range 3 {
			c := b.open()
			if got := c.ask(true); got != fine {
				t.Errorf("a superuser's session: %s", got)
			}
			c.close()
		}
		during := inj.Acted()
		b.heal(inj)
		if n := inj.Acted(); n != 0 || during != 0 {
			t.Errorf("existing=%s: acted on %d %s, and then on %d", existing, during, inj.Unit, n)
		}
		b.hangUp()
	}
}

func TestClientThatGivesUpWasHeld(t *testing.T) {
	t.Parallel()
	b := newBench(t, "redis")
	f := faults.ByName("dep/client_pause")
	c, waits := b.open(), b.open()
	if _, err := io.WriteString(waits.(*redisClient).conn, "BLPOP list 0\r\n"); err != nil { // it waits by itself
		t.Fatal(err)
	}
	for late := time.Now().Add(soon); !strings.Contains(b.do("CLIENT", "LIST")[0], "cmd=blpop"); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("nobody waits")
		}
	}
	inj := b.inject(f, b.args(f))
	if got := c.ask(true); got != silent { // for longer than until it is looked for
		t.Fatalf("a write: %s", got)
	}
	c.close()
	for late := time.Now().Add(soon); b.connections() > 2; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("it is still there")
		}
	}
	b.heal(inj)
	if n := inj.Acted(); n != 1 {
		t.Errorf("acted on %d %s, want 1", n, inj.Unit)
	}
	if n := b.executed(); n != 0 {
		t.Errorf("%d writes were executed", n)
	}
}

func TestWhatCannotBeDoneIsSaid(t *testing.T) {
	t.Parallel()
	inject := func(t *testing.T, b *bench, name string, want string) {
		t.Helper()
		f := faults.ByName(name)
		inj, err := f.Inject(t.Context(), b.world, b.args(f), rand.New(rand.NewPCG(1, 1)))
		if err == nil {
			b.heal(inj)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, "redis")
		for _, pair := range [][2]string{{"dep/oom", "dep/oom"}, {"dep/readonly", "dep/masterdown"}, {"dep/oom", "dep/failover"}, {"dep/failover", "dep/oom"}, {"dep/failover", "dep/failover"}} {
			f := faults.ByName(pair[0])
			inj := b.inject(f, b.args(f))
			want := "another fault is in force"
			if pair[0] == "dep/readonly" {
				want = "is a replica"
			}
			inject(t, b, pair[1], want)
			b.heal(inj)
		}
		before := b.settings()
		b.do("REPLICAOF", "127.0.0.1", "1")
		inject(t, b, "dep/readonly", "is a replica")
		inject(t, b, "dep/failover", "is a replica")
		b.do("REPLICAOF", "NO", "ONE")
		if got := b.settings(); got != before {
			t.Errorf("settings were\n%s\nand are\n%s", before, got)
		}
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		b := newBench(t, "postgres")
		b.do("ALTER DATABASE shop SET default_transaction_read_only = on")
		inject(t, b, "dep/read_only", "read only as it is")
		b.do("ALTER DATABASE shop SET default_transaction_read_only = off")
		before := b.settings()
		inject(t, b, "dep/read_only", "do not take")
		b.do("ALTER ROLE shop SUPERUSER") // whom no limit binds
		c, f := b.open(), faults.ByName("dep/conn_limit")
		inj := b.inject(f, b.args(f))
		b.open()
		if got := c.ask(true); got != fine || inj.Acted() != 0 {
			t.Errorf("a superuser's session: %s; acted on %d", got, inj.Acted())
		}
		b.heal(inj)
		if got := b.settings(); got != before {
			t.Errorf("settings were\n%s\nand are\n%s", before, got)
		}
	})
	t.Run("url", func(t *testing.T) {
		t.Parallel()
		host := newBench(t, "redis")
		b := newBenchOn(t, spec.Dependency{Engine: "redis", Provide: "url", URL: "redis://" + host.world.Addr("dep")})
		inject(t, b, "dep/failover", "provide: local or docker: it cannot be had here")
	})
	t.Run("url without rights", func(t *testing.T) {
		t.Parallel()
		host := newBench(t, "postgres")
		host.do("GRANT SET ON PARAMETER session_replication_role TO shop")
		addr := host.world.Addr("dep")
		b := newBenchOn(t, spec.Dependency{Engine: "postgres", Provide: "url", URL: "postgres://shop@" + addr + "/shop?sslmode=disable"})
		inject(t, b, "dep/conn_limit", "must be a superuser")
		inject(t, b, "dep/crash", "cannot be had here")
		inject(t, b, "dep/read_only", "permission denied")
	})
}

// A store that is down or paused when its fault is healed, or can take no connection, is healed
// when it is back.
func TestFaultsMeetOthersOfTheProcess(t *testing.T) {
	t.Parallel()
	for _, tt := range tests {
		for _, how := range []string{"proc/kill", "proc/pause", "proc/files"} {
			if how == "proc/files" && tt.engine == "postgres" { // which runs as another user
				continue
			}
			t.Run(tt.String()+" "+how, func(t *testing.T) {
				t.Parallel()
				b := newBench(t, tt.engine)
				f, other := faults.ByName(tt.fault), faults.ByName(how)
				b.open().ask(true)
				settings := b.settings()
				inj := b.inject(f, b.args(f, tt.args...))
				away, err := other.Inject(t.Context(), b.world, harness.Args{{Key: "proc", Value: harness.Text("dep")}}, nil)
				if err != nil {
					t.Fatal(err)
				}
				b.heal(inj)
				b.heal(away)
				if got := b.settings(); got != settings {
					t.Errorf("settings were\n%s\nand are\n%s", settings, got)
				}
				if got := b.open().ask(true); got != fine {
					t.Errorf("a new connection: %s", got)
				}
			})
		}
	}
}

// settings are what the faults may change, and must put back.
func (b *bench) settings() string {
	b.t.Helper()
	if b.engine == "redis" {
		out := b.do("ROLE")[:1]
		for pair := range slices.Chunk(b.do("CONFIG", "GET", "*"), 2) {
			if pair[0] != "port" && pair[0] != "dir" { // a replica's own
				out = append(out, strings.Join(pair, " "))
			}
		}
		slices.Sort(out) // in another order after each start
		return strings.Join(out, "\n")
	}
	return strings.Join(slices.Concat(
		b.do("SELECT name, reset_val FROM pg_settings WHERE source <> 'session' ORDER BY name"),
		b.do("SELECT datname, datconnlimit, datallowconn FROM pg_database ORDER BY datname"),
		b.do("SELECT setdatabase, setconfig FROM pg_db_role_setting"),
		b.do("SELECT name, setting FROM pg_file_settings WHERE sourcefile LIKE '%auto.conf'"),
	), " ")
}
