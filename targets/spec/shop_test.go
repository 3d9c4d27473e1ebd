package spec

import "testing"

func TestSampleServiceIsDescribed(t *testing.T) {
	t.Parallel()
	f, err := Load("../../testdata/services/shop")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.HarnessOps()); n < 10 {
		t.Errorf("%d ops", n)
	}
}
