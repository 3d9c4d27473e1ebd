package openapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"
)

// reader reads one document.
type reader struct {
	doc   Doc
	read  func(name string) ([]byte, error)
	skip  func(op string) bool
	root  string           // name of the document
	files map[string]*file // by name, as read takes it
	bytes int              // of all files
	t     *openapi3.T

	all     []*request
	sources []source // of the replies of all

	shapes map[string]*shape
	order  []*shape
	kids   map[*openapi3.Schema]openapi3.SchemaRefs // what inherits from a schema
}

// file is a text with its tree.
type file struct {
	name string
	text []byte
	tree *yaml.Node
}

// Read reads the document in a file. References lead to files in the same directory or
// below it. Skip says of an op whether to leave it out; nil leaves out none. Errors are of type
// *Error.
func Read(name string, skip func(op string) bool) (*Doc, error) {
	dir, err := os.OpenRoot(filepath.Dir(name))
	if err != nil {
		return nil, &Error{File: name, Msg: reason(err)}
	}
	defer dir.Close()
	base := filepath.Base(name)
	return parse(base, skip, func(rel string) ([]byte, error) {
		f, err := dir.Open(filepath.FromSlash(rel))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
			return nil, errors.Join(err, errors.New("not a regular file"))
		}
		return io.ReadAll(io.LimitReader(f, maxBytes+1))
	}, func(rel string) string { return filepath.Join(filepath.Dir(name), filepath.FromSlash(rel)) })
}

// Parse reads the text of a document that stands alone; name stands for the file in errors,
// which are of type *Error.
func Parse(name string, text []byte) (*Doc, error) {
	return parse(name, nil, func(rel string) ([]byte, error) {
		if rel == name {
			return text, nil
		}
		return nil, fs.ErrNotExist
	}, func(rel string) string { return rel })
}

// reason is what the system said, without the path, which an error has already.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

func parse(root string, skip func(string) bool, read func(string) ([]byte, error), shown func(string) string) (doc *Doc, err error) {
	r := &reader{read: read, skip: skip, root: root, files: map[string]*file{}, shapes: map[string]*shape{}}
	// The parsers are not ours: what they do with broken input must not end the harness.
	defer func() {
		if p := recover(); p != nil {
			doc, err = nil, &Error{File: root, Msg: fmt.Sprintf("not an OpenAPI document: %.200v", p)}
		}
		var e *Error
		if errors.As(err, &e) {
			e.File = shown(e.File)
		}
	}()
	f, err := r.file(root)
	if err != nil {
		return nil, err
	}
	if err := r.version(f); err != nil {
		return nil, err
	}
	loader := openapi3.NewLoader()
	loader.IsExternalRefsAllowed = true
	loader.ReadFromURIFunc = func(_ *openapi3.Loader, u *url.URL) ([]byte, error) {
		f, err := r.file(path.Clean(u.Path))
		if err != nil {
			return nil, err
		}
		return f.text, nil
	}
	if r.t, err = loader.LoadFromDataWithPath(f.text, &url.URL{Path: root}); err != nil {
		return nil, r.adopt(f, err)
	}
	if err := r.ops(); err != nil {
		return nil, err
	}
	return &r.doc, nil
}

// file returns a file of the document, checked for what no reader should see.
func (r *reader) file(name string) (*file, error) {
	if f := r.files[name]; f != nil {
		return f, nil
	}
	b, err := r.read(name)
	if err != nil {
		return nil, &Error{File: name, Msg: reason(err)}
	}
	if r.bytes += len(b); r.bytes > maxBytes || len(r.files) >= maxFiles {
		return nil, &Error{File: name, Msg: fmt.Sprintf("the document has more than %d bytes or %d files", maxBytes, maxFiles)}
	}
	f := &file{name: name, text: bytes.TrimPrefix(b, []byte("\ufeff")), tree: new(yaml.Node)}
	if !utf8.Valid(f.text) {
		return nil, f.fail(nil, "the file is not UTF-8 text")
	}
	if bytes.HasPrefix(bytes.TrimSpace(f.text), []byte("{")) {
		// In JSON a tab is a blank, in YAML it is not; no string of JSON holds one.
		f.text = bytes.ReplaceAll(f.text, []byte("\t"), []byte(" "))
		f.text = ofJSON.ReplaceAllFunc(f.text, asYAML)
	}
	if err := tooDeep(f); err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(f.text, f.tree); err != nil {
		return nil, f.adopt(err)
	}
	n := 0
	if err := r.inspect(f, f.tree, 0, &n); err != nil {
		return nil, err
	}
	r.files[name] = f
	return f, nil
}

// ofJSON is what can stand in a string of JSON, and what of it may mean nothing in YAML.
var ofJSON = regexp.MustCompile(`(?i)\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|\\u(d[89a-f][0-9a-f]{2})|\\.|[\x{7f}-\x{9f}\x{fffe}\x{ffff}]`)

// asYAML returns a match of ofJSON as it means the same in YAML.
func asYAML(m []byte) []byte {
	switch {
	case m[0] != '\\':
		r, _ := utf8.DecodeRune(m)
		return fmt.Appendf(nil, `\u%04x`, r)
	case string(m) == `\/`:
		return []byte("/")
	case len(m) == 2:
		return m
	}
	parts := ofJSON.FindSubmatch(m)
	hi, _ := strconv.ParseUint(string(parts[1]), 16, 16)
	lo, _ := strconv.ParseUint(string(parts[2]), 16, 16)
	return utf8.AppendRune(nil, utf16.DecodeRune(rune(hi), rune(lo)))
}

// tooDeep refuses what the parser takes long for, before it sees it.
func tooDeep(f *file) error {
	depth, line, indent, start := 0, 1, 0, true
	for _, c := range f.text {
		switch {
		case c == '\n':
			line, indent, start = line+1, 0, true
			continue
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth = max(depth-1, 0)
		}
		if start = start && (c == ' ' || c == '-' || c == '?'); start {
			indent++
		}
		// Brackets within texts count, too: a document has few that are not closed.
		if depth > 8*maxDepth || indent > 8*maxDepth {
			return &Error{File: f.name, Text: f.text, Line: line, Column: 1, Msg: fmt.Sprintf("nested deeper than %d levels", maxDepth)}
		}
	}
	return nil
}

// inspect refuses what expands without bound, and references that lead away.
func (r *reader) inspect(f *file, n *yaml.Node, depth int, count *int) error {
	if *count++; *count > maxNodes {
		return f.fail(n, fmt.Sprintf("the file has more than %d keys and values", maxNodes))
	}
	if depth > maxDepth {
		return f.fail(n, fmt.Sprintf("nested deeper than %d levels", maxDepth))
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return f.fail(n, "anchors and aliases are not taken: use $ref, or write it out")
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			if k.Value != "$ref" || v.Kind != yaml.ScalarNode {
				continue
			}
			u, err := url.Parse(v.Value)
			switch {
			case err != nil:
				return f.fail(v, fmt.Sprintf("%q is no reference", v.Value))
			case u.Scheme != "" || u.Host != "":
				return f.fail(v, fmt.Sprintf("%s is elsewhere, and nothing is fetched: put the file beside this one and refer to it by its path", v.Value))
			case u.Path != "" && (path.IsAbs(u.Path) || !filepath.IsLocal(path.Join(path.Dir(f.name), u.Path))):
				return f.fail(v, fmt.Sprintf("%s is outside the directory of the document: only files in it and below are read", v.Value))
			}
		}
	}
	for _, kid := range n.Content {
		if err := r.inspect(f, kid, depth+1, count); err != nil {
			return err
		}
	}
	return nil
}

// version refuses what is no OpenAPI 3.
func (r *reader) version(f *file) error {
	root := f.tree
	if root.Kind == yaml.DocumentNode && len(root.Content) > 0 {
		root = root.Content[0]
	}
	if v := member(root, "openapi"); v != nil {
		if strings.HasPrefix(v.Value, "3.") {
			return nil
		}
		return f.fail(v, fmt.Sprintf("OpenAPI %s is not read, only 3.0 and 3.1", v.Value))
	}
	if v := member(root, "swagger"); v != nil {
		return f.fail(v, fmt.Sprintf("Swagger %s is not read, only OpenAPI 3.0 and 3.1: convert it first", v.Value))
	}
	return f.fail(root, `not an OpenAPI document: it has no "openapi: 3.0.3" or "openapi: 3.1.0"`)
}

// member returns a value of a mapping; nil where there is none.
func member(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// fail returns an error at a node, which may be nil.
func (f *file) fail(n *yaml.Node, msg string) *Error {
	e := &Error{File: f.name, Text: f.text, Msg: msg}
	if n != nil {
		e.Line, e.Column = n.Line, n.Column
	}
	return e
}

var yamlLine = regexp.MustCompile(`line ([0-9]+)(?:, column ([0-9]+))?`)

// adopt turns an error of the YAML library into one of ours.
func (f *file) adopt(err error) *Error {
	e := f.fail(nil, "not YAML: "+strings.TrimPrefix(err.Error(), "yaml: "))
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Column = 1
		if c, err := strconv.Atoi(m[2]); err == nil {
			e.Column = c
		}
		if strings.Contains(err.Error(), "did not find expected") {
			e.Line++ // of these the library counts lines from zero
		}
		msg := strings.Replace(strings.TrimPrefix(err.Error(), "yaml: "), m[0]+": ", "", 1)
		e.Msg = "not YAML: " + msg
	}
	return e
}

var jsonAndYAML = regexp.MustCompile(`(?s)^failed to unmarshal data: json error: .*, yaml error: (.*)$`)

// adopt turns an error of the OpenAPI library into one of ours.
func (r *reader) adopt(root *file, err error) *Error {
	var own *Error
	if errors.As(err, &own) {
		if n, f := r.reference(func(to place) bool { return to.file == own.File }); own.Text == nil && n != nil {
			return f.fail(n, own.File+": "+own.Msg)
		}
		return own
	}
	msg := err.Error()
	if m := jsonAndYAML.FindStringSubmatch(msg); m != nil {
		msg = m[1]
	}
	msg = strings.TrimPrefix(msg, "error converting YAML to JSON: ")
	e := root.fail(nil, fmt.Sprintf("not an OpenAPI document: %.400s", msg))
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		e.Line, _ = strconv.Atoi(m[1])
		e.Column = 1
	}
	if e.Line > 0 {
		return e
	}
	n, f := r.reference(func(to place) bool {
		g := r.files[to.file]
		if g == nil {
			return false
		}
		_, found := g.find(to.path)
		return !found
	})
	if n != nil {
		return f.fail(n, n.Value+" leads nowhere")
	}
	if n := root.misshapen(); n != nil {
		e.Line, e.Column = n.Line, n.Column
	}
	return e
}

// reference returns the first reference that leads to a certain place, and its file; nil where
// there is none.
func (r *reader) reference(leads func(to place) bool) (*yaml.Node, *file) {
	var within func(f *file, n *yaml.Node) *yaml.Node
	within = func(f *file, n *yaml.Node) *yaml.Node {
		if v := member(n, "$ref"); v != nil && v.Kind == yaml.ScalarNode && leads(place{file: f.name}.follow(v.Value)) {
			return v
		}
		for _, kid := range n.Content {
			if got := within(f, kid); got != nil {
				return got
			}
		}
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(r.files)) {
		if n := within(r.files[name], r.files[name].tree); n != nil {
			return n, r.files[name]
		}
	}
	return nil, nil
}

// place is where something stands: a file and a JSON pointer in it.
type place struct {
	file string
	path []string
}

// to returns the place of a part.
func (p place) to(names ...string) place {
	return place{p.file, append(p.path[:len(p.path):len(p.path)], names...)}
}

// follow returns the place that a reference leads to; "" leads nowhere.
func (p place) follow(ref string) place {
	if ref == "" {
		return p
	}
	name, pointer, _ := strings.Cut(ref, "#")
	out := place{file: p.file}
	if name != "" {
		out.file = path.Join(path.Dir(p.file), name)
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		if un, err := url.PathUnescape(part); err == nil {
			part = un
		}
		if part != "" {
			out.path = append(out.path, strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~"))
		}
	}
	return out
}

func (p place) String() string {
	var b strings.Builder
	b.WriteByte('#')
	for _, part := range p.path {
		b.WriteString("/" + strings.ReplaceAll(strings.ReplaceAll(part, "~", "~0"), "/", "~1"))
	}
	return b.String()
}

// fail returns an error at a place, or at as much of it as is there.
func (r *reader) fail(p place, format string, args ...any) *Error {
	f := r.files[p.file]
	if f == nil {
		f = r.files[r.root]
	}
	at, _ := f.find(p.path)
	return f.fail(at, fmt.Sprintf(format, args...))
}

// find returns the node at the end of a path, or of as much of it as is there.
func (f *file) find(path []string) (at *yaml.Node, found bool) {
	n := f.tree
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	at = n
	for _, part := range path {
		var next *yaml.Node
		switch n.Kind {
		case yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == part {
					at, next = n.Content[i], n.Content[i+1]
				}
			}
		case yaml.SequenceNode:
			if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(n.Content) {
				next = n.Content[i]
				at = next
			}
		}
		if next == nil {
			return at, false
		}
		n = next
	}
	return at, true
}
