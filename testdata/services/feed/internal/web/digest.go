package web

import (
	"cmp"
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/feed/internal/hub"
)

const (
	digestLife = 20 * time.Second
	maxDigests = 2048
	maxWords   = 5
)

// digest is what a topic is about, once it is known.
type digest struct {
	ID     string   `json:"id"`
	Topic  string   `json:"topic"`
	Status string   `json:"status"` // waiting, done or failed
	Words  []string `json:"words,omitempty"`
	made   time.Time
}

// digests keeps digests for a while.
type digests struct {
	mu  sync.Mutex // guards all
	all map[string]digest
}

func newDigests() *digests { return &digests{all: map[string]digest{}} }

func (d *digests) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.all)
}

func (d *digests) get(id string) (digest, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x, ok := d.all[id]
	return x, ok
}

// put keeps a digest, unless there are too many.
func (d *digests) put(x digest) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.all[x.ID]; !known && len(d.all) >= maxDigests {
		return false
	}
	d.all[x.ID] = x
	return true
}

func (d *digests) drop(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.all, id)
}

// expire drops old digests until ctx ends.
func (d *digests) expire(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			d.mu.Lock()
			for id, x := range d.all {
				if now.Sub(x.made) > digestLife {
					delete(d.all, id)
				}
			}
			d.mu.Unlock()
		}
	}
}

// askDigest has a digest made, which takes its time.
func (s *Server) askDigest(r *http.Request) (int, any, error) {
	var in struct{ Topic string }
	if err := decode(r, &in); err != nil {
		return 0, nil, err
	}
	if !topicForm.MatchString(in.Topic) {
		return 0, nil, invalid("a digest is of a topic")
	}
	x := digest{ID: rand.Text(), Topic: in.Topic, Status: "waiting", made: time.Now()}
	if !s.digests.put(x) {
		return 0, nil, badRequest{http.StatusTooManyRequests, "there are too many digests: come again later"}
	}
	err := s.readers.Do(func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, later)
		defer cancel()
		x := x
		found, err := s.store.After(ctx, x.Topic, "", 100)
		if x.Status = "done"; err != nil {
			x.Status = "failed"
		}
		x.Words = words(found)
		s.digests.put(x)
	})
	if err != nil {
		s.digests.drop(x.ID)
		return 0, nil, err // too much to do: come again
	}
	return http.StatusAccepted, x, nil
}

// words returns the words that messages use most.
func words(messages []hub.Message) []string {
	uses := map[string]int{}
	var all []string
	for _, m := range messages {
		for _, w := range strings.Fields(m.Text) {
			if uses[w]++; uses[w] == 1 {
				all = append(all, w)
			}
		}
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(cmp.Compare(uses[b], uses[a]), cmp.Compare(a, b)) })
	return all[:min(len(all), maxWords)]
}

func (s *Server) getDigest(r *http.Request) (int, any, error) {
	x, known := s.digests.get(r.PathValue("digest"))
	if !known {
		return 0, nil, badRequest{http.StatusNotFound, "no such digest"}
	}
	return http.StatusOK, x, nil
}
