// Package function finds the fuzz functions of a Go package and runs one input through
// one of them, in a fresh process of a build as the module itself has it.
//
// There are two sorts: go-fuzz functions, func FuzzX([]byte) int, and native ones, func
// FuzzX(*testing.F) in test files. What an engine for either builds is another program than
// the user's: instrumented, in the case of go-fuzz even by other rules of the language. So
// what an engine says is only a suspicion until a replay here has shown it.
//
// The user's files are never written to: a driver reaches the compiler through an overlay,
// and a test binary runs in a mirror of its directory.
package function

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Sort says by which engine a function can be fuzzed.
type Sort string

// The sorts of functions.
const (
	GoFuzz Sort = "go-fuzz" // func FuzzX([]byte) int
	Native Sort = "native"  // func FuzzX(*testing.F)
)

// Func is a fuzz function.
type Func struct {
	Name string
	Sort Sort
	// Types are those of its input, separated by commas: "[]byte". A native function may
	// hide them, by handing a variable to f.Fuzz: then it is "".
	Types string
}

// Package is a package with fuzz functions.
type Package struct {
	Dir        string // of its files, no link left in it
	ImportPath string
	Name       string
	Module     string // path of its module
	Root       string // directory of that
	GoVersion  string // of that, as in its go.mod
	Funcs      []Func // sorted by name
}

// Error says what is wrong with a package, in the toolchain's words where it spoke.
type Error struct{ Msg string }

func (e *Error) Error() string { return e.Msg }

func mistake(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// listed is what go list says of a package.
type listed struct {
	Dir, ImportPath, Name string
	Module                *struct {
		Path, Dir, GoVersion string
		Main                 bool
	}
	GoFiles, CgoFiles, TestGoFiles, XTestGoFiles []string
	Error                                        *struct{ Err string }
}

// Discover finds the fuzz functions of a package: a directory, or an import path as it is
// understood in the working directory. What is wrong with that is an *Error.
func Discover(ctx context.Context, path string) (*Package, error) {
	dir, pattern := "", path
	if strings.HasPrefix(path, "-") || strings.Contains(path, "...") {
		return nil, mistake("%s: not one package: name its directory, such as ./parser", path)
	}
	if info, err := os.Stat(path); err == nil {
		if !info.IsDir() {
			return nil, mistake("%s is a file: name the directory of its package", path)
		}
		// The directory may well be in another module than the working directory.
		if dir, err = filepath.EvalSymlinks(path); err != nil {
			return nil, mistake("%s: %v", path, err)
		}
		pattern = "."
	} else if filepath.IsAbs(path) || strings.HasPrefix(path, ".") {
		return nil, mistake("%s: there is no such directory", path)
	}
	p := &Package{}
	files := map[Sort][]string{}
	for sort, args := range map[Sort][]string{GoFuzz: {"-tags", "gofuzz"}, Native: nil} {
		args = append(append([]string{"list", "-e", "-find", "-json=Dir,ImportPath,Name,Module,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles,Error"}, args...), pattern)
		out, err := goCommand(ctx, dir, nil, args...)
		if err != nil {
			return nil, err
		}
		var l listed
		if err := json.Unmarshal([]byte(out), &l); err != nil {
			return nil, mistake("%s: not one package: name its directory, such as ./parser", path)
		}
		switch {
		case l.Error != nil && (len(l.GoFiles)+len(l.TestGoFiles)+len(l.XTestGoFiles) == 0):
			if sort == Native && strings.Contains(l.Error.Err, "build constraints exclude all Go files") {
				continue
			}
			return nil, mistake("%s: %s", path, l.Error.Err)
		case l.Module == nil:
			return nil, mistake("%s: the package is in no module: make it one with go mod init", path)
		case !l.Module.Main:
			return nil, mistake("%s: the package belongs to the module %s, which is a dependency here: name a directory of that module's source", path, l.Module.Path)
		}
		if l.Dir, err = filepath.EvalSymlinks(l.Dir); err != nil {
			return nil, err
		}
		if l.Module.Dir, err = filepath.EvalSymlinks(l.Module.Dir); err != nil {
			return nil, err
		}
		*p = Package{Dir: l.Dir, ImportPath: l.ImportPath, Name: l.Name, Module: l.Module.Path, Root: l.Module.Dir, GoVersion: l.Module.GoVersion}
		if files[sort] = append(l.GoFiles, l.CgoFiles...); sort == Native {
			files[sort] = append(l.TestGoFiles, l.XTestGoFiles...)
		}
	}
	return p, p.find(path, files)
}

// find reads the files for functions.
func (p *Package) find(path string, files map[Sort][]string) error {
	for sort, names := range files {
		for _, name := range names {
			found, err := functions(filepath.Join(p.Dir, name), sort)
			if err != nil {
				return mistake("%v", err)
			}
			p.Funcs = append(p.Funcs, found...)
		}
	}
	slices.SortFunc(p.Funcs, func(a, b Func) int { return strings.Compare(a.Name, b.Name) })
	gofuzz := func(f Func) bool { return f.Sort == GoFuzz }
	switch {
	case len(p.Funcs) == 0:
		return mistake("%s: package %s has no fuzz function: neither func FuzzX([]byte) int, nor func FuzzX(*testing.F) in a test file", path, p.ImportPath)
	case p.Name == "main" && slices.ContainsFunc(p.Funcs, gofuzz):
		return mistake("%s: this is package main, which no other program can import: move the function to a package of its own", path)
	}
	return nil
}

// functions returns the fuzz functions of one sort that a file declares.
func functions(file string, sort Sort) ([]Func, error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	testing := ""
	for _, imp := range f.Imports {
		if imp.Path.Value == `"testing"` {
			if testing = "testing"; imp.Name != nil {
				testing = imp.Name.Name
			}
		}
	}
	var out []Func
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Recv != nil || fn.Type.TypeParams != nil || !fuzzName(fn.Name.Name) || fn.Type.Params.NumFields() != 1 {
			continue
		}
		param, results := fn.Type.Params.List[0].Type, fn.Type.Results
		switch {
		case sort == GoFuzz && bytesType(param) && results.NumFields() == 1 && isIdent(results.List[0].Type, "int"):
			out = append(out, Func{fn.Name.Name, sort, "[]byte"})
		case sort == Native && testing != "" && results.NumFields() == 0 && pointerTo(param, testing, "F"):
			out = append(out, Func{fn.Name.Name, sort, inputTypes(fn)})
		}
	}
	return out, nil
}

// fuzzName reports whether a name is one of a fuzz function, by the rule of the go command.
func fuzzName(name string) bool {
	rest, ok := strings.CutPrefix(name, "Fuzz")
	if !ok || rest == "" {
		return ok
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return !unicode.IsLower(r)
}

func isIdent(e ast.Expr, names ...string) bool {
	id, ok := e.(*ast.Ident)
	return ok && slices.Contains(names, id.Name)
}

func bytesType(e ast.Expr) bool {
	a, ok := e.(*ast.ArrayType)
	return ok && a.Len == nil && isIdent(a.Elt, "byte", "uint8")
}

// inputTypes returns the types of the function literal that a native function hands to
// f.Fuzz, without its *testing.T.
func inputTypes(fn *ast.FuncDecl) string {
	found := ""
	if fn.Body == nil {
		return ""
	}
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		lit, isLit := call.Args[0].(*ast.FuncLit)
		if !ok || !isLit || sel.Sel.Name != "Fuzz" {
			return true
		}
		var types []string
		for _, p := range lit.Type.Params.List {
			name := "[]byte"
			if id, ok := p.Type.(*ast.Ident); ok {
				name = canonical(id.Name)
			} else if !bytesType(p.Type) {
				name = "*"
			}
			for range max(1, len(p.Names)) {
				types = append(types, name)
			}
		}
		if len(types) > 1 && types[0] == "*" && !slices.Contains(types[1:], "*") {
			found = strings.Join(types[1:], ",")
		}
		return false
	})
	return found
}

// canonical is the one name of a type that has two.
func canonical(name string) string {
	switch name {
	case "byte":
		return "uint8"
	case "rune":
		return "int32"
	}
	return name
}

// pointerTo reports whether a type is a pointer to one of package testing, where that has
// this name.
func pointerTo(e ast.Expr, testing, name string) bool {
	star, ok := e.(*ast.StarExpr)
	if !ok {
		return false
	}
	if testing == "." {
		return isIdent(star.X, name)
	}
	sel, ok := star.X.(*ast.SelectorExpr)
	return ok && isIdent(sel.X, testing) && sel.Sel.Name == name
}

// Select keeps the functions of that name; "" keeps all.
func (p *Package) Select(name string) ([]Func, error) {
	if name == "" {
		return p.Funcs, nil
	}
	var out []Func
	var names []string
	for _, f := range p.Funcs {
		if names = append(names, f.Name); f.Name == name {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return nil, mistake("package %s has no fuzz function %s, only %s", p.ImportPath, name, strings.Join(names, ", "))
	}
	return out, nil
}

// Seeds are the directories of seeds that a package may hold for a function.
func (p *Package) Seeds(f Func) []string {
	return []string{
		filepath.Join(p.Dir, "testdata", "fuzz", f.Name),
		filepath.Join(p.Dir, "corpus"),
		filepath.Join(p.Dir, "testdata", "corpus"),
		filepath.Join(p.Dir, "testdata", "corpus", f.Name),
	}
}

// goCommand runs the go command and returns what it prints on standard output. What it
// complains about is an *Error. Env is added to the harness's own.
func goCommand(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	var out, words strings.Builder
	code, err := Run(ctx, Command{Name: "go", Path: "go", Args: args, Dir: dir, Env: append(os.Environ(), env...)}, func(lane, text string) {
		if lane == "stdout" {
			fmt.Fprintln(&out, text)
		} else {
			fmt.Fprintln(&words, text)
		}
	})
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("go %s: %w", args[0], ctx.Err())
	case err != nil:
		return "", errors.Join(err, mistake("there is no go command: install Go, and have its bin directory in PATH"))
	case code != 0:
		return "", mistake("%s", bounded(strings.TrimSpace(words.String()+out.String())))
	}
	return out.String(), nil
}

// bounded cuts a text that is too long for an error.
func bounded(words string) string {
	const most = 16 << 10
	if len(words) <= most {
		return words
	}
	return strings.ToValidUTF8(words[:most], "") + "\n(more of this is left out)"
}
