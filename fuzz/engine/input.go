package engine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"
)

// version is the first line of a file of the go command's corpora.
const version = "go test fuzz v1"

// MaxInput bounds an input, in bytes as a file: what comes from elsewhere is not trusted.
const MaxInput = 16 << 20

// Input is what a function is called with: the values of its parameters behind
// *testing.T, or the one []byte of a go-fuzz function. A value is a []byte, a string, a
// bool, or of one of the basic types of integers and floats.
type Input []any

// Own is the one value of an input that is a native function's own, added by f.Add, and
// known by its name only: "seed#0".
type Own string

// Own returns the name of an input that is the function's own.
func (in Input) Own() (string, bool) {
	if len(in) != 1 {
		return "", false
	}
	name, ok := in[0].(Own)
	return string(name), ok
}

// Raw returns the bytes of an input that is one []byte or one string.
func (in Input) Raw() ([]byte, bool) {
	if len(in) != 1 {
		return nil, false
	}
	switch v := in[0].(type) {
	case []byte:
		return v, true
	case string:
		return []byte(v), true
	}
	return nil, false
}

// Text is the input as a file of the go command's: a line for each value.
func (in Input) Text() []byte {
	var b bytes.Buffer
	fmt.Fprintln(&b, version)
	for _, v := range in {
		fmt.Fprintln(&b, format(v))
	}
	return b.Bytes()
}

// As returns the input as one of the given types, as Types has them. One []byte and one
// string stand for each other.
func (in Input) As(types string) (Input, bool) {
	if in.Types() == types {
		return in, true
	}
	raw, ok := in.Raw()
	switch {
	case ok && types == "string":
		return Input{string(raw)}, true
	case ok && types == "[]byte":
		return Input{raw}, true
	}
	return nil, false
}

// Types are the types of the values, separated by commas.
func (in Input) Types() string {
	var out []string
	for _, v := range in {
		name := "[]byte"
		if _, ok := v.([]byte); !ok {
			name = fmt.Sprintf("%T", v)
		}
		out = append(out, name)
	}
	return strings.Join(out, ",")
}

// Size is how large an input is: the bytes of its texts, and one for each other value.
func (in Input) Size() int {
	n := 0
	for _, v := range in {
		switch v := v.(type) {
		case []byte:
			n += len(v)
		case string:
			n += len(v)
		case Own:
		default:
			n++
		}
	}
	return n
}

// Name is a file name for the input, the same as the go command's.
func (in Input) Name() string {
	sum := sha256.Sum256(in.Text())
	return hex.EncodeToString(sum[:8])
}

// format writes a value as a Go expression, as the go command does.
func format(v any) string {
	switch v := v.(type) {
	case Own:
		return string(v)
	case []byte:
		return fmt.Sprintf("[]byte(%q)", v)
	case byte:
		return fmt.Sprintf("byte(%q)", v)
	case rune:
		// Not every int32 has a literal of its own.
		if s := fmt.Sprintf("%q", v); utf8.ValidRune(v) && s != fmt.Sprintf("%q", utf8.RuneError) {
			return "rune(" + s + ")"
		}
		return fmt.Sprintf("int32(%d)", v)
	case string:
		return fmt.Sprintf("string(%q)", v)
	case float32:
		if v != v && math.Float32bits(v) != math.Float32bits(float32(math.NaN())) {
			return fmt.Sprintf("math.Float32frombits(0x%x)", math.Float32bits(v))
		}
	case float64:
		if v != v && math.Float64bits(v) != math.Float64bits(math.NaN()) {
			return fmt.Sprintf("math.Float64frombits(0x%x)", math.Float64bits(v))
		}
	}
	return fmt.Sprintf("%T(%v)", v, v)
}

// isText reports whether a file is one of the go command's.
func isText(file []byte) bool { return bytes.HasPrefix(file, []byte(version)) }

// Parse reads a file of the go command's.
func Parse(file []byte) (Input, error) {
	if len(file) > MaxInput {
		return nil, fmt.Errorf("the input is larger than %d bytes", MaxInput)
	}
	lines := strings.Split(strings.ReplaceAll(string(file), "\r\n", "\n"), "\n")
	if strings.TrimSpace(lines[0]) != version {
		return nil, fmt.Errorf("line 1: not %q", version)
	}
	var in Input
	for i, line := range lines[1:] {
		if strings.TrimSpace(line) == "" {
			continue
		}
		v, err := parseValue(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+2, err)
		}
		in = append(in, v)
	}
	if len(in) == 0 {
		return nil, errors.New("there is no value in it")
	}
	return in, nil
}

// parseValue reads TYPE(LITERAL).
func parseValue(line string) (any, error) {
	// Deep nesting would be for the parser to fail on; no value has any.
	if strings.Count(line, "(")+strings.Count(line, "[") > 4 && !strings.ContainsAny(line, "\"'`") {
		return nil, errors.New("not a value")
	}
	e, err := parser.ParseExpr(line)
	if err != nil {
		return nil, errors.New("not a Go expression")
	}
	call, ok := e.(*ast.CallExpr)
	if !ok || len(call.Args) != 1 || call.Ellipsis.IsValid() {
		return nil, errors.New("not a value such as int(1) or []byte(\"x\")")
	}
	arg := call.Args[0]
	switch f := call.Fun.(type) {
	case *ast.ArrayType:
		if id, ok := f.Elt.(*ast.Ident); !ok || f.Len != nil || id.Name != "byte" && id.Name != "uint8" {
			return nil, errors.New("the only slice is []byte")
		}
		s, err := unquote(arg, token.STRING)
		return []byte(s), err
	case *ast.SelectorExpr:
		if pkg, ok := f.X.(*ast.Ident); !ok || pkg.Name != "math" {
			return nil, errors.New("not a function of math")
		}
		switch f.Sel.Name {
		case "Float32frombits":
			n, err := strconv.ParseUint(literal(arg), 0, 32)
			return math.Float32frombits(uint32(n)), err
		case "Float64frombits":
			n, err := strconv.ParseUint(literal(arg), 0, 64)
			return math.Float64frombits(n), err
		}
		return nil, fmt.Errorf("math.%s makes no value", f.Sel.Name)
	case *ast.Ident:
		return convert(f.Name, arg)
	}
	return nil, errors.New("not a value")
}

// convert reads the literal of a basic type.
func convert(kind string, arg ast.Expr) (any, error) {
	switch kind {
	case "string":
		return unquote(arg, token.STRING)
	case "bool":
		if text := literal(arg); text != "true" && text != "false" {
			return nil, fmt.Errorf("a bool is true or false, not %q", text)
		}
		return literal(arg) == "true", nil
	case "float32":
		n, err := strconv.ParseFloat(literal(arg), 32)
		return float32(n), err
	case "float64":
		return wrap(strconv.ParseFloat(literal(arg), 64))
	}
	if b, ok := arg.(*ast.BasicLit); ok && b.Kind == token.CHAR {
		s, err := unquote(arg, token.CHAR)
		if err != nil {
			return nil, err
		}
		r, size := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && size == 1 {
			r = rune(s[0])
		}
		switch {
		case kind == "rune" || kind == "int32":
			return r, nil
		case (kind == "byte" || kind == "uint8") && r < 256:
			return byte(r), nil
		}
		return nil, fmt.Errorf("%s has no value %q", kind, r)
	}
	text := literal(arg)
	signed := func(bits int) (int64, error) { return strconv.ParseInt(text, 0, bits) }
	unsigned := func(bits int) (uint64, error) { return strconv.ParseUint(text, 0, bits) }
	switch kind {
	case "int":
		n, err := signed(strconv.IntSize)
		return int(n), err
	case "int8":
		n, err := signed(8)
		return int8(n), err
	case "int16":
		n, err := signed(16)
		return int16(n), err
	case "int32", "rune":
		n, err := signed(32)
		return int32(n), err
	case "int64":
		return wrap(signed(64))
	case "uint":
		n, err := unsigned(strconv.IntSize)
		return uint(n), err
	case "uint8", "byte":
		n, err := unsigned(8)
		return uint8(n), err
	case "uint16":
		n, err := unsigned(16)
		return uint16(n), err
	case "uint32":
		n, err := unsigned(32)
		return uint32(n), err
	case "uint64":
		return wrap(unsigned(64))
	}
	return nil, fmt.Errorf("no value is of type %s", kind)
}

func wrap[T any](v T, err error) (any, error) { return v, err }

// literal is the text of a number, with its sign, or of a name.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.UnaryExpr:
		if e.Op == token.SUB || e.Op == token.ADD {
			return e.Op.String() + literal(e.X)
		}
	case *ast.BasicLit:
		return e.Value
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func unquote(e ast.Expr, kind token.Token) (string, error) {
	b, ok := e.(*ast.BasicLit)
	if !ok || b.Kind != kind {
		return "", errors.New("not a literal of the right kind")
	}
	if kind == token.CHAR {
		// '\xff' is the byte, not the letter.
		r, _, rest, err := strconv.UnquoteChar(b.Value[1:len(b.Value)-1], '\'')
		if err != nil || rest != "" {
			return "", errors.New("not one character")
		}
		return string(r), nil
	}
	return strconv.Unquote(b.Value)
}

// Read reads an input from a file: the go command's format, or anything else as the raw
// bytes.
func Read(path string) (Input, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > MaxInput {
		return nil, fmt.Errorf("%s: not a file of at most %d bytes", path, MaxInput)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !isText(b) {
		return Input{b}, nil
	}
	in, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return in, nil
}

// ReadAll reads the inputs of a directory, without those that are none. A directory that
// is not there has none.
func ReadAll(dir string) ([]Input, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []Input
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if in, err := Read(filepath.Join(dir, e.Name())); err == nil {
			out = append(out, in)
		}
	}
	return out, nil
}

// Bytes returns those of the inputs that are raw bytes, each once.
func Bytes(ins []Input) [][]byte {
	var out [][]byte
	seen := map[string]bool{}
	for _, in := range ins {
		if b, ok := in.Raw(); ok && !seen[string(b)] {
			seen[string(b)] = true
			out = append(out, b)
		}
	}
	return out
}
