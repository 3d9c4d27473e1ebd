// Package web is the ledger's HTTP API.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"

	"example.com/ledger/internal/store"
)

const (
	deadline = time.Second // of a request
	maxBody  = 16 << 10
)

// Server answers requests.
type Server struct{ Store *store.Store }

// Handler returns the routes.
func (s *Server) Handler() http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.RequestID, middleware.Recoverer, middleware.CleanPath, bounded)
	r.NotFound(answers(func(*http.Request) (int, any, error) { return 0, nil, refusal{http.StatusNotFound, "not found"} }))
	r.MethodNotAllowed(answers(func(*http.Request) (int, any, error) {
		return 0, nil, refusal{http.StatusMethodNotAllowed, "that cannot be done here"}
	}))
	r.Get("/healthz", answers(func(*http.Request) (int, any, error) { return http.StatusOK, "ok", nil }))
	r.Get("/pool", answers(s.pool))
	r.Post("/login", answers(s.login))
	r.Group(func(r chi.Router) {
		r.Use(s.authenticated)
		r.Get("/accounts", answers(s.listAccounts))
		r.Post("/accounts", answers(s.createAccount))
		r.Get("/accounts/{account}", answers(s.getAccount))
		r.Patch("/accounts/{account}", answers(s.patchAccount))
		r.Get("/accounts/{account}/transfers", answers(s.listTransfers))
		r.Post("/transfers", answers(s.createTransfer))
		r.Get("/transfers/{transfer}", answers(s.getTransfer))
		r.Post("/holds", answers(s.createHold))
		r.Delete("/holds/{hold}", answers(s.releaseHold))
	})
	return r
}

// bounded bounds a request in time and size.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), deadline)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

type ownerKey struct{}

// authenticated lets only those in who have a session.
func (s *Server) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, given := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !given || len(token) > 100 {
			refuse(w, store.ErrSession)
			return
		}
		owner, err := s.Store.Owner(r.Context(), token)
		if err != nil {
			refuse(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), ownerKey{}, owner)))
	})
}

// ownerOf returns who makes a request that was authenticated.
func ownerOf(r *http.Request) string { return r.Context().Value(ownerKey{}).(string) }

// answers turns what a function returns into a reply: a status and a body, or an error.
func answers(h func(r *http.Request) (status int, body any, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, body, err := h(r)
		if err != nil {
			refuse(w, err)
			return
		}
		if a, ok := body.(store.Account); ok {
			w.Header().Set("ETag", a.ETag)
		}
		reply(w, status, body)
	}
}

// refusal is an error that is the caller's.
type refusal struct {
	status int
	msg    string
}

func (e refusal) Error() string { return e.msg }

// invalid says that a request is well formed and makes no sense.
func invalid(format string, args ...any) error {
	return refusal{http.StatusUnprocessableEntity, fmt.Sprintf(format, args...)}
}

// refuse answers with an error. What is not the caller's fault is the database's, and may
// pass.
func refuse(w http.ResponseWriter, err error) {
	var is refusal
	status, msg := http.StatusServiceUnavailable, store.ErrDown.Error()
	switch {
	case errors.As(err, &is):
		status, msg = is.status, is.msg
	case errors.Is(err, store.ErrLate):
		status, msg = http.StatusGatewayTimeout, store.ErrLate.Error()
	default:
		for known, s := range map[error]int{
			store.ErrNotFound: http.StatusNotFound,
			store.ErrSession:  http.StatusUnauthorized,
			store.ErrFunds:    http.StatusConflict,
			store.ErrClosed:   http.StatusConflict,
			store.ErrMoney:    http.StatusConflict,
			store.ErrVersion:  http.StatusPreconditionFailed,
			store.ErrKeyReuse: http.StatusUnprocessableEntity,
		} {
			if errors.Is(err, known) {
				status, msg = s, known.Error()
			}
		}
	}
	reply(w, status, map[string]string{"error": msg})
}

// reply writes a JSON reply; nil is no body.
func reply(w http.ResponseWriter, status int, body any) {
	if body == nil {
		w.WriteHeader(status)
		return
	}
	b, err := json.Marshal(body)
	if err != nil {
		panic("ledger: a reply that is no JSON: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b) // a caller who has gone needs no reply
}

// decode reads a JSON body that has no other fields than these.
func decode(r *http.Request, into any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return refusal{http.StatusUnsupportedMediaType, "the body must be application/json"}
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	var large *http.MaxBytesError
	switch err := d.Decode(into); {
	case errors.As(err, &large):
		return refusal{http.StatusRequestEntityTooLarge, "the body is too large"}
	case err != nil:
		return refusal{http.StatusBadRequest, "the body is not the JSON that is expected"}
	case d.More():
		return refusal{http.StatusBadRequest, "the body goes on behind its JSON"}
	}
	return nil
}

// id reads a part of the path that is the id of something.
func id(r *http.Request, name string) (int64, error) {
	n, err := strconv.ParseInt(chi.URLParam(r, name), 10, 64)
	if err != nil || n < 1 {
		return 0, store.ErrNotFound
	}
	return n, nil
}

// page reads where a page begins and how long it is.
func page(r *http.Request) (after int64, limit int, err error) {
	q := r.URL.Query()
	limit = 20
	if given := q.Get("after"); given != "" {
		if after, err = strconv.ParseInt(given, 10, 64); err != nil || after < 0 {
			return 0, 0, invalid("after is the id of the last one on the page before")
		}
	}
	if given := q.Get("limit"); given != "" {
		if limit, err = strconv.Atoi(given); err != nil || limit < 1 || limit > 100 {
			return 0, 0, invalid("a limit is from 1 to 100")
		}
	}
	return after, limit, nil
}

// next returns where the next page begins, nil where there is none.
func next[T any](found []T, limit int, id func(T) int64) *int64 {
	if len(found) < limit {
		return nil
	}
	last := id(found[len(found)-1])
	return &last
}
