package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"example.com/feed/internal/hub"
	"example.com/feed/internal/store"
)

// TestMain looks whether everything has ended that was begun.
func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	left := running()
	for end := time.Now().Add(10 * time.Second); left != "" && time.Now().Before(end); left = running() {
		time.Sleep(10 * time.Millisecond)
	}
	if left != "" {
		fmt.Println("left behind:\n\n" + left)
		code = 1
	}
	os.Exit(code)
}

// running returns the goroutines of this service.
func running() string {
	buf := make([]byte, 1<<20)
	var out []string
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if (strings.Contains(g, "example.com/feed/") || strings.Contains(g, "go-redis")) && !strings.Contains(g, "TestMain") {
			out = append(out, g)
		}
	}
	return strings.Join(out, "\n\n")
}

// feed serves the API over the store at addr. A request may take limit to be read, and a
// reply to be written; zero is without end.
func feed(t *testing.T, addr string, limit time.Duration) (*Server, string) {
	t.Helper()
	db := store.New(addr)
	srv := httptest.NewUnstartedServer(nil)
	base := "http://" + srv.Listener.Addr().String()
	s := New(db, []string{base, "http://127.0.0.1:1"})
	srv.Config.Handler = s.Handler()
	srv.Config.ReadTimeout, srv.Config.WriteTimeout, srv.Config.IdleTimeout = limit, limit, time.Minute
	srv.Config.RegisterOnShutdown(s.EndStreams)
	srv.Start()
	t.Cleanup(func() {
		s.EndStreams()
		srv.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		s.Close(ctx)
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, base
}

func ask(t *testing.T, base, request, body, key string) (int, string) {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func say(t *testing.T, base, text, key string) hub.Message {
	t.Helper()
	var m hub.Message
	status, body := ask(t, base, "POST /topics/go/messages", fmt.Sprintf(`{"author": "ann", "text": %q}`, text), key)
	if err := json.Unmarshal([]byte(body), &m); err != nil || status != 201 {
		t.Fatalf("publish: %d %s", status, body)
	}
	return m
}

// eventually asks until the answer holds what is wanted.
func eventually(t *testing.T, base, request, want string) {
	t.Helper()
	var body string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, body = ask(t, base, request, "", ""); strings.Contains(body, want) {
			return
		}
	}
	t.Fatalf("%s: %s, want %s", request, body, want)
}

func TestStoreDown(t *testing.T) {
	t.Parallel()
	_, base := feed(t, "127.0.0.1:1", 0)
	for _, tc := range []struct {
		request, body string
		want          int
	}{
		{"GET /healthz", "", 200},
		{"GET /readyz", "", 503},
		{"POST /topics/go/messages", `{"author": "ann", "text": "hello"}`, 503},
		{"POST /topics/go/messages", `{"author": "a b", "text": "hello"}`, 422},
		{"POST /topics/go/messages", `{"author": "ann", "text": ""}`, 422},
		{"POST /topics/go/messages", `{"author": "ann"`, 400},
		{"POST /topics/go/messages", `{} {}`, 400},
		{"POST /topics/go/messages", `"` + strings.Repeat("x", maxBody) + `"`, 413},
		{"POST /topics/G%00/messages", `{}`, 404},
		{"GET /topics/go/messages", "", 503},
		{"GET /topics/go/messages?after=x", "", 422},
		{"GET /topics/go/messages?limit=101", "", 422},
		{"GET /topics/go/views", "", 503},
		{"GET /tags", "", 503},
		{"POST /digests", `{"topic": "go"}`, 202},
		{"POST /digests", `{"topic": ""}`, 422},
		{"GET /digests/none", "", 404},
		{"GET /peers", "", 200},
		{"GET /stats", "", 200},
		{"GET /nowhere", "", 404},
		{"DELETE /tags", "", 405},
	} {
		if status, body := ask(t, base, tc.request, tc.body, ""); status != tc.want {
			t.Errorf("%s %.60s: %d %s, want %d", tc.request, tc.body, status, body, tc.want)
		}
	}
}

func TestMessagesAreKept(t *testing.T) {
	t.Parallel()
	redis := miniredis.RunT(t)
	_, base := feed(t, redis.Addr(), 0)
	one := say(t, base, "tea #go", "k1")
	if again := say(t, base, "tea #go", "k1"); again != one {
		t.Errorf("the same key gave %v, then %v", one, again)
	}
	if status, _ := ask(t, base, "POST /topics/go/messages", `{"author": "ann", "text": "other"}`, "k1"); status != 422 {
		t.Errorf("the key for another message: %d, want 422", status)
	}
	two := say(t, base, "tea", "")
	_, page := ask(t, base, "GET /topics/go/messages?limit=1", "", "")
	if !strings.Contains(page, one.ID) || strings.Contains(page, two.ID) {
		t.Errorf("the first page is %s", page)
	}
	if _, page = ask(t, base, "GET /topics/go/messages?after="+one.ID, "", ""); strings.Contains(page, one.ID) || !strings.Contains(page, two.ID) {
		t.Errorf("behind %s is %s", one.ID, page)
	}
	eventually(t, base, "GET /tags", `{"name":"#go","uses":1}`)
	eventually(t, base, "GET /topics/go/views", `{"views":2}`)
	_, asked := ask(t, base, "POST /digests", `{"topic": "go"}`, "")
	var d digest
	if err := json.Unmarshal([]byte(asked), &d); err != nil {
		t.Fatal(err)
	}
	eventually(t, base, "GET /digests/"+d.ID, `"status":"done","words":["tea","#go"]`)
	if _, peers := ask(t, base, "GET /peers", "", ""); peers != `{"peers":["well","away"]}` {
		t.Errorf("the peers are %s", peers)
	}

	// The store comes back at the same address, and forgets nothing.
	redis.Close()
	if status, _ := ask(t, base, "GET /tags", "", ""); status != 503 {
		t.Errorf("while the store is away: %d, want 503", status)
	}
	if err := redis.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, base, "GET /tags", "#go")
}

// follow opens a stream and returns its lines; the channel is closed where it ends.
func follow(t *testing.T, ctx context.Context, base, last string) <-chan string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/topics/go/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("stream: %v, %v", resp, err)
	}
	lines := make(chan string, 10_000)
	go func() {
		defer close(lines)
		defer resp.Body.Close()
		for s := bufio.NewScanner(resp.Body); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return lines
}

// until reads lines up to one that holds what is wanted.
func until(t *testing.T, lines <-chan string, want string) []string {
	t.Helper()
	late := time.After(10 * time.Second)
	var got []string
	for {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatalf("the stream ended before %q: %q", want, got)
			}
			if got = append(got, line); strings.Contains(line, want) {
				return got
			}
		case <-late:
			t.Fatalf("no %q in the stream: %q", want, got)
		}
	}
}

func TestStreams(t *testing.T) {
	t.Parallel()
	redis := miniredis.RunT(t)
	const limit = 500 * time.Millisecond
	s, base := feed(t, redis.Addr(), limit)
	one := say(t, base, "one", "")
	say(t, base, "two", "")
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	lines := follow(t, ctx, base, one.ID)
	if got := until(t, lines, `"two"`); strings.Contains(strings.Join(got, "\n"), `"one"`) {
		t.Errorf("what was seen came again: %q", got)
	}
	for range 2 * limit / heartbeat { // it outlives what a request may take
		until(t, lines, ": beat")
	}
	for i := range 30 {
		say(t, base, fmt.Sprintf("live-%d", i), "")
		until(t, lines, fmt.Sprintf("live-%d", i))
	}

	eventually(t, base, "GET /stats", `"readers":1`)
	hangUp()
	eventually(t, base, "GET /stats", `"readers":0`)

	var wg sync.WaitGroup
	for range 5 {
		lines := follow(t, t.Context(), base, "")
		wg.Go(func() {
			for range lines {
			}
		})
	}
	s.EndStreams()
	wg.Wait()
	if status, body := ask(t, base, "GET /topics/go/stream", "", ""); status != 503 {
		t.Errorf("a stream after the end: %d %s, want 503", status, body)
	}
}
