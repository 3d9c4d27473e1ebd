// Leaks is a service of which some handlers leave something behind and others only seem to.
package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"time"
)

func main() {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, 256<<10)) // more than fits into a socket's buffer
	}))
	s := &service{upstream: upstream.URL, cache: os.Getenv("CACHE"), jobs: make(chan func()), known: map[string][]byte{}}
	s.db = sql.OpenDB(connector{s.cache})
	s.db.SetMaxIdleConns(8)
	s.few = sql.OpenDB(connector{s.cache})
	s.few.SetMaxOpenConns(2)
	s.stuck.Lock()
	for path, f := range map[string]func(context.Context) error{
		"/forgotten": s.forgotten, "/lost": s.lost, "/hub": s.hub, "/ticker": s.ticker, "/lock": s.lock,
		"/body": s.body, "/file": s.file, "/pipe": s.pipe, "/conn": s.conn, "/rows": s.rows, "/client": s.client,
		"/workers": s.workers, "/flusher": s.flusher, "/query": s.query, "/bounded": s.bounded,
		"/keepalive": s.keepalive, "/timer": s.timer, "/reserve": s.reserve, "/once": s.singleton,
		"/retain": s.retain, "/note": s.note, "/index": s.index, "/page": s.page, "/buffer": s.buffer,
		"/shard": s.shard, "/segment": s.segment, "/spread": s.spread, "/hold": s.hold, "/one": s.one, "/slow": s.slow,
	} {
		http.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if err := f(r.Context()); err != nil {
				http.Error(w, err.Error(), 500)
			}
		})
	}
	http.HandleFunc("/events", s.events)
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}

type service struct {
	upstream, cache string
	db, few         *sql.DB // few has at most two connections

	mu    sync.Mutex
	subs  []chan string
	kept  []io.Closer
	idle  int
	all   int
	jobs  chan func()
	once  sync.Once
	pages [][]byte
	notes [][]string
	known map[string][]byte
	last  [240][]byte
	next  int
	pool  sync.Pool

	shards   []chan func()
	segments []*os.File
	ring     []driver.Conn

	stuck sync.Mutex // never given back
}

// forgotten starts work whose result nobody takes if it is late.
func (s *service) forgotten(context.Context) error {
	result := make(chan int)
	go func() {
		time.Sleep(10 * time.Millisecond)
		result <- 1
	}()
	select {
	case <-result:
	default:
	}
	return nil
}

// lost waits for the end of a context that nobody ends.
func (s *service) lost(context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	_ = cancel
	go func() {
		<-ctx.Done()
	}()
	return nil
}

// hub subscribes and never unsubscribes.
func (s *service) hub(context.Context) error {
	sub := make(chan string, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs = append(s.subs, sub)
	go func() {
		for range sub {
		}
	}()
	return nil
}

// ticker starts a loop for each call.
func (s *service) ticker(context.Context) error {
	go func() {
		for range time.NewTicker(20 * time.Millisecond).C {
			s.mu.Lock()
			_ = s.all
			s.mu.Unlock()
		}
	}()
	return nil
}

// lock leaves goroutines that wait for a lock.
func (s *service) lock(context.Context) error {
	go func() {
		s.stuck.Lock()
		defer s.stuck.Unlock()
	}()
	return nil
}

// body asks through a client of its own and leaves the reply unread.
func (s *service) body(context.Context) error {
	resp, err := (&http.Client{Transport: &http.Transport{}}).Get(s.upstream)
	if err == nil {
		_, err = resp.Body.Read(make([]byte, 1))
	}
	return err
}

// file opens a file and keeps it.
func (s *service) file(context.Context) error {
	f, err := os.Open("go.mod")
	if err != nil {
		return err
	}
	s.keep(f)
	return nil
}

// pipe opens a pipe and keeps both its ends.
func (s *service) pipe(context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	s.keep(r)
	s.keep(w)
	return nil
}

// conn opens a connection and keeps it.
func (s *service) conn(ctx context.Context) error {
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.cache)
	if err != nil {
		return err
	}
	s.keep(c)
	return nil
}

func (s *service) keep(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = append(s.kept, c)
}

// rows leaves rows open, and with them a connection of the pool.
func (s *service) rows(context.Context) error {
	rows, err := s.db.Query("PING")
	if err != nil {
		return err
	}
	rows.Next()
	return nil
}

// client makes a pool for one query, and forgets it.
func (s *service) client(ctx context.Context) error {
	rows, err := sql.OpenDB(connector{s.cache}).QueryContext(ctx, "PING")
	if err != nil {
		return err
	}
	return rows.Close()
}

// singleton forgets one goroutine in all.
func (s *service) singleton(ctx context.Context) error {
	s.once.Do(func() { s.forgotten(ctx) })
	return nil
}

// hold takes one of few connections and never gives it back.
func (s *service) hold(context.Context) error {
	rows, err := s.few.Query("PING")
	if err != nil {
		return err
	}
	rows.Next()
	return nil
}

// one uses one of few connections.
func (s *service) one(ctx context.Context) error {
	rows, err := s.few.QueryContext(ctx, "PING")
	if err != nil {
		return err
	}
	return rows.Close()
}

// slow has one of few connections for a while.
func (s *service) slow(context.Context) error {
	rows, err := s.few.Query("PING")
	if err != nil {
		return err
	}
	defer rows.Close()
	time.Sleep(6 * time.Second)
	return nil
}

// retain keeps what it was asked for.
func (s *service) retain(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages = append(s.pages, make([]byte, 400<<10))
	return nil
}

// note keeps many small things.
func (s *service) note(context.Context) error {
	var all []string
	for i := 0; i < 5000; i++ {
		all = append(all, fmt.Sprintf("a note of some length, the %d-th of many", i))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, all)
	return nil
}

// index keeps what it is asked for under a name that is never used again.
func (s *service) index(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known[fmt.Sprint(len(s.known))] = make([]byte, 300<<10)
	return nil
}

// page keeps the last pages, sixty megabytes of them.
func (s *service) page(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[s.next%len(s.last)] = make([]byte, 256<<10)
	s.next++
	return nil
}

// buffer takes a buffer and gives it back.
func (s *service) buffer(context.Context) error {
	b, _ := s.pool.Get().(*[1 << 20]byte)
	if b == nil {
		b = new([1 << 20]byte)
	}
	b[0]++
	s.pool.Put(b)
	return nil
}

// workers hands a job to a worker, and starts one where none is idle, up to eight.
func (s *service) workers(context.Context) error {
	done := make(chan bool)
	s.mu.Lock()
	if s.idle == 0 && s.all < 8 {
		s.all++
		go s.worker()
	} else {
		s.idle--
	}
	s.mu.Unlock()
	s.jobs <- func() { time.Sleep(3 * time.Millisecond); close(done) }
	<-done
	return nil
}

func (s *service) worker() {
	for job := range s.jobs {
		job()
		s.mu.Lock()
		s.idle++
		s.mu.Unlock()
	}
}

// flusher starts what runs in the background at its first use.
func (s *service) flusher(context.Context) error {
	s.once.Do(func() {
		for i := 0; i < 3; i++ {
			go func() {
				for range time.Tick(10 * time.Millisecond) {
					s.mu.Lock()
					s.mu.Unlock()
				}
			}()
		}
	})
	return nil
}

// shard starts a worker for each of 48 shards when it is first met.
func (s *service) shard(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.shards) < 48 {
		ch := make(chan func())
		s.shards = append(s.shards, ch)
		go func() {
			for do := range ch {
				do()
			}
		}()
	}
	return nil
}

// segment opens each of 30 files when it is first met.
func (s *service) segment(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segments) < 30 {
		f, err := os.Open("go.mod")
		if err != nil {
			return err
		}
		s.segments = append(s.segments, f)
	}
	return nil
}

// spread asks over one of eight connections after another.
func (s *service) spread(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ring) < 8 {
		c, err := connector{s.cache}.Connect(ctx)
		if err != nil {
			return err
		}
		s.ring = append(s.ring, c)
	}
	s.next++
	_, err := stmt{s.ring[s.next%len(s.ring)].(*conn), "PING"}.Query(nil)
	return err
}

// query uses a connection of the pool and gives it back.
func (s *service) query(ctx context.Context) error {
	rows, err := s.db.QueryContext(ctx, "PING")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	time.Sleep(2 * time.Millisecond)
	return rows.Err()
}

// bounded leaves behind what ends within a few seconds.
func (s *service) bounded(context.Context) error {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	go func() {
		defer cancel()
		<-ctx.Done()
	}()
	return nil
}

// keepalive asks through the client that all share.
func (s *service) keepalive(context.Context) error {
	resp, err := http.Get(s.upstream)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// timer lets something happen in an hour.
func (s *service) timer(context.Context) error {
	time.AfterFunc(time.Hour, func() { s.flusher(context.Background()) })
	return nil
}

// reserve gives something up that is not paid for within a quarter of an hour.
func (s *service) reserve(context.Context) error {
	paid := make(chan string, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs = append(s.subs, paid)
	go func() {
		select {
		case <-paid:
		case <-time.After(15 * time.Minute):
		}
	}()
	return nil
}

// events streams until the caller has gone.
func (s *service) events(w http.ResponseWriter, r *http.Request) {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			fmt.Fprint(w, "data: tick\n\n")
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}
