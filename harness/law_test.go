package harness_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/shakedown-go/shakedown"

// law says which packages of this module the packages of each layer may import. The first
// row that fits counts; a name that ends in a slash stands for everything below it.
var law = []struct {
	layer   string
	imports []string
	std     bool // beside these, the standard library only
}{
	{"harness", nil, true},
	{"harness/stack", nil, true},
	{"harness/", []string{"harness", "harness/"}, false},
	{"faults/faulttest", []string{"harness", "harness/", "faults"}, false},
	{"faults", []string{"harness", "faults/"}, true},
	{"faults/", []string{"harness", "faults/"}, true},
	{"fuzz/", []string{"harness", "fuzz/"}, false},
	{"targets/", []string{"harness", "harness/", "targets/"}, false},
	{"cmd/", []string{"harness", "harness/", "faults", "faults/", "fuzz/", "targets/"}, false},
}

func fits(pkg string, names []string) bool {
	for _, n := range names {
		if pkg == n || strings.HasSuffix(n, "/") && strings.HasPrefix(pkg, n) {
			return true
		}
	}
	return false
}

func TestEachLayerImportsOnlyLowerOnes(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages++
		pkg := strings.TrimPrefix(p.ImportPath, module+"/")
		row := -1
		for i, l := range law {
			if fits(pkg, []string{l.layer}) {
				row = i
				break
			}
		}
		if row < 0 {
			t.Errorf("%s is in no layer", pkg)
			continue
		}
		for _, imp := range p.Imports {
			own, ours := strings.CutPrefix(imp, module+"/")
			switch {
			case ours && !fits(own, law[row].imports):
				t.Errorf("%s may not import %s", pkg, own)
			case !ours && law[row].std && strings.Contains(strings.Split(imp, "/")[0], "."):
				t.Errorf("%s may import the standard library only, not %s", pkg, imp)
			}
		}
	}
	if packages < 10 {
		t.Errorf("only %d packages were looked at", packages)
	}
}
