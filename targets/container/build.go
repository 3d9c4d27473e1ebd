package container

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
)

const (
	buildTime  = 15 * time.Minute
	buildLines = 20 // of what a build has printed, that an error quotes
	buildRepo  = "shakedown/service"

	// FileLabel is the label of every image that Build has built: its value is the Dockerfile.
	FileLabel = "shakedown.dockerfile"
)

// BuildOptions say what to build an image from.
type BuildOptions struct {
	Dir        string // the context, absolute
	Dockerfile string // below Dir
	Pull       bool   // the images that it begins from may be pulled
}

// BuildError says that a Dockerfile did not build.
type BuildError struct {
	Dockerfile string
	Err        error
	Output     string // the end of it
}

func (e *BuildError) Error() string {
	return fmt.Sprintf("%s does not build: %v%s", e.Dockerfile, e.Err, e.Output)
}

// Unwrap returns what the engine said.
func (e *BuildError) Unwrap() error { return e.Err }

// Digest returns the image's id as a SHA-256.
func (i Image) Digest() string { return strings.TrimPrefix(i.ID, "sha256:") }

// Build builds an image. The newest one of each Dockerfile is kept, with what the engine has
// cached of it, so that the next build is quick.
func (e *Engine) Build(ctx context.Context, o BuildOptions) (Image, error) {
	file, err := filepath.Rel(o.Dir, o.Dockerfile)
	if err != nil {
		return Image{}, err
	}
	if !o.Pull {
		if err := e.begins(ctx, o.Dockerfile); err != nil {
			return Image{}, err
		}
	}
	builder, ok := e.provider.(interface {
		BuildImage(context.Context, testcontainers.ImageBuildInfo) (string, error)
	})
	if !ok {
		return Image{}, errors.New("testcontainers cannot build an image here")
	}
	tag := fmt.Sprintf("%x", sha256.Sum256([]byte(o.Dockerfile)))[:12]
	before, _ := e.Image(ctx, buildRepo+":"+tag) // none is no error
	var out bytes.Buffer
	bounded, cancel := context.WithTimeout(ctx, buildTime)
	defer cancel()
	name, err := builder.BuildImage(bounded, &testcontainers.ContainerRequest{FromDockerfile: testcontainers.FromDockerfile{
		Context: o.Dir, Dockerfile: file, Repo: buildRepo, Tag: tag, BuildLogWriter: &out, KeepImage: true,
		BuildOptionsModifier: func(b *client.ImageBuildOptions) { b.Labels = map[string]string{FileLabel: o.Dockerfile} },
	}})
	if ctx.Err() != nil {
		return Image{}, ctx.Err()
	}
	if err != nil {
		return Image{}, &BuildError{o.Dockerfile, err, last(out.String())}
	}
	got, err := e.Image(ctx, name)
	if err == nil && before.ID != "" && before.ID != got.ID {
		// Nobody else has a name for it; where somebody still uses it, it stays.
		_, _ = e.docker.ImageRemove(ctx, before.ID, client.ImageRemoveOptions{})
	}
	return got, err
}

// colours are what a build has on its errors.
var colours = regexp.MustCompile("\x1b\\[[0-9;]*m")

// last returns the last lines of what was printed, indented.
func last(out string) string {
	out = colours.ReplaceAllString(out, "")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return "\n\t" + strings.Join(lines[max(0, len(lines)-buildLines):], "\n\t")
}

// begins checks that the images which a Dockerfile begins from, and copies from, are there: the
// engine would pull them otherwise.
func (e *Engine) begins(ctx context.Context, dockerfile string) error {
	text, err := os.ReadFile(dockerfile)
	if err != nil {
		return err
	}
	for _, from := range bases(string(text)) {
		missing := new(MissingError)
		if _, err := e.Image(ctx, from); errors.As(err, &missing) {
			return fmt.Errorf("%s begins from %s, and %w; pull: true gets it from its registry", dockerfile, from, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// bases returns the images that the text of a Dockerfile takes files from. A name that is made
// of arguments is left out.
func bases(text string) []string {
	var out []string
	stages := []string{"scratch"}
	take := func(from string) {
		_, err := strconv.Atoi(from) // the number of a stage
		known := func(s string) bool { return strings.EqualFold(s, from) }
		if err != nil && !strings.Contains(from, "$") && !slices.ContainsFunc(stages, known) && !slices.Contains(out, from) {
			out = append(out, from)
		}
	}
	text = strings.NewReplacer("\\\r\n", " ", "\\\n", " ").Replace(text)
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		var flags []string
		for len(words) > 1 && strings.HasPrefix(words[1], "--") {
			flags = append(flags, words[1])
			words = slices.Delete(words, 1, 2)
		}
		switch strings.ToUpper(words[0]) {
		case "FROM":
			if len(words) > 1 {
				take(words[1])
			}
			if len(words) == 4 && strings.EqualFold(words[2], "AS") {
				stages = append(stages, words[3])
			}
		case "COPY":
			for _, flag := range flags {
				if from, ok := strings.CutPrefix(flag, "--from="); ok {
					take(from)
				}
			}
		}
	}
	return out
}
