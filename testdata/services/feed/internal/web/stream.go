package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"example.com/feed/internal/hub"
)

const (
	heartbeat = 100 * time.Millisecond
	writeTime = time.Second     // for a reader to take what is written
	lifetime  = 5 * time.Minute // of a stream: readers come again
	catchUp   = 100             // messages that are sent again
)

// stream sends the messages of a topic as they come, as server-sent events, until the
// reader goes or the server ends. Who names the last one that it has seen is sent those
// behind it first.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	topic, err := topicOf(r)
	if err != nil {
		refuse(w, err)
		return
	}
	last := r.Header.Get("Last-Event-ID")
	if last != "" && !idForm.MatchString(last) {
		refuse(w, invalid("Last-Event-ID is the id of a message"))
		return
	}
	reader, err := s.hub.Join(topic)
	if err != nil {
		refuse(w, err)
		return
	}
	defer reader.Leave()
	// It listens already, so that nothing falls between what was and what comes.
	missed, err := s.missed(r.Context(), topic, last)
	if err != nil {
		refuse(w, err)
		return
	}
	s.views.Add(topic)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	ctx, cancel := context.WithTimeout(r.Context(), lifetime)
	defer cancel()
	e := events{w: w, control: http.NewResponseController(w), last: last}
	if e.send(missed) == nil {
		e.follow(ctx, reader) // one that cannot be written to has gone
	}
}

func (s *Server) missed(ctx context.Context, topic, last string) ([]hub.Message, error) {
	if last == "" {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	return s.store.After(ctx, topic, last, catchUp)
}

// events writes server-sent events.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
	last    string // the id that was sent last
}

func (e *events) follow(ctx context.Context, reader *hub.Reader) error {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		batch, ended := reader.Take()
		if err := e.send(batch); err != nil {
			return err
		}
		if ended != nil {
			return e.write("event: end\ndata: %q\n\n", ended)
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return e.write("event: end\ndata: \"come again\"\n\n")
			}
			return ctx.Err()
		case <-reader.Wake():
		case <-beat.C:
			if err := e.write(": beat\n\n"); err != nil {
				return err
			}
		}
	}
}

// send sends messages, but those that were sent before.
func (e *events) send(batch []hub.Message) error {
	for _, m := range batch {
		if e.last != "" && !older(e.last, m.ID) {
			continue
		}
		b, err := json.Marshal(m)
		if err != nil {
			return err
		}
		if err := e.write("id: %s\ndata: %s\n\n", m.ID, b); err != nil {
			return err
		}
		e.last = m.ID
	}
	return nil
}

func (e *events) write(format string, args ...any) error {
	if err := e.control.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(e.w, format, args...); err != nil {
		return err
	}
	return e.control.Flush()
}

// older reports whether id a comes before id b: they are two numbers.
func older(a, b string) bool {
	a1, a2 := numbers(a)
	b1, b2 := numbers(b)
	return a1 < b1 || a1 == b1 && a2 < b2
}

func numbers(id string) (uint64, uint64) {
	ms, n, _ := strings.Cut(id, "-")
	x, _ := strconv.ParseUint(ms, 10, 64)
	y, _ := strconv.ParseUint(n, 10, 64)
	return x, y
}
