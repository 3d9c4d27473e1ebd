// Package web is the shop's HTTP API.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"example.com/shop/internal/bugs"
	"example.com/shop/internal/cache"
	"example.com/shop/internal/flash"
	"example.com/shop/internal/receipt"
	"example.com/shop/internal/related"
	"example.com/shop/internal/report"
	"example.com/shop/internal/session"
	"example.com/shop/internal/settings"
	"example.com/shop/internal/stats"
	"example.com/shop/internal/store"
)

const (
	deadline = time.Second // of a request
	maxBody  = 64 << 10
)

// Server answers requests.
type Server struct {
	bugs     bugs.Set
	store    *store.Store
	cache    *cache.Cache
	signer   session.Signer
	stats    *stats.Stats
	settings *settings.Holder
	sale     *flash.Sale
	report   *report.Stock
	related  *related.Finder
	printer  *receipt.Printer
}

// New returns a server over its stores.
func New(on bugs.Set, db *store.Store, c *cache.Cache, key []byte) *Server {
	return &Server{
		bugs:     on,
		store:    db,
		cache:    c,
		signer:   session.Signer{Key: key},
		stats:    stats.New(on),
		settings: settings.New(on),
		sale:     &flash.Sale{Bugs: on},
		report:   &report.Stock{Bugs: on, Load: db.Levels},
		related:  related.New(on, db.Related),
		printer:  &receipt.Printer{Bugs: on},
	}
}

// Close ends what runs beside the requests.
func (s *Server) Close() { s.sale.Close() }

// Handler returns the routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, "ok") })
	open := func(pattern string, h handler) { mux.Handle(pattern, s.serve(h)) }
	closed := func(pattern string, h handler) { mux.Handle(pattern, s.serve(s.authenticated(h))) }

	open("POST /login", s.login)
	open("GET /items", s.listItems)
	open("GET /items/{item}", s.getItem)
	open("GET /items/{item}/related", s.relatedItems)
	open("GET /search", s.search)
	open("POST /coupons/check", s.checkCoupon)
	open("POST /addresses/check", s.checkAddress)
	open("GET /flash", s.getFlash)
	open("GET /settings", s.getSettings)
	open("GET /stats", s.getStats)

	closed("GET /me", s.me)
	closed("GET /me/overview", s.overview)
	closed("GET /cart", s.getCart)
	closed("PUT /cart/{item}", s.putCart)
	closed("POST /orders", s.createOrder)
	closed("GET /orders/{order}", s.getOrder)
	closed("GET /orders/{order}/receipt", s.getReceipt)
	closed("POST /orders/{order}/pay", s.payOrder)
	closed("POST /orders/{order}/cancel", s.cancelOrder)
	closed("GET /reports/stock", s.stockReport)
	closed("POST /flash", s.startFlash)
	closed("PUT /settings", s.putSettings)
	return mux
}

// call is one request on its way through the handlers.
type call struct {
	*http.Request
	user string
}

// handler answers a call with a status and a body, or with an error.
type handler func(c call) (status int, body any, err error)

// serve bounds a request in time and size, and turns errors into replies.
func (s *Server) serve(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), deadline)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		s.stats.Request()
		status, body, err := h(call{Request: r})
		if err != nil {
			status = statusOf(err)
			body = map[string]string{"error": said(err)}
		}
		reply(w, status, body)
		if errors.Is(err, store.ErrDown) {
			s.stats.Failure("postgres " + kind(err))
		}
	})
}

// authenticated lets only users in who have logged in.
func (s *Server) authenticated(h handler) handler {
	return func(c call) (int, any, error) {
		token, _ := strings.CutPrefix(c.Header.Get("Authorization"), "Bearer ")
		user, err := s.signer.User(token, time.Now())
		if err != nil {
			return 0, nil, err
		}
		c.user = user
		return h(c)
	}
}

// cacheFailed takes note of a cache that does not answer. Requests go on without it.
func (s *Server) cacheFailed(err error) {
	if err != nil {
		s.stats.Failure("redis " + kind(err))
	}
}

// badRequest is an error that is the caller's.
type badRequest struct {
	status int
	msg    string
}

func (e badRequest) Error() string { return e.msg }

// invalid says that a request is well formed and makes no sense.
func invalid(format string, args ...any) error {
	return badRequest{http.StatusUnprocessableEntity, fmt.Sprintf(format, args...)}
}

// statusOf returns the status that an error is answered with. What is not the caller's
// fault is a store's, and may pass.
func statusOf(err error) int {
	var bad badRequest
	switch {
	case errors.As(err, &bad):
		return bad.status
	case errors.Is(err, session.ErrToken):
		return http.StatusUnauthorized
	case errors.Is(err, store.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, store.ErrStock), errors.Is(err, store.ErrPaid), errors.Is(err, store.ErrCancelled):
		return http.StatusConflict
	case errors.Is(err, store.ErrKeyReuse), errors.Is(err, store.ErrTooMany):
		return http.StatusUnprocessableEntity
	}
	return http.StatusServiceUnavailable
}

// said is what the caller is told about an error: not what the stores look like inside.
func said(err error) string {
	if errors.Is(err, store.ErrDown) {
		return store.ErrDown.Error()
	}
	return err.Error()
}

// kind sorts the failures of dependencies.
func kind(err error) string {
	var n net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &n) && n.Timeout():
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &n):
		return "network"
	}
	return "other"
}

// decode reads a JSON body.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	var large *http.MaxBytesError
	switch err := d.Decode(into); {
	case errors.As(err, &large):
		return badRequest{http.StatusRequestEntityTooLarge, "the body is too large"}
	case err != nil:
		return badRequest{http.StatusBadRequest, "the body is not the JSON that is expected"}
	case d.More():
		return badRequest{http.StatusBadRequest, "the body goes on behind its JSON"}
	}
	return nil
}

// reply writes a JSON reply.
func reply(w http.ResponseWriter, status int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		panic("shop: a reply that is no JSON: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b) // a caller who has gone needs no reply
}
