// Package gobuild builds the main package of any Go service with the agent in it, and
// leaves the service's source, go.mod and vendor directory as they are: what is added
// reaches the compiler through an overlay. It is built by the toolchain, the version of
// the language and the flags that the service's own directory asks for.
package gobuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/shakedown-go/shakedown/harness/agent"
)

const (
	// importFile is added to package main: it imports the agent.
	importFile = "zz_shakedown_import.go"

	maxWords = 16 << 10       // of the toolchain's output in an error
	keep     = 72 * time.Hour // how long a binary is kept after it was last asked for
)

// Options say what to build.
type Options struct {
	Dir     string // where go build runs; zero means the working directory
	Package string // of the service, as go build takes it: ./cmd/shop; zero means "."
	Race    bool   // with the race detector
	Leaks   bool   // with a runtime that can tell which goroutines nobody can wake any more, where the toolchain has one
	Cache   string // where overlays and binaries are kept; zero means shakedown in os.UserCacheDir
	// Temp is where the toolchain works. A build that is interrupted leaves its files in
	// there: they are the caller's to remove. Zero means os.TempDir.
	Temp string
	Env  []string // of the toolchain, on top of this process's
}

// Binary is a service that was built.
type Binary struct {
	Path   string // it is not changed as long as it is in use: each build has its own
	SHA256 string
	Module string // path of the service's module
	Dir    string // of that module
	Go     string // version of the toolchain
	Race   bool
	Leaks  bool // its runtime tells which goroutines nobody can wake any more
	Took   time.Duration
	Cached bool // it is the binary of an earlier build
}

// Error says that a package could not be built, in the toolchain's words.
type Error struct {
	Package, Dir string
	Words        string // what the toolchain printed, positions included
	Hint         string // the way out, where it is known
}

func (e *Error) Error() string {
	s := fmt.Sprintf("build %s in %s: %s", e.Package, e.Dir, e.Words)
	if e.Hint != "" {
		s += "\n" + e.Hint
	}
	return s
}

// Build builds a service. The toolchain decides by its own cache what there is to do, so
// a second build of the same sources takes a moment. What is wrong with the service is an
// *Error.
func Build(ctx context.Context, o Options) (Binary, error) {
	began := time.Now()
	b := builder{Options: o}
	if err := b.prepare(ctx); err != nil {
		return Binary{}, err
	}
	unlock, err := lock(ctx, filepath.Join(b.cell, "lock"))
	if err != nil {
		return Binary{}, fmt.Errorf("build %s: %w", b.Package, err)
	}
	defer unlock()
	if err := b.overlay(); err != nil {
		return Binary{}, fmt.Errorf("build %s: %w", b.Package, err)
	}
	out := filepath.Join(b.cell, "latest")
	// The revision would make another binary of equal sources, and asking for it takes time.
	args := []string{"build", "-buildvcs=false", "-overlay", filepath.Join(b.cell, "overlay.json"), "-o", out}
	if b.Race {
		args = append(args, "-race")
	}
	if _, err := b.run(ctx, append(args, b.Package)...); err != nil {
		return Binary{}, err
	}
	bin := Binary{Module: b.pkg.Module.Path, Dir: b.pkg.Module.Dir, Go: b.env["GOVERSION"], Race: b.Race, Leaks: b.experiment != ""}
	if err := b.settle(out, &bin); err != nil {
		return Binary{}, fmt.Errorf("build %s: %w", b.Package, err)
	}
	bin.Took = time.Since(began)
	return bin, nil
}

// builder is one build under way.
type builder struct {
	Options
	cell       string // the directory in the cache for this service and toolchain
	experiment string // what GOEXPERIMENT is set to; "" leaves it as it is
	env        map[string]string
	pkg        struct {
		Dir, ImportPath, Name string
		Module                *struct {
			Path, Dir string
			Main      bool
		}
		Error *struct{ Err string }
	}
}

// prepare finds out what is to be built by what, and refuses what cannot be.
func (b *builder) prepare(ctx context.Context) error {
	if b.Package == "" {
		b.Package = "."
	}
	if strings.HasSuffix(b.Package, ".go") {
		return b.fail("this is a file", "name the package: the directory that the file is in, as ./cmd/shop")
	}
	if strings.HasPrefix(b.Package, "-") || strings.Contains(b.Package, "...") {
		return b.fail("this is not the name of one package", "name it as ./cmd/shop")
	}
	dir, err := filepath.Abs(b.Dir)
	if err != nil {
		return fmt.Errorf("build %s: %w", b.Package, err)
	}
	// The overlay is compared with paths in which no link is left.
	if dir, err = filepath.EvalSymlinks(dir); err == nil {
		b.Dir = dir
	}
	if st, err := os.Stat(b.Dir); err != nil || !st.IsDir() {
		return b.fail("there is no such directory", "")
	}
	if local := strings.HasPrefix(b.Package, ".") || filepath.IsAbs(b.Package); local {
		p := b.Package
		if !filepath.IsAbs(p) {
			p = filepath.Join(b.Dir, p)
		}
		if st, err := os.Stat(p); err != nil || !st.IsDir() {
			return b.fail("there is no directory "+p, "")
		}
	}
	out, err := b.run(ctx, "env", "-json", "GOVERSION", "GOROOT", "GOEXPERIMENT", "GOFLAGS", "GOOS", "GOARCH", "CGO_ENABLED", "CC", "GOMOD", "GOWORK")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, &b.env); err != nil {
		return fmt.Errorf("build %s: go env: %w", b.Package, err)
	}
	b.experiments()
	if out, err = b.run(ctx, "list", "-e", "-find", "-json=Dir,ImportPath,Name,Module,Error", b.Package); err != nil {
		return err
	}
	if err := json.Unmarshal(out, &b.pkg); err != nil {
		return fmt.Errorf("build %s: go list: %w", b.Package, err)
	}
	switch p := b.pkg; {
	case p.Error != nil:
		return b.fail(p.Error.Err, "")
	case p.Module == nil:
		return b.fail("the package is in no module", "a service is built from the directory of its module: one with a go.mod file")
	case !p.Module.Main:
		return b.fail("the package belongs to the module "+p.Module.Path+", which is a dependency here", "build it from a copy of that module's source")
	case p.Name != "main":
		return b.fail("this is package "+p.Name+", not a main package", "name the directory of the program")
	}
	return b.place()
}

// leakProfile is the experiment that gives the runtime its goroutine leak profile. A toolchain
// that knows it has a file of that name.
const leakProfile = "goroutineleakprofile"

// experiments switches on what is wanted of the toolchain's experiments, beside those that
// the service is built with anyway.
func (b *builder) experiments() {
	known := filepath.Join(b.env["GOROOT"], "src", "internal", "goexperiment", "exp_"+leakProfile+"_on.go")
	if _, err := os.Stat(known); !b.Leaks || err != nil {
		return
	}
	var all []string
	for _, x := range strings.Split(b.env["GOEXPERIMENT"], ",") {
		if x == "no"+leakProfile {
			return // somebody does not want it
		}
		if x != "" && x != leakProfile {
			all = append(all, x)
		}
	}
	b.experiment = strings.Join(append(all, leakProfile), ",")
	b.env["GOEXPERIMENT"] = b.experiment
}

// place makes the cell: the part of the cache for this package, toolchain and flags.
func (b *builder) place() error {
	if b.Cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("build %s: no directory for the cache: %w", b.Package, err)
		}
		b.Cache = filepath.Join(dir, "shakedown")
	}
	key, err := json.Marshal([]any{b.pkg.Dir, b.pkg.ImportPath, b.Race, b.env})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(key)
	b.cell, err = filepath.Abs(filepath.Join(b.Cache, "build", hex.EncodeToString(sum[:8])))
	if err != nil {
		return err
	}
	return os.MkdirAll(b.cell, 0o700)
}

// overlay writes the agent's files to the cell, and the list that says where in the
// service they are to be seen.
func (b *builder) overlay() error {
	files, err := agent.Source()
	if err != nil {
		return err
	}
	m := b.pkg.Module
	replace := map[string]string{}
	add := func(at, name string, text []byte) error {
		if _, err := os.Lstat(at); err == nil {
			return fmt.Errorf("%s is in the way: the agent would take its place", at)
		}
		replace[at] = filepath.Join(b.cell, name)
		return writeFile(replace[at], text)
	}
	for name, text := range files {
		if err := add(filepath.Join(m.Dir, agent.Package, name), name, text); err != nil {
			return err
		}
	}
	text := fmt.Sprintf("package main\n\nimport _ %q\n", m.Path+"/"+agent.Package)
	if err := add(filepath.Join(b.pkg.Dir, importFile), importFile, []byte(text)); err != nil {
		return err
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(b.cell, "overlay.json"), list)
}

// settle gives the binary a name of its own, under which it stays what it is when the
// next build comes, and lets go of old ones.
func (b *builder) settle(out string, bin *Binary) error {
	f, err := os.Open(out)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	bin.SHA256 = hex.EncodeToString(h.Sum(nil))
	bin.Path = filepath.Join(b.cell, filepath.Base(b.pkg.Dir)+"-"+bin.SHA256[:12])
	err = os.Link(out, bin.Path)
	bin.Cached = errors.Is(err, os.ErrExist)
	if err != nil && !bin.Cached {
		return err
	}
	now := time.Now()
	if err := os.Chtimes(bin.Path, now, now); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(b.cell, "*-????????????"))
	for _, name := range old {
		if st, statErr := os.Stat(name); statErr == nil && now.Sub(st.ModTime()) > keep {
			err = errors.Join(err, os.Remove(name))
		}
	}
	return err
}

// run runs the go command. Its words on standard error are what an error says.
func (b *builder) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.Dir
	cmd.Env = append(cmd.Environ(), b.Env...)
	if b.experiment != "" {
		cmd.Env = append(cmd.Env, "GOEXPERIMENT="+b.experiment)
	}
	if b.Temp != "" {
		cmd.Env = append(cmd.Env, "GOTMPDIR="+b.Temp, "TMPDIR="+b.Temp) // the latter for the C compiler
	}
	// The compilers that it starts go with it when ctx ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	err := cmd.Run()
	switch {
	case err == nil:
		return out.Bytes(), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("build %s: %w", b.Package, ctx.Err())
	case errors.Is(err, exec.ErrNotFound):
		return nil, b.fail("there is no go command", "install Go, and have its bin directory in PATH")
	}
	text := strings.TrimSpace(words.String())
	if text == "" {
		text = err.Error()
	}
	return nil, b.fail(text, hint(text))
}

func (b *builder) fail(words, hint string) error {
	if len(words) > maxWords {
		words = strings.ToValidUTF8(words[:maxWords], "") + "\n(more of this is left out)"
	}
	if strings.Contains(words, "\n") {
		words = "\n" + words
	}
	return &Error{Package: b.Package, Dir: b.Dir, Words: words, Hint: hint}
}

// hint is the way out of what the toolchain complains about.
func hint(words string) string {
	for _, h := range []struct{ sign, hint string }{
		{"-race requires cgo", "the race detector needs cgo: set CGO_ENABLED=1 and install a C compiler (gcc or clang)"},
		{"C compiler", "the race detector needs a C compiler: install gcc or clang, or name yours in CC"},
		{"-race is not supported", "the race detector is not there for this system and processor: go help build lists those that have it"},
		{"go.mod file not found", "a service is built from the directory of its module: make it one with go mod init"},
		{"cannot find main module", "a service is built from the directory of its module: make it one with go mod init"},
		{"inconsistent vendoring", "run go mod vendor in the service"},
		{"missing go.sum entry", "run go mod tidy in the service"},
	} {
		if strings.Contains(words, h.sign) {
			return h.hint
		}
	}
	return ""
}

// writeFile writes a file unless it holds that already: the toolchain then need not look
// at it again.
func writeFile(name string, text []byte) error {
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, text) {
		return nil
	}
	return os.WriteFile(name, text, 0o600)
}

// lock waits for the lock that is a file: two builds of one service must not meet.
func lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("another build of it holds %s: %w", name, ctx.Err())
		}
	}
}
