package providers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/journal"
)

const (
	commandTime = 5 * time.Second  // for one command, connecting included
	undoTime    = 15 * time.Second // until a server answers what it is asked after an undo: it may be recovering
	takeTime    = 5 * time.Second  // until what it answers is what was set, or was before
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

// takes waits until a change reads as it should.
func (c command) takes(ctx context.Context, read [][]string, set []string) error {
	again := time.NewTicker(undoGap)
	defer again.Stop()
	for late := time.Now().Add(takeTime); ; {
		got, err := c.all(ctx, read)
		switch {
		case err == nil && slices.Equal(got, set):
			return nil
		case err == nil:
			err = fmt.Errorf("the settings do not take: they are %s, and should be %s", list(got), list(set))
		default:
			err = fmt.Errorf("read the settings back: %w", err)
		}
		if time.Now().After(late) {
			return err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return err
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
	note := journal.Note{Engine: s.engine, URL: s.url, Undo: c.Undo, Read: c.Read, Set: c.Set}
	if note.Was, err = do.all(ctx, c.Read); err != nil {
		return nil, err
	}
	if s.ours == nil {
		if note.ID, err = journal.Write(s.journal, note); err != nil {
			return nil, err
		}
	}
	undo := func(ctx context.Context) error {
		// Not do: whether the server serves is known to who calls this.
		if err := s.within(commandTime).undo(ctx, note); err != nil {
			return err
		}
		s.release()
		if s.ours == nil {
			return journal.Strike(s.journal, note.ID)
		}
		return nil
	}
	_, err = do.all(ctx, c.Do)
	if err == nil && c.Set != nil {
		err = do.takes(ctx, c.Read, c.Set)
	}
	if err != nil {
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

// Gone are servers that did not answer, by their URLs, and why: in one go through many
// journals none is waited for twice.
type Gone map[string]error

// Undo undoes what the journal in a directory still holds, in servers that outlive the harness
// which wrote it and has died, or is about to. It returns what is undone, and what is left as
// it is and done with, because somebody else has changed it since; an error says what still has
// to be undone.
func Undo(ctx context.Context, dir string, gone Gone) (undone, left []string, err error) {
	err = eachNote(ctx, dir, gone, func(n journal.Note, err error) error {
		var a *alteredError
		switch {
		case errors.As(err, &a):
			left = append(left, a.Error())
		case err == nil:
			undone = append(undone, cmp.Or(n.What, "changed settings")+" of "+where(n))
		default:
			return err
		}
		return journal.Strike(dir, n.ID)
	})
	return undone, left, err
}

// undoAll is Undo where nobody is told: what somebody else has changed stays in the journal, for
// one who can tell.
func undoAll(ctx context.Context, dir string, gone Gone) error {
	return eachNote(ctx, dir, gone, func(n journal.Note, err error) error {
		if err != nil {
			return err
		}
		return journal.Strike(dir, n.ID)
	})
}

// eachNote undoes what each note of a journal tells of, and goes on with what came of it.
func eachNote(ctx context.Context, dir string, gone Gone, then func(journal.Note, error) error) error {
	if gone == nil {
		gone = Gone{}
	}
	notes, err := journal.Read(dir)
	errs := []error{err}
	told := map[string]bool{}
	for _, n := range notes {
		err := gone[n.URL]
		if err != nil {
			if !told[n.URL] {
				told[n.URL] = true
				errs = append(errs, err)
			}
			continue
		}
		var a *alteredError
		if err = undoNote(ctx, n); err != nil && !errors.As(err, &a) {
			gone[n.URL], told[n.URL] = err, true
		}
		errs = append(errs, then(n, err))
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
	if _, err = e.host(n.URL); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, buriedTime)
	defer cancel()
	c = c.within(buriedTime)
	if len(n.Set) > 0 {
		now, err := c.answer(ctx, n.Read)
		if err != nil {
			return fmt.Errorf("%s, as a run left it that has died: %w", where(n), err)
		}
		if altered(n, now) {
			return &alteredError{n, now}
		}
	}
	if err := c.undo(ctx, n); err != nil {
		return fmt.Errorf("%s, as a run left it that has died: %w", where(n), err)
	}
	return nil
}

// answer is all, again and again while there is time: the server may be recovering.
func (c command) answer(ctx context.Context, commands [][]string) ([]string, error) {
	again := time.NewTicker(undoGap)
	defer again.Stop()
	for {
		got, err := c.all(ctx, commands)
		if err == nil {
			return got, nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// altered reports whether settings that a note tells of are now neither what they were nor what
// the note's change has made of them, which may have been done or undone in part.
func altered(n journal.Note, now []string) bool {
	if len(now) != len(n.Was) || len(now) != len(n.Set) {
		return true
	}
	for i, v := range now {
		if v != n.Was[i] && v != n.Set[i] {
			return true
		}
	}
	return false
}

// alteredError says that somebody else has changed what a dead run had changed.
type alteredError struct {
	note journal.Note
	now  []string
}

func (e *alteredError) Error() string {
	return fmt.Sprintf("%s: somebody has changed its settings since a run did that has died: they are %s, the run had set %s, and before they were %s",
		where(e.note), list(e.now), list(e.note.Set), list(e.note.Was))
}

// Altered reports whether an error of Bury says no more than that somebody else has changed
// settings since: to try again is of no use.
func Altered(err error) bool {
	switch x := err.(type) {
	case *alteredError:
		return true
	case interface{ Unwrap() error }:
		return Altered(x.Unwrap())
	case interface{ Unwrap() []error }:
		return !slices.ContainsFunc(x.Unwrap(), func(err error) bool { return !Altered(err) })
	}
	return false
}

// list shows the first of some values.
func list(values []string) string {
	const most, long = 12, 80
	var out []string
	for _, v := range values[:min(len(values), most)] {
		out = append(out, strconv.Quote(v[:min(len(v), long)]))
	}
	if len(values) > most {
		out = append(out, "...")
	}
	return "[" + strings.Join(out, " ") + "]"
}

// where names the server of a note, without what its URL may hold of secrets.
func where(n journal.Note) string {
	if e, known := engines()[n.Engine]; known && e.host != nil {
		if host, err := e.host(n.URL); err == nil {
			return fmt.Sprintf("the %s at %s", n.Engine, host)
		}
	}
	return "a " + n.Engine
}
