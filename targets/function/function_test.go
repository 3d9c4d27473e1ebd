package function

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// samples is where the sample modules are.
var samples = filepath.Join("..", "..", "testdata", "functions")

func TestFunctionsOfAFile(t *testing.T) {
	t.Parallel()
	const text = `package x

import (
	"testing"
	tst "testing"
)

func Fuzz(b []byte) int            { return 0 }
func FuzzA(data []uint8) (n int)   { return 0 }
func Fuzzy(data []byte) int        { return 0 }
func FuzzB(data []byte) int64      { return 0 }
func FuzzC(data [4]byte) int       { return 0 }
func FuzzD(a, b []byte) int        { return 0 }
func FuzzE[T any](data []byte) int { return 0 }
func (x) FuzzF(data []byte) int    { return 0 }
func FuzzG(f *tst.F)               {}
func FuzzH(f *testing.T)           {}
func FuzzI(f *tst.F) int           { return 0 }
func FuzzÉ(f *tst.F)               {}
`
	file := filepath.Join(t.TempDir(), "x.go")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for sort, want := range map[Sort][]string{GoFuzz: {"Fuzz", "FuzzA"}, Native: {"FuzzG", "FuzzÉ"}} {
		found, err := functions(file, sort)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range found {
			got = append(got, f.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", sort, got, want)
		}
	}
}

func TestTypesOfANativeFunction(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"f.Fuzz(func(t *testing.T, a, b string, c byte, _ rune, d []uint8, e float64) {})": "string,string,uint8,int32,[]byte,float64",
		"f.Add(1); if true { f.Fuzz(func(_ *testing.T, b bool) {}) }":                      "bool",
		"f.Fuzz(variable)": "",
		"f.Fuzz(func(t *testing.T, x map[int]int) {})": "",
		"f.Add(1)": "",
	} {
		file := filepath.Join(t.TempDir(), "x_test.go")
		if err := os.WriteFile(file, []byte("package x\n\nimport \"testing\"\n\nfunc FuzzX(f *testing.F) {\n"+body+"\n}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := functions(file, Native)
		if err != nil || len(got) != 1 || got[0].Types != want {
			t.Errorf("%s: got %+v, %v; want %q", body, got, err, want)
		}
	}
}

func TestDiscover(t *testing.T) {
	t.Parallel()
	p, err := Discover(t.Context(), filepath.Join(samples, "frames"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []Func{{"FuzzDecode", Native, "[]byte"}, {"FuzzFrame", GoFuzz, "[]byte"}}; !slices.Equal(p.Funcs, want) || p.Module != "example.com/frames" || p.ImportPath != "example.com/frames" {
		t.Errorf("got %+v", p)
	}
	if got, err := p.Select("FuzzFrame"); err != nil || len(got) != 1 || got[0].Sort != GoFuzz {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := p.Select("FuzzNothing"); err == nil || !strings.Contains(err.Error(), "FuzzDecode, FuzzFrame") {
		t.Errorf("got %v", err)
	}
	// Nothing but a file for go-fuzz.
	if p, err = Discover(t.Context(), filepath.Join(samples, "router")); err != nil || !slices.Equal(p.Funcs, []Func{{"FuzzRequest", GoFuzz, "[]byte"}}) {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestWhatIsNoPackageWithFunctions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) {
		t.Helper()
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file("go.mod", "module example.com/x\n\ngo 1.24\n")
	file("plain/x.go", "package plain\n")
	file("empty/x.txt", "")
	file("broken/x.go", "package broken\n\nfunc Fuzz(b []byte) int {\n")
	file("prog/main.go", "package main\n\nfunc main() {}\nfunc Fuzz(b []byte) int { return 0 }\n")
	for path, want := range map[string]string{
		filepath.Join(dir, "plain"):         "no fuzz function",
		filepath.Join(dir, "empty"):         "no Go files",
		filepath.Join(dir, "broken"):        "x.go:",
		filepath.Join(dir, "prog"):          "package main",
		filepath.Join(dir, "absent"):        "no such directory",
		filepath.Join(dir, "plain", "x.go"): "is a file",
		"./...":                             "not one package",
		"-x":                                "not one package",
		"example.com/nowhere":               "example.com/nowhere",
	} {
		p, err := Discover(t.Context(), path)
		var bad *Error
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %+v, %v; want %q", path, p, err, want)
		}
	}
}

// replayer builds what replays a function of a sample.
func replayer(t *testing.T, sample, name string) Replayer {
	t.Helper()
	p, err := Discover(t.Context(), filepath.Join(samples, sample))
	if err != nil {
		t.Fatal(err)
	}
	return build(t, p, name)
}

func build(t *testing.T, p *Package, name string) Replayer {
	t.Helper()
	fns, err := p.Select(name)
	if err != nil {
		t.Fatal(err)
	}
	r := Replayer{Package: p, Func: fns[0], Dir: t.TempDir()}
	if r.Func.Sort == Native {
		if r.Dir, err = p.Mirror(t.TempDir()); err != nil {
			t.Fatal(err)
		}
	}
	if r.Binary, err = (Builder{Package: p, Dir: t.TempDir()}).Build(t.Context(), r.Func.Sort, false); err != nil {
		t.Fatal(err)
	}
	return r
}

func signatures(fs []harness.Finding) []string {
	var out []string
	for _, f := range fs {
		out = append(out, f.Signature)
	}
	return out
}

// tree lists a directory with the sizes, modes and times of its files.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintln(&out, path, info.Size(), info.Mode(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestReplay(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(samples, "frames")
	before := tree(t, dir)
	const slice = "panic: slice bounds out of range: example.com/frames/frame.Decode"
	tests := []struct {
		sample, fn string
		in         Input
		want       []string
	}{
		{"frames", "FuzzFrame", Input{File: []byte("00")}, []string{slice}},
		{"frames", "FuzzFrame", Input{File: []byte("\x02ab\x03")}, nil},
		{"frames", "FuzzDecode", Input{File: []byte("go test fuzz v1\n[]byte(\"00\")\n")}, []string{slice}},
		{"frames", "FuzzDecode", Input{File: []byte("go test fuzz v1\n[]byte(\"\")\n")}, nil},
		{"frames", "FuzzDecode", Input{Own: "seed#0"}, nil},
		{"frames/fixed", "FuzzFrame", Input{File: []byte("00")}, nil},
		{"frames/fixed", "FuzzDecode", Input{File: []byte("go test fuzz v1\n[]byte(\"00\")\n")}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.sample+" "+tt.fn, func(t *testing.T) {
			rec, found, err := replayer(t, tt.sample, tt.fn).Replay(t.Context(), tt.in, 3)
			if err != nil {
				t.Fatal(err)
			}
			if got := signatures(found); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q; events %v", got, tt.want, rec.Events)
			}
		})
	}
	if after := tree(t, dir); after != before {
		t.Errorf("the module was changed:\n%s\nwas\n%s", after, before)
	}
}

const faulty = `package x

import (
	"fmt"
	"os"
	"testing"
	"time"
)

func FuzzX(f *testing.F) {
	f.Add("own")
	f.Fuzz(func(t *testing.T, s string) {
		switch s {
		case "own":
			panic("own")
		case "error":
			t.Errorf("value %q of %d is bad", s, time.Now().UnixNano())
		case "goroutine":
			done := make(chan bool)
			go func() { panic(fmt.Sprintf("no %s here", s)) }()
			<-done
		case "exit":
			os.Exit(7)
		case "hang":
			stand()
		case "file":
			if err := os.WriteFile("testdata/left", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := os.ReadFile("../go.mod"); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func stand() { time.Sleep(time.Hour) }
`

func TestReplayTellsHowItFailed(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	dir := filepath.Join(root, "x")
	if err := os.MkdirAll(filepath.Join(dir, "testdata", "fuzz", "FuzzX"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"go.mod": "module example.com/m\n\ngo 1.24\n", "x/x_test.go": faulty} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Discover(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	r := build(t, p, "")
	r.Limit = 2 * time.Second
	text := func(s string) Input {
		return Input{File: fmt.Appendf(nil, "go test fuzz v1\nstring(%q)\n", s), Texts: []string{s}}
	}
	before := tree(t, root)
	for name, tt := range map[string]struct {
		in   Input
		want string
	}{
		"nothing":   {text("x"), ""},
		"own":       {Input{Own: "seed#0"}, "panic: own: example.com/m/x.FuzzX.func1"},
		"error":     {text("error"), `failure: value "" of N is bad: example.com/m/x.FuzzX`},
		"goroutine": {text("goroutine"), "panic: no _ here: example.com/m/x.FuzzX.func1.1"},
		"exit":      {text("exit"), "exit: code 7: example.com/m/x.FuzzX"},
		"hang":      {text("hang"), "hang: example.com/m/x.stand"},
		"file":      {text("file"), ""},
	} {
		_, found, err := r.Replay(t.Context(), tt.in, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(signatures(found), "; "); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
	if after := tree(t, root); after != before {
		t.Errorf("the module was changed:\n%s\nwas\n%s", after, before)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := r.Replay(ctx, text("hang"), 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an end of the harness's time: %v", err)
	}
}

func TestModulesOfOldGo(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/m\n\ngo 1.13\n", "x.go": "package x\n\nfunc FuzzX(b []byte) int { return 1 / len(b) }\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Discover(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	_, found, err := build(t, p, "").Replay(t.Context(), Input{}, 1)
	if got := strings.Join(signatures(found), "; "); err != nil || got != "panic: integer divide by zero: example.com/m.FuzzX" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestWhatDoesNotCompile(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.com/m\n\ngo 1.24\n", "x.go": "package x\n\nfunc FuzzX(b []byte) int { return nothing }\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := Discover(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Builder{Package: p, Dir: t.TempDir()}.Build(t.Context(), GoFuzz, false)
	var bad *Error
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), "x.go:3:") || !strings.Contains(err.Error(), "undefined: nothing") {
		t.Errorf("got %v", err)
	}
}

func TestWhatAnEngineSaysIsJudged(t *testing.T) {
	t.Parallel()
	p := &Package{Module: "example.com/m", ImportPath: "example.com/m/x"}
	const trace = `
goroutine 1 [running]:
example.com/m/y.Parse({0xc000012345, 0x3, 0x3})
	/tmp/go-fuzz-build123/gopath/src/example.com/m/y/y.go:12 +0x1d
example.com/m/x.FuzzX({0x7f0000000000, 0x3, 0x100000})
	/tmp/go-fuzz-build123/gopath/src/example.com/m/x/x.go:9 +0x25
exit status 2`
	const race = `==================
WARNING: DATA RACE
Write at 0x00c00001c0b8 by goroutine 7:
  example.com/m/y.(*T).Set()
      /tmp/go-fuzz-build123/gopath/src/example.com/m/y/y.go:20 +0x44

Previous read at 0x00c00001c0b8 by main goroutine:
  example.com/m/y.(*T).Get()
      /tmp/go-fuzz-build123/gopath/src/example.com/m/y/y.go:30 +0x44
==================
exit status 66`
	for name, tt := range map[string]struct{ said, want string }{
		"panic": {"panic: bad token \"abc\"\n" + trace, "panic: bad token \"\": example.com/m/y.Parse"},
		"race":  {race, "race: example.com/m/y.(*T).Get | example.com/m/y.(*T).Set"},
		"hang":  {"program hanged (timeout 10 seconds)\n\nSIGABRT: abort\nPC=0x1 m=0 sigcode=0\n" + trace, "hang: example.com/m/y.Parse"},
		"exit":  {"exit status 3", "exit: code 2: example.com/m/x.FuzzX"},
	} {
		if got := strings.Join(signatures(Judge(p, Func{Name: "FuzzX", Sort: GoFuzz}, nil, strings.Split(tt.said, "\n"))), "; "); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
