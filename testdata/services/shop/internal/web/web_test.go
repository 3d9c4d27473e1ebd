package web

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/shop/internal/cache"
	"example.com/shop/internal/store"
)

// shop serves the API over the stores at these addresses.
func shop(t *testing.T, databaseURL, redisAddr string) string {
	t.Helper()
	db, err := store.New(context.Background(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	c := cache.New(redisAddr)
	t.Cleanup(func() { c.Close() })
	s := New(nil, db, c, []byte("key"))
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
	base := shop(t, "postgres://shop@127.0.0.1:1/shop?sslmode=disable", "127.0.0.1:1")
	token := logIn(t, base, "ann")
	for _, tc := range []struct {
		request, body string
		want          int
	}{
		{"GET /healthz", "", 200},
		{"GET /items", "", 503},
		{"GET /items/mug", "", 503},
		{"GET /items/no%00thing", "", 404},
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
		{"GET /orders/1", "", 503},
		{"GET /reports/stock", "", 503},
		{"GET /me", "", 200},
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
	if _, body := ask(t, base, "GET /stats", "", "", ""); !strings.Contains(body, "postgres ") || !strings.Contains(body, "redis ") {
		t.Errorf("the failures were not counted: %s", body)
	}
}

// TestOrderJourney needs stores with schema.sql: SHOP_DATABASE_URL and SHOP_REDIS_ADDR.
func TestOrderJourney(t *testing.T) {
	t.Parallel()
	url, addr := os.Getenv("SHOP_DATABASE_URL"), os.Getenv("SHOP_REDIS_ADDR")
	if url == "" || addr == "" {
		t.Skip("SHOP_DATABASE_URL and SHOP_REDIS_ADDR say where stores are")
	}
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
	for range 2 { // from the database, then from the cache
		if _, body := ask(t, base, "GET /items/gift-box", "", "", ""); !strings.Contains(body, `"parts":[{"sku":"ebook"`) {
			t.Errorf("the bundle has no parts: %s", body)
		}
		if status, _ := ask(t, base, "GET /items/nothing", "", "", ""); status != 404 {
			t.Errorf("an item that is not there: %d, want 404", status)
		}
	}
}
