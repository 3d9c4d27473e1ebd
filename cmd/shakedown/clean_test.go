package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shakedown-go/shakedown/harness/gate"
)

// A clean that is interrupted leaves something: that is no pass, and no matter of the target.
func TestInterruptedCleanSaysWhatStays(t *testing.T) {
	home, err := os.MkdirTemp("/tmp", "clean-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	t.Setenv("TMPDIR", home)
	dead := filepath.Join(home, "shakedown-999999999-1-1") // no process has that number
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	code := exitCode(clean(ctx, &stdout, &stderr), &stderr)
	if code != int(gate.Failed) || stdout.Len() > 0 || !strings.Contains(stderr.String(), "interrupted: directories in "+home+" that stay, as there was no time left: 1") {
		t.Errorf("code %d, stdout %q, stderr %q", code, &stdout, &stderr)
	}
	if _, err := os.Stat(dead); err != nil {
		t.Errorf("it went on: %v", err)
	}
}
