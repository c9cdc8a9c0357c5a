package replicator

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// newTables starts a source with tables that differ in what identifies a row.
func newTables(t *testing.T) *testSource {
	t.Helper()
	s := newTestSource(t)
	s.exec(t, `
		CREATE TABLE public.good (id int PRIMARY KEY, a int);
		CREATE TABLE public."we""ird, T" (id int PRIMARY KEY);
		CREATE TABLE public.full_pk (id int PRIMARY KEY); ALTER TABLE public.full_pk REPLICA IDENTITY FULL;
		CREATE TABLE public.index_pk (id int PRIMARY KEY, tenant int NOT NULL, UNIQUE (tenant, id));
		ALTER TABLE public.index_pk REPLICA IDENTITY USING INDEX index_pk_tenant_id_key;
		CREATE TABLE public.tree (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE public.tree_1 PARTITION OF public.tree FOR VALUES FROM (0) TO (10);

		CREATE TABLE public.no_pk (id int);
		CREATE TABLE public.full_only (id int); ALTER TABLE public.full_only REPLICA IDENTITY FULL;
		CREATE TABLE public.nothing (id int PRIMARY KEY); ALTER TABLE public.nothing REPLICA IDENTITY NOTHING;
		CREATE TABLE public.deferrable_pk (id int PRIMARY KEY DEFERRABLE);
		CREATE TABLE public.index_other (id int PRIMARY KEY, u int NOT NULL UNIQUE, i int);
		ALTER TABLE public.index_other REPLICA IDENTITY USING INDEX index_other_u_key;
		CREATE TABLE public.index_include (id int PRIMARY KEY, u int NOT NULL, UNIQUE (u) INCLUDE (id));
		ALTER TABLE public.index_include REPLICA IDENTITY USING INDEX index_include_u_id_key;
		CREATE UNLOGGED TABLE public.fast (id int PRIMARY KEY);
		CREATE VIEW public.seen AS SELECT 1 AS id;
		CREATE TABLE public.full_tree (id int PRIMARY KEY) PARTITION BY RANGE (id);
		ALTER TABLE public.full_tree REPLICA IDENTITY FULL;
		CREATE TABLE public.bad_tree (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE public.bad_leaf PARTITION OF public.bad_tree FOR VALUES FROM (0) TO (10);
		ALTER TABLE public.bad_leaf REPLICA IDENTITY NOTHING`)
	return s
}

func public(names ...string) (list []TableName) {
	for _, n := range names {
		list = append(list, TableName{Schema: "public", Name: n})
	}
	return list
}

func TestCheckIdentities(t *testing.T) {
	t.Parallel()
	src := newTables(t)
	good := public("good", `we"ird, T`, "full_pk", "index_pk", "tree")
	if partitioned, err := CheckIdentities(t.Context(), src.conn, good); err != nil || !partitioned {
		t.Errorf("good tables: partitioned=%v, %v", partitioned, err)
	}
	if partitioned, err := CheckIdentities(t.Context(), src.conn, good[:4]); err != nil || partitioned {
		t.Errorf("ordinary tables: partitioned=%v, %v", partitioned, err)
	}
	bad := map[string][2]string{ // what the reason and the fix contain
		"no_pk":         {"no primary key", "ADD PRIMARY KEY"},
		"full_only":     {"no primary key", "ADD PRIMARY KEY"},
		"nothing":       {"NOTHING", `ALTER TABLE public.nothing REPLICA IDENTITY DEFAULT;`},
		"deferrable_pk": {"deferrable", "REPLICA IDENTITY FULL"},
		"index_other":   {"without the primary key", "REPLICA IDENTITY DEFAULT"},
		"index_include": {"without the primary key", "REPLICA IDENTITY DEFAULT"},
		"fast":          {"unlogged", "SET LOGGED"},
		"seen":          {"not a table", ""},
		"missing":       {"does not exist", ""},
		"full_tree":     {"new partitions", "ALTER TABLE public.full_tree REPLICA IDENTITY DEFAULT;"},
		"bad_tree":      {"partition public.bad_leaf", "ALTER TABLE public.bad_leaf REPLICA IDENTITY DEFAULT;"},
	}
	tables := good
	for name := range bad {
		tables = append(tables, TableName{Schema: "public", Name: name})
	}
	_, err := CheckIdentities(t.Context(), src.conn, tables)
	var e *IdentityError
	if !errors.As(err, &e) || fault.ClassOf(err) != fault.Stop {
		t.Fatalf("bad tables: %v, want an IdentityError", err)
	}
	for _, p := range e.Problems {
		want, ok := bad[p.Table.Name]
		if !ok || !strings.Contains(p.Reason, want[0]) || !strings.Contains(p.Fix, want[1]) {
			t.Errorf("%s: reason %q, fix %q", p.Table, p.Reason, p.Fix)
		}
		delete(bad, p.Table.Name)
	}
	for name := range bad {
		t.Errorf("%s was not refused", name)
	}
}

// The rule must be at least as strict as the server's own.
func TestCheckIdentities_Server(t *testing.T) {
	t.Parallel()
	src := newTables(t)
	src.exec(t, "CREATE PUBLICATION everything FOR ALL TABLES")
	for _, name := range []string{"good", "full_pk", "index_pk", "tree", "no_pk", "nothing", "deferrable_pk", "index_other", "bad_tree"} {
		_, err := src.conn.Exec(t.Context(), "DELETE FROM public."+name)
		_, refused := CheckIdentities(t.Context(), src.conn, public(name))
		if err != nil && refused == nil {
			t.Errorf("%s: the server refuses a DELETE (%v) and the check does not", name, err)
		}
	}
}

func TestEnsurePublication(t *testing.T) {
	t.Parallel()
	src := newTables(t)
	const name = `my "Pub"`
	ensure := func(create bool, tables ...string) (Prepared, error) {
		t.Helper()
		return EnsurePublication(t.Context(), src.conn, name, public(tables...), create)
	}
	published := func() (list []string) {
		t.Helper()
		p, err := ReadPublication(t.Context(), src.conn, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, t := range p.Tables {
			list = append(list, t.Name)
		}
		return list
	}
	const createSQL = `CREATE PUBLICATION "my ""Pub""" FOR TABLE "public"."full_pk", "public"."good" WITH (publish = 'insert, update, delete, truncate');`

	// Without leave nothing is made.
	got, err := ensure(false, "good", "full_pk")
	if err != nil || !cmp.Equal(got.SQL, []string{createSQL}) {
		t.Errorf("plan %q, %v", got.SQL, err)
	}
	if _, err := ReadPublication(t.Context(), src.conn, name); !errors.Is(err, ErrNoPublication) {
		t.Errorf("read: %v, want ErrNoPublication", err)
	}
	// A bad table keeps all from being made.
	if _, err := ensure(true, "good", "no_pk"); err == nil {
		t.Error("a table without a key was published")
	}
	if _, err := ensure(true, "good", "full_pk"); err != nil {
		t.Fatal(err)
	}
	if got := published(); !cmp.Equal(got, []string{"full_pk", "good"}) {
		t.Errorf("published %v", got)
	}
	// Again: nothing to do.
	if got, err := ensure(true, "good", "full_pk"); err != nil || got.SQL != nil {
		t.Errorf("again: %q, %v", got.SQL, err)
	}
	// One more, and one that isn't needed.
	got, err = ensure(true, "good", `we"ird, T`)
	if err != nil || len(got.SQL) != 1 || !cmp.Equal(got.Extra, public("full_pk")) {
		t.Errorf("add: %+v, %v", got, err)
	}
	if got := published(); !cmp.Equal(got, []string{"full_pk", "good", `we"ird, T`}) {
		t.Errorf("published %v", got)
	}
	if err := DropPublication(t.Context(), src.conn, name); err != nil {
		t.Error(err)
	}
	if err := DropPublication(t.Context(), src.conn, name); err != nil {
		t.Errorf("drop of what is gone: %v", err)
	}
	// Partitioned tables come under their own name.
	if _, err := ensure(true, "tree"); err != nil {
		t.Fatal(err)
	}
	if got := published(); !cmp.Equal(got, []string{"tree"}) {
		t.Errorf("published %v", got)
	}
}

// What would lose changes is refused, and the hint mends it.
func TestEnsurePublication_Refuses(t *testing.T) {
	t.Parallel()
	src := newTables(t)
	version := src.cluster.Version()
	tests := []struct {
		name, sql, want string
		tables          []string
		since           int
	}{
		{"Operations", "CREATE PUBLICATION p FOR TABLE public.good WITH (publish = 'insert, update')", "does not publish all", []string{"good"}, 14},
		{"Filter", "CREATE PUBLICATION p FOR TABLE public.good WHERE (id > 5)", "row filter on public.good", []string{"good"}, 15},
		{"Columns", "CREATE PUBLICATION p FOR TABLE public.good (id)", "column list on public.good", []string{"good"}, 15},
		{"PartitionByItself", "CREATE PUBLICATION p FOR TABLE public.tree WITH (publish_via_partition_root)", "under the name of public.tree", []string{"tree_1"}, 14},
		{"Partitions", "CREATE PUBLICATION p FOR TABLE public.tree", "under the names of its partitions", []string{"tree"}, 14},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if version < tt.since {
				t.Skipf("PostgreSQL %d has none", version)
			}
			src.exec(t, tt.sql)
			_, err := EnsurePublication(t.Context(), src.conn, "p", public(tt.tables...), true)
			if err == nil || !strings.Contains(err.Error(), tt.want) || fault.ClassOf(err) != fault.Stop {
				t.Fatalf("error %v, want %q", err, tt.want)
			}
			pgtest.Exec(t, src.url, fault.HintOf(err))
			if got, err := EnsurePublication(t.Context(), src.conn, "p", public(tt.tables...), false); err != nil || got.SQL != nil {
				t.Errorf("after the hint: %+v, %v", got, err)
			}
			src.exec(t, "DROP PUBLICATION p")
		})
	}
}

func TestReadPublication_Kinds(t *testing.T) {
	t.Parallel()
	src := newTables(t)
	src.exec(t, "CREATE PUBLICATION everything FOR ALL TABLES")
	p, err := ReadPublication(t.Context(), src.conn, "everything")
	if err != nil || !p.AllTables || p.Owner != "postgres" || len(p.Tables) < 5 {
		t.Errorf("publication %+v, %v", p, err)
	}
	if got, err := EnsurePublication(t.Context(), src.conn, "everything", public("good"), true); err != nil || got.SQL != nil {
		t.Errorf("a publication for all tables: %+v, %v", got, err)
	}
	if src.cluster.Version() < 15 {
		return
	}
	src.exec(t, "CREATE PUBLICATION schemas FOR TABLES IN SCHEMA public")
	p, err = ReadPublication(t.Context(), src.conn, "schemas")
	if err != nil || p.AllTables || !cmp.Equal(p.Schemas, []string{"public"}) {
		t.Errorf("publication %+v, %v", p, err)
	}
}
