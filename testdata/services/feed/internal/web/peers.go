package web

import (
	"context"
	"io"
	"net/http"
	"sync"
	"time"
)

// peers asks other feeds how they are, over connections that it keeps.
type peers struct {
	urls   []string
	client *http.Client
}

func newPeers(urls []string) *peers {
	return &peers{urls, &http.Client{
		Timeout: 500 * time.Millisecond,
		Transport: &http.Transport{
			MaxIdleConnsPerHost:   4,
			IdleConnTimeout:       10 * time.Second,
			ResponseHeaderTimeout: 400 * time.Millisecond,
		},
	}}
}

func (p *peers) close() { p.client.CloseIdleConnections() }

// askPeers asks all peers at once.
func (s *Server) askPeers(r *http.Request) (int, any, error) {
	states := make([]string, len(s.peers.urls))
	var wg sync.WaitGroup
	for i, url := range s.peers.urls {
		wg.Go(func() { states[i] = s.peers.ask(r.Context(), url) })
	}
	wg.Wait()
	return http.StatusOK, map[string]any{"peers": states}, nil
}

func (p *peers) ask(ctx context.Context, url string) string {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/healthz", nil)
	if err != nil {
		return "no address"
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return "away"
	}
	defer resp.Body.Close()
	// Read to its end, the connection can serve again.
	if _, err := io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)); err != nil || resp.StatusCode != http.StatusOK {
		return "ill"
	}
	return "well"
}
