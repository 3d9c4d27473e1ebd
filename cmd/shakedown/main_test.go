package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/gate"
)

func TestExitCodeAndWords(t *testing.T) {
	t.Parallel()
	stopped := fmt.Errorf("while starting: %w", context.Canceled)
	left := errors.New("a container is left")
	for name, x := range map[string]struct {
		err  error
		code int
		says []string
	}{
		"nothing wrong":                        {nil, 0, nil},
		"a verdict was said":                   {verdict(gate.Findings), 1, nil},
		"a mistake":                            {usagef("no such flag"), 2, []string{"no such flag"}},
		"a failure":                            {errors.New("no port"), 3, []string{"no port"}},
		"interrupted":                          {stopped, 4, []string{"interrupted"}},
		"interrupted in two places":            {errors.Join(stopped, context.Canceled), 4, []string{"interrupted"}},
		"interrupted, and cleaning up failed":  {errors.Join(stopped, left), 3, []string{"interrupted", "a container is left"}},
		"the same, wrapped":                    {fmt.Errorf("run: %w", errors.Join(left, stopped)), 3, []string{"interrupted", "a container is left"}},
		"clean, but cleaning up failed":        {&unclean{nil, left}, 3, []string{"cleaning up: a container is left"}},
		"findings, but cleaning up failed":     {&unclean{verdict(gate.Findings), left}, 3, []string{"cleaning up: a container is left"}},
		"a mistake, and cleaning up failed":    {usagef("x.case: %w", &unclean{usagef("no op fly"), left}), 3, []string{"no op fly", "a container is left"}},
		"interrupted, and not cleaned up then": {&unclean{stopped, left}, 3, []string{"interrupted", "a container is left"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			if got := exitCode(x.err, &stderr); got != x.code {
				t.Errorf("exit code %d, want %d", got, x.code)
			}
			if x.says == nil && stderr.Len() > 0 {
				t.Errorf("says %q, want nothing", &stderr)
			}
			for _, want := range x.says {
				if strings.Count(stderr.String(), want) != 1 {
					t.Errorf("says %q, want %q once", &stderr, want)
				}
			}
		})
	}
}

func TestFailedWriteInterrupts(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	out := &results{w: w, lost: cancel}
	go io.ReadFull(r, make([]byte, 1))
	if _, err := out.Write([]byte("a")); err != nil || out.failure() != nil || ctx.Err() != nil {
		t.Fatalf("a write that is read: %v, %v, %v", err, out.failure(), ctx.Err())
	}
	if err := r.CloseWithError(os.ErrClosed); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Write([]byte("b")); !errors.Is(err, os.ErrClosed) || !errors.Is(out.failure(), os.ErrClosed) || ctx.Err() == nil {
		t.Errorf("a write that nobody reads: %v, %v, %v", err, out.failure(), ctx.Err())
	}
}

// The case that the documentation shows must fit the sample service that it names.
func TestCaseInTheDocumentationFits(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```\ntarget ")
	text, _, found := strings.Cut("target "+rest, "```")
	if !found {
		t.Fatal("no case in docs/README.md")
	}
	c, err := harness.ParseCase([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	p, err := settings{}.prepare(filepath.Join("..", "..", c.Target), c.Env)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.lab.Check(c); err != nil {
		t.Error(err)
	}
}
