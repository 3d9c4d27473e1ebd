// Package gofuzz fuzzes func FuzzX([]byte) int with github.com/dvyukov/go-fuzz, of the
// version that engine.mod names, and keeps clear of four traps that it has today:
//
//   - Its runtime package must be a dependency of the user's module. It is one here in a
//     workspace that lasts for one build; the user's files stay as they are.
//   - It builds outside of modules, so that the program gets the GODEBUG settings of Go 1.20:
//     patterns of net/http such as "POST /x/{id}" match nothing, say. The settings of the
//     module are put back by the environment: see GODEBUG.
//   - It moves comments, so that some packages do not compile: "misplaced compiler directive".
//     Those are left uninstrumented.
//   - It drops the reports of the race detector, unless the first one ends the program.
package gofuzz

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/shakedown-go/shakedown/fuzz/engine"
)

// The module that builds the engine: its versions, and their checksums.
var (
	//go:embed engine.mod
	engineMod []byte
	//go:embed engine.sum
	engineSum []byte
)

const (
	enginePath  = "github.com/dvyukov/go-fuzz"
	maxPreserve = 16 // packages that are left uninstrumented, at most
)

// Tools are the engine's two programs.
type Tools struct {
	Fuzz, Build string
}

// Error says that something cannot be built, in the words of the one who builds.
type Error struct {
	What, Words string
}

func (e *Error) Error() string { return e.What + ":\n" + e.Words }

// Install builds the engine below cache, unless it is there.
func Install(ctx context.Context, run engine.Run, cache string) (Tools, error) {
	// It knows of the language and the library what the toolchain that builds it does.
	words, ok, err := output(ctx, run, engine.Program{Name: "go", Path: "go", Args: []string{"env", "GOVERSION"}, Env: os.Environ()})
	if err != nil || !ok {
		return Tools{}, errors.Join(err, fmt.Errorf("go env: %s", words))
	}
	sum := sha256.Sum256(slices.Concat(engineMod, engineSum, []byte(words)))
	dir := filepath.Join(cache, "go-fuzz-"+hex.EncodeToString(sum[:6]))
	t := Tools{filepath.Join(dir, "bin", "go-fuzz"), filepath.Join(dir, "bin", "go-fuzz-build")}
	if exists(t.Fuzz) && exists(t.Build) {
		return t, nil
	}
	work, err := os.MkdirTemp(mkdir(cache), "go-fuzz-*.new")
	if err != nil {
		return t, err
	}
	defer os.RemoveAll(work)
	if err := errors.Join(
		os.WriteFile(filepath.Join(work, "go.mod"), engineMod, 0o600),
		os.WriteFile(filepath.Join(work, "go.sum"), engineSum, 0o600),
	); err != nil {
		return t, err
	}
	env := append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly", "GO111MODULE=on", "GOTMPDIR="+work)
	args := []string{"build", "-o", filepath.Join(work, "bin") + string(filepath.Separator), enginePath + "/go-fuzz", enginePath + "/go-fuzz-build"}
	if words, ok, err = output(ctx, run, engine.Program{Name: "go", Path: "go", Args: args, Env: env, Dir: work}); err != nil {
		return t, err
	} else if !ok {
		return t, fmt.Errorf("build go-fuzz:\n%s", words)
	}
	// Whoever was faster has built the same.
	if err := os.Rename(work, dir); err != nil && !exists(t.Build) {
		return t, err
	}
	return t, nil
}

// Package is what is fuzzed.
type Package struct {
	Dir, ImportPath string
	Root            string // directory of its module
	GoVersion       string // of that
}

// BuildOptions say how a package is built.
type BuildOptions struct {
	Tools   Tools
	Package Package
	Race    bool
	Dir     string // for what is built, and for the workspace; it is the caller's to remove
	Cache   string // of what was built before; zero means none
}

// Built is a package that was built for the engine.
type Built struct {
	Archive   string
	GODEBUG   string   // the settings that it was built with
	Preserved []string // packages that are not instrumented, because they cannot be
	Cached    bool
}

// Build builds a package for the engine. What is wrong with it is an *Error.
func Build(ctx context.Context, run engine.Run, o BuildOptions) (Built, error) {
	b := Built{Archive: filepath.Join(o.Dir, "fuzz.zip")}
	env, err := workspace(ctx, run, o)
	if err != nil {
		return b, err
	}
	keep := ""
	if o.Cache != "" {
		if keep, err = cell(ctx, run, o, env); err != nil {
			return b, err
		}
		if b.load(keep) == nil {
			return b, nil
		}
	}
	if b.Preserved, err = needed(ctx, run, o, env); err != nil {
		return b, err
	}
	for {
		args := []string{"-o", b.Archive, "-preserve", strings.Join(b.Preserved, ",")}
		if o.Race {
			args = append(args, "-race")
		}
		words, ok, err := output(ctx, run, engine.Program{Name: "go-fuzz-build", Path: o.Tools.Build, Args: append(args, "."), Env: env, Dir: o.Package.Dir})
		if err != nil {
			return b, err
		}
		if ok {
			break
		}
		more := misplaced(words)
		more = slices.DeleteFunc(more, func(p string) bool { return slices.Contains(b.Preserved, p) })
		if b.Preserved = append(b.Preserved, more...); len(more) == 0 || len(b.Preserved) > maxPreserve {
			return b, &Error{"go-fuzz-build " + o.Package.ImportPath, words}
		}
	}
	if b.GODEBUG, err = settings(b.Archive); err != nil {
		return b, fmt.Errorf("%s: %w", b.Archive, err)
	}
	if keep != "" {
		return b, errors.Join(b.save(keep), remember(o.Cache, b.Preserved))
	}
	return b, nil
}

// What had to be left uninstrumented once is so at once the next time: finding out costs a
// build. The standard library's packages do not depend on who imports them, others may.
const preservedFile = "go-fuzz-preserved"

func remembered(cache string) []string {
	if cache == "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(cache, preservedFile))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}

// needed are those of the remembered that the package depends on.
func needed(ctx context.Context, run engine.Run, o BuildOptions, env []string) ([]string, error) {
	all := remembered(o.Cache)
	if len(all) == 0 {
		return nil, nil
	}
	deps, ok, err := output(ctx, run, engine.Program{Name: "go", Path: "go", Args: []string{"list", "-deps", "-tags", "gofuzz", "."}, Env: env, Dir: o.Package.Dir})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &Error{"go list " + o.Package.ImportPath, deps}
	}
	lines := strings.Split(deps, "\n")
	return slices.DeleteFunc(all, func(p string) bool { return !slices.Contains(lines, p) }), nil
}

func remember(cache string, preserved []string) error {
	std := remembered(cache)
	n := len(std)
	for _, p := range preserved {
		if first, _, _ := strings.Cut(p, "/"); !strings.Contains(first, ".") && !slices.Contains(std, p) {
			std = append(std, p)
		}
	}
	if len(std) == n {
		return nil
	}
	return os.WriteFile(filepath.Join(cache, preservedFile), []byte(strings.Join(std, "\n")), 0o600)
}

var directive = regexp.MustCompile(`(?m)^(?:.*/)?src/(\S+)/[^/\s]+\.go:\d+(?::\d+)?: misplaced compiler directive`)

// misplaced returns the packages that do not compile since a directive was moved.
func misplaced(words string) []string {
	var out []string
	pkg := ""
	for line := range strings.Lines(words) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "# "); ok {
			pkg, _, _ = strings.Cut(name, " ")
		}
		if !strings.Contains(line, "misplaced compiler directive") {
			continue
		}
		at := pkg
		if m := directive.FindStringSubmatch(line); m != nil && at == "" {
			at = m[1]
		}
		if at != "" && !slices.Contains(out, at) {
			out = append(out, at)
		}
	}
	return out
}

// settings returns the GODEBUG defaults of the program in an archive.
func settings(archive string) (string, error) {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return "", err
	}
	defer z.Close()
	f, err := z.Open("cover.exe")
	if err != nil {
		return "", err
	}
	defer f.Close()
	program, err := io.ReadAll(f)
	if err != nil {
		return "", err
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		return "", err
	}
	for _, s := range info.Settings {
		if s.Key == "DefaultGODEBUG" {
			return s.Value, nil
		}
	}
	return "", nil
}

// GODEBUG returns the environment's GODEBUG with which a program that was built with some
// defaults behaves as if it was built with others. What only the former name goes back to
// what Go does today, and that cannot be named in one way: the runtime wants a number,
// and takes the first; a package of the library takes the last, and "" is today's.
func GODEBUG(has, want string) string {
	wanted := pairs(want)
	var out []string
	for _, kv := range strings.Split(has, ",") {
		key, old, ok := strings.Cut(kv, "=")
		if _, both := wanted[key]; !ok || both {
			continue
		}
		today := "0"
		if old == "0" {
			today = "1"
		}
		out = append(out, key+"="+today, key+"=")
	}
	if want != "" {
		out = append(out, want)
	}
	return strings.Join(out, ",")
}

func pairs(list string) map[string]string {
	out := map[string]string{}
	for _, kv := range strings.Split(list, ",") {
		if key, value, ok := strings.Cut(kv, "="); ok {
			out[key] = value
		}
	}
	return out
}

// output runs a program and returns what it says, and whether it ended well.
func output(ctx context.Context, run engine.Run, p engine.Program) (words string, ok bool, err error) {
	var b strings.Builder
	code, err := run(ctx, p, func(text string) {
		if b.Len() < 1<<20 {
			b.WriteString(text + "\n")
		}
	})
	if err = errors.Join(ctx.Err(), err); err != nil {
		return "", false, fmt.Errorf("%s: %w", p.Name, err)
	}
	return strings.TrimSpace(b.String()), code == 0, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// mkdir makes a directory where that can be done; using it says where not.
func mkdir(dir string) string {
	_ = os.MkdirAll(dir, 0o700)
	return dir
}
