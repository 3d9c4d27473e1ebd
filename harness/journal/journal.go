// Package journal keeps on disk what has to be undone in a server that outlives the
// harness, so that a later harness can do it where this one dies before it could.
//
// A journal is one file of JSON lines in the directory of a run. A note is on disk before
// what it is about is done, and struck out once that is undone:
//
//	{"id":"K3...","engine":"redis","url":"redis://127.0.0.1:6379/0","undo":[["CONFIG","SET","maxmemory","0"]],...}
//	{"strike":"K3..."}
//
// It holds URLs with their passwords, and its user alone can read it.
package journal

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Note is a change in a server, and what undoes it.
type Note struct {
	ID     string     `json:"id,omitempty"` // set by Write
	Engine string     `json:"engine,omitempty"`
	URL    string     `json:"url,omitempty"`  // of the server
	What   string     `json:"what,omitempty"` // is there that was not; none for settings that are others
	Undo   [][]string `json:"undo,omitempty"`
	Read   [][]string `json:"read,omitempty"` // tells the settings
	Was    []string   `json:"was,omitempty"`  // what Read answered before the change
	Set    []string   `json:"set,omitempty"`  // what it answers during the change; none where that cannot be told
}

// line is a line of the file: a note, or the id of one that is struck out.
type line struct {
	Note
	Strike string `json:"strike,omitempty"`
}

const (
	name    = "journal.jsonl"
	maxFile = 16 << 20 // bytes
	maxLine = 64 << 10
)

// Write adds a note to the journal in a directory, and returns its id when it is on disk.
func Write(dir string, n Note) (id string, err error) {
	n.ID = rand.Text()
	return n.ID, hold(dir, func(f *os.File) error { return add(f, line{Note: n}) })
}

// Strike strikes a note out. A journal in which nothing is left to undo is emptied.
func Strike(dir, id string) error {
	return hold(dir, func(f *os.File) error {
		if err := add(f, line{Strike: id}); err != nil {
			return err
		}
		left, err := Read(dir)
		if err == nil && len(left) == 0 {
			err = f.Truncate(0)
		}
		return err
	})
}

// hold does something with a journal, which nobody else changes meanwhile: a note that came
// between a last look and the emptying would be lost.
func hold(dir string, do func(*os.File) error) (err error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for { // whoever has it has it for a moment
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("journal: lock it: %w", err)
	}
	return do(f)
}

// add appends a line, which is on disk then. It begins with an end of line, too: one that was cut
// short by a crash spoils no other.
func add(f *os.File, l line) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if len(b) >= maxLine {
		return fmt.Errorf("journal: a note of %d bytes is too long", len(b))
	}
	_, err = f.Write(slices.Concat([]byte("\n"), b, []byte("\n")))
	if err = errors.Join(err, f.Sync(), syncDir(filepath.Dir(f.Name()))); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// syncDir makes the file's name last, too.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Read returns the notes in a directory's journal that are not struck out, the latest
// first; none where there is no journal. A line that cannot be read was cut short while it
// was written: what it was about was never done.
func Read(dir string) ([]Note, error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !info.Mode().IsRegular() || ok && int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("journal: %s is not a file of this user", f.Name())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("journal: %s is larger than %d MiB", f.Name(), maxFile>>20)
	}
	return parse(b), nil
}

// parse returns the notes that are not struck out, the latest first.
func parse(b []byte) []Note {
	var out []Note
	struck := map[string]bool{}
	for text := range bytes.Lines(b) {
		var l line
		if len(text) > maxLine || json.Unmarshal(text, &l) != nil {
			continue
		}
		if l.Strike != "" {
			struck[l.Strike] = true
		} else if l.ID != "" && len(l.Undo) > 0 {
			out = append(out, l.Note)
		}
	}
	out = slices.DeleteFunc(out, func(n Note) bool { return struck[n.ID] })
	slices.Reverse(out)
	return out
}
