// Package spec reads shakedown.yaml, the description of a service: how it is built and
// started, what it depends on, and what can be asked of it.
package spec

import (
	"cmp"
	"slices"
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
	Links        Links                 `yaml:"links"`
	API          API                   `yaml:"api"`
	// OpenAPI is short for API.OpenAPI.
	OpenAPI string `yaml:"openapi"`
	// Fuzz is for the fuzz functions of the module: a file that has it needs neither
	// Service nor API.
	Fuzz *Fuzz `yaml:"fuzz"`
	// Steady lists what holds while nothing disturbs the service: before a case, and again
	// when the last fault of one is healed.
	Steady []Steady `yaml:"steady"`
	// Abort lists the conditions under which everything is healed and ended at once.
	Abort []Abort `yaml:"abort"`
	// Allow lists hosts other than loopback that a dependency may be at, and a toxiproxy,
	// and that Service.Env and Service.Args may lead to.
	Allow []string `yaml:"allow"`

	// Assumed says what the file leaves open and was filled in, Notes what of an OpenAPI
	// document is not made use of. Both are set by Load.
	Assumed, Notes []string `yaml:"-"`

	src  source // what it was read from, to point at places in it
	root ast.Node
}

// Service says how the service is built and started. In Env and Args {{listen}} is the
// address to listen on, {{link.NAME}} the address of a dependency's link, {{bugs}} what
// --bugs switched on, {{dir}} the directory of the file, {{port}} the port of {{listen}}. What
// is plainly the address of another machine in them must be in File.Allow.
type Service struct {
	// One of the three says what the service is: a Go main package, as a path from Dir, an
	// image, or a Dockerfile, whose context is Dir. Images are black boxes, on the network of
	// this machine.
	Build      string `yaml:"build"`
	Image      string `yaml:"image"`
	Dockerfile string `yaml:"dockerfile"`

	Pull    bool              `yaml:"pull"`         // images that are not there are pulled from their registry
	Args    []string          `yaml:"args"`         // of an image, instead of its command; zero leaves that
	Env     map[string]string `yaml:"env"`          // on top of child.Environ, or of the image's own
	Ready   string            `yaml:"ready"`        // "GET /healthz": any status below 500 is ready; zero: it listens
	Within  Duration          `yaml:"ready_within"` // zero means 30s
	Timeout Duration          `yaml:"timeout"`      // a call that takes longer is stuck; zero means DefaultTimeout
}

// DefaultTimeout is how long a call may take where Service.Timeout is zero.
const DefaultTimeout = Duration(2 * time.Second)

// Source names what the service is made of.
func (s Service) Source() string { return cmp.Or(s.Build, s.Image, s.Dockerfile) }

// Fuzz says in what environment fuzz functions run. The placeholders are those of
// Service.Env but for {{listen}} and {{port}}; {{bugs}} is empty.
type Fuzz struct {
	Env map[string]string `yaml:"env"` // on top of child.Environ
}

// FuzzEnv returns the environment of fuzz functions: Fuzz.Env, or else what of Service.Env
// makes sense without a service. Value is asked for placeholders, as by Fill.
func (f *File) FuzzEnv(value func(name string) string) map[string]string {
	env := f.Service.Env
	if f.Fuzz != nil {
		env = f.Fuzz.Env
	}
	out := map[string]string{}
	for key, text := range env {
		if !listens(text) {
			out[key] = Fill(text, value)
		}
	}
	return out
}

// listens reports whether a text says where a service is to listen.
func listens(text string) bool {
	names := placeholders(text)
	return slices.Contains(names, "listen") || slices.Contains(names, "port")
}

// Steady is a request that the service answers well.
type Steady struct {
	Request string   `yaml:"request"` // "GET /healthz"
	Status  int      `yaml:"status"`  // zero: any below 400
	Within  Duration `yaml:"within"`  // zero means DefaultWithin
}

// DefaultWithin is how long a service may take to be in its steady state where
// Steady.Within is zero.
const DefaultWithin = Duration(10 * time.Second)

// Abort is one condition: exactly one of its kinds is set.
type Abort struct {
	Request string   `yaml:"request"` // it is not answered below 400 within Every
	Memory  Size     `yaml:"memory"`  // all processes of a service built here have more than this resident
	Latency Duration `yaml:"latency"` // the median time of the last calls is above this
	Time    Duration `yaml:"time"`    // so long after the command has brought everything up

	Times int      `yaml:"times"` // in a row; zero means 1, of Request 3
	Every Duration `yaml:"every"` // between two looks; zero means 100ms, of Request 200ms
}

// Dependency is one store behind a link.
type Dependency struct {
	Engine  string `yaml:"engine"`  // one of Engines
	Provide string `yaml:"provide"` // one of Rungs(Engine); zero means auto
	URL     string `yaml:"url"`     // for provide: url
	Image   string `yaml:"image"`   // for provide: docker; zero means the official one, or what testdata/images/build makes
	Pull    bool   `yaml:"pull"`    // an image that is not there is pulled from its registry
	Init    string `yaml:"init"`    // postgres, mysql: SQL file that makes the state every case starts from
	Version string `yaml:"version"` // wanted major version, "15"; zero takes what is there
	// Database is the database of a Postgres or MySQL of our own that the service uses, made
	// if it is missing; zero means "postgres" or "test".
	Database string `yaml:"database"`
	// User is the role by which the service connects to a Postgres or MySQL of our own without
	// a password: made if it is missing, the owner of Database, no superuser once init is
	// done. Zero means the superuser: "postgres" or "root".
	User string `yaml:"user"`
}

// Links says what disturbs what passes between the service and its dependencies.
type Links struct {
	Engine string `yaml:"engine"` // one of LinkEngines; zero means native
	URL    string `yaml:"url"`    // of the HTTP API of a toxiproxy that runs elsewhere; zero means one in the harness's process
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
	// Identity is who the lane is from then on: a param of Op, such as body.user, or a field
	// of its reply, as Token. Zero means that nobody looks whether a lane is shown what is
	// another's.
	Identity string `yaml:"identity"`
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
	Private bool              `yaml:"private"` // its replies speak of the caller alone: no other user is named in them; wants Login.Identity
	Params  map[string]*Param `yaml:"params"`
	Skip    bool              `yaml:"skip"`   // an operation of the OpenAPI document is left out
	Expect  []int             `yaml:"expect"` // the statuses allowed while nothing is injected; zero: all below 500, and 501, 503, 505
	// Stream says that the reply has no end, such as server-sent events: it is read for so
	// long, and then the client hangs up. Zero: it ends by itself, or is read for 300ms (or half of
	// Service.Timeout, if that is less) where the OpenAPI document says text/event-stream.
	Stream Duration `yaml:"stream"`

	Media   string                   `yaml:"-"` // of its body; zero means JSON
	Members map[string]openapi.Style `yaml:"-"` // of a form: how arrays and objects are written
	Login   bool                     `yaml:"-"` // the document says whether a login is asked for: Auth is all that is sent
	Auth    []Credential             `yaml:"-"` // what a call says about who is calling
	known   []int                    // statuses from 500 that the document gives
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

// Size is a number of bytes that is written as 512MiB.
type Size int64

// Duration is a time.Duration that is written as 200ms.
type Duration time.Duration
