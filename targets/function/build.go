package function

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// driverDir is the directory of the driver, seen only by the compiler, below that of the
// package: what is internal can be imported from there.
const driverDir = "zzshakedown"

// driver calls a go-fuzz function with the bytes of a file so many times, and gives what
// that has started a moment to end.
const driver = `package main

import (
	"os"
	"runtime"
	"strconv"
	"time"

	target %q
)

func main() {
	data, err := os.ReadFile(os.Args[2])
	if err != nil {
		println(err.Error())
		os.Exit(111)
	}
	times, _ := strconv.Atoi(os.Args[3])
	call := map[string]func([]byte) int{
%s	}[os.Args[1]]
	before := runtime.NumGoroutine()
	for i := 0; i < times; i++ { // the module's language may be an old one
		call(append([]byte(nil), data...))
	}
	for i := 0; i < 100 && runtime.NumGoroutine() > before; i++ {
		time.Sleep(time.Millisecond)
	}
}
`

// Builder builds a package's functions as the module itself has them.
type Builder struct {
	Package *Package
	Dir     string // for what is built; it is the caller's to remove
}

// Build returns a program that replays inputs of functions of one sort. What the compiler
// complains about is an *Error.
func (b Builder) Build(ctx context.Context, sort Sort, race bool) (string, error) {
	name := fmt.Sprintf("replay-%s-race=%v", sort, race)
	out := filepath.Join(b.Dir, name)
	var args []string
	if race {
		args = append(args, "-race")
	}
	if sort == Native {
		return out, b.test(ctx, out, args)
	}
	overlay, err := b.overlay()
	if err != nil {
		return "", err
	}
	args = append([]string{"build", "-buildvcs=false", "-tags", "gofuzz", "-overlay", overlay, "-o", out}, args...)
	_, err = goCommand(ctx, b.Package.Dir, b.env(), append(args, "./"+driverDir)...)
	return out, b.words(err)
}

// BuildEngine returns the test binary of a package as the native engine wants it:
// instrumented.
func (b Builder) BuildEngine(ctx context.Context, race bool) (string, error) {
	out := filepath.Join(b.Dir, fmt.Sprintf("engine-race=%v", race))
	args := []string{"-fuzz", "^Fuzz"}
	if race {
		args = append(args, "-race")
	}
	return out, b.test(ctx, out, args)
}

// test builds the test binary.
func (b Builder) test(ctx context.Context, out string, args []string) error {
	args = append([]string{"test", "-c", "-vet=off", "-buildvcs=false", "-o", out}, args...)
	_, err := goCommand(ctx, b.Package.Dir, b.env(), append(args, ".")...)
	return b.words(err)
}

// env has the toolchain work where what an interruption leaves is removed.
func (b Builder) env() []string { return []string{"GOTMPDIR=" + b.Dir, "TMPDIR=" + b.Dir} }

func (b Builder) words(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return mistake("build %s:\n%s", b.Package.ImportPath, e.Msg)
	}
	return err
}

// overlay writes the driver, and the list that says where in the package it is to be seen.
func (b Builder) overlay() (string, error) {
	at := filepath.Join(b.Package.Dir, driverDir)
	if _, err := os.Lstat(at); err == nil {
		return "", mistake("%s is in the way: the driver would take its place", at)
	}
	calls := ""
	for _, f := range b.Package.Funcs {
		if f.Sort == GoFuzz {
			calls += fmt.Sprintf("\t\t%q: target.%s,\n", f.Name, f.Name)
		}
	}
	source := filepath.Join(b.Dir, "driver.go")
	if err := os.WriteFile(source, fmt.Appendf(nil, driver, b.Package.ImportPath, calls), 0o600); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(at, "main.go"): source}})
	if err != nil {
		return "", err
	}
	file := filepath.Join(b.Dir, "overlay.json")
	return file, os.WriteFile(file, list, 0o600)
}

// GODEBUG returns the defaults that a program was built with, as in GODEBUG.
func GODEBUG(binary string) (string, error) {
	info, err := buildinfo.ReadFile(binary)
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
