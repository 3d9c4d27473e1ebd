package spec

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/token"
)

// Error is a mistake in a description, or a description that cannot be read.
type Error struct {
	File         string
	Line, Column int // from one; zero where the whole file is meant
	Msg          string
	Excerpt      string // the lines around, the place marked; "" for none
}

// Error returns the message as file:line:column: what is wrong, and the excerpt below.
func (e *Error) Error() string {
	where := e.File
	if e.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column)
	}
	if e.Excerpt == "" {
		return where + ": " + e.Msg
	}
	return where + ": " + e.Msg + "\n" + e.Excerpt
}

// The file may be one long line, and its words are quoted in messages.
const (
	maxWidth   = 160 // characters of a line that an excerpt shows
	maxMessage = 500 // bytes
)

// source is a file's text, to point at places in it.
type source struct {
	file string
	text []byte
}

// at returns an error at a token, which may be nil.
func (s source) at(tk *token.Token, msg string) *Error {
	if len(msg) > maxMessage {
		msg = strings.ToValidUTF8(msg[:maxMessage], "") + "..."
	}
	if tk == nil || tk.Position == nil {
		return &Error{File: s.file, Msg: msg}
	}
	return ErrorAt(s.file, s.text, tk.Position.Line, tk.Position.Column, msg)
}

// ErrorAt returns an error at a place in a file that belongs to a description, with the
// excerpt. Line and column count characters from one.
func ErrorAt(file string, text []byte, line, column int, msg string) *Error {
	return &Error{File: file, Line: line, Column: column, Msg: msg, Excerpt: source{file, text}.excerpt(line, column)}
}

// excerpt shows a place with two lines before it and one behind. The library has a
// printer of its own, which is slow on long lines and rewrites what it prints.
func (s source) excerpt(line, column int) string {
	var b strings.Builder
	n := 0
	for text := range bytes.Lines(s.text) {
		if n++; n < line-2 {
			continue
		}
		mark := ' '
		if n == line {
			mark = '>'
		}
		runes := []rune(strings.TrimRight(string(text[:min(len(text), 4*maxWidth)]), "\r\n"))
		fmt.Fprintf(&b, "%c %3d | %s\n", mark, n, string(runes[:min(len(runes), maxWidth)]))
		if n == line && column <= maxWidth {
			fmt.Fprintf(&b, "%*s^\n", len("> 123 | ")+column-1, "")
		}
		if n > line {
			break
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// adopt turns an error of the YAML library into one of ours.
func (s source) adopt(err error) *Error {
	var pos yaml.Error
	if !errors.As(err, &pos) {
		return &Error{File: s.file, Msg: err.Error()}
	}
	msg := pos.GetMessage()
	var unknown *yaml.UnknownFieldError
	var typ *yaml.TypeError
	var over *yaml.OverflowError
	switch {
	case errors.As(err, &unknown):
		msg = strings.Replace(msg, "unknown field", "unknown key", 1)
	case errors.As(err, &typ):
		msg = fmt.Sprintf("expected %s, found %s", kind(typ.DstType), kind(typ.SrcType))
	case errors.As(err, &over):
		msg = fmt.Sprintf("%s is too large", over.SrcNum)
	}
	return s.at(pos.GetToken(), msg)
}

// kind names a Go type in the words of a YAML file.
func kind(t reflect.Type) string {
	if t == nil {
		return "nothing"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "a text"
	case reflect.Slice:
		return "a list"
	}
	return "a mapping"
}
