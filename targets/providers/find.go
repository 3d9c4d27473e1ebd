package providers

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// found is a program that is installed.
type found struct {
	path, version string
}

// versionTime bounds the question for a program's version.
const versionTime = 5 * time.Second

var digits = regexp.MustCompile(`\d+(\.\d+)*`)

// find looks for a program in PATH and then in dirs, and returns the first one of the
// wanted version; "" wants any. Every program in needs must stand beside it. Its error
// says what was looked for where, and what was there instead.
func find(ctx context.Context, program, want string, dirs []string, needs ...string) (found, error) {
	dirs = append(filepath.SplitList(os.Getenv("PATH")), dirs...)
	var others, broken, tried []string
	for _, dir := range dirs {
		// PATH may hold the current directory, which is not trusted.
		if !filepath.IsAbs(dir) || slices.Contains(tried, dir) {
			continue
		}
		tried = append(tried, dir)
		// Not what a link leads to: some programs act by the name they are called by.
		path := filepath.Join(dir, program)
		if _, err := os.Stat(path); err != nil {
			continue
		}
		f, err := ask(ctx, path, needs)
		switch {
		case ctx.Err() != nil:
			return found{}, ctx.Err()
		case err != nil:
			broken = append(broken, err.Error())
		case isVersion(f.version, want):
			return f, nil
		default:
			others = append(others, f.version+" in "+dir)
		}
	}
	switch {
	case len(others) > 0:
		return found{}, fmt.Errorf("version %s is wanted, but found %s", want, strings.Join(others, ", "))
	case len(broken) > 0:
		return found{}, fmt.Errorf("%s is there but unusable: %s", program, strings.Join(broken, "; "))
	}
	return found{}, fmt.Errorf("no %s in %s", program, strings.Join(tried, ", "))
}

// ask returns the version that a program says it has.
func ask(ctx context.Context, path string, needs []string) (found, error) {
	for _, n := range needs {
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), n)); err != nil {
			return found{}, fmt.Errorf("%s has no %s beside it", path, n)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return found{}, fmt.Errorf("%s --version: %w", path, err)
	}
	version := digits.FindString(string(out))
	if version == "" {
		return found{}, fmt.Errorf("%s --version: no version in %q", path, out)
	}
	return found{path, version}, nil
}

// globs returns the directories that match the patterns, within a pattern the highest
// version first.
func globs(patterns ...string) []string {
	var out []string
	for _, p := range patterns {
		dirs, _ := filepath.Glob(p) // fails for bad patterns only
		slices.SortFunc(dirs, func(a, b string) int { return compareVersions(b, a) })
		out = append(out, dirs...)
	}
	return out
}

// compareVersions orders texts by the numbers in them, which 9 < 15 needs.
func compareVersions(a, b string) int {
	x, y := digits.FindString(a), digits.FindString(b)
	xs, ys := strings.Split(x, "."), strings.Split(y, ".")
	for i := range min(len(xs), len(ys)) {
		m, _ := strconv.Atoi(xs[i])
		n, _ := strconv.Atoi(ys[i])
		if c := cmp.Compare(m, n); c != 0 {
			return c
		}
	}
	return cmp.Or(cmp.Compare(len(xs), len(ys)), cmp.Compare(a, b))
}
