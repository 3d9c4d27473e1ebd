// Package openapi reads OpenAPI 3 documents as descriptions of what can be asked of a
// service: which requests there are, what values their parameters and bodies can have,
// which reply gives what another request wants, and what asks for a login.
//
// Documents come from elsewhere and are not trusted: they are bounded in size and depth,
// nothing is fetched over a network, and no file outside the document's directory is read.
package openapi

import (
	"fmt"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
)

// Doc is what a document comes to.
type Doc struct {
	Ops     []Op // sorted by name
	Schemes map[string]Scheme
	Login   *Login   // nil where no op plainly is a login
	Notes   []string // what the document says and is not made use of
}

// Op is one request that can be made.
type Op struct {
	Name, Doc    string
	Method, Path string
	Params       []Param // sorted by key
	Media        string  // of its body; "" for none
	// Members says how arrays and objects are written that are members of a form. Those that
	// it does not have are written as the media type has it.
	Members map[string]Style
	// Allowed lists the statuses from 500 that the document gives: they are no surprise.
	Allowed []int
	// Stream says that a success may be one of server-sent events: its reply need not end.
	Stream bool
	// Security lists what it asks for: one of these is enough, and of that one all. Nil
	// asks for nothing.
	Security [][]string
}

// Param is one argument of an op.
type Param struct {
	Key      string // as in a case: path.id, query.q, header.X-Y, cookie.s, body.a.b or body
	About    string
	Optional bool
	Raw      bool // the body is this text as it is, not as JSON
	Domain   harness.Domain
	From     []string // "create_order.id": a field of an earlier reply
	Style    Style
}

// Style is how an array or an object is written into a path, a query, a header, a cookie or a
// form.
type Style struct {
	Name    string // form, simple, spaceDelimited, pipeDelimited, deepObject, label, matrix; zero means as JSON
	Explode bool
}

// Scheme is one way to say who is calling.
type Scheme struct {
	Kind     string // bearer, basic, key, oauth2, openid, or another name of HTTP
	In, Name string // of a key
}

// Login is an op that gives a token.
type Login struct {
	Op    string
	Token string // the field of the reply: "token", "data.access_token"
	// Register is the op that makes the user who logs in; "" where there is no need.
	Register string
}

// Error is a mistake in a document, or a document that cannot be read.
type Error struct {
	File         string
	Text         []byte // of the file; nil where it was not read
	Line, Column int    // from one; zero where the whole file is meant
	Msg          string
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Msg
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
}

// The bounds of a document.
const (
	maxBytes  = 8 << 20 // of all files of it
	maxFiles  = 64
	maxDepth  = 64
	maxNodes  = 1 << 20 // keys and values of one file
	maxShapes = 1 << 17 // schemas that requests and replies are made of
	maxOps    = 1 << 10
	maxLeast  = 1 << 10 // values that a body has at least
	maxNotes  = 50
)

// note takes note of something that is not made use of.
func (r *reader) note(format string, args ...any) {
	n := fmt.Sprintf(format, args...)
	for _, old := range r.doc.Notes {
		if old == n {
			return
		}
	}
	if len(r.doc.Notes) < maxNotes {
		r.doc.Notes = append(r.doc.Notes, strings.ToValidUTF8(n, "?"))
	}
}
