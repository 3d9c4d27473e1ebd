package api

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/url"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/openapi"
)

// pair is one name with its value in a query, a cookie header or a form.
type pair struct{ name, value string }

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
		p.value = got.Text
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
		return []pair{{name, v.Text}}
	}
	object := isObject(v)
	var out []pair
	switch {
	case s.Name == "deepObject" && object:
		for _, p := range all {
			out = append(out, pair{name + "[" + p.name + "]", p.value})
		}
	case s.Explode && object:
		return all
	case s.Explode:
		for _, p := range all {
			out = append(out, pair{name, p.value})
		}
	default:
		sep := map[string]string{"spaceDelimited": " ", "pipeDelimited": "|"}[s.Name]
		if sep == "" {
			sep = ","
		}
		return []pair{{name, list(all, object, false, sep)}}
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
			some[i] = pair{url.PathEscape(p.name), url.PathEscape(p.value)}
		}
		return list(some, object, s.Explode, sep)
	}
	if !several {
		all = []pair{{"", v.Text}}
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

// form writes a JSON object as a form: arrays as one pair for each element, deeper values as
// JSON. What is no object is sent as it is.
func form(payload []byte) []byte {
	all, ok := parts(harness.Value{Form: harness.FormJSON, Text: string(bytes.TrimSpace(payload))})
	if !ok || !bytes.HasPrefix(bytes.TrimSpace(payload), []byte("{")) {
		return payload
	}
	var out []pair
	for _, p := range all {
		out = append(out, pairs(openapi.Style{Name: "form", Explode: strings.HasPrefix(p.value, "[")}, p.name, harness.Value{Form: harness.FormJSON, Text: p.value})...)
	}
	return []byte(encodeQuery(out))
}
