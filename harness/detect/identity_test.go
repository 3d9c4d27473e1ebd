package detect

import (
	"testing"

	"github.com/shakedown-go/shakedown/harness"
)

// TestCredentialsOfOthers has lane a ask with what another lane was given. Where that may be
// the right to ask as that one, its name in the reply proves nothing.
func TestCredentialsOfOthers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args string
		want int // findings
	}{
		{``, 1},
		{`path.order={{o.id}}`, 1},
		{`path.order={{mine.id}}`, 1},
		{`query.session={{mine.session}}`, 1},
		{`query.session={{o.session}}`, 0},
		{`header.Cookie="session={{o.session}}"`, 0},
		{`body.token={{l.token}}`, 0},
		{`path.token={{again.token}}`, 0},
		{`body.names.0="xuser-b"`, 0},
		{`body.names.0="user-{{lane}}" body.names.1="user-"`, 1},
	} {
		c, err := harness.ParseCase([]byte("target .\nl: b login\nagain: a login\no: b order\nmine: a order\na receipt " + tc.args + "\n"))
		if err != nil {
			t.Fatalf("%s: %v", tc.args, err)
		}
		rec := &harness.Record{Case: c, Build: harness.Build{Caps: everything}}
		emit := func(kind harness.Kind, step int, lane, name, text string, args ...harness.Arg) {
			e := harness.Event{Seq: uint64(len(rec.Events)) + 1, Kind: kind, Step: step, Lane: lane, Name: name, Text: text, Args: args}
			rec.Events = append(rec.Events, e)
		}
		for _, lane := range []string{"a", "b"} {
			emit(harness.Invoke, -1, lane, "login", "")
			emit(harness.OK, -1, lane, "login", "", harness.Arg{Key: "identity", Value: harness.Text("user-" + lane)})
		}
		emit(harness.Invoke, 4, "a", "receipt", "", c.Steps[4].Args...)
		emit(harness.OK, 4, "a", "receipt", `{"for":"user-b"}`, harness.Arg{Key: "private", Value: harness.Value{Form: harness.FormJSON, Text: "true"}})
		j := Identity.Detect(rec)
		if len(j.Findings) != tc.want {
			t.Errorf("asked with %q: %d findings, want %d: %+v", tc.args, len(j.Findings), tc.want, j.Findings)
		}
	}
}

func TestNamesAreWhole(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text  string
		whole bool
		want  bool
	}{
		{"user-b", true, true},
		{"user-b", false, false},
		{"user-b ", false, true},
		{"(user-b)", true, true},
		{"of user-b. ", true, true},
		{"of user-b.", true, true},
		{"...user-b...", true, true},
		{"/users/user-b/orders?by=user-b&x", true, true},
		{"user-b.smith", true, false},
		{"smith.user-b", true, false},
		{"user-bb user-b", true, true},
		{"user-bb", true, false},
		{"auser-b", true, false},
		{"user-b2", true, false},
		{"user-b@shop", true, false},
		{"user-b-c", true, false},
		{"user-b_c", true, false},
		{"user-b%20x", true, false},
		{`user-b\u00e9`, true, false},
		{"user-bé", true, false},
		{"user-b\u0301", true, false},
		{"user-b\xff", true, false},
		{"", true, false},
	} {
		if got := mentions(tc.text, "user-b", tc.whole); got != tc.want {
			t.Errorf("mentions(%q), whole %v: %v, want %v", tc.text, tc.whole, got, tc.want)
		}
	}
}
