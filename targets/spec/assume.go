package spec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// listTime bounds how long it may take to find the main package.
const listTime = 30 * time.Second

// conventions are the variables by which many services are told where to listen, with the
// value for each.
var conventions = [...]struct{ value, names string }{
	{"{{listen}}", "ADDR ADDRESS HTTP_ADDR HTTP_ADDRESS LISTEN LISTEN_ADDR LISTEN_ADDRESS BIND_ADDR SERVER_ADDR SERVER_ADDRESS"},
	{"{{port}}", "PORT HTTP_PORT SERVER_PORT LISTEN_PORT APP_PORT"},
	{"127.0.0.1", "HOST HTTP_HOST SERVER_HOST"},
}

// assume fills in how the service is built and told where to listen, where a file with an
// OpenAPI document does not say so.
func (f *File) assume() error {
	if f.Service.Source() == "" {
		build, err := f.onlyMain()
		if err != nil {
			return err
		}
		f.Service.Build = build
		f.Assumed = append(f.Assumed, fmt.Sprintf("service.build is %s: the only main package", build))
	}
	if len(f.Service.Env) > 0 || len(f.Service.Args) > 0 {
		return nil
	}
	f.Service.Env = map[string]string{}
	var all []string
	for _, c := range conventions {
		for name := range strings.FieldsSeq(c.names) {
			f.Service.Env[name] = c.value
		}
		all = append(all, strings.ReplaceAll(c.names, " ", ", ")+": "+c.value)
	}
	f.Assumed = append(f.Assumed, "service.env says where to listen by "+strings.Join(all, "; "))
	return nil
}

// onlyMain finds the only main package of the module that the file stands in.
func (f *File) onlyMain() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), listTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "list", "-find", "-e", "-f", `{{if eq .Name "main"}}{{.Dir}}{{end}}`, "./...")
	cmd.Dir = f.Dir
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	const remedy = "give service.build: the directory of the Go main package, such as ./cmd/shop"
	if err != nil {
		said := err.Error()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			said, _, _ = strings.Cut(string(bytes.TrimSpace(exit.Stderr)), "\n")
		}
		return "", f.Mistake([]string{"service", "build"}, "service.build is missing, and go list finds no main package (%s): %s", said, remedy)
	}
	var found []string
	for dir := range strings.Lines(string(out)) {
		dir = strings.TrimSpace(dir)
		rel, err := filepath.Rel(resolved(f.Dir), resolved(dir))
		if dir == "" || err != nil || !filepath.IsLocal(rel) {
			continue
		}
		if rel != "." {
			rel = "./" + filepath.ToSlash(rel)
		}
		found = append(found, rel)
	}
	slices.Sort(found)
	switch len(found) {
	case 0:
		return "", f.Mistake([]string{"service", "build"}, "service.build is missing, and there is no main package here or below: %s", remedy)
	case 1:
		return found[0], nil
	}
	return "", f.Mistake([]string{"service", "build"}, "service.build is missing, and there are several main packages (%s): %s", strings.Join(found, ", "), remedy)
}

// resolved returns a path without symbolic links, as far as that can be told.
func resolved(path string) string {
	if got, err := filepath.EvalSymlinks(path); err == nil {
		return got
	}
	return path
}
