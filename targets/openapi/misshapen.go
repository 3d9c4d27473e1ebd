package openapi

import (
	"encoding/json"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"

	"github.com/shakedown-go/shakedown/harness"
)

// misshapen returns the key of a part of the document that the OpenAPI library cannot read, the
// smallest that is to be told from the others; nil where there is none.
func (f *file) misshapen() *yaml.Node {
	all := map[string]func() any{
		"components/schemas":         func() any { return new(openapi3.SchemaRef) },
		"components/parameters":      func() any { return new(openapi3.ParameterRef) },
		"components/requestBodies":   func() any { return new(openapi3.RequestBodyRef) },
		"components/responses":       func() any { return new(openapi3.ResponseRef) },
		"components/securitySchemes": func() any { return new(openapi3.SecuritySchemeRef) },
		"paths":                      func() any { return new(openapi3.PathItem) },
	}
	op := func() any { return new(openapi3.Operation) }
	paths := f.under("paths")
	for i := 1; i < len(paths.Content); i += 2 {
		for _, method := range []string{"get", "put", "post", "delete", "options", "head", "patch", "trace"} {
			if key := unread(paths.Content[i], method, op); key != nil {
				return key
			}
		}
	}
	for _, where := range sortedKeys(all) {
		if key := unread(f.under(strings.Split(where, "/")...), "", all[where]); key != nil {
			return key
		}
	}
	top := map[string]func() any{
		"components": func() any { return new(openapi3.Components) },
		"info":       func() any { return new(openapi3.Info) },
		"paths":      func() any { return new(openapi3.Paths) },
		"security":   func() any { return new(openapi3.SecurityRequirements) },
		"servers":    func() any { return new(openapi3.Servers) },
	}
	for _, name := range sortedKeys(top) {
		if key := unread(f.under(), name, top[name]); key != nil {
			return key
		}
	}
	return nil
}

// under returns the value at the end of a path of keys; an empty one where there is none.
func (f *file) under(path ...string) *yaml.Node {
	n := f.tree
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	for _, name := range path {
		if n = member(n, name); n == nil {
			return new(yaml.Node)
		}
	}
	return n
}

// unread returns the first key of a mapping, or the one of that name, whose value does not become
// what kind makes.
func unread(n *yaml.Node, name string, kind func() any) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if name != "" && name != key.Value || strings.HasPrefix(key.Value, "x-") {
			continue
		}
		if json.Unmarshal([]byte(ofYAML(n.Content[i+1]).contract().Text), kind()) != nil {
			return key
		}
	}
	return nil
}

// ofYAML returns what a node says.
func ofYAML(n *yaml.Node) value {
	switch n.Kind {
	case yaml.MappingNode:
		v := value{kind: object}
		for i := 0; i+1 < len(n.Content); i += 2 {
			v.members = append(v.members, field{n.Content[i].Value, ofYAML(n.Content[i+1])})
		}
		return v
	case yaml.SequenceNode:
		v := value{kind: array}
		for _, x := range n.Content {
			v.items = append(v.items, ofYAML(x))
		}
		return v
	}
	if n.ShortTag() != "!!str" && n.ShortTag() != "!!timestamp" {
		var x any
		if n.Decode(&x) == nil {
			if v, ok := given(x); ok {
				return v
			}
		}
	}
	return value{leaf: harness.Text(n.Value)}
}
