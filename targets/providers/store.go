package providers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/journal"
)

const (
	commandTime = 5 * time.Second  // for one command, connecting included
	undoTime    = 15 * time.Second // until a server answers what it is asked after an undo: it may be recovering
	takeTime    = 3 * time.Second  // until what it answers is what was before
	undoGap     = 10 * time.Millisecond
	buriedTime  = 3 * time.Second // the same, in a server of a run that has died
)

// command runs one command on a server, on a connection of its own.
type command func(ctx context.Context, words []string) ([]string, error)

// within bounds every command.
func (c command) within(d time.Duration) command {
	return func(ctx context.Context, words []string) ([]string, error) {
		if len(words) == 0 {
			return nil, errors.New("an empty command")
		}
		ctx, cancel := context.WithTimeout(ctx, d)
		defer cancel()
		return c(ctx, words)
	}
}

// all runs commands one after another until one fails, and returns what they answer.
func (c command) all(ctx context.Context, commands [][]string) (out []string, err error) {
	for _, words := range commands {
		got, err := c(ctx, words)
		if err != nil {
			return nil, fmt.Errorf("%.80s: %w", strings.Join(words, " "), err)
		}
		out = append(out, got...)
	}
	return out, nil
}

// undo undoes what a note tells of, all that can be, and waits until the settings are read
// back as they were.
func (c command) undo(ctx context.Context, n journal.Note) error {
	ctx, cancel := context.WithTimeout(ctx, undoTime)
	defer cancel()
	var errs []error
	again := time.NewTicker(undoGap)
	defer again.Stop()
	for tries := true; tries; { // it may be recovering, or have closed the connection
		errs, tries = nil, false
		for _, words := range n.Undo {
			_, err := c.all(ctx, [][]string{words})
			errs = append(errs, err)
		}
		if errors.Join(errs...) == nil {
			break
		}
		select {
		case <-again.C:
			tries = true
		case <-ctx.Done():
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("undo: %w", err)
	}
	for late := time.Now().Add(takeTime); ; {
		got, err := c.all(ctx, n.Read)
		switch {
		case err == nil && slices.Equal(got, n.Was):
			return nil
		case err == nil && time.Now().After(late):
			return fmt.Errorf("undo: the settings are %q, and were %q", got, n.Was)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("undo: read the settings back: %w", errors.Join(err, ctx.Err()))
		}
	}
}

// store is a harness.Store.
type store struct {
	command
	ours        *server                                 // nil where the server outlives the harness
	replicate   func(context.Context) (*replica, error) // nil where there can be none
	journal     string                                  // the directory of the journal of one that does
	engine, url string                                  // of that one

	mu      sync.Mutex // guards changed
	changed bool       // and not undone
}

// Do implements harness.Store.
func (s *store) Do(ctx context.Context, words ...string) ([]string, error) {
	if s.ours != nil {
		if err := s.ours.serves(); err != nil {
			return nil, err
		}
	}
	return s.within(commandTime)(ctx, words)
}

// Change implements harness.Store.
func (s *store) Change(ctx context.Context, c harness.Change) (heal func(context.Context) error, err error) {
	if !s.claim() {
		return nil, errInForce
	}
	owed := false
	defer func() {
		if err != nil && !owed {
			s.release()
		}
	}()
	do := command(func(ctx context.Context, words []string) ([]string, error) { return s.Do(ctx, words...) })
	note := journal.Note{Engine: s.engine, URL: s.url, Undo: c.Undo, Read: c.Read}
	if note.Was, err = do.all(ctx, c.Read); err != nil {
		return nil, err
	}
	if s.ours == nil {
		if note.ID, err = journal.Write(s.journal, note); err != nil {
			return nil, err
		}
	}
	undo := func(ctx context.Context) error {
		// Not do: what is owed is paid while others wait for the server.
		if err := s.within(commandTime).undo(ctx, note); err != nil {
			return err
		}
		s.release()
		if s.ours == nil {
			return journal.Strike(s.journal, note.ID)
		}
		return nil
	}
	if _, err := do.all(ctx, c.Do); err != nil {
		owed = true // what was done of it
		return nil, errors.Join(err, s.back(context.WithoutCancel(ctx), undo))
	}
	return func(ctx context.Context) error { return s.back(ctx, undo) }, nil
}

var errInForce = errors.New("another fault is in force on the same server")

// Replicate implements harness.Store.
func (s *store) Replicate(ctx context.Context) (harness.Replica, error) {
	if s.replicate == nil {
		return nil, fmt.Errorf("only a redis of ours has another that can take its place, with provide: local or docker: %w", harness.ErrNotHere)
	}
	if !s.claim() {
		return nil, errInForce
	}
	r, err := s.replicate(ctx)
	if err != nil {
		s.release()
		return nil, err
	}
	return r, nil
}

// back does something as soon as the server serves: of one that is not ours, that is now.
func (s *store) back(ctx context.Context, do func(context.Context) error) error {
	if s.ours == nil {
		return do(ctx)
	}
	return s.ours.back(ctx, do)
}

// claim reports whether nothing is changed, and there is no replica: the one change would be in the way of what undoes
// the other, or be taken for what was before.
func (s *store) claim() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	free := !s.changed
	s.changed = true
	return free
}

func (s *store) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed = false
}

// undoAll undoes what the journal in a directory still holds. Of a server that does not
// answer only the first note is tried: nobody is to wait long for one that has gone.
func undoAll(ctx context.Context, dir string) error {
	notes, err := journal.Read(dir)
	errs := []error{err}
	gone := map[string]bool{}
	for _, n := range notes {
		if gone[n.URL] {
			continue
		}
		if err := undoNote(ctx, n); err != nil {
			gone[n.URL] = true
			errs = append(errs, err)
			continue
		}
		errs = append(errs, journal.Strike(dir, n.ID))
	}
	return errors.Join(errs...)
}

// undoNote undoes one. The journal comes from the disk: what it says may be anything.
func undoNote(ctx context.Context, n journal.Note) error {
	e, known := engines()[n.Engine]
	if !known || e.dial == nil {
		return fmt.Errorf("journal: nothing is known of the engine %q", n.Engine)
	}
	c, err := e.dial(n.URL)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	host, err := e.host(n.URL)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, buriedTime)
	defer cancel()
	if err := c.within(buriedTime).undo(ctx, n); err != nil {
		return fmt.Errorf("the %s at %s, as a run left it that has died: %w", n.Engine, host, err)
	}
	return nil
}
