// Shop is an order system: items with stock, what is bought with them, carts, orders,
// payments, receipts, coupons. Its data are in Postgres, copies of them and a journal in
// Redis, which it can do without.
//
// It is set up by its environment: ADDR, REDIS_ADDR, DATABASE_URL, SECRET for the tokens,
// and BUGS, which switches planted bugs on.
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
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"example.com/shop/internal/bugs"
	"example.com/shop/internal/cache"
	"example.com/shop/internal/store"
	"example.com/shop/internal/web"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("shop", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	on, err := bugs.Parse(os.Getenv("BUGS"))
	if err != nil {
		return err
	}
	// The stores live until the last request is answered.
	db, err := store.New(context.WithoutCancel(ctx), cmp.Or(os.Getenv("DATABASE_URL"), "postgres://shop@127.0.0.1:5432/shop?sslmode=disable"), on)
	if err != nil {
		return err
	}
	defer db.Close()
	redis.SetLogger(quiet{})
	c := cache.New(cmp.Or(os.Getenv("REDIS_ADDR"), "127.0.0.1:6379"))
	defer func() { err = errors.Join(err, c.Close()) }()
	shop := web.New(on, db, c, []byte(cmp.Or(os.Getenv("SECRET"), "not a secret")))
	defer shop.Close()

	l, err := listen(ctx, cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080"))
	if err != nil {
		return err
	}
	return serve(ctx, l, &http.Server{
		Handler:           shop.Handler(),
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	})
}

// quiet drops what the Redis client logs, a line for each failed dial: failures are
// counted, see GET /stats.
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
	slog.Info("shop is open", "addr", l.Addr().String())
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
	slog.Info("shop is closed")
	return nil
}
