// Package web is the feed's HTTP API.
package web

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"example.com/feed/internal/hub"
	"example.com/feed/internal/pool"
	"example.com/feed/internal/store"
	"example.com/feed/internal/views"
)

const (
	deadline = time.Second // of a request that is no stream
	later    = time.Second // of work that is done behind a reply
	maxBody  = 16 << 10
	maxText  = 280
)

var (
	topicForm  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
	authorForm = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,32}$`)
	idForm     = regexp.MustCompile(`^[0-9]{1,16}-[0-9]{1,16}$`)
	keyForm    = regexp.MustCompile(`^[!-~]{1,64}$`)
	tagForm    = regexp.MustCompile(`#[a-z]{1,32}`)
)

// Server answers requests. Close ends what it does beside them.
type Server struct {
	store   *store.Store
	hub     *hub.Hub
	views   *views.Counter
	taggers *pool.Pool // count the tags of what was published
	readers *pool.Pool // make digests
	digests *digests
	peers   *peers

	stop    context.CancelFunc // of listening
	running sync.WaitGroup
}

// New returns a server over its store, and starts to listen for messages. Peers are the
// base URLs of feeds that GET /peers asks.
func New(s *store.Store, peers []string) *Server {
	ctx, stop := context.WithCancel(context.Background())
	srv := &Server{
		store:   s,
		hub:     hub.New(64, 64),
		views:   &views.Counter{Write: s.AddViews},
		taggers: pool.New(pool.Options{Min: 2, Max: 2, Queue: 128}),
		readers: pool.New(pool.Options{Max: 4, Queue: 16, Idle: 2 * time.Second}),
		digests: newDigests(),
		peers:   newPeers(peers),
		stop:    stop,
	}
	srv.running.Go(func() { s.Listen(ctx, srv.hub.Publish) })
	srv.running.Go(func() { srv.digests.expire(ctx) })
	return srv
}

// EndStreams ends the replies that would not end by themselves.
func (s *Server) EndStreams() { s.hub.Close() }

// Close ends everything that goes on beside requests. None may be under way any more.
func (s *Server) Close(ctx context.Context) {
	s.EndStreams()
	s.stop()
	s.readers.Close(ctx)
	s.taggers.Close(ctx)
	s.views.Close()
	s.peers.close()
	s.running.Wait()
}

// Handler returns the routes.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /topics/{topic}/stream", s.stream)
	mux.Handle("GET /readyz", serve(s.ready))
	mux.Handle("POST /topics/{topic}/messages", serve(s.publish))
	mux.Handle("GET /topics/{topic}/messages", serve(s.history))
	mux.Handle("GET /topics/{topic}/views", serve(s.topicViews))
	mux.Handle("GET /tags", serve(s.tags))
	mux.Handle("POST /digests", serve(s.askDigest))
	mux.Handle("GET /digests/{digest}", serve(s.getDigest))
	mux.Handle("GET /peers", serve(s.askPeers))
	mux.Handle("GET /stats", serve(s.stats))
	return mux
}

func (s *Server) ready(r *http.Request) (int, any, error) {
	return http.StatusOK, "ready", s.store.Ping(r.Context())
}

func (s *Server) publish(r *http.Request) (int, any, error) {
	topic, err := topicOf(r)
	if err != nil {
		return 0, nil, err
	}
	var in struct{ Author, Text string }
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if !authorForm.MatchString(in.Author) || in.Text == "" || len(in.Text) > maxText {
		return 0, nil, invalid("a message has an author and 1 to %d bytes of text", maxText)
	}
	key := r.Header.Get("Idempotency-Key")
	switch {
	case key == "":
		key = rand.Text()
	case !keyForm.MatchString(key):
		return 0, nil, invalid("an Idempotency-Key has 1 to 64 printable characters")
	}
	m, fresh, err := s.store.Publish(r.Context(), topic, key, hub.Message{Author: in.Author, Text: in.Text})
	if err != nil {
		return 0, nil, err
	}
	if tags := tagForm.FindAllString(m.Text, -1); fresh && len(tags) > 0 {
		// It goes on when the caller has gone. When too much waits it is left out: tags
		// are an estimate.
		_ = s.taggers.Do(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, later)
			defer cancel()
			_ = s.store.AddTags(ctx, tags)
		})
	}
	return http.StatusCreated, m, nil
}

func (s *Server) history(r *http.Request) (int, any, error) {
	topic, err := topicOf(r)
	if err != nil {
		return 0, nil, err
	}
	after, limit := r.URL.Query().Get("after"), 20
	if after != "" && !idForm.MatchString(after) {
		return 0, nil, invalid("after is the id of a message")
	}
	if given := r.URL.Query().Get("limit"); given != "" {
		if limit, err = strconv.Atoi(given); err != nil || limit < 1 || limit > 100 {
			return 0, nil, invalid("a limit is from 1 to 100")
		}
	}
	found, err := s.store.After(r.Context(), topic, after, limit)
	if err != nil {
		return 0, nil, err
	}
	s.views.Add(topic)
	return http.StatusOK, map[string]any{"messages": found}, nil
}

func (s *Server) topicViews(r *http.Request) (int, any, error) {
	topic, err := topicOf(r)
	if err != nil {
		return 0, nil, err
	}
	n, err := s.store.Views(r.Context(), topic)
	return http.StatusOK, map[string]int64{"views": n}, err
}

func (s *Server) tags(r *http.Request) (int, any, error) {
	found, err := s.store.Tags(r.Context())
	return http.StatusOK, map[string]any{"tags": found}, err
}

func (s *Server) stats(*http.Request) (int, any, error) {
	now, dropped := s.hub.Readers()
	return http.StatusOK, map[string]int{
		"readers": now, "dropped": dropped, "workers": s.taggers.Workers() + s.readers.Workers(), "digests": s.digests.len(),
	}, nil
}

func topicOf(r *http.Request) (string, error) {
	topic := r.PathValue("topic")
	if !topicForm.MatchString(topic) {
		return "", badRequest{http.StatusNotFound, "no such topic"}
	}
	return topic, nil
}

// handler answers a request with a status and a body, or with an error.
type handler func(r *http.Request) (status int, body any, err error)

// serve bounds a request in time and size, and turns errors into replies.
func serve(h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), deadline)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		status, body, err := h(r)
		if err != nil {
			refuse(w, err)
			return
		}
		reply(w, status, body)
	})
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

// refuse answers with an error: what is not the caller's fault may pass.
func refuse(w http.ResponseWriter, err error) {
	var bad badRequest
	status, msg := http.StatusServiceUnavailable, err.Error()
	switch {
	case errors.As(err, &bad):
		status = bad.status
	case errors.Is(err, store.ErrKeyReuse):
		status = http.StatusUnprocessableEntity
	case errors.Is(err, store.ErrLate):
		status, msg = http.StatusGatewayTimeout, store.ErrLate.Error()
	case errors.Is(err, store.ErrDown):
		msg = store.ErrDown.Error()
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	reply(w, status, map[string]string{"error": msg})
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
		panic("feed: a reply that is no JSON: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(b) // a caller who has gone needs no reply
}
