package spec

import (
	"path/filepath"
	"testing"
)

func TestSampleServicesAreDescribed(t *testing.T) {
	t.Parallel()
	services, err := filepath.Glob("../../testdata/services/*/go.mod")
	if err != nil || len(services) < 3 {
		t.Fatalf("sample services %v, %v", services, err)
	}
	for _, module := range services {
		f, err := Load(filepath.Dir(module))
		if err != nil {
			t.Error(err)
			continue
		}
		if n := len(f.HarnessOps()); n < 10 {
			t.Errorf("%s has %d ops", f.Path, n)
		}
	}
}
