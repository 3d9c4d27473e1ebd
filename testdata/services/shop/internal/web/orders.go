package web

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"example.com/shop/internal/bugs"
	"example.com/shop/internal/store"
)

var (
	userForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,32}$`)
	keyForm  = regexp.MustCompile(`^[!-~]{1,64}$`)
)

const (
	password = "open sesame" // of everybody: this is a demonstration
	maxLines = 20
	maxQty   = 1000

	slowPayment = 500 * time.Millisecond // from then on a payment is counted as slow
)

func (s *Server) login(c call) (int, any, error) {
	var in struct{ User, Password string }
	if err := decode(c.Request, &in); err != nil {
		return 0, nil, err
	}
	if !userForm.MatchString(in.User) || subtle.ConstantTimeCompare([]byte(in.Password), []byte(password)) != 1 {
		return 0, nil, badRequest{http.StatusUnauthorized, "wrong user or password"}
	}
	return http.StatusOK, map[string]string{"token": s.signer.Token(in.User, time.Now())}, nil
}

// me greets a user. How often they came is known only while the cache answers.
func (s *Server) me(c call) (int, any, error) {
	out := struct {
		User   string `json:"user"`
		Visits *int64 `json:"visits"`
	}{User: c.user}
	if n, err := s.cache.Visit(c.Context(), c.user); err == nil {
		out.Visits = &n
	} else {
		s.cacheFailed(err)
	}
	return http.StatusOK, out, nil
}

func (s *Server) getCart(c call) (int, any, error) {
	lines, err := s.store.Cart(c.Context(), c.user)
	return http.StatusOK, map[string]any{"lines": lines}, err
}

func (s *Server) putCart(c call) (int, any, error) {
	var in struct{ Qty int }
	if err := decode(c.Request, &in); err != nil {
		return 0, nil, err
	}
	line := store.Line{SKU: c.PathValue("item"), Qty: in.Qty}
	if !skuForm.MatchString(line.SKU) {
		return 0, nil, store.ErrNotFound
	}
	if line.Qty < 0 || line.Qty > maxQty {
		return 0, nil, invalid("a quantity is from 0 to %d", maxQty)
	}
	return http.StatusOK, line, s.store.SetCart(c.Context(), c.user, line)
}

// orderRequest asks for an order.
type orderRequest struct {
	Items  []store.Line `json:"items"`
	Coupon string       `json:"coupon"`
}

func (r orderRequest) check() error {
	if len(r.Items) == 0 || len(r.Items) > maxLines {
		return invalid("an order has 1 to %d lines", maxLines)
	}
	seen := map[string]bool{}
	for _, l := range r.Items {
		switch {
		case !skuForm.MatchString(l.SKU):
			return store.ErrNotFound
		case l.Qty < 1 || l.Qty > maxQty:
			return invalid("a quantity is from 1 to %d", maxQty)
		case seen[l.SKU]:
			return invalid("%s is ordered twice", l.SKU)
		}
		seen[l.SKU] = true
	}
	return nil
}

func (s *Server) createOrder(c call) (int, any, error) {
	var in orderRequest
	if err := decode(c.Request, &in); err != nil {
		return 0, nil, err
	}
	if err := in.check(); err != nil {
		return 0, nil, err
	}
	once, err := onceOf(c, in)
	if err != nil {
		return 0, nil, err
	}
	percent := 0
	if in.Coupon != "" {
		if percent, err = s.discount(c.Context(), in.Coupon); err != nil {
			return 0, nil, err
		}
	}
	o, err := s.store.Place(c.Context(), once, c.user, in.Items, percent)
	if err == nil {
		s.forget(c.Context(), o.Lines)
	}
	return http.StatusCreated, o, err
}

// forget drops items from the cache whose stock has changed. Where that fails they are
// out of date until they expire: orders look at the database alone.
func (s *Server) forget(ctx context.Context, lines []store.Line) {
	skus := make([]string, len(lines))
	for i, l := range lines {
		skus[i] = l.SKU
	}
	s.cacheFailed(s.cache.Drop(ctx, skus...))
}

func (s *Server) getOrder(c call) (int, any, error) {
	id, err := orderID(c)
	if err != nil {
		return 0, nil, err
	}
	o, err := s.store.Order(c.Context(), c.user, id)
	return http.StatusOK, o, err
}

func (s *Server) payOrder(c call) (int, any, error) {
	id, err := orderID(c)
	if err != nil {
		return 0, nil, err
	}
	once, err := onceOf(c, nil)
	if err != nil {
		return 0, nil, err
	}
	if once.Key == "" {
		return 0, nil, invalid("a payment needs an Idempotency-Key")
	}
	if s.bugs.Enabled(bugs.TimerLeak) {
		return s.payWatched(c, once, id)
	}
	slow := time.AfterFunc(slowPayment, s.stats.Slow)
	defer slow.Stop()
	o, err := s.store.Pay(c.Context(), once, c.user, id)
	return http.StatusOK, o, err
}

// payWatched pays an order, and has somebody watch how long that takes.
func (s *Server) payWatched(c call, once store.Once, id int64) (int, any, error) {
	slow := time.NewTimer(slowPayment)
	defer slow.Stop()
	paid := make(chan struct{})
	go func() {
		select {
		case <-slow.C:
			s.stats.Slow()
		case <-paid:
		}
	}()
	o, err := s.store.Pay(c.Context(), once, c.user, id)
	if err != nil {
		return 0, nil, err
	}
	close(paid)
	return http.StatusOK, o, nil
}

func orderID(c call) (int64, error) {
	id, err := strconv.ParseInt(c.PathValue("order"), 10, 64)
	if err != nil || id < 1 {
		return 0, store.ErrNotFound
	}
	return id, nil
}

// onceOf reads the idempotency key of a request and what it is for.
func onceOf(c call, body any) (store.Once, error) {
	key := c.Header.Get("Idempotency-Key")
	if key == "" {
		return store.Once{}, nil
	}
	if !keyForm.MatchString(key) {
		return store.Once{}, invalid("an Idempotency-Key has 1 to 64 printable characters")
	}
	b, err := json.Marshal(body)
	if err != nil {
		return store.Once{}, err
	}
	return store.Once{Key: key, Request: c.Method + " " + c.URL.Path + " " + string(b)}, nil
}
