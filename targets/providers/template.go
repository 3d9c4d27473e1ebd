package providers

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/shakedown-go/shakedown/targets/child"
)

// A fresh data directory takes initdb a second or more, and a copy of one a tenth of
// that. So the first one of each version is kept under the user's cache directory:
//
//	shakedown/postgres/15.18-1f2e3d4c/data/...
//	                                  bytes    the sum of its files' sizes
//
// It is built elsewhere and renamed, so that several may build it at once; the sum tells
// when somebody has cleaned the cache in part.

// fill makes a fresh data directory.
func (l localPostgres) fill(ctx context.Context, data string) error {
	template := l.template()
	if template != "" && copyTemplate(ctx, template, data) == nil {
		return nil
	}
	if err := os.RemoveAll(data); err != nil {
		return err
	}
	if err := l.initdb(ctx, data); err != nil {
		return err
	}
	if template != "" {
		// A cache that cannot be written costs a second at each start, and no more.
		_ = keepTemplate(ctx, template, data)
	}
	return nil
}

// template returns where the cached data directory of this version is; "" where the
// system has no place for caches.
func (l localPostgres) template() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	key := sha256.Sum256([]byte(strings.Join(append(initdbArgs(), l.path), "\x00")))
	return filepath.Join(cache, "shakedown", "postgres", fmt.Sprintf("%s-%x", l.version, key[:4]))
}

func copyTemplate(ctx context.Context, template, data string) error {
	b, err := os.ReadFile(filepath.Join(template, "bytes"))
	if err != nil {
		return err
	}
	n, err := copyTree(ctx, filepath.Join(template, "data"), data, pgOwner())
	if err == nil && string(b) != strconv.FormatInt(n, 10) {
		err = errors.New("the template is not complete")
	}
	return err
}

func keepTemplate(ctx context.Context, template, data string) error {
	parent := filepath.Dir(template)
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return err
	}
	sweepBuilds(parent)
	build, err := os.MkdirTemp(parent, "build-"+child.Harness()+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(build)
	n, err := copyTree(ctx, data, filepath.Join(build, "data"), owner{os.Geteuid(), os.Getegid()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(build, "bytes"), []byte(strconv.FormatInt(n, 10)), 0o600); err != nil {
		return err
	}
	// What stands there is broken, or was put there by another a moment ago: the same.
	if err := os.RemoveAll(template); err != nil {
		return err
	}
	return os.Rename(build, template)
}

// sweepBuilds removes what harnesses that died have left: their identity is in its name.
func sweepBuilds(parent string) {
	builds, _ := filepath.Glob(filepath.Join(parent, "build-*"))
	for _, b := range builds {
		words := strings.Split(filepath.Base(b), "-")
		if len(words) != 4 || !child.Alive(words[1]+"-"+words[2]) {
			os.RemoveAll(b)
		}
	}
}

type owner struct{ uid, gid int }

// pgOwner is who a data directory must belong to.
func pgOwner() owner {
	if c := pgCredential(); c != nil {
		return owner{int(c.Uid), int(c.Gid)}
	}
	return owner{os.Geteuid(), os.Getegid()}
}

// copyTree copies directories and regular files with their permissions, and returns how
// many bytes the files hold.
func copyTree(ctx context.Context, from, to string, o owner) (total int64, err error) {
	root := os.Geteuid() == 0
	err = filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			err = os.Mkdir(dst, info.Mode().Perm())
		case d.Type().IsRegular():
			var n int64
			n, err = copyFile(path, dst, info.Mode().Perm())
			total += n
		default:
			err = fmt.Errorf("%s is neither a file nor a directory", path)
		}
		if err == nil && root {
			err = os.Lchown(dst, o.uid, o.gid)
		}
		return err
	})
	return total, err
}

func copyFile(from, to string, perm fs.FileMode) (int64, error) {
	r, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	w, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(w, r)
	return n, errors.Join(err, w.Close())
}
