// Ledger keeps accounts: money is moved between them, set aside for a while, and given
// back when the time is up.
//
// It is set up by its environment: ADDR and DATABASE_URL.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"example.com/ledger/internal/store"
	"example.com/ledger/internal/web"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("ledger", "error", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	db, err := store.New(cmp.Or(os.Getenv("DATABASE_URL"), "postgres://ledger@127.0.0.1:5432/ledger?sslmode=disable"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	l, err := listen(ctx, cmp.Or(os.Getenv("ADDR"), "127.0.0.1:8080"))
	if err != nil {
		return err
	}
	// What runs in the background ends before the database is closed, however this returns.
	background, end := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer end()
	wg.Go(func() { expire(background, db) })
	return serve(ctx, l, &http.Server{
		Handler:           (&web.Server{Store: db}).Handler(),
		ReadHeaderTimeout: 2 * time.Second,
		ReadTimeout:       5 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	})
}

const (
	expireEvery = 400 * time.Millisecond
	expireLimit = 800 * time.Millisecond // of one time
)

// expire gives back what was set aside, until ctx ends. What goes wrong is told once, and
// when it is over.
func expire(ctx context.Context, db *store.Store) {
	t := time.NewTicker(expireEvery + rand.N(expireEvery/4)) // several ledgers do not do it all at once
	defer t.Stop()
	ill := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		limited, cancel := context.WithTimeout(ctx, expireLimit)
		err := db.Expire(limited)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !ill:
			slog.Warn("holds are not expired", "error", err)
		case err == nil && ill:
			slog.Info("holds are expired again")
		}
		ill = err != nil
	}
}

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
	slog.Info("ledger is open", "addr", l.Addr().String())
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
	slog.Info("ledger is closed")
	return nil
}
