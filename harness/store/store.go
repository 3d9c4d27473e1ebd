// Package store keeps on disk what a run found: a directory per run, and in it one per
// bug, readable without this program.
//
//	shakedown-out/20260102-150405-2/
//	  campaign.json
//	  bugs/race-cart.add-cart.add-1f2e3d4c/
//	    case.case first.case record.jsonl output.txt bug.json
//
// A file is complete or absent, and it is on disk before anybody is told of it. What is being
// written is in .new: where a run was killed, something may be left there, and nowhere else.
package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// Run is the directory of one run. It is a harness.Sink.
type Run struct {
	Dir string
}

// Create makes the directory of a new run under out. Its name is the time, and the seed.
func Create(out string, seed uint64, now time.Time) (*Run, error) {
	base := fmt.Sprintf("%s-%d", now.Format("20060102-150405"), seed)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		dir := filepath.Join(out, base)
		if n > 1 {
			dir = fmt.Sprintf("%s.%d", dir, n)
		}
		err := os.Mkdir(dir, 0o755)
		if err == nil {
			return &Run{Dir: dir}, nil
		}
		if !errors.Is(err, os.ErrExist) || n == 1000 {
			return nil, err
		}
	}
}

// BugDir is the directory of the bug with that signature.
func (r *Run) BugDir(signature string) string {
	return filepath.Join(r.Dir, "bugs", Slug(signature))
}

// CaseFile is the file that replays the bug with that signature.
func (r *Run) CaseFile(signature string) string {
	return filepath.Join(r.BugDir(signature), "case.case")
}

// Put writes a bug and the record that shows it; bug.json comes last.
func (r *Run) Put(b harness.Bug, rec *harness.Record) error {
	var events bytes.Buffer
	if err := rec.Write(&events); err != nil {
		return err
	}
	about, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return r.keep(r.BugDir(b.Signature), []file{
		{"first.case", []byte(b.First.String())},
		{"case.case", []byte(b.Case.String())},
		{"record.jsonl", events.Bytes()},
		{"output.txt", output(b, rec)},
		{"bug.json", append(about, '\n')},
	})
}

// Keep writes files beside what is known of the bug with that signature.
func (r *Run) Keep(signature string, files map[string][]byte) error {
	var list []file
	for _, name := range slices.Sorted(maps.Keys(files)) {
		list = append(list, file{name, files[name]})
	}
	return r.keep(r.BugDir(signature), list)
}

type file struct {
	name string
	data []byte
}

// keep writes the files of a bug in their order, and has them on disk when it returns.
func (r *Run) keep(dir string, files []file) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range files {
		if err := r.Write(filepath.Join(dir, f.name), f.data); err != nil {
			return err
		}
	}
	var errs []error
	for _, d := range []string{dir, filepath.Dir(dir), r.Dir, filepath.Dir(r.Dir)} {
		errs = append(errs, sync(d))
	}
	return errors.Join(errs...)
}

// Write writes a file, or replaces it, in one step. It is on the file system that the run's
// directory is on.
func (r *Run) Write(path string, data []byte) error {
	stage := r.stage()
	if err := os.MkdirAll(stage, 0o755); err != nil {
		return err
	}
	return write(stage, path, data)
}

// stage is where files are until they are complete.
func (r *Run) stage() string { return filepath.Join(r.Dir, ".new") }

// Discard removes the directory of a run in which nothing was done, and the directory
// that it stands in if that is now empty.
func (r *Run) Discard() error {
	if err := os.Remove(r.Dir); err != nil {
		return err
	}
	if left, err := os.ReadDir(filepath.Dir(r.Dir)); err == nil && len(left) == 0 {
		return os.Remove(filepath.Dir(r.Dir))
	}
	return nil
}

// Campaign writes campaign.json: nothing comes after that.
func (r *Run) Campaign(result any) error {
	b, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return err
	}
	if err := r.Write(filepath.Join(r.Dir, "campaign.json"), append(b, '\n')); err != nil {
		return err
	}
	return errors.Join(os.Remove(r.stage()), sync(r.Dir))
}

// output is what a person reads first: the report, then what the processes printed.
func output(b harness.Bug, rec *harness.Record) []byte {
	var w bytes.Buffer
	fmt.Fprintf(&w, "%s\n%s\n\n%s\n", b.Title, b.Signature, b.Detail)
	for _, e := range rec.Events {
		switch e.Kind {
		case harness.Output:
			fmt.Fprintf(&w, "%s %s: %s\n", e.Name, e.Lane, e.Text)
		case harness.Exit:
			fmt.Fprintf(&w, "%s ended: %s\n", e.Name, e.Text)
		}
	}
	return w.Bytes()
}

// Write replaces a file in one step, and has it on disk when it returns. What is no file, a
// terminal or a pipe, and what stands in a directory in which none can be made, is written to.
func Write(path string, data []byte) error {
	dir := filepath.Dir(path)
	info, err := os.Lstat(path)
	if err != nil || info.Mode().IsRegular() {
		err = write(dir, path, data)
	} else {
		return os.WriteFile(path, data, 0o644)
	}
	var refused *fs.PathError
	switch {
	case errors.Is(err, fs.ErrPermission):
		return os.WriteFile(path, data, 0o644)
	case errors.As(err, &refused): // it names a file that nobody knows
		return &fs.PathError{Op: "write", Path: path, Err: refused.Err}
	case err != nil:
		return err
	}
	return sync(dir)
}

// write replaces a file by one that is made in the directory stage. It keeps its mode.
func write(stage, path string, data []byte) error {
	mode := fs.FileMode(0o644)
	if info, err := os.Lstat(path); err == nil {
		mode = info.Mode().Perm()
	}
	f, err := os.CreateTemp(stage, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}

// sync has the names in a directory on disk.
func sync(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL) { // some file systems have no such thing
		err = nil
	}
	return errors.Join(err, d.Close())
}

// Slug makes a file name of a signature: its readable part and a hash of the whole.
func Slug(signature string) string {
	h := fnv.New32a()
	h.Write([]byte(signature))
	var b strings.Builder
	for _, c := range []byte(signature) {
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.':
			b.WriteByte(c)
		case !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	name := b.String()
	name = strings.Trim(name[:min(len(name), 60)], "-.")
	if name == "" {
		name = "bug"
	}
	return fmt.Sprintf("%s-%08x", name, h.Sum32())
}
