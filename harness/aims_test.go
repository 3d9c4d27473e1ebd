package harness

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFaultIsAimedAtEverythingItCanDisturb(t *testing.T) {
	t.Parallel()
	link, proc := Param{Name: "link", Of: OfLink}, Param{Name: "proc", Of: OfProc}
	store := func(engine string) []Param { return []Param{{Name: "store", Of: OfStore, Engine: engine}} }
	shop := &Target{
		Caps: CapLinks | CapProcs | CapStores, Links: []string{"cache", "db"}, Procs: []string{Service, "db"},
		Stores: map[string]string{"queue": "redis", "cache": "redis", "db": "postgres"},
	}
	for _, tt := range []struct {
		name   string
		needs  Caps
		params []Param
		target *Target
		want   []Args
	}{
		{"a link", CapLinks, []Param{link, {Name: "delay"}}, shop, []Args{{{"link", Text("cache")}}, {{"link", Text("db")}}}},
		{"nothing", 0, []Param{{Name: "delay"}}, shop, []Args{nil}},
		{"a link and a process", CapLinks, []Param{link, proc}, shop, []Args{
			{{"link", Text("cache")}, {"proc", Text(Service)}}, {{"link", Text("cache")}, {"proc", Text("db")}},
			{{"link", Text("db")}, {"proc", Text(Service)}}, {{"link", Text("db")}, {"proc", Text("db")}},
		}},
		{"stores of its engine", CapStores, store("redis"), shop, []Args{{{"store", Text("cache")}}, {{"store", Text("queue")}}}},
		{"a store of its engine", CapStores, store("postgres"), shop, []Args{{{"store", Text("db")}}}},
		{"no store of its engine", CapStores, store("mysql"), shop, nil},
		{"an ability is missing", CapAgent, []Param{link}, shop, nil},
		{"there are no links", CapLinks, []Param{link}, &Target{Caps: CapLinks}, nil},
	} {
		f := &Fault{Needs: tt.needs, Params: tt.params}
		if diff := cmp.Diff(tt.want, f.Aims(tt.target)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}
