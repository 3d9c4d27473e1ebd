package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"github.com/jackc/pgx/v5/pgconn"
)

// TestAgain counts how often something is done that fails so many times.
func TestAgain(t *testing.T) {
	t.Parallel()
	serialization := &pgconn.PgError{Code: "40001"}
	for _, tc := range []struct {
		name  string
		err   error
		fails int
		done  int
		want  error
	}{
		{"nothing wrong", nil, 0, 1, nil},
		{"in each other's way", serialization, 2, 3, nil},
		{"in each other's way for long", serialization, 99, tries, ErrDown},
		{"deadlock at the commit", fmt.Errorf("commit: %w", &pgconn.PgError{Code: "40P01"}), 1, 2, nil},
		{"the same new key", &pgconn.PgError{Code: "23505", ConstraintName: "answers_pkey"}, 1, 2, nil},
		{"another key", &pgconn.PgError{Code: "23505", ConstraintName: "accounts_pkey"}, 1, 1, ErrDown},
		{"not begun", &unsent{io.ErrUnexpectedEOF}, 1, 2, nil},
		{"not begun in time", &unsent{context.DeadlineExceeded}, 1, 1, ErrLate},
		{"broken in the midst", io.ErrUnexpectedEOF, 1, 1, ErrDown},
		{"refused", ErrFunds, 1, 1, ErrFunds},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				done := 0
				err := again(t.Context(), func(context.Context) error {
					if done++; done > tc.fails {
						return nil
					}
					return tc.err
				})
				if done != tc.done || !errors.Is(err, tc.want) {
					t.Errorf("done %d times: %v; want %d times, %v", done, err, tc.done, tc.want)
				}
			})
		})
	}
}

func TestAgainEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	done := 0
	err := again(ctx, func(context.Context) error {
		done++
		cancel()
		return &unsent{io.EOF}
	})
	if done != 1 || !errors.Is(err, ErrDown) {
		t.Errorf("done %d times: %v", done, err)
	}
}
