package spec

import (
	"fmt"
	"slices"
	"strings"
)

// Engines returns the kinds of dependencies.
func Engines() []string { return []string{"redis", "postgres", "mysql"} }

// Rungs returns how a dependency of an engine can be provided, nil where the engine is not
// known.
func Rungs(engine string) []string {
	switch engine {
	case "redis":
		return []string{"auto", "docker", "local", "embedded", "url"}
	case "postgres":
		return []string{"auto", "docker", "local", "url"}
	case "mysql":
		return []string{"auto", "docker"}
	}
	return nil
}

// Provided returns the dependency as it is when it is provided in another way: what the
// description says for its own way only is left out.
func (d Dependency) Provided(rung string) Dependency {
	d.Provide = rung
	if rung != "url" {
		d.URL = ""
	}
	if rung != "docker" && rung != "auto" {
		d.Image, d.Pull = "", false
	}
	return d
}

// Check returns what is wrong with a dependency, and the key that says it.
func (d Dependency) Check() (key string, err error) {
	provide := d.Provide
	if provide == "" {
		provide = "auto"
	}
	rungs, sql := Rungs(d.Engine), d.Engine == "postgres" || d.Engine == "mysql"
	wrong := func(at, format string, args ...any) { key, err = at, fmt.Errorf(format, args...) }
	switch {
	case d.Engine == "":
		wrong("engine", "the engine is missing: one of %s", strings.Join(Engines(), ", "))
	case rungs == nil:
		wrong("engine", "the engine %q is not known; there are %s", d.Engine, strings.Join(Engines(), ", "))
	case !slices.Contains(rungs, provide):
		wrong("provide", "provide: %s is not there for %s; there are %s", provide, d.Engine, strings.Join(rungs, ", "))
	case provide == "url" && d.URL == "":
		wrong("provide", "provide: url needs a url, such as %s://127.0.0.1/0", d.Engine)
	case provide != "url" && d.URL != "":
		wrong("url", "a url is given, but provide is %s: make it provide: url, or take the url away", provide)
	case provide == "embedded" && d.Version != "":
		wrong("version", "version %s is wanted, but the embedded %s is of no version: take version away, or use provide: local", d.Version, d.Engine)
	case provide != "docker" && provide != "auto" && d.Image != "":
		wrong("image", "an image is given, but provide is %s: make it provide: docker, or take the image away", provide)
	case provide != "docker" && provide != "auto" && d.Pull:
		wrong("pull", "pull is for images, but provide is %s: make it provide: docker, or take pull away", provide)
	case !sql && d.Init != "":
		wrong("init", "init is an SQL file: it is for postgres and mysql; let the service seed its %s when it starts", d.Engine)
	case !sql && d.Database != "":
		wrong("database", "database is for postgres and mysql")
	case !sql && d.User != "":
		wrong("user", "user is for postgres and mysql")
	case provide == "url" && d.Database != "":
		wrong("database", "database is for a postgres of our own: write it into the url")
	case provide == "url" && d.User != "":
		wrong("user", "user is for a postgres of our own: write it into the url")
	}
	return key, err
}
