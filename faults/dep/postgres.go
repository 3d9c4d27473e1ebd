package dep

import (
	"context"
	"errors"
	"fmt"

	"github.com/shakedown-go/shakedown/harness"
)

const postgres = "postgres"

// sessions are those of others in the database: the harness's own all have one name.
const sessions = ` FROM pg_catalog.pg_stat_activity
	WHERE datname = pg_catalog.current_database() AND backend_type = 'client backend'
	AND application_name <> pg_catalog.current_setting('application_name')`

// one runs a statement that answers one value.
func one(ctx context.Context, s harness.Store, statement ...string) (string, error) {
	got, err := s.Do(ctx, statement...)
	if err == nil && len(got) != 1 {
		err = fmt.Errorf("%d values, not one: %s", len(got), statement[0])
	}
	if err != nil {
		return "", err
	}
	return got[0], nil
}

// number runs a statement that answers one number.
func number(ctx context.Context, s harness.Store, statement ...string) (int64, error) {
	got, err := s.Do(ctx, statement...)
	if err != nil {
		return 0, err
	}
	return count(got)
}

// terminate ends the sessions of others, and returns how many these are, but no more than the
// target had connections: the others are not the target's.
func terminate(ctx context.Context, s harness.Store, l harness.Link) (int64, error) {
	open := l.Stats().Open
	n, err := number(ctx, s, "SELECT count(*) FILTER (WHERE pg_catalog.pg_terminate_backend(pid))"+sessions)
	return min(n, open), err
}

// needSuperuser returns an error where the harness is no superuser.
func needSuperuser(ctx context.Context, s harness.Store) error {
	super, err := one(ctx, s, "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")
	if err == nil && super != "t" {
		err = errors.New("the user of the url must be a superuser for this")
	}
	return err
}
