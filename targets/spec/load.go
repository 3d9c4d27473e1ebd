package spec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The bounds of a description: files come from elsewhere and are not trusted.
const (
	maxBytes  = 1 << 20
	maxDepth  = 32
	maxTokens = 1 << 15 // keys, values and signs
)

// Load reads a description. Path is the file, or a directory that holds shakedown.yaml or
// shakedown.yml. Its errors are of type *Error.
func Load(path string) (*File, error) { return load(path, false) }

// LoadFunctions reads a description for the fuzz functions of a module: neither a service
// nor an api need be described, and what is wrong with them is not looked for.
func LoadFunctions(path string) (*File, error) { return load(path, true) }

func load(path string, functions bool) (*File, error) {
	file, err := Find(path)
	if err != nil {
		return nil, err
	}
	r, err := os.Open(file)
	if err != nil {
		return nil, &Error{File: file, Msg: reason(err)}
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, &Error{File: file, Msg: reason(err)}
	}
	f, err := parse(file, b, functions)
	if err != nil {
		return nil, err
	}
	if f.Path, err = filepath.Abs(file); err != nil {
		return nil, &Error{File: file, Msg: err.Error()}
	}
	f.Dir = filepath.Dir(f.Path)
	if err := (&checker{f, functions}).files(); err != nil {
		return nil, err
	}
	if f.document() != "" {
		if err := f.readDocument(); err != nil {
			return nil, err
		}
		if err := f.assume(); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Find returns the file that path means, as Load takes it. Its errors are of type *Error.
func Find(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", &Error{File: path, Msg: reason(err)}
	}
	if !info.IsDir() {
		return path, nil
	}
	first, second := filepath.Join(path, "shakedown.yaml"), filepath.Join(path, "shakedown.yml")
	for _, file := range []string{first, second} {
		if info, err := os.Stat(file); err == nil && !info.IsDir() {
			return file, nil
		}
	}
	return "", &Error{File: path, Msg: fmt.Sprintf("no description: looked for %s and %s", first, second)}
}

// reason is what the system said, without the path, which Error has already.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// Parse reads the text of a description; name stands for the file in errors, which are
// of type *Error. It does not look for the files that the description names.
func Parse(name string, b []byte) (f *File, err error) { return parse(name, b, false) }

func parse(name string, b []byte, functions bool) (f *File, err error) {
	if len(b) > maxBytes {
		return nil, &Error{File: name, Msg: fmt.Sprintf("the file is larger than %d bytes", maxBytes)}
	}
	// The parser is not ours: what it does with broken input must not end the harness.
	defer func() {
		if p := recover(); p != nil {
			f, err = nil, &Error{File: name, Msg: fmt.Sprintf("not YAML: %v", p)}
		}
	}()
	src := source{name, b}
	if err := src.bound(); err != nil {
		return nil, err
	}
	doc, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, src.adopt(err)
	}
	if len(doc.Docs) != 1 || doc.Docs[0].Body == nil {
		return nil, &Error{File: name, Msg: "expected one YAML document that is not empty"}
	}
	root := doc.Docs[0].Body
	p := plain{src: src}
	ast.Walk(&p, root)
	if p.err != nil {
		return nil, p.err
	}
	f = new(File)
	if err := yaml.NodeToValue(root, f, yaml.Strict()); err != nil {
		return nil, src.adopt(err)
	}
	f.src, f.root = src, root
	if err := (&checker{f, functions}).check(); err != nil {
		return nil, err
	}
	return f, nil
}

// bound refuses what the parser takes long for, before it sees it: its time grows with the
// cube of the depth, and with the square of the number of tokens: 1 MiB of empty entries
// would take a minute.
func (s source) bound() error {
	flow, block := 0, 0
	line := 0
	for i, tk := range lexer.Tokenize(string(s.text)) {
		if tk.Position.Line != line {
			line, block = tk.Position.Line, 0
		}
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow--
		case token.SequenceEntryType, token.MappingKeyType:
			block++
		}
		// Block nesting over many lines needs as many columns.
		if flow > maxDepth || block > maxDepth || tk.Position.IndentNum > 8*maxDepth {
			return s.at(tk, fmt.Sprintf("nested deeper than %d levels", maxDepth))
		}
		if i == maxTokens {
			return s.at(tk, fmt.Sprintf("the file has more than %d keys, values and signs", maxTokens))
		}
	}
	return nil
}

// plain visits a tree and objects to what a description has no use for: expanding
// aliases is unbounded work, and a key that is no text is not checked by the decoder.
type plain struct {
	src source
	err error
}

func (p *plain) Visit(n ast.Node) ast.Visitor {
	if p.err != nil {
		return nil
	}
	switch n := n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode, *ast.TagNode:
		p.err = p.src.at(n.GetToken(), "anchors, aliases and tags are not taken: write it out")
		return nil
	case *ast.MappingValueNode:
		if _, text := n.Key.(*ast.StringNode); !text {
			p.err = p.src.at(n.Key.GetToken(), "the key is not a text: quote it")
			return nil
		}
	}
	return p
}

// size is a number with a binary unit.
var size = regexp.MustCompile(`^([1-9][0-9]{0,6})(KiB|MiB|GiB)$`)

// UnmarshalYAML reads a size above zero.
func (s *Size) UnmarshalYAML(n ast.Node) error {
	m := size.FindStringSubmatch(n.GetToken().Value)
	if _, scalar := n.(ast.ScalarNode); !scalar || m == nil {
		return &yaml.SyntaxError{Message: "expected a size such as 512MiB or 2GiB", Token: n.GetToken()}
	}
	bytes, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return &yaml.SyntaxError{Message: err.Error(), Token: n.GetToken()}
	}
	*s = Size(bytes << map[string]int{"KiB": 10, "MiB": 20, "GiB": 30}[m[2]])
	return nil
}

// UnmarshalYAML reads a duration above zero.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	got, err := time.ParseDuration(n.GetToken().Value)
	if _, scalar := n.(ast.ScalarNode); !scalar || err != nil || got <= 0 {
		return &yaml.SyntaxError{Message: "expected a duration above zero, such as 200ms or 2s", Token: n.GetToken()}
	}
	*d = Duration(got)
	return nil
}
