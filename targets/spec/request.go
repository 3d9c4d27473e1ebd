package spec

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

var (
	requestLine = regexp.MustCompile(`^([A-Z]+) (/[^ ?#]*)$`)
	placeholder = regexp.MustCompile(`\{([^{}]*)\}`)
	plainName   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
)

// Request is the first line of a request: "POST /orders/{order}/pay".
type Request struct {
	Method string
	Path   string   // with its placeholders
	Names  []string // of the placeholders, in order
}

// ParseRequest reads a request line.
func ParseRequest(s string) (Request, error) {
	m := requestLine.FindStringSubmatch(s)
	if m == nil {
		return Request{}, fmt.Errorf("%q is not a request: expected METHOD /path, such as GET /items/{item}; a query is given by params query.NAME", s)
	}
	r := Request{Method: m[1], Path: m[2]}
	if r.Method == http.MethodConnect || r.Method == http.MethodTrace {
		return Request{}, fmt.Errorf("%s is for proxies, not for an API", r.Method)
	}
	for _, p := range placeholder.FindAllStringSubmatch(r.Path, -1) {
		if !plainName.MatchString(p[1]) {
			return Request{}, fmt.Errorf("%q cannot name a part of the path: letters, digits, _ and - are taken", p[0])
		}
		if slices.Contains(r.Names, p[1]) {
			return Request{}, fmt.Errorf("the path has %s twice", p[0])
		}
		r.Names = append(r.Names, p[1])
	}
	fixed := r.Expand(func(string) string { return "" })
	if _, err := url.ParseRequestURI(fixed); err != nil || strings.ContainsAny(fixed, "{}") {
		return Request{}, fmt.Errorf("%q is not a path that a URL can have", r.Path)
	}
	return r, nil
}

// Expand returns the path with each placeholder replaced by what value returns for it.
func (r Request) Expand(value func(name string) string) string {
	return placeholder.ReplaceAllStringFunc(r.Path, func(m string) string { return value(m[1 : len(m)-1]) })
}
