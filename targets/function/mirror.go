package function

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// Mirror makes a directory in which a test binary of the package finds all that it finds
// in the package's own, and below ".." too, but in which its seeds are copies and its new
// files are not the user's:
//
//	root/                     the module, each entry a link
//	root/pkg/                 a real directory: where the binary runs
//	root/pkg/testdata/fuzz/   real and empty: the seeds are the caller's to write
//
// It returns the directory to run in.
func (p *Package) Mirror(root string) (string, error) {
	rel, err := filepath.Rel(p.Root, p.Dir)
	if err != nil {
		return "", err
	}
	from, to := p.Root, root
	steps := append(strings.Split(rel, string(filepath.Separator)), "testdata", "fuzz")
	if rel == "." {
		steps = steps[1:]
	}
	for _, step := range steps {
		if err := links(from, to, step); err != nil {
			return "", err
		}
		from, to = filepath.Join(from, step), filepath.Join(to, step)
	}
	return filepath.Join(root, rel), os.MkdirAll(to, 0o700)
}

// links makes a directory that links to all entries of another but one.
func links(from, to, but string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == but {
			continue
		}
		if err := os.Symlink(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}
