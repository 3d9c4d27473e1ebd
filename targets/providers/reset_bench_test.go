package providers

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/shakedown-go/shakedown/targets/spec"
)

// benchSchema has eight tables with sixty rows; large rows more in one that no case changes.
func benchSchema(large int) string {
	var b strings.Builder
	for i := range 8 {
		fmt.Fprintf(&b, "CREATE TABLE t%d (id bigserial PRIMARY KEY, parent bigint", i)
		if i > 0 {
			fmt.Fprintf(&b, " REFERENCES t%d", i-1)
		}
		fmt.Fprintf(&b, ", name text NOT NULL, n int); CREATE INDEX ON t%[1]d (name);\n"+
			"INSERT INTO t%[1]d (name, n) SELECT 'row ' || i, i FROM generate_series(1, 7 + %[1]d %% 2) i;\n", i)
	}
	fmt.Fprintf(&b, "INSERT INTO t7 (name, n) SELECT 'large ' || i, i FROM generate_series(1, %d) i;\n", large)
	return b.String()
}

// benchCase is what a case does to the data.
const benchCase = `INSERT INTO t0 (name) VALUES ('a'), ('b'); UPDATE t1 SET n = n + 1; DELETE FROM t2 WHERE id = 7;
	INSERT INTO t3 (parent, name) VALUES (1, 'c')`

// BenchmarkReset compares ways to bring the rows back; docs/decisions/0001 has the figures.
func BenchmarkReset(b *testing.B) {
	need(b, "postgres")
	for _, large := range []int{0, 10_000} {
		d := start(b, spec.Dependency{Engine: "postgres", Init: "schema.sql", Database: "shop"}, writeInit(b, benchSchema(large)))
		reset(b, d)
		service := connectAs(b, d.Addr(), superuser, "shop")
		direct := connectAs(b, d.Addr(), superuser, "shop")
		tables, sequences := describe(b, direct)

		var back, setvals strings.Builder
		for _, s := range sequences {
			fmt.Fprintf(&setvals, "SELECT setval(%s, %d, %t);\n", literal(s.name), s.last, s.called)
		}
		for _, t := range tables {
			back.WriteString(insertSQL(t) + ";\n")
		}
		var deletes, names []string
		for _, t := range tables {
			deletes = append(deletes, "DELETE FROM ONLY "+t.name)
			names = append(names, "ONLY "+t.name)
		}
		for _, way := range []struct {
			name  string
			reset func(context.Context) error
		}{
			{"changed-only", d.Reset},
			{"delete+insert", func(ctx context.Context) error {
				return run(ctx, direct, setLocal(patience)+lockSQL(tables)+strings.Join(deletes, ";\n")+";\n"+back.String()+setvals.String())
			}},
			{"truncate+insert", func(ctx context.Context) error {
				return run(ctx, direct, setLocal(patience)+"TRUNCATE "+strings.Join(names, ", ")+";\n"+back.String()+setvals.String())
			}},
			{"nothing", func(ctx context.Context) error { return run(ctx, direct, "SELECT 1") }},
		} {
			b.Run(fmt.Sprintf("%s/large=%d", way.name, large), func(b *testing.B) {
				for b.Loop() {
					b.StopTimer()
					execute(b, service, benchCase)
					b.StartTimer()
					if err := way.reset(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		b.Run(fmt.Sprintf("template/large=%d", large), func(b *testing.B) {
			service.Close(b.Context())
			direct.Close(b.Context())
			if err := d.(*pgServer).data.forget(b.Context()); err != nil {
				b.Fatal(err)
			}
			d.(*pgServer).data.close(b.Context())
			admin := connectAs(b, d.Addr(), superuser, superuser)
			execute(b, admin, "DROP DATABASE IF EXISTS swap")
			for b.Loop() {
				for _, sql := range []string{"CREATE DATABASE swap TEMPLATE shop STRATEGY FILE_COPY", "DROP DATABASE swap WITH (FORCE)"} {
					execute(b, admin, sql)
				}
			}
		})
	}
}

// describe returns the tables and sequences as they are kept.
func describe(b *testing.B, conn *pgx.Conn) ([]table, []sequence) {
	b.Helper()
	tx, err := conn.Begin(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	tables, err := tablesOf(b.Context(), tx)
	if err != nil {
		b.Fatal(err)
	}
	sequences, err := sequencesOf(b.Context(), tx)
	if err != nil {
		b.Fatal(err)
	}
	return tables, sequences
}
