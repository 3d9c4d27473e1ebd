// Package engine holds what the engines that fuzz functions have in common: the inputs
// and their file format, how they say what they did, and the processes that they need.
//
// An engine is another program, found elsewhere. It is started by whoever drives it, so
// that all that it starts in turn ends with the harness: see Run.
package engine

import "context"

// Program is a process that an engine needs.
type Program struct {
	Name string // for what it prints
	Path string // a bare name is looked up in PATH
	Args []string
	Env  []string // the whole environment
	Dir  string
}

// Run runs a program to its end, and hands over each line that it prints, one at a time and
// from several goroutines. When ctx ends, the program and all that it started are ended first; the
// error is then nil, too: it says only that the program could not be run.
type Run func(ctx context.Context, p Program, line func(text string)) (code int, err error)

// Stats are what an engine says it did so far.
type Stats struct {
	Execs  int64 // inputs that were executed
	Corpus int   // inputs that it keeps
	Grown  int   // of those, how many it has found itself
	Seeds  int   // inputs that it was given, and that ran
}

// Crasher is an input that an engine says a function fails on, and what was printed.
type Crasher struct {
	Input  Input
	Output []string // lines
}
