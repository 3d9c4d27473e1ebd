package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestListOpsOfDocument lists the ops that the sample service's OpenAPI document describes.
func TestListOpsOfDocument(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	file := filepath.Join("..", "..", "testdata", "services", "shop", "shakedown.openapi.yaml")
	if code := run([]string{"list", "ops", file}, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	golden := filepath.Join("testdata", "shop-openapi.golden")
	if *update {
		if err := os.WriteFile(golden, stdout.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stdout.Bytes(), want) {
		t.Errorf("got:\n%s\nwant:\n%s", &stdout, want)
	}
}
