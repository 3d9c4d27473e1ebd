package journal

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func note(url string) Note {
	return Note{Engine: "redis", URL: url, Undo: [][]string{{"CONFIG", "SET", "maxmemory", "0"}}, Read: [][]string{{"CONFIG", "GET", "maxmemory"}}, Was: []string{"maxmemory", "0"}}
}

func write(t *testing.T, dir, url string) Note {
	t.Helper()
	n := note(url)
	id, err := Write(dir, n)
	if err != nil {
		t.Fatal(err)
	}
	n.ID = id
	return n
}

func read(t *testing.T, dir string, want ...Note) {
	t.Helper()
	got, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
}

func TestNotesAreKeptUntilStruckOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	read(t, dir)
	a, b, c := write(t, dir, "a"), write(t, dir, "b\n\"quoted\""), write(t, dir, "c")
	read(t, dir, c, b, a)
	for range 2 {
		if err := Strike(dir, b.ID); err != nil {
			t.Fatal(err)
		}
		read(t, dir, c, a)
	}
	info, err := os.Stat(filepath.Join(dir, name))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the journal is %v, %v: others could read it", info.Mode(), err)
	}
}

// While one store's note is struck out, another's comes: it is never lost, though the journal is
// emptied again and again.
func TestNoteThatComesWhileOneIsStruckIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				id, err := Write(dir, note("a"))
				if err != nil {
					t.Error(err)
					return
				}
				notes, err := Read(dir)
				if err != nil || !slices.ContainsFunc(notes, func(n Note) bool { return n.ID == id }) {
					t.Errorf("a note that was written is not there: %v", err)
					return
				}
				if err := Strike(dir, id); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	read(t, dir)
	if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() > 0 {
		t.Errorf("the journal has %d bytes, %v", info.Size(), err)
	}
}

func TestLineCutShortSpoilsNoOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, name)
	a := write(t, dir, "a")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	next, err := json.Marshal(line{Note: Note{ID: "cut", Undo: [][]string{{"X"}}}})
	if err != nil {
		t.Fatal(err)
	}
	for n := range next { // all of it but for its last byte, and for less
		if err := os.WriteFile(file, append(append([]byte(nil), whole...), next[:n]...), 0o600); err != nil {
			t.Fatal(err)
		}
		read(t, dir, a)
		if err := Strike(dir, a.ID); err != nil {
			t.Fatal(err)
		}
		read(t, dir)
	}
}

func TestJournalIsNotTrusted(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", maxLine)
	if _, err := Write(t.TempDir(), note(big)); err == nil {
		t.Error("a line that is too long for Read was written")
	}
	for name, spoil := range map[string]func(file string) error{
		"a link":      func(file string) error { return os.Symlink("/dev/zero", file) },
		"a directory": func(file string) error { return os.Mkdir(file, 0o700) },
		"huge":        func(file string) error { return os.WriteFile(file, make([]byte, maxFile+1), 0o600) },
	} {
		dir := t.TempDir()
		if err := spoil(filepath.Join(dir, "journal.jsonl")); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(dir); err == nil {
			t.Errorf("%s: read as %v", name, got)
		}
	}
	if _, err := Write(filepath.Join(t.TempDir(), "none"), note("a")); err == nil {
		t.Error("written into a directory that there is not")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("\n{\"id\":\"a\",\"undo\":[[\"X\"]]}\n\n{\"strike\":\"b\"}\n"))
	f.Add([]byte("{\"id\":\"a\",\"undo\":[[\"X\"]]}\n{\"strike\":\"a\"}"))
	f.Add([]byte("{\"id\":\"a\",\"undo\":[[]],\"was\":[null]}\nnull\n[]\n{"))
	f.Fuzz(func(t *testing.T, b []byte) {
		notes := parse(b)
		for _, n := range notes {
			if n.ID == "" || len(n.Undo) == 0 {
				t.Fatalf("a note without an id, or without anything to undo: %+v", n)
			}
		}
		// What stays is what stays when it is written again.
		var again []byte
		for i := range notes {
			b, err := json.Marshal(line{Note: notes[len(notes)-1-i]})
			if err != nil {
				t.Fatal(err)
			}
			if len(b) < maxLine {
				again = append(append(again, b...), '\n')
			} else {
				return // what is not ASCII may take more bytes
			}
		}
		if diff := cmp.Diff(notes, parse(again), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("read back (-want +got):\n%s", diff)
		}
	})
}
