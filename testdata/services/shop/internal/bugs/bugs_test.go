package bugs

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestEachIsDescribed reads the ids that bugs.yaml describes.
func TestEachIsDescribed(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../bugs.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got []ID
	for _, m := range regexp.MustCompile(`(?m)^- id: (\S+)$`).FindAllSubmatch(b, -1) {
		got = append(got, ID(m[1]))
	}
	if !slices.Equal(got, All()) {
		t.Errorf("bugs.yaml describes %v, there are %v", got, All())
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		list string
		want []ID
		ok   bool
	}{
		{"", nil, true},
		{"stats-map", []ID{StatsMap}, true},
		{" stats-map, lock-hold,", []ID{StatsMap, LockHold}, true},
		{"all", All(), true},
		{"stats-mop", nil, false},
	} {
		got, err := Parse(tc.list)
		if (err == nil) != tc.ok {
			t.Errorf("Parse(%q): error %v", tc.list, err)
		}
		if len(got) != len(tc.want) {
			t.Errorf("Parse(%q) = %v, want %v", tc.list, got, tc.want)
		}
		for _, id := range tc.want {
			if !got.Enabled(id) {
				t.Errorf("Parse(%q) lacks %s", tc.list, id)
			}
		}
	}
}
