package api

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/url"
	"strconv"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/openapi"
)

// pair is one name with its value in a query, a cookie header or a form.
type pair struct {
	name, value string
	json        bool // the value is no text
}

func (p pair) whole() harness.Value {
	if p.json {
		return harness.Value{Form: harness.FormJSON, Text: p.value}
	}
	return harness.Text(p.value)
}

// parts takes an array or an object apart. The names are "" in an array; nil, and false,
// where the value is neither.
func parts(v harness.Value) ([]pair, bool) {
	if v.Form != harness.FormJSON || !strings.HasPrefix(v.Text, "[") && !strings.HasPrefix(v.Text, "{") {
		return nil, false
	}
	dec := json.NewDecoder(strings.NewReader(v.Text))
	open, err := dec.Token()
	if err != nil {
		return nil, false
	}
	var out []pair
	for dec.More() {
		var p pair
		if open == json.Delim('{') {
			name, err := dec.Token()
			if err != nil {
				return nil, false
			}
			p.name, _ = name.(string)
		}
		var x json.RawMessage
		if err := dec.Decode(&x); err != nil {
			return nil, false
		}
		got, err := harness.JSON(x)
		if err != nil {
			return nil, false
		}
		p.value, p.json = got.Text, got.Form == harness.FormJSON
		out = append(out, p)
	}
	return out, true
}

// isObject reports whether parts are of an object.
func isObject(v harness.Value) bool { return strings.HasPrefix(v.Text, "{") }

// list joins parts as they stand in one place: a,b or name,value,name,value, or name=value
// where an object explodes.
func list(all []pair, object, explode bool, sep string) string {
	words := make([]string, 0, len(all))
	for _, p := range all {
		switch {
		case object && explode:
			words = append(words, p.name+"="+p.value)
		case object:
			words = append(words, p.name, p.value)
		default:
			words = append(words, p.value)
		}
	}
	return strings.Join(words, sep)
}

// pairs writes an argument into a query or a cookie header.
func pairs(s openapi.Style, name string, v harness.Value) []pair {
	all, several := parts(v)
	if s.Name == "" || !several {
		return []pair{{name: name, value: v.Text}}
	}
	object := isObject(v)
	var out []pair
	switch {
	case s.Name == "deepObject":
		for i, p := range all {
			if !object {
				p.name = strconv.Itoa(i)
			}
			out = append(out, pairs(s, name+"["+p.name+"]", p.whole())...)
		}
	case len(all) == 0: // what is empty is not there
	case s.Explode && object:
		return all
	case s.Explode:
		for _, p := range all {
			out = append(out, pair{name: name, value: p.value})
		}
	default:
		sep := map[string]string{"spaceDelimited": " ", "pipeDelimited": "|"}[s.Name]
		if sep == "" {
			sep = ","
		}
		return []pair{{name: name, value: list(all, object, false, sep)}}
	}
	return out
}

// inHeader writes an argument into a header.
func inHeader(s openapi.Style, v harness.Value) string {
	if all, several := parts(v); several && s.Name != "" {
		return list(all, isObject(v), s.Explode, ",")
	}
	return v.Text
}

// inPath writes an argument into a part of a path.
func inPath(s openapi.Style, name string, v harness.Value) string {
	all, several := parts(v)
	object := isObject(v)
	escape := func(all []pair, sep string) string {
		some := make([]pair, len(all))
		for i, p := range all {
			some[i] = pair{name: url.PathEscape(p.name), value: url.PathEscape(p.value)}
		}
		return list(some, object, s.Explode, sep)
	}
	if !several {
		all = []pair{{value: v.Text}}
		object = false
	}
	switch s.Name {
	case "label":
		if s.Explode {
			return "." + escape(all, ".")
		}
		return "." + escape(all, ",")
	case "matrix":
		if !s.Explode || !several {
			return ";" + name + "=" + escape(all, ",")
		}
		var b strings.Builder
		for _, p := range all {
			if !object {
				p.name = name
			}
			b.WriteString(";" + url.PathEscape(p.name) + "=" + url.PathEscape(p.value))
		}
		return b.String()
	case "simple":
		if several {
			return escape(all, ",")
		}
	}
	return url.PathEscape(v.Text)
}

// encodeQuery writes pairs in the order in which they were given.
func encodeQuery(all []pair) string {
	var b strings.Builder
	for i, p := range all {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(p.name) + "=" + url.QueryEscape(p.value))
	}
	return b.String()
}

// isForm reports whether a body is a form.
func isForm(media string) bool {
	m, _, err := mime.ParseMediaType(media)
	return err == nil && m == "application/x-www-form-urlencoded"
}

// form writes a JSON object as a form: each member as the document says, else arrays as one
// pair for each element, and deeper values as JSON. What is no object is sent as it is.
func form(payload []byte, members map[string]openapi.Style) []byte {
	v := harness.Value{Form: harness.FormJSON, Text: string(bytes.TrimSpace(payload))}
	all, ok := parts(v)
	if !ok || !isObject(v) {
		return payload
	}
	var out []pair
	for _, p := range all {
		s, given := members[p.name]
		if !given && strings.HasPrefix(p.value, "[") {
			s = openapi.Style{Name: "form", Explode: true}
		}
		out = append(out, pairs(s, p.name, p.whole())...)
	}
	return []byte(encodeQuery(out))
}
