package bugs

import "testing"

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
