package web

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"example.com/ledger/internal/store"
)

const (
	maxAmount = 1_000_000
	maxName   = 60 // characters
	maxLife   = time.Hour
)

var (
	userForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,32}$`)
	keyForm  = regexp.MustCompile(`^[!-~]{1,64}$`)
)

// pool tells how busy the connections are.
func (s *Server) pool(*http.Request) (int, any, error) {
	st := s.Store.Stats()
	return http.StatusOK, map[string]int{"open": st.OpenConnections, "in_use": st.InUse, "most": st.MaxOpenConnections}, nil
}

func (s *Server) login(r *http.Request) (int, any, error) {
	var in struct{ User, Pin string }
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if !userForm.MatchString(in.User) || in.Pin != "0000" { // everybody's: this is a demonstration
		return 0, nil, refusal{http.StatusUnauthorized, "wrong user or pin"}
	}
	token := rand.Text()
	if err := s.Store.Open(r.Context(), token, in.User); err != nil {
		return 0, nil, err
	}
	return http.StatusOK, map[string]string{"token": token}, nil
}

func (s *Server) listAccounts(r *http.Request) (int, any, error) {
	after, limit, err := page(r)
	if err != nil {
		return 0, nil, err
	}
	found, err := s.Store.Accounts(r.Context(), ownerOf(r), after, limit)
	return http.StatusOK, map[string]any{
		"accounts": found, "next": next(found, limit, func(a store.Account) int64 { return a.ID }),
	}, err
}

func (s *Server) createAccount(r *http.Request) (int, any, error) {
	var in struct {
		Name    string `json:"name"`
		Balance int64  `json:"balance"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if err := nameable("a name", in.Name, 1); err != nil {
		return 0, nil, err
	}
	if in.Balance < 0 || in.Balance > maxAmount {
		return 0, nil, invalid("a balance is from 0 to %d", maxAmount)
	}
	once, err := onceOf(r, in)
	if err != nil {
		return 0, nil, err
	}
	a, err := s.Store.Create(r.Context(), once, in.Name, in.Balance)
	return http.StatusCreated, a, err
}

func (s *Server) getAccount(r *http.Request) (int, any, error) {
	n, err := id(r, "account")
	if err != nil {
		return 0, nil, err
	}
	a, err := s.Store.Account(r.Context(), ownerOf(r), n)
	return http.StatusOK, a, err
}

// patchAccount changes an account that nobody else has changed meanwhile.
func (s *Server) patchAccount(r *http.Request) (int, any, error) {
	n, err := id(r, "account")
	if err != nil {
		return 0, nil, err
	}
	var in struct {
		Name   *string `json:"name"`
		Closed *bool   `json:"closed"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if in.Name != nil {
		if err := nameable("a name", *in.Name, 1); err != nil {
			return 0, nil, err
		}
	}
	match := r.Header.Get("If-Match")
	if match == "" {
		return 0, nil, refusal{http.StatusPreconditionRequired, "If-Match must say which state is to be changed"}
	}
	a, err := s.Store.Change(r.Context(), ownerOf(r), n, match, store.Change{Name: in.Name, Closed: in.Closed})
	return http.StatusOK, a, err
}

func (s *Server) listTransfers(r *http.Request) (int, any, error) {
	n, err := id(r, "account")
	if err != nil {
		return 0, nil, err
	}
	after, limit, err := page(r)
	if err != nil {
		return 0, nil, err
	}
	found, err := s.Store.Transfers(r.Context(), ownerOf(r), n, after, limit)
	return http.StatusOK, map[string]any{
		"transfers": found, "next": next(found, limit, func(t store.Transfer) int64 { return t.ID }),
	}, err
}

func (s *Server) createTransfer(r *http.Request) (int, any, error) {
	var in struct {
		Source int64  `json:"source"`
		Target int64  `json:"target"`
		Amount int64  `json:"amount"`
		Memo   string `json:"memo"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if err := nameable("a memo", in.Memo, 0); err != nil {
		return 0, nil, err
	}
	switch {
	case in.Source < 1 || in.Target < 1:
		return 0, nil, store.ErrNotFound
	case in.Source == in.Target:
		return 0, nil, invalid("a transfer is between two accounts")
	case in.Amount < 1 || in.Amount > maxAmount:
		return 0, nil, invalid("an amount is from 1 to %d", maxAmount)
	}
	once, err := onceOf(r, in)
	if err != nil {
		return 0, nil, err
	}
	if once.Key == "" {
		return 0, nil, invalid("a transfer needs an Idempotency-Key")
	}
	t, err := s.Store.Transfer(r.Context(), once, store.Transfer{Source: in.Source, Target: in.Target, Amount: in.Amount, Memo: in.Memo})
	return http.StatusCreated, t, err
}

func (s *Server) getTransfer(r *http.Request) (int, any, error) {
	n, err := id(r, "transfer")
	if err != nil {
		return 0, nil, err
	}
	t, err := s.Store.TransferByID(r.Context(), ownerOf(r), n)
	return http.StatusOK, t, err
}

func (s *Server) createHold(r *http.Request) (int, any, error) {
	var in struct {
		Account int64 `json:"account"`
		Amount  int64 `json:"amount"`
		MS      int64 `json:"ms"`
	}
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	switch {
	case in.Account < 1:
		return 0, nil, store.ErrNotFound
	case in.Amount < 1 || in.Amount > maxAmount:
		return 0, nil, invalid("an amount is from 1 to %d", maxAmount)
	case in.MS < 1 || in.MS > maxLife.Milliseconds():
		return 0, nil, invalid("a hold lasts from 1 ms to %s", maxLife)
	}
	once, err := onceOf(r, in)
	if err != nil {
		return 0, nil, err
	}
	h, err := s.Store.Hold(r.Context(), once, in.Account, in.Amount, time.Duration(in.MS)*time.Millisecond)
	return http.StatusCreated, h, err
}

func (s *Server) releaseHold(r *http.Request) (int, any, error) {
	n, err := id(r, "hold")
	if err != nil {
		return 0, nil, err
	}
	return http.StatusNoContent, nil, s.Store.Release(r.Context(), ownerOf(r), n)
}

// nameable objects to a text that is too long or too short, or that Postgres cannot keep.
func nameable(what, text string, least int) error {
	if n := utf8.RuneCountInString(text); n < least || n > maxName || strings.ContainsRune(text, 0) {
		return invalid("%s has %d to %d characters", what, least, maxName)
	}
	return nil
}

// onceOf reads the idempotency key of a request and what it is for.
func onceOf(r *http.Request, body any) (store.Once, error) {
	once := store.Once{Owner: ownerOf(r), Key: r.Header.Get("Idempotency-Key")}
	if once.Key == "" {
		return once, nil
	}
	if !keyForm.MatchString(once.Key) {
		return once, invalid("an Idempotency-Key has 1 to 64 printable characters")
	}
	b, err := json.Marshal(body)
	once.Request = r.Method + " " + r.URL.Path + " " + string(b)
	return once, err
}
