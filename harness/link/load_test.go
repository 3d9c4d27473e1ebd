package link_test

import (
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A load is a process of its own that plays the clients and the dependency. So what the
// process of the benchmark spends and holds is the proxy's, and bytes cross as many processes
// as they do where a proxy is used.
type load struct {
	upstream string // where its dependency listens
	orders   *gob.Encoder
	results  *gob.Decoder
}

// order is what a load is to do.
type order struct {
	Do    string        // talk, stall or hang up
	Addr  string        // where its clients connect; connections of a talk are kept for the next
	Conns int           // how many there are, at the same time but for those that hang up
	Depth int           // of a talk: requests in a pipeline
	Trips int           // of a talk: round trips on each connection
	Pause time.Duration // of a talk: between two round trips
}

// result is what came of an order.
type result struct {
	Took  time.Duration
	Trips []time.Duration // of a talk: each round trip
	Done  int             // connections that hung up
	Error string
}

// loadEnv makes a process of this test a load.
const loadEnv = "SHAKEDOWN_TEST_LOAD"

func TestMain(m *testing.M) {
	if os.Getenv(loadEnv) == "" {
		os.Exit(m.Run())
	}
	if err := play(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// startLoad starts a load that ends with the benchmark.
func startLoad(b *testing.B) *load {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), loadEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait() // its orders have been carried out, and there is no other: it ends
	})
	l := &load{orders: gob.NewEncoder(in), results: gob.NewDecoder(out)}
	if err := l.results.Decode(&l.upstream); err != nil {
		b.Fatal(err)
	}
	return l
}

// do has an order carried out. Every connection of a load has deadlines, so that it returns.
func (l *load) do(o order) (result, error) {
	var r result
	if err := errors.Join(l.orders.Encode(o), l.results.Decode(&r)); err != nil {
		return r, err
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// What is asked and answered, as a Redis does.
var (
	ping = []byte("*1\r\n$4\r\nPING\r\n")
	pong = []byte("+PONG\r\n")
)

// within bounds what a load waits for.
const within = 10 * time.Second

// player carries out the orders of a load.
type player struct {
	talking map[string][]net.Conn // by where they lead, and how many
	stalled []net.Conn
	flooded atomic.Int64 // bytes that were answered without end
}

// play carries out orders until there are no more.
func play(in io.Reader, out io.Writer) error {
	p := player{talking: map[string][]net.Conn{}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go p.serve(ln) // until the process ends
	orders, results := gob.NewDecoder(in), gob.NewEncoder(out)
	if err := results.Encode(ln.Addr().String()); err != nil {
		return err
	}
	for {
		var o order
		if err := orders.Decode(&o); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		start := time.Now()
		r, err := p.obey(o)
		if r.Took == 0 {
			r.Took = time.Since(start)
		}
		if err != nil {
			r.Error = fmt.Sprintf("%s: %v", o.Do, err)
		}
		if err := results.Encode(r); err != nil {
			return err
		}
	}
}

func (p *player) obey(o order) (result, error) {
	switch o.Do {
	case "talk":
		return p.talk(o)
	case "stall":
		return p.stall(o)
	case "hang up":
		return hangUp(o)
	}
	return result{}, errors.New("not known")
}

func (p *player) serve(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, "load:", err)
			return
		}
		go p.answer(c)
	}
}

// answer replies to each PING; to an l with a long reply, behind which it closes the
// connection; and to an f without end.
func (p *player) answer(c net.Conn) {
	defer c.Close()
	buf := make([]byte, 64<<10)
	replies := bytes.Repeat(pong, len(buf)/len(ping)+1)
	for part := 0; ; {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		switch buf[0] {
		case 'l':
			c.Write(make([]byte, 256<<10))
			return
		case 'f':
			p.flood(c)
			return
		}
		part += n
		if _, err := c.Write(replies[:part/len(ping)*len(pong)]); err != nil {
			return
		}
		part %= len(ping)
	}
}

func (p *player) flood(c net.Conn) {
	c.(*net.TCPConn).SetWriteBuffer(256 << 10) // so that what is on the way is soon full
	for block := make([]byte, 64<<10); ; {
		n, err := c.Write(block)
		p.flooded.Add(int64(n))
		if err != nil {
			return
		}
	}
}

func connect(addr string, n int) ([]net.Conn, error) {
	var conns []net.Conn
	for range n {
		c, err := net.DialTimeout("tcp", addr, within)
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// talk makes round trips on all connections at the same time.
func (p *player) talk(o order) (result, error) {
	key := fmt.Sprint(o.Addr, o.Conns)
	conns, there := p.talking[key]
	if !there {
		var err error
		if conns, err = connect(o.Addr, o.Conns); err != nil {
			return result{}, err
		}
		p.talking[key] = conns
	}
	out := bytes.Repeat(ping, o.Depth)
	trips, errs := make([][]time.Duration, len(conns)), make([]error, len(conns))
	var all sync.WaitGroup
	start := time.Now()
	for i, c := range conns {
		all.Go(func() { trips[i], errs[i] = roundTrips(c, out, o) })
	}
	all.Wait()
	return result{Took: time.Since(start), Trips: slices.Concat(trips...)}, errors.Join(errs...)
}

func roundTrips(c net.Conn, out []byte, o order) ([]time.Duration, error) {
	took := make([]time.Duration, 0, o.Trips)
	in := make([]byte, o.Depth*len(pong))
	for range o.Trips {
		start := time.Now()
		c.SetDeadline(start.Add(within))
		if _, err := c.Write(out); err != nil {
			return took, err
		}
		if _, err := io.ReadFull(c, in); err != nil {
			return took, err
		}
		took = append(took, time.Since(start))
		time.Sleep(o.Pause)
	}
	return took, nil
}

// stall asks for replies without end, reads none of them, and waits until nothing more passes.
func (p *player) stall(o order) (result, error) {
	conns, err := connect(o.Addr, o.Conns)
	p.stalled = append(p.stalled, conns...)
	if err != nil {
		return result{}, err
	}
	for _, c := range conns {
		c.(*net.TCPConn).SetReadBuffer(8 << 10)
		if _, err := c.Write([]byte("f")); err != nil {
			return result{}, err
		}
	}
	for end := time.Now().Add(3 * within); time.Now().Before(end); {
		before := p.flooded.Load()
		time.Sleep(200 * time.Millisecond)
		if before > 0 && p.flooded.Load() == before {
			return result{}, nil
		}
	}
	return result{}, errors.New("bytes pass, though nobody reads")
}

// hangUp asks for long replies, reads a little of each, and goes away: the proxy gets a reset
// with bytes on the way. It stops at the first connection on which nothing comes.
func hangUp(o order) (result, error) {
	const atOnce = 8
	var left, done atomic.Int64
	left.Store(int64(o.Conns))
	errs := make([]error, atOnce)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for left.Add(-1) >= 0 && errs[i] == nil {
				if errs[i] = hangUpOnce(o.Addr); errs[i] == nil {
					done.Add(1)
				} else {
					left.Store(0)
				}
			}
		})
	}
	all.Wait()
	return result{Done: int(done.Load())}, errors.Join(errs...)
}

func hangUpOnce(addr string) error {
	c, err := net.DialTimeout("tcp", addr, within)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(within))
	if _, err := c.Write([]byte("l")); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 100))
	return err
}
