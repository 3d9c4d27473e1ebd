package spec

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func loadFunctions(t *testing.T, text string) (*File, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shakedown.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadFunctions(file)
}

func TestFunctionsNeedNoService(t *testing.T) {
	t.Parallel()
	const cache = "dependencies:\n  cache: {engine: redis}\n"
	tests := []struct {
		name, text string
		want       map[string]string
	}{
		{"nothing", "fuzz: {}\n", map[string]string{}},
		{"fuzz.env", cache + "fuzz:\n  env: {A: \"{{link.cache}}\", D: \"{{dir}}/x\"}\n", map[string]string{"A": "<link.cache>", "D": "<dir>/x"}},
		{"service.env", good, map[string]string{"REDIS_ADDR": "<link.cache>", "BUGS": "<bugs>", "WORKERS": "4"}},
		{"service.env without listen", cache + "service:\n  env: {A: \"{{listen}}\", C: \":{{port}}\", B: \"{{link.cache}}\"}\n", map[string]string{"B": "<link.cache>"}},
		{"fuzz.env beside service.env", cache + "service:\n  env: {A: x}\nfuzz:\n  env: {B: y}\n", map[string]string{"B": "y"}},
	}
	for _, tt := range tests {
		text := strings.ReplaceAll(tt.text, ", init: schema.sql", "")
		f, err := loadFunctions(t, text)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if got := f.FuzzEnv(func(name string) string { return "<" + name + ">" }); !maps.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestMistakesAboutFunctions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"fuzz:\n  env: {A: \"{{listen}}\"}\n":                       ":2:12: {{listen}}",
		"fuzz:\n  env: {A: \":{{port}}\"}\n":                        ":2:12: {{listen}} and {{port}}",
		"fuzz:\n  env: {A: \"{{link.db}}\"}\n":                      ":2:12: {{link.db}} is not known",
		"fuzz:\n  env: {A: \"http://elsewhere.example.com/\"}\n":    "not this machine",
		"fuzz:\n  envs: {}\n":                                       ":2:3: ",
		"dependencies:\n  db: {engine: oracle}\n":                   "oracle",
		"service:\n  env: {A: \"{{link.db}}\"}\ndependencies: {}\n": "{{link.db}} is not known",
	} {
		_, err := loadFunctions(t, text)
		var bad *Error
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	if _, err := Parse("x.yaml", []byte("fuzz:\n  env: {}\n")); err == nil || !strings.Contains(err.Error(), "shakedown fuzz takes it") {
		t.Errorf("as a service: %v", err)
	}
}
