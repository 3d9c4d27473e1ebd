// Feed passes short messages on: they are kept in Redis streams, and read page by page or
// as server-sent events.
//
// It is set up by its environment: ADDR, REDIS_ADDR, and PEERS, the base URLs of other
// feeds, with commas between them; it is its own peer where there are none.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/feed/internal/store"
	"example.com/feed/internal/web"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("feed", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	l, err := listen(ctx, cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080"))
	if err != nil {
		return err
	}
	redis.SetLogger(quiet{})
	db := store.New(cmp.Or(os.Getenv("REDIS_ADDR"), "127.0.0.1:6379"))
	defer func() { err = errors.Join(err, db.Close()) }()
	peers := cmp.Or(os.Getenv("PEERS"), "http://"+l.Addr().String())
	feed := web.New(db, strings.Split(peers, ","))
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		feed.Close(end)
	}()
	srv := &http.Server{
		Handler:           feed.Handler(),
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second, // streams set their own
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	srv.RegisterOnShutdown(feed.EndStreams)
	return serve(ctx, l, srv)
}

// quiet drops what the Redis client logs, a line for each failed dial.
type quiet struct{}

func (quiet) Printf(context.Context, string, ...any) {}

// listen waits for an address that the process before this one may still have.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// serve answers requests until ctx ends, then those that are under way.
func serve(ctx context.Context, l net.Listener, srv *http.Server) error {
	slog.Info("feed is open", "addr", l.Addr().String())
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		srv.Close()
		return fmt.Errorf("requests were cut off: %w", err)
	}
	<-failed
	slog.Info("feed is closed")
	return nil
}
