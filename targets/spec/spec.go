// Package spec reads shakedown.yaml, the description of a service: how it is built and
// started, what it depends on, and what can be asked of it.
package spec

import (
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/openapi"
)

// File is a shakedown.yaml.
type File struct {
	Path string `yaml:"-"` // of the file itself, absolute
	Dir  string `yaml:"-"` // the directory it stands in; every path in it is relative to this

	Service      Service               `yaml:"service"`
	Dependencies map[string]Dependency `yaml:"dependencies"`
	API          API                   `yaml:"api"`
	// OpenAPI is short for API.OpenAPI.
	OpenAPI string `yaml:"openapi"`
	// Allow lists hosts other than loopback that a dependency may be at, and that
	// Service.Env and Service.Args may lead to.
	Allow []string `yaml:"allow"`

	// Assumed says what the file leaves open and was filled in, Notes what of an OpenAPI
	// document is not made use of. Both are set by Load.
	Assumed, Notes []string `yaml:"-"`

	src  source // what it was read from, to point at places in it
	root ast.Node
}

// Service says how the service is built and started. In Env and Args {{listen}} is the
// address to listen on, {{link.NAME}} the address of a dependency's link, {{bugs}} what
// --bugs switched on, {{dir}} the directory of the file, {{port}} the port of {{listen}}. What is plainly the address of
// another machine in them must be in File.Allow.
type Service struct {
	Build   string            `yaml:"build"` // Go main package, as a path from Dir
	Args    []string          `yaml:"args"`
	Env     map[string]string `yaml:"env"`          // on top of child.Environ
	Ready   string            `yaml:"ready"`        // "GET /healthz": any status below 500 is ready; zero: it listens
	Within  Duration          `yaml:"ready_within"` // zero means 30s
	Timeout Duration          `yaml:"timeout"`      // a call that takes longer is stuck; zero means 2s
}

// Dependency is one store behind a link.
type Dependency struct {
	Engine  string `yaml:"engine"`  // one of Engines
	Provide string `yaml:"provide"` // one of Rungs(Engine); zero means auto
	URL     string `yaml:"url"`     // for provide: url
	Init    string `yaml:"init"`    // postgres: SQL file that makes the state every case starts from
	Version string `yaml:"version"` // wanted major version, "15"; zero takes what is there
	// Database is the database of a local Postgres that the service uses, made if it is
	// missing; zero means "postgres".
	Database string `yaml:"database"`
	// User is the role by which the service connects to a local Postgres without a
	// password: made if it is missing, the owner of Database, no superuser once init is
	// done. Zero means "postgres", the superuser.
	User string `yaml:"user"`
}

// API says what can be asked of the service.
type API struct {
	// OpenAPI is an OpenAPI 3 document. Ops beside it say more about its operations, or add
	// others: a param of theirs takes the place of the document's.
	OpenAPI string         `yaml:"openapi"`
	Login   *Login         `yaml:"login"`
	Ops     map[string]*Op `yaml:"ops"`
	// Auth holds what calls say for the document's security schemes: a token, a key, or
	// user:password; {{lane}} in it is the lane. Where a scheme has none the login's token
	// is taken.
	Auth map[string]string `yaml:"auth"`
}

// Login is done once for each lane at the start of a case.
type Login struct {
	Op    string `yaml:"op"`
	Token string `yaml:"token"` // "{{reply.token}}": the field of the login's reply
	// Register is an op that makes the user who logs in: it is called before, with the same
	// values for the params of the same name. That it fails is no matter. Zero means none.
	Register string `yaml:"register"`
	// Header is what every later call of the lane carries; zero means
	// "Authorization: Bearer {{token}}".
	Header string `yaml:"header"`
}

// Op is one request. Params are keyed as arguments are in a case: path.id, query.q,
// header.X-Y, body.items.0.sku, or body for the whole of it.
type Op struct {
	Doc     string            `yaml:"doc"`
	Request string            `yaml:"request"` // "POST /orders/{order}/pay"
	Mutates *bool             `yaml:"mutates"` // zero: every method but GET, HEAD and OPTIONS does
	Params  map[string]*Param `yaml:"params"`
	Skip    bool              `yaml:"skip"`   // an operation of the OpenAPI document is left out
	Expect  []int             `yaml:"expect"` // the statuses allowed while nothing is injected; zero: all below 500, and 501, 503, 505

	Media string       `yaml:"-"` // of its body; zero means JSON
	Login bool         `yaml:"-"` // the document says whether a login is asked for: Auth is all that is sent
	Auth  []Credential `yaml:"-"` // what a call says about who is calling
	known []int        // statuses from 500 that the document gives
}

// Credential is what a call says about who is calling.
type Credential struct {
	In, Name string // header, query or cookie
	Value    string // {{token}} in it is the login's token, {{lane}} the lane
	Basic    bool   // the value is user:password, and sent as basic authorization
}

// Param is a parameter's domain: exactly one of its kinds is set.
type Param struct {
	Int      string   `yaml:"int"`      // "1..100"
	OneOf    []any    `yaml:"oneof"`    // JSON scalars
	Pattern  string   `yaml:"pattern"`  // a regular expression whose matches are drawn
	Text     string   `yaml:"text"`     // "0..20": characters of free text
	Bool     bool     `yaml:"bool"`     // true or false
	Value    any      `yaml:"value"`    // always this; {{lane}} in it is the lane
	Unique   string   `yaml:"unique"`   // this prefix and a token that is new in each case
	From     []string `yaml:"from"`     // "create_order.id": a field of an earlier reply
	Optional bool     `yaml:"optional"` // may be left out
	Raw      bool     `yaml:"raw"`      // body only: the text is sent as it is, not as JSON

	Style    openapi.Style `yaml:"-"` // of an array or an object; zero means JSON
	drawn    harness.Domain
	meaning  string // in words, of drawn
	inferred bool   // From is what the document says
}

// Duration is a time.Duration that is written as 200ms.
type Duration time.Duration
