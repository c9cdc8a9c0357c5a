package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
)

// valueTypes are types with values whose text some cast, comparison or encoding
// on the way would change. nil stands for a value that is null.
var valueTypes = []struct {
	typ    string
	values []string
}{
	{`"pg_catalog"."bool"`, []string{"t", "f"}},
	{`"pg_catalog"."int2"`, []string{"-32768"}},
	{`"pg_catalog"."int4"`, []string{"2147483647"}},
	{`"pg_catalog"."int8"`, []string{"-9223372036854775808"}},
	{`"pg_catalog"."numeric"`, []string{"1.00", "1.0", "1", "NaN", "123456789012345678901234567890.000000000000000000000000000001"}},
	{`"pg_catalog"."float4"`, []string{"0.1", "-0", "NaN", "Infinity"}},
	{`"pg_catalog"."float8"`, []string{"0.30000000000000004", "-Infinity", "5e-324"}},
	{`"pg_catalog"."text"`, nasty()},
	{`"pg_catalog"."varchar"`, nasty()},
	{`"pg_catalog"."bpchar"`, []string{"a  ", "  "}},
	{`"pg_catalog"."name"`, []string{"x", strings.Repeat("n", 63)}},
	{`"pg_catalog"."char"`, []string{"a", " "}},
	{`"pg_catalog"."bytea"`, []string{`\x`, `\x00ff5c27`}},
	{`"pg_catalog"."date"`, []string{"infinity", "0044-03-15 BC", "5874897-12-31"}},
	{`"pg_catalog"."time"`, []string{"24:00:00", "05:06:07.123456"}},
	{`"pg_catalog"."timetz"`, []string{"05:06:07.1+05:30"}},
	{`"pg_catalog"."timestamp"`, []string{"-infinity", "2026-03-04 05:06:07.123456"}},
	{`"pg_catalog"."timestamptz"`, []string{"2026-03-04 05:06:07+00", "0001-01-01 00:00:00+00 BC"}},
	{`"pg_catalog"."interval"`, []string{"1 mon", "30 days", "720:00:00", "-1 years -2 mons +3 days -04:05:06.7"}},
	{`"pg_catalog"."uuid"`, []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}},
	{`"pg_catalog"."json"`, []string{`{"a":1,"a":2}`, `"\u0000"`, ` [ 1 ] `, `"\ud800"`}},
	{`"pg_catalog"."jsonb"`, []string{`{"a": 1.00}`, `"x"`, `null`, `[]`}},
	{`"pg_catalog"."xml"`, []string{`<a>b</a>`, ``}},
	{`"pg_catalog"."inet"`, []string{"192.168.0.1", "10.0.0.0/8", "::1"}},
	{`"pg_catalog"."cidr"`, []string{"10.0.0.0/8", "10.1.2.3/32"}},
	{`"pg_catalog"."macaddr"`, []string{"08:00:2b:01:02:03"}},
	{`"pg_catalog"."bit"`, []string{"1", "101"}},
	{`"pg_catalog"."varbit"`, []string{"", "0101"}},
	{`"pg_catalog"."money"`, []string{"$1,234.56"}},
	{`"pg_catalog"."point"`, []string{"(1,2)", "(0.1,-0)"}},
	{`"pg_catalog"."box"`, []string{"(2,2),(1,1)"}},
	{`"pg_catalog"."int4range"`, []string{"[1,5)", "empty", "(,)"}},
	{`"pg_catalog"."tsvector"`, []string{`'a':1 'it''s':2`}},
	{`"pg_catalog"."regtype"`, []string{"integer", "timestamp with time zone"}},
	{`"pg_catalog"."_int4"`, []string{"{}", "{1,NULL,3}", "{{1,2},{3,4}}", "[0:1]={5,6}"}},
	{`"pg_catalog"."_text"`, []string{`{"",NULL,"NULL","a\\b\"c","{x}"}`}},
	{`"pg_catalog"."_bool"`, []string{"{t,f}"}},
	{`"public"."mood ""x"""`, []string{"sad", `it's "ok"`, ""}},
	{`"public"."short"`, []string{"abc"}},
	{`"public"."pair"`, []string{`(1,)`, `(,"")`, `(1,"a ""b"" \\\\ ,")`}},
	{`"public"."_pair"`, []string{`{"(1,a)",NULL}`}},
}

func nasty() []string {
	return []string{"", " ", "NULL", `\N`, `\`, `"`, "'", "{a,b}", "a\tb\nc\rd", "ação 👩", `{"a": "b\\c"}`}
}

// Values of every type go in by each way there is, move to walbridge.held and
// back, and are still the same text.
func TestSink_EveryType(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	pgtest.Exec(t, url, `CREATE TYPE "mood ""x""" AS ENUM ('sad', 'it''s "ok"', ''); CREATE DOMAIN short AS varchar(3) CHECK (value <> 'x');
		CREATE TYPE pair AS (a int, b text)`)
	b := newBridge(t, url, admin)
	node := &sink.Node{Name: "app.owner", Columns: []string{"tenant"}, Next: []*sink.Node{nil}}
	table := &sink.Table{Schema: "public", Name: "everything", Key: []int{0}, Tenant: 1,
		Columns: []sink.Column{col("id", "int8"), {Name: "provedor_id", Type: typ("int8"), NotNull: true}, col("owner", "int8")},
		Derived: []sink.Derived{{Column: 1, From: []sink.Lookup{{Column: 2, Steps: []sink.Step{{Node: node, Column: 0}}}}}}}
	deepest := 0
	for i, v := range valueTypes {
		table.Columns = append(table.Columns, sink.Column{Name: fmt.Sprint("c", i), Type: v.typ})
		deepest = max(deepest, len(v.values))
	}
	rows := make([]cdc.Row, deepest+1) // the last one is null throughout
	for n := range rows {
		rows[n] = cdc.Row{cdc.TextValue(fmt.Sprint(n)), cdc.TextValue("7"), cdc.TextValue("1")}
		for _, v := range valueTypes {
			value := cdc.Value{}
			if n < len(v.values) {
				value = cdc.TextValue(v.values[n])
			}
			rows[n] = append(rows[n], value)
		}
	}
	schema := &sink.Schema{Tables: []*sink.Table{table}, Nodes: []*sink.Node{node}}
	install(t, b.s, schema, false)

	all := make([]int, len(table.Columns))
	var keys []sink.Key
	for i := range all {
		all[i] = i
	}
	for _, r := range rows {
		keys = append(keys, table.KeyOf(r))
	}
	check := func(when string, values func(sink.Stored) cdc.Row) {
		t.Helper()
		tx := b.begin(sink.TxOptions{})
		defer tx.Rollback(t.Context())
		l, err := tx.Load(t.Context(), &sink.Query{Rows: map[*sink.Table][]sink.Key{table: keys}})
		if err != nil {
			t.Fatalf("%s: Load: %v", when, err)
		}
		for n, want := range rows {
			got := values(l.Rows[table][keys[n]])
			if len(got) != len(want) {
				t.Fatalf("%s: row %d is not there", when, n)
			}
			for i := range want {
				if got[i] != want[i] && i != table.Tenant {
					t.Errorf("%s: %s %+q became %+q", when, table.Columns[i].Type, want[i].Text, got[i].Text)
				}
			}
		}
	}
	inTable := func(s sink.Stored) cdc.Row { return s.Row }
	write := func(mode sink.Mode, rows []cdc.Row) {
		t.Helper()
		b.must(&sink.Writes{Rows: []sink.RowSet{{Table: table, Mode: mode, Columns: all, Rows: rows}}})
	}
	batch := func(f func(sink.Tx) error) {
		t.Helper()
		tx := b.begin(sink.TxOptions{})
		defer tx.Rollback(t.Context())
		if err := f(tx); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context(), sink.Progress{LSN: b.lsn}); err != nil {
			t.Fatal(err)
		}
	}

	write(sink.Insert, rows)
	check("insert", inTable)
	slices.Reverse(rows)
	for n, r := range rows { // every value goes to another row
		r[0] = cdc.TextValue(fmt.Sprint(n))
	}
	write(sink.Update, rows)
	check("update", inTable)
	slices.Reverse(rows)
	for n, r := range rows {
		r[0] = cdc.TextValue(fmt.Sprint(n))
	}
	write(sink.Insert, rows)
	check("insert over other values", inTable)

	many := slices.Clone(rows)
	for n := range 300 {
		r := slices.Clone(rows[n%len(rows)])
		r[0] = cdc.TextValue(fmt.Sprint(1000 + n))
		many = append(many, r)
	}
	pgtest.Exec(t, admin, "TRUNCATE public.everything")
	write(sink.Insert, many)
	check("copy", inTable)

	r := &sink.Recompute{Table: table, Node: node, Keys: []sink.Key{"1"}}
	batch(func(tx sink.Tx) error {
		if err := tx.Apply(t.Context(), &sink.Writes{Paths: []sink.PathWrite{{Node: node, Key: "1", Row: sink.PathRow{Values: cdc.Row{{}}}}}}); err != nil {
			return err
		}
		_, err := tx.Recompute(t.Context(), r)
		return err
	})
	if got := pgtest.QueryValue(t, admin, "SELECT count(*) FROM public.everything"); got != "0" {
		t.Fatalf("%s rows stayed without a tenant", got)
	}
	check("held", func(s sink.Stored) cdc.Row {
		if s.Held == nil {
			return nil
		}
		return s.Held.Row
	})
	batch(func(tx sink.Tx) error {
		if err := tx.Apply(t.Context(), &sink.Writes{Paths: []sink.PathWrite{{Node: node, Key: "1", Row: sink.PathRow{Values: cdc.Row{cdc.TextValue("7")}}}}}); err != nil {
			return err
		}
		released, err := tx.ReleaseHeld(t.Context(), r, 10000)
		if err == nil && len(released) != len(many) {
			t.Fatalf("%d rows were released, want %d", len(released), len(many))
		}
		return err
	})
	check("released", inTable)
}
