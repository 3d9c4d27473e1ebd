package stack

import "strings"

// agent is the package that the harness adds to a service's module.
const agent = "/zzshakedown"

// Package returns the package path of a function as stacks name it.
func Package(fn string) string {
	// Type arguments may hold slashes and dots of their own.
	head, _, _ := strings.Cut(fn, "[")
	slash := strings.LastIndexByte(head, '/') + 1
	if dot := strings.IndexByte(head[slash:], '.'); dot >= 0 {
		return head[:slash+dot]
	}
	return ""
}

// Short returns a function or a type without the directories of its package path.
func Short(fn string) string {
	head, _, _ := strings.Cut(fn, "[")
	return fn[strings.LastIndexByte(head, '/')+1:]
}

// Own reports whether a function belongs to the service: to package main or to module,
// which may be "" where it is not known.
func Own(module, fn string) bool {
	pkg := Package(fn)
	if pkg == "main" {
		return true
	}
	rest, in := strings.CutPrefix(pkg, module)
	return module != "" && in && (rest == "" || rest[0] == '/') && rest != agent
}

// Std reports whether a function belongs to the standard library or the runtime: no dot
// in the first part of its package path. The agent counts as such.
func Std(module, fn string) bool {
	pkg := Package(fn)
	if Own(module, fn) {
		return false
	}
	first, _, _ := strings.Cut(pkg, "/")
	return !strings.Contains(first, ".") || strings.HasSuffix(pkg, agent)
}

// Culprit returns the function to name for a stack: the innermost one of the service,
// else the innermost one outside the standard library, else the innermost one, else
// "unknown".
func Culprit(module string, frames []Frame) string {
	for _, f := range frames {
		if Own(module, f.Func) {
			return f.Func
		}
	}
	for _, f := range frames {
		if !Std(module, f.Func) {
			return f.Func
		}
	}
	if len(frames) > 0 {
		return frames[0].Func
	}
	return "unknown"
}

// Receiver returns the type whose method a function is, "shop/store.(*Store)", or for
// any other function its own name, without what the compiler adds for closures.
func Receiver(fn string) string {
	n := len(Package(fn))
	if strings.HasPrefix(fn[n:], ".(*") {
		if end := strings.IndexByte(fn[n:], ')'); end > 0 {
			return fn[:n+end+1]
		}
	}
	parts := strings.Split(fn[n:], ".")
	for i := 2; i < len(parts); i++ {
		if strings.HasPrefix(parts[i], "func") || strings.HasPrefix(parts[i], "gowrap") || strings.HasPrefix(parts[i], "deferwrap") {
			return fn[:n] + strings.Join(parts[:i], ".")
		}
	}
	return fn
}
