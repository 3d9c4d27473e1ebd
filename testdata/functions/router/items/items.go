// Package items serves a few items of stock. Its mistakes can be switched on.
package items

import (
	"fmt"
	"net/http"
	"strconv"
	"sync"
)

// Bugs are the mistakes that can be switched on.
type Bugs struct {
	Panic bool // an amount is taken for an index without a look at the length
	Race  bool // the last item asked for is read while it is written
}

// Server answers
//
//	GET /items/{id}
//	POST /items/{id}/reserve with the form value n
type Server struct {
	bugs Bugs

	mu   sync.Mutex // guards last
	last string
}

// New returns a server.
func New(b Bugs) *Server { return &Server{bugs: b} }

// Handler returns the routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /items/{id}", s.get)
	mux.HandleFunc("POST /items/{id}/reserve", s.reserve)
	return mux
}

func (s *Server) get(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if len(id) > 32 {
		http.Error(w, "no such item", http.StatusNotFound)
		return
	}
	noted := make(chan struct{})
	go func() {
		defer close(noted)
		s.note(id)
	}()
	if s.bugs.Race {
		fmt.Fprintf(w, "%s after %s\n", id, s.last)
		<-noted
		return
	}
	<-noted
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(w, "%s after %s\n", id, s.last)
}

func (s *Server) note(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = id
}

// shelves says what is where.
var shelves = [2]string{"left", "right"}

func (s *Server) reserve(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("n"))
	if err != nil || n < 0 || !s.bugs.Panic && n >= len(shelves) {
		http.Error(w, "n is no amount", http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%s from %s\n", r.PathValue("id"), shelves[n])
}
