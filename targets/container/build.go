package container

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// begins checks that the images which a Dockerfile begins from are there: the engine would
// pull them otherwise. A name that is made of arguments is not looked at.
func (e *Engine) begins(ctx context.Context, dockerfile string) error {
	f, err := os.Open(dockerfile)
	if err != nil {
		return err
	}
	defer f.Close()
	stages := []string{"scratch"}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 || !strings.EqualFold(words[0], "FROM") {
			continue
		}
		words = slices.DeleteFunc(words[1:], func(w string) bool { return strings.HasPrefix(w, "--") })
		if len(words) == 0 {
			continue
		}
		from := words[0]
		known := slices.Clone(stages)
		if len(words) == 3 && strings.EqualFold(words[1], "AS") {
			stages = append(stages, words[2])
		}
		if strings.Contains(from, "$") || slices.ContainsFunc(known, func(s string) bool { return strings.EqualFold(s, from) }) {
			continue
		}
		missing := new(MissingError)
		if _, err := e.Image(ctx, from); errors.As(err, &missing) {
			return fmt.Errorf("%s begins from %s, and %w; pull: true gets it from its registry", dockerfile, from, err)
		} else if err != nil {
			return err
		}
	}
	return lines.Err()
}
