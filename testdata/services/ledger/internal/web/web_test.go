package web

import (
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

	"example.com/ledger/internal/store"
)

// TestMain looks whether everything has ended that was begun.
func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	left := running()
	for end := time.Now().Add(20 * time.Second); left != "" && time.Now().Before(end); left = running() {
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
		ours := strings.Contains(g, "example.com/ledger/") || strings.Contains(g, "database/sql.") || strings.Contains(g, "pgx")
		if ours && !strings.Contains(g, "TestMain") {
			out = append(out, g)
		}
	}
	return strings.Join(out, "\n\n")
}

// ledger serves the API over a database.
func ledger(t *testing.T, url string) (*store.Store, string) {
	t.Helper()
	db, err := store.New(url)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer((&Server{Store: db}).Handler())
	t.Cleanup(func() {
		srv.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db, srv.URL
}

// caller makes requests of one user.
type caller struct {
	t           *testing.T
	base, token string
}

func (c caller) ask(request, body string, header ...string) (int, string) {
	c.t.Helper()
	method, path, _ := strings.Cut(request, " ")
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// must asks for something that is done, and reads the reply.
func must[T any](c caller, request, body string, header ...string) (out T) {
	c.t.Helper()
	status, got := c.ask(request, body, header...)
	if err := json.Unmarshal([]byte(got), &out); err != nil || status > 299 {
		c.t.Fatalf("%s: %d %s", request, status, got)
	}
	return out
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	_, base := ledger(t, "postgres://ledger@127.0.0.1:1/ledger?sslmode=disable")
	c := caller{t, base, "any"}
	for _, tc := range []struct {
		request, body string
		want          int
	}{
		{"GET /healthz", "", 200},
		{"GET /pool", "", 200},
		{"POST /login", `{"user": "ann", "pin": "0000"}`, 503},
		{"POST /login", `{"user": "ann", "pin": "1234"}`, 401},
		{"POST /login", `{"user": "ann", "pin": "0000", "x": 1}`, 400},
		{"POST /login", `{"user": `, 400},
		{"POST /login", `{} {}`, 400},
		{"POST /login", `"` + strings.Repeat("x", maxBody) + `"`, 413},
		{"GET /login", "", 405},
		{"GET /accounts", "", 503},
		{"POST /transfers", "{}", 503},
		{"GET /nowhere", "", 404},
	} {
		start := time.Now()
		if status, body := c.ask(tc.request, tc.body); status != tc.want {
			t.Errorf("%s %.60s: %d %s, want %d", tc.request, tc.body, status, body, tc.want)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s took %v", tc.request, took)
		}
	}
	if status, _ := c.ask("POST /login", "{}", "Content-Type", "text/plain"); status != 415 {
		t.Errorf("a body of text: %d, want 415", status)
	}
	if status, _ := c.ask("GET /accounts", "", "Authorization", "Basic x"); status != 401 {
		t.Errorf("without a session: %d, want 401", status)
	}
}

// TestMoney needs a database with schema.sql: LEDGER_DATABASE_URL.
func TestMoney(t *testing.T) {
	t.Parallel()
	url := os.Getenv("LEDGER_DATABASE_URL")
	if url == "" {
		t.Skip("LEDGER_DATABASE_URL says where a database is")
	}
	db, base := ledger(t, url)
	login := func(user string) caller {
		name := fmt.Sprintf("%s-%d", user, time.Now().UnixNano())
		got := must[struct{ Token string }](caller{t, base, ""}, "POST /login", fmt.Sprintf(`{"user": %q, "pin": "0000"}`, name))
		return caller{t, base, got.Token}
	}
	ann, bob := login("ann"), login("bob")
	mine := must[store.Account](ann, "POST /accounts", `{"name": "mine", "balance": 1000}`, "Idempotency-Key", "a1")
	if again := must[store.Account](ann, "POST /accounts", `{"name": "mine", "balance": 1000}`, "Idempotency-Key", "a1"); again != mine {
		t.Errorf("the same key gave %v, then %v", mine, again)
	}
	his := must[store.Account](bob, "POST /accounts", `{"name": "his", "balance": 0}`)
	get := func(c caller, a store.Account) store.Account {
		t.Helper()
		return must[store.Account](c, fmt.Sprintf("GET /accounts/%d", a.ID), "")
	}

	// Many transfers at once, each asked for twice: each is done once.
	var wg sync.WaitGroup
	for i := range 10 {
		for range 2 {
			wg.Go(func() {
				body := fmt.Sprintf(`{"source": %d, "target": %d, "amount": 10}`, mine.ID, his.ID)
				for range 20 { // 503: it was in the way of others for too long
					status, got := ann.ask("POST /transfers", body, "Idempotency-Key", fmt.Sprint("t", i))
					if status == 201 {
						return
					}
					if status != 503 && status != 504 {
						t.Errorf("transfer: %d %s", status, got)
						return
					}
				}
				t.Error("a transfer was never done")
			})
		}
	}
	wg.Wait()
	if a, b := get(ann, mine).Balance, get(bob, his).Balance; a != 900 || b != 100 {
		t.Errorf("balances %d and %d, want 900 and 100", a, b)
	}
	page := must[struct {
		Transfers []store.Transfer
		Next      int64
	}](bob, fmt.Sprintf("GET /accounts/%d/transfers?limit=4", his.ID), "")
	rest := must[struct{ Transfers []store.Transfer }](bob, fmt.Sprintf("GET /accounts/%d/transfers?after=%d", his.ID, page.Next), "")
	if len(page.Transfers) != 4 || len(rest.Transfers) != 6 {
		t.Errorf("pages of %d and %d, want 4 and 6", len(page.Transfers), len(rest.Transfers))
	}

	for _, tc := range []struct {
		who           caller
		request, body string
		header        []string
		want          int
	}{
		{ann, "POST /transfers", fmt.Sprintf(`{"source": %d, "target": %d, "amount": 901}`, mine.ID, his.ID), []string{"Idempotency-Key", "x"}, 409},
		{ann, "POST /transfers", fmt.Sprintf(`{"source": %d, "target": %d, "amount": 1}`, his.ID, mine.ID), []string{"Idempotency-Key", "x"}, 404},
		{ann, "POST /transfers", fmt.Sprintf(`{"source": %d, "target": %d, "amount": 9}`, mine.ID, his.ID), []string{"Idempotency-Key", "t0"}, 422},
		{ann, "POST /transfers", fmt.Sprintf(`{"source": %d, "target": %d, "amount": 9}`, mine.ID, his.ID), nil, 422},
		{ann, "POST /transfers", fmt.Sprintf(`{"source": %d, "target": %d, "amount": 9, "memo": "\u0000"}`, mine.ID, his.ID), []string{"Idempotency-Key", "x"}, 422},
		{ann, fmt.Sprintf("GET /accounts/%d", his.ID), "", nil, 404},
		{ann, "GET /accounts?limit=0", "", nil, 422},
		{ann, "GET /accounts?after=x", "", nil, 422},
		{ann, fmt.Sprintf("PATCH /accounts/%d", mine.ID), `{"name": "new"}`, nil, 428},
		{ann, fmt.Sprintf("PATCH /accounts/%d", mine.ID), `{"name": "new"}`, []string{"If-Match", mine.ETag}, 412},
		{ann, fmt.Sprintf("PATCH /accounts/%d", mine.ID), `{"closed": true}`, []string{"If-Match", "*"}, 409},
		{ann, fmt.Sprintf("PATCH /accounts/%d", mine.ID), `{"name": "new"}`, []string{"If-Match", get(ann, mine).ETag}, 200},
	} {
		if status, got := tc.who.ask(tc.request, tc.body, tc.header...); status != tc.want {
			t.Errorf("%s %s: %d %s, want %d", tc.request, tc.body, status, got, tc.want)
		}
	}

	// Of two holds one is released and the other's time is up.
	hold := func(ms int) store.Hold {
		return must[store.Hold](ann, "POST /holds", fmt.Sprintf(`{"account": %d, "amount": 100, "ms": %d}`, mine.ID, ms))
	}
	long := hold(60_000)
	hold(1)
	for end := time.Now().Add(10 * time.Second); get(ann, mine).Balance != 800; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the balance is %d, want 800", get(ann, mine).Balance)
		}
		if err := db.Expire(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if status, _ := bob.ask(fmt.Sprintf("DELETE /holds/%d", long.ID), ""); status != 404 {
		t.Errorf("another's hold: %d, want 404", status)
	}
	for _, want := range []int{204, 404} {
		if status, _ := ann.ask(fmt.Sprintf("DELETE /holds/%d", long.ID), ""); status != want {
			t.Errorf("release: %d, want %d", status, want)
		}
	}
	if b := get(ann, mine).Balance; b != 900 {
		t.Errorf("the balance is %d, want 900", b)
	}
}
