package web

import (
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
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/shop/internal/bugs"
	"example.com/shop/internal/cache"
	"example.com/shop/internal/store"
)

const nowhere = "127.0.0.1:1"

// shop serves the API over the stores at these addresses, with planted bugs.
func shop(t *testing.T, databaseURL, redisAddr string, planted ...bugs.ID) string {
	t.Helper()
	on := bugs.Set{}
	for _, id := range planted {
		on[id] = true
	}
	db, err := store.New(context.Background(), databaseURL, on)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	c := cache.New(redisAddr)
	t.Cleanup(func() { c.Close() })
	s := New(on, db, c, []byte("key"))
	t.Cleanup(s.Close)
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	return srv.URL
}

// ask makes a request, and returns the status and the body.
func ask(t *testing.T, base, request, body, token, key string) (int, string) {
	t.Helper()
	method, path, _ := strings.Cut(request, " ")
	req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
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

func logIn(t *testing.T, base, user string) string {
	t.Helper()
	status, body := ask(t, base, "POST /login", fmt.Sprintf(`{"user": %q, "password": "open sesame"}`, user), "", "")
	var out struct{ Token string }
	if err := json.Unmarshal([]byte(body), &out); err != nil || status != 200 {
		t.Fatalf("login: %d %s", status, body)
	}
	return out.Token
}

// TestStoresDown has nothing at either address: who needs the database is told to come
// again, who needs the cache alone does without, and nobody waits.
func TestStoresDown(t *testing.T) {
	t.Parallel()
	base := shop(t, "postgres://shop@"+nowhere+"/shop?sslmode=disable", nowhere)
	token := logIn(t, base, "ann")
	for _, tc := range []struct {
		request, body string
		want          int
	}{
		{"GET /healthz", "", 200},
		{"GET /items", "", 503},
		{"GET /items/mug", "", 503},
		{"GET /items/no%00thing", "", 404},
		{"GET /items/mug/related", "", 503},
		{"GET /items/no%00thing/related", "", 404},
		{"GET /search?q=mug", "", 503},
		{"GET /search", "", 422},
		{"POST /addresses/check", `{"country": "NL", "postcode": "1012 AB"}`, 200},
		{"POST /addresses/check", `{"country": "NL", "postcode": "1012"}`, 422},
		{"GET /cart", "", 503},
		{"PUT /cart/mug", `{"qty": 1}`, 503},
		{"PUT /cart/mug", `{"qty": -1}`, 422},
		{"POST /orders", `{"items": [{"sku": "mug", "qty": 1}]}`, 503},
		{"POST /orders", `{"items": []}`, 422},
		{"POST /orders", `{"items": [{"sku": "mug", "qty": 1e99}]}`, 400},
		{"POST /orders", `{"items": [`, 400},
		{"POST /orders", `{} {}`, 400},
		{"POST /orders", `"` + strings.Repeat("x", maxBody) + `"`, 413},
		{"POST /orders/9999999999999999999/pay", "", 404},
		{"POST /orders/1/cancel", "", 503},
		{"POST /orders/0/cancel", "", 404},
		{"GET /orders/1", "", 503},
		{"GET /orders/1/receipt", "", 503},
		{"GET /orders/x/receipt", "", 404},
		{"GET /reports/stock", "", 503},
		{"GET /me", "", 200},
		{"GET /me/overview", "", 200},
		{"POST /coupons/check", `{"code": "SPRING-15-EU-"}`, 422},
		{"POST /coupons/check", `{"code": "SPRING-15-EU"}`, 503},
		{"POST /flash", `{"sku": "mug", "ms": 0}`, 422},
		{"POST /flash", `{"sku": "mug", "ms": 50}`, 202},
		{"GET /flash", "", 200},
		{"PUT /settings", `{"banner": "x", "currencies": ["EUR"], "free_from": 1}`, 200},
		{"GET /settings", "", 200},
		{"GET /stats", "", 200},
		{"GET /nowhere", "", 404},
	} {
		start := time.Now()
		if status, body := ask(t, base, tc.request, tc.body, token, ""); status != tc.want {
			t.Errorf("%s %.60s: %d %s, want %d", tc.request, tc.body, status, body, tc.want)
		}
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%s took %v", tc.request, took)
		}
	}
	if status, _ := ask(t, base, "GET /cart", "", "forged", ""); status != 401 {
		t.Errorf("a forged token: %d, want 401", status)
	}
	if _, body := ask(t, base, "GET /me/overview", "", token, ""); !strings.Contains(body, `"missing":{"cart":"network","journal":"network","orders":"network"}`) {
		t.Errorf("the overview does not say what is missing: %s", body)
	}
	if _, body := ask(t, base, "GET /stats", "", "", ""); !strings.Contains(body, "postgres ") || !strings.Contains(body, "redis ") {
		t.Errorf("the failures were not counted: %s", body)
	}
}

// stores returns where stores with schema.sql are, or skips the test.
func stores(t *testing.T) (databaseURL, redisAddr string) {
	t.Helper()
	databaseURL, redisAddr = os.Getenv("SHOP_DATABASE_URL"), os.Getenv("SHOP_REDIS_ADDR")
	if databaseURL == "" || redisAddr == "" {
		t.Skip("SHOP_DATABASE_URL and SHOP_REDIS_ADDR say where stores are")
	}
	return databaseURL, redisAddr
}

// TestOrderJourney needs stores.
func TestOrderJourney(t *testing.T) {
	t.Parallel()
	url, addr := stores(t)
	base := shop(t, url, addr)
	token := logIn(t, base, fmt.Sprintf("ann-%d", time.Now().UnixNano()))
	const order = `{"items": [{"sku": "mug", "qty": 2}, {"sku": "ebook", "qty": 1}], "coupon": "SPRING-50-EU"}`
	status, placed := ask(t, base, "POST /orders", order, token, "o1")
	var o store.Order
	if err := json.Unmarshal([]byte(placed), &o); err != nil || status != 201 {
		t.Fatalf("order: %d %s", status, placed)
	}
	if o.Total != 2400 { // 2 x 900 + 1200, 20 % off: that is the most that SPRING gives
		t.Errorf("the total is %d, want 2400", o.Total)
	}
	if _, again := ask(t, base, "POST /orders", order, token, "o1"); again != placed {
		t.Errorf("the same key gave %s, then %s", placed, again)
	}
	if status, _ := ask(t, base, "POST /orders", `{"items": [{"sku": "mug", "qty": 1}]}`, token, "o1"); status != 422 {
		t.Errorf("the key for another request: %d, want 422", status)
	}
	if status, _ := ask(t, base, "POST /orders", `{"items": [{"sku": "mug", "qty": 1000}, {"sku": "lamp", "qty": 1000}]}`, token, ""); status != 409 {
		t.Errorf("more than there is: %d, want 409", status)
	}

	// Many pay at once with one key: all get the one answer.
	var wg sync.WaitGroup
	answers := make([]string, 8)
	for i := range answers {
		wg.Go(func() {
			status, body := ask(t, base, fmt.Sprintf("POST /orders/%d/pay", o.ID), "", token, "p1")
			answers[i] = fmt.Sprint(status, body)
		})
	}
	wg.Wait()
	for _, a := range answers {
		if a != answers[0] || !strings.HasPrefix(a, "200") {
			t.Errorf("payments answered %s and %s", answers[0], a)
		}
	}
	if status, _ := ask(t, base, fmt.Sprintf("POST /orders/%d/pay", o.ID), "", token, "p2"); status != 409 {
		t.Errorf("a second payment: %d, want 409", status)
	}
	if status, _ := ask(t, base, fmt.Sprintf("GET /orders/%d", o.ID), "", logIn(t, base, "bob"), ""); status != 404 {
		t.Errorf("another's order: %d, want 404", status)
	}
	if status, body := ask(t, base, fmt.Sprintf("GET /orders/%d/receipt", o.ID), "", token, ""); status != 200 || !strings.Contains(body, `(paid)\n    1 x ebook\n    2 x mug\nTotal 24.00\n`) {
		t.Errorf("receipt: %d %s", status, body)
	}
	if status, _ := ask(t, base, fmt.Sprintf("POST /orders/%d/cancel", o.ID), "", token, ""); status != 409 {
		t.Errorf("an order is cancelled that was paid: %d, want 409", status)
	}
	if _, body := ask(t, base, "GET /items/mug/related", "", "", ""); !strings.Contains(body, `"ebook"`) {
		t.Errorf("related to the mug: %s", body)
	}
	if _, body := ask(t, base, "GET /search?q=BOO", "", "", ""); !strings.Contains(body, `"sku":"ebook"`) || strings.Contains(body, "mug") {
		t.Errorf("found: %s", body)
	}
	for range 70 { // more than there are connections
		if status, body := ask(t, base, "GET /search?q=e", "", "", ""); status != 422 {
			t.Fatalf("a search that finds too much: %d %s", status, body)
		}
	}
	for range 2 { // from the database, then from the cache
		if _, body := ask(t, base, "GET /items/gift-box", "", "", ""); !strings.Contains(body, `"parts":[{"sku":"ebook"`) {
			t.Errorf("the bundle has no parts: %s", body)
		}
		if status, _ := ask(t, base, "GET /items/nothing", "", "", ""); status != 404 {
			t.Errorf("an item that is not there: %d, want 404", status)
		}
	}
}

// TestCancelledOrder needs stores.
func TestCancelledOrder(t *testing.T) {
	t.Parallel()
	url, addr := stores(t)
	base := shop(t, url, addr)
	token := logIn(t, base, fmt.Sprintf("ann-%d", time.Now().UnixNano()))
	stock := func() (n int) {
		_, body := ask(t, base, "GET /reports/stock", "", token, "")
		var out struct{ Levels []store.Level }
		if err := json.Unmarshal([]byte(body), &out); err != nil {
			t.Fatal(err)
		}
		for _, l := range out.Levels {
			if l.SKU == "course" {
				n = l.Stock
			}
		}
		return n
	}
	before := stock()
	_, placed := ask(t, base, "POST /orders", `{"items": [{"sku": "course", "qty": 7}]}`, token, "")
	var o store.Order
	if err := json.Unmarshal([]byte(placed), &o); err != nil {
		t.Fatalf("order: %s", placed)
	}
	// Many cancel at once: it is done once.
	var wg sync.WaitGroup
	var done atomic.Int32
	for range 8 {
		wg.Go(func() {
			if status, _ := ask(t, base, fmt.Sprintf("POST /orders/%d/cancel", o.ID), "", token, ""); status == 200 {
				done.Add(1)
			}
		})
	}
	wg.Wait()
	time.Sleep(60 * time.Millisecond) // a stock report may be so old
	if after := stock(); after != before || done.Load() != 1 {
		t.Errorf("cancelled %d times, the stock went from %d to %d", done.Load(), before, after)
	}
	if status, _ := ask(t, base, fmt.Sprintf("POST /orders/%d/pay", o.ID), "", token, "p"); status != 409 {
		t.Errorf("a payment for an order that was cancelled: %d, want 409", status)
	}
	_, body := ask(t, base, "GET /me/overview", "", token, "")
	for _, want := range []string{`"status":"cancelled"`, fmt.Sprintf(`"did":"cancelled order %d"`, o.ID), `"missing":{}`} {
		if !strings.Contains(body, want) {
			t.Errorf("the overview lacks %s: %s", want, body)
		}
	}
}

// running counts the goroutines that a function has started.
func running(by string) int {
	all := make([]byte, 8<<20)
	all = all[:runtime.Stack(all, true)]
	return strings.Count(string(all), "created by example.com/shop/internal/"+by+" ")
}

// TestPlantedTimerLeak: payments that fail leave goroutines that wait for a stopped timer.
func TestPlantedTimerLeak(t *testing.T) {
	t.Parallel()
	base := shop(t, "postgres://shop@"+nowhere+"/shop?sslmode=disable", nowhere, bugs.TimerLeak)
	token := logIn(t, base, "ann")
	before := running("web.(*Server).payWatched")
	for range 10 {
		if status, body := ask(t, base, "POST /orders/1/pay", "", token, "p"); status != 503 {
			t.Fatalf("pay: %d %s", status, body)
		}
	}
	time.Sleep(2 * slowPayment)
	if n := running("web.(*Server).payWatched") - before; n != 10 {
		t.Errorf("%d goroutines stay of 10 payments that failed", n)
	}
}

// TestPlantedCtxLost needs stores: a database that is slow for a moment leaves goroutines
// that nobody listens to, and they keep the slots.
func TestPlantedCtxLost(t *testing.T) {
	url, addr := stores(t)
	base := shop(t, url, addr, bugs.CtxLost)
	db, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.Background())
	tx, err := db.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "LOCK TABLE order_lines"); err != nil {
		t.Fatal(err)
	}
	before := running("related.(*Finder).ask")
	for range 10 {
		if status, body := ask(t, base, "GET /items/mug/related", "", "", ""); status != 200 {
			t.Errorf("related: %d %s", status, body)
		}
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	if n := running("related.(*Finder).ask") - before; n != 10 {
		t.Errorf("%d goroutines stay of 10 searches", n)
	}
	ask(t, base, "GET /items/mug/related", "", "", "")
	if n := running("related.(*Finder).ask") - before; n != 11 {
		t.Errorf("%d goroutines stay of 11 searches: the slots were given back", n)
	}
}

// TestPlantedConnLeak needs stores: searches that find too much keep their connections.
func TestPlantedConnLeak(t *testing.T) {
	t.Parallel()
	url, addr := stores(t)
	base := shop(t, url, addr, bugs.ConnLeak)
	for range 64 { // as many as there are
		if status, body := ask(t, base, "GET /search?q=e", "", "", ""); status != 422 {
			t.Fatalf("search: %d %s", status, body)
		}
	}
	for range 2 {
		if status, _ := ask(t, base, "GET /items", "", "", ""); status != 503 {
			t.Errorf("items: %d, want 503: there is a connection left", status)
		}
	}
}
