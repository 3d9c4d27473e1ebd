package gofuzz

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/fuzz/engine"
)

// keepTime is how long what was built is kept after it was last asked for.
const keepTime = 72 * time.Hour

// work is a go.work as the go command prints it.
type work struct {
	Go      string
	Use     []struct{ DiskPath string }
	Replace []struct {
		Old, New struct{ Path, Version string }
	}
}

// workspace makes a workspace of the user's module, or of the user's own workspace, and a
// module that requires the engine. It returns the environment for that.
func workspace(ctx context.Context, run engine.Run, o BuildOptions) ([]string, error) {
	shim := filepath.Join(o.Dir, "shim")
	if err := os.MkdirAll(shim, 0o700); err != nil {
		return nil, err
	}
	own := map[string]string{}
	out, ok, err := output(ctx, run, engine.Program{Name: "go", Path: "go", Args: []string{"env", "-json", "GOWORK", "GOFLAGS"}, Env: os.Environ(), Dir: o.Package.Dir})
	if err != nil {
		return nil, err
	}
	if !ok || json.Unmarshal([]byte(out), &own) != nil {
		return nil, &Error{"go env", out}
	}
	w := work{Go: o.Package.GoVersion}
	w.Use = append(w.Use, struct{ DiskPath string }{o.Package.Root})
	if file := own["GOWORK"]; file != "" && file != "off" {
		if w, err = read(ctx, run, file); err != nil {
			return nil, err
		}
	}
	if version.Compare("go"+w.Go, "go1.18") < 0 {
		w.Go = "1.18" // the first that knows workspaces
	}
	text := fmt.Sprintf("go %s\n\nuse %q\n", w.Go, shim)
	for _, u := range w.Use {
		text += fmt.Sprintf("use %q\n", u.DiskPath)
	}
	for _, r := range w.Replace {
		text += strings.TrimRight(fmt.Sprintf("replace %s %s", r.Old.Path, r.Old.Version), " ") +
			strings.TrimRight(fmt.Sprintf(" => %s %s", r.New.Path, r.New.Version), " ") + "\n"
	}
	file := filepath.Join(o.Dir, "go.work")
	if err := errors.Join(
		os.WriteFile(file, []byte(text), 0o600),
		os.WriteFile(filepath.Join(shim, "go.mod"), shimMod(), 0o600),
		os.WriteFile(filepath.Join(shim, "go.sum"), engineSum, 0o600),
		os.WriteFile(filepath.Join(shim, "shim.go"), []byte("package shim\n\nimport _ \""+enginePath+"/go-fuzz-dep\"\n"), 0o600),
	); err != nil {
		return nil, err
	}
	return append(os.Environ(), "GOWORK="+file, "GOFLAGS="+flags(own["GOFLAGS"]), "GO111MODULE=", "TMPDIR="+o.Dir, "GOTMPDIR="+o.Dir), nil
}

// read reads the user's own workspace. Paths in it are relative to its file.
func read(ctx context.Context, run engine.Run, file string) (work, error) {
	var w work
	dir := filepath.Dir(file)
	out, ok, err := output(ctx, run, engine.Program{Name: "go", Path: "go", Args: []string{"work", "edit", "-json", file}, Env: os.Environ(), Dir: dir})
	if err != nil {
		return w, err
	}
	if err := json.Unmarshal([]byte(out), &w); !ok || err != nil {
		return w, &Error{file, out}
	}
	local := func(path *string) {
		if !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	for i := range w.Use {
		local(&w.Use[i].DiskPath)
	}
	for i, r := range w.Replace {
		if strings.HasPrefix(r.New.Path, ".") {
			local(&w.Replace[i].New.Path)
		}
	}
	return w, nil
}

// shimMod is a go.mod that requires nothing but the engine, of the version in engineMod.
func shimMod() []byte {
	var b bytes.Buffer
	b.WriteString("module shakedown.invalid/shim\n\ngo 1.18\n\n")
	for line := range strings.Lines(string(engineMod)) {
		if fields := strings.Fields(line); len(fields) >= 3 && fields[0] == "require" && fields[1] == enginePath {
			b.WriteString(line)
		}
	}
	return b.Bytes()
}

// flags are the user's GOFLAGS without -mod and -modfile, which a workspace does not take.
func flags(own string) string {
	var out []string
	for _, f := range strings.Fields(own) {
		name := strings.TrimLeft(f, "-")
		if !strings.HasPrefix(name, "mod=") && !strings.HasPrefix(name, "modfile=") {
			out = append(out, f)
		}
	}
	return strings.Join(out, " ")
}

// cell is the place in the cache for what is built of these sources. The toolchain knows
// whether they are the same: a package's build id depends on all that it is made of.
func cell(ctx context.Context, run engine.Run, o BuildOptions, env []string) (string, error) {
	p := engine.Program{Name: "go", Path: "go", Args: []string{"list", "-export", "-tags", "gofuzz", "-f", "{{.BuildID}}", "."}, Env: env, Dir: o.Package.Dir}
	out, ok, err := output(ctx, run, p)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", &Error{"build " + o.Package.ImportPath, out}
	}
	h := sha256.New()
	fmt.Fprintln(h, out, o.Package.ImportPath, o.Race, o.Tools.Build)
	return filepath.Join(o.Cache, "fuzz-"+hex.EncodeToString(h.Sum(nil)[:12])), nil
}

// load takes what save has kept.
func (b *Built) load(cell string) error {
	text, err := os.ReadFile(filepath.Join(cell, "built.json"))
	if err != nil {
		return err
	}
	kept := Built{}
	if err := json.Unmarshal(text, &kept); err != nil {
		return err
	}
	kept.Archive, kept.Cached = filepath.Join(cell, "fuzz.zip"), true
	if !exists(kept.Archive) {
		return os.ErrNotExist
	}
	*b = kept
	now := time.Now()
	return os.Chtimes(cell, now, now)
}

// save keeps what was built for the next time.
func (b *Built) save(cell string) error {
	text, err := json.Marshal(Built{GODEBUG: b.GODEBUG, Preserved: b.Preserved})
	if err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(mkdir(filepath.Dir(cell)), "fuzz-*.new")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	archive, err := os.ReadFile(b.Archive)
	if err == nil {
		err = errors.Join(os.WriteFile(filepath.Join(fresh, "fuzz.zip"), archive, 0o600), os.WriteFile(filepath.Join(fresh, "built.json"), text, 0o600))
	}
	if err != nil {
		return err
	}
	if err := os.Rename(fresh, cell); err != nil && !exists(cell) {
		return err
	}
	return forget(filepath.Dir(cell))
}

// forget removes what was built long ago.
func forget(cache string) error {
	old, err := filepath.Glob(filepath.Join(cache, "fuzz-*"))
	for _, dir := range old {
		if st, statErr := os.Stat(dir); statErr == nil && time.Since(st.ModTime()) > keepTime {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}
	return err
}
