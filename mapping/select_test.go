package mapping

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
)

// TestView evaluates the preset over a few rows and compares with a golden file
// that is easy to check by eye.
func TestView(t *testing.T) {
	src := newDatabase(t, cluster(t), "view", "niochat.sql", "niochat_rows.sql")
	m := compilePreset(t, "niochat.yaml", src, nil)
	var b strings.Builder
	for _, s := range m.Sources {
		v := m.View(s)
		if v == nil {
			continue
		}
		fmt.Fprintf(&b, "-- %s\n", s.Target.Table.FullName())
		sql, args := v.SQL(ViewRange{Limit: 100})
		for _, values := range query(t, src, sql, args) {
			row, err := v.Row(values)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s:", strings.Join(v.Key(values), ","))
			for i, value := range row {
				if !value.IsNull() {
					fmt.Fprintf(&b, " %s=%s", s.Target.Table.Columns[i].Name, value.Text)
				}
			}
			b.WriteString("\n")
		}
	}
	golden(t, "testdata/niochat.view", b.String())
}

// golden compares with a file, or rewrites it under -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestView_Range(t *testing.T) {
	src := newDatabase(t, cluster(t), "viewrange", "niochat.sql", "niochat_rows.sql")
	m := compilePreset(t, "niochat.yaml", src, nil)
	tenant := func(s string) *string { return &s }
	for _, tt := range []struct {
		name, source string
		r            ViewRange
		want         []string
	}{
		{"all", "conversations_conversation", ViewRange{Limit: 9}, []string{"20", "21", "22", "23"}},
		{"behind", "conversations_conversation", ViewRange{After: []string{"20"}}, []string{"21", "22", "23"}},
		{"between", "conversations_conversation", ViewRange{After: []string{"20"}, Upto: []string{"22"}}, []string{"21", "22"}},
		{"page", "conversations_conversation", ViewRange{After: []string{"20"}, Limit: 1}, []string{"21"}},
		{"tenant of the inbox", "conversations_conversation", ViewRange{Tenant: tenant("7"), Limit: 9}, []string{"20", "23"}},
		{"tenant of the contact", "conversations_conversation", ViewRange{Tenant: tenant("8"), Limit: 9}, []string{"21"}},
		{"tenant far away", "conversations_message", ViewRange{Tenant: tenant("8"), Limit: 9}, []string{"31"}},
		{"own tenant", "conversations_contact", ViewRange{Tenant: tenant("8")}, []string{"10"}},
		{"no tenant like that", "conversations_contact", ViewRange{Tenant: tenant("8 OR true")}, nil},
		{"keys", "conversations_message", ViewRange{Keys: [][]string{{"32"}, {"30"}, {"99"}}, Limit: 9}, []string{"30", "32"}},
		{"no keys", "conversations_message", ViewRange{Keys: [][]string{}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := m.View(m.Sources[slices.IndexFunc(m.Sources, func(s *Source) bool { return s.Name == tt.source })])
			sql, args := v.SQL(tt.r)
			var got []string
			for _, values := range query(t, src, sql, args) {
				got = append(got, strings.Join(v.Key(values), ","))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("keys (-want +got):\n%s\n%s", diff, sql)
			}
		})
	}
}

// TestPieceSQL_Initial reads the first values of ended_at (the survey's time, the
// latest if there are several, else the row's last change, and none while the
// conversation is open) and of open_since, which is the other way round.
func TestPieceSQL_Initial(t *testing.T) {
	src := newDatabase(t, cluster(t), "initial", "niochat.sql", "niochat_rows.sql")
	m := compilePreset(t, "niochat.yaml", src, nil)
	s := m.Sources[slices.IndexFunc(m.Sources, func(s *Source) bool { return s.Name == "conversations_conversation" })]
	sql, args := s.PieceSQL(nil, 0)
	got := map[string]cdc.Value{}
	for _, row := range query(t, src, sql, args) {
		if len(row) != len(s.Inputs)+2 {
			t.Fatalf("got %d values, want the inputs and two", len(row))
		}
		got[row[0].Text] = row[len(s.Inputs)]
		if ended, open := row[len(s.Inputs)], row[len(s.Inputs)+1]; ended.IsNull() == open.IsNull() {
			t.Errorf("conversation %s has ended: %v, is open: %v", row[0].Text, !ended.IsNull(), !open.IsNull())
		}
	}
	want := map[string]cdc.Value{
		"20": {}, "21": cdc.TextValue("2024-01-05 00:00:00+00"),
		"22": cdc.TextValue("2024-01-05 00:00:00+00"), "23": cdc.TextValue("2024-01-04 00:00:00+00"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("first values (-want +got):\n%s", diff)
	}
}

// TestPieceSQL_Order pages through tables with every kind of key: no row is lost
// or read twice, and Go has the same order.
func TestPieceSQL_Order(t *testing.T) {
	conn := newDatabase(t, cluster(t), "keyorder")
	ctx := t.Context()
	for i, tt := range []struct{ columns, key, rows string }{
		{"id bigint", "id", "SELECT x FROM generate_series(-12, 12) x"},
		{"id smallint", "id", "SELECT x FROM generate_series(-3, 120, 9) x"},
		{"id uuid", "id", "SELECT md5(x::text)::uuid FROM generate_series(1, 40) x"},
		{"id text", "id", `VALUES (''), (' '), ('a'), ('B'), ('ç'), ('Z'), ('aa'), ('"'), ('\'), ('a,b'), ('👍'), ('~'), ('{}')`},
		{"id varchar(9)", "id", "VALUES ('a'), ('A'), ('a '), ('10'), ('9')"},
		{"id char(4)", "id", "VALUES ('a'), ('ab'), (' a'), ('B')"},
		{"id date", "id", "VALUES ('2024-01-02'::date), ('infinity'), ('0044-03-15 BC'), ('999-01-01')"},
		{"id numeric", "id", "VALUES (1), (10), (9), (-1.5), ('NaN')"},
		{"a boolean, b integer, c text", "c, a, b", "SELECT x % 2 = 0, x - 9, 'k' || x % 3 FROM generate_series(1, 20) x"},
	} {
		t.Run(tt.columns, func(t *testing.T) {
			name := pg.TableName{Schema: "public", Name: fmt.Sprintf("t%d", i)}
			for _, sql := range []string{
				fmt.Sprintf("CREATE TABLE %s (%s, PRIMARY KEY (%s))", name.SQL(), tt.columns, tt.key),
				fmt.Sprintf("INSERT INTO %s %s", name.SQL(), tt.rows),
			} {
				if _, err := conn.Exec(ctx, sql); err != nil {
					t.Fatal(err)
				}
			}
			s := sourceOf(mustReadCatalog(t, conn, []pg.TableName{name}).Table(name))
			all := query(t, conn, "SELECT "+quoteList(keyNames(s))+" FROM "+name.SQL(), nil)
			want := make([][]string, len(all))
			for i, row := range all {
				want[i] = texts(row)
			}
			slices.SortFunc(want, s.CompareKeys)
			var got [][]string
			for {
				var after []string
				if len(got) > 0 {
					after = got[len(got)-1]
				}
				sql, args := s.PieceSQL(after, 3)
				rows := query(t, conn, sql, args)
				for _, row := range rows {
					got = append(got, texts(row))
				}
				if len(rows) < 3 || len(got) > len(want) {
					break
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("pages (-want +got):\n%s", diff)
			}
			sql, args := s.KeysSQL(want)
			if rows := query(t, conn, sql, args); len(rows) != len(want) {
				t.Errorf("KeysSQL found %d of %d rows", len(rows), len(want))
			}
		})
	}
}

func sourceOf(t *pg.Table) *Source {
	c := &compiler{}
	o := &origin{name: t.TableName, cat: t, inputs: map[string]int{}}
	c.makeSource(o)
	return o.source
}

func keyNames(s *Source) []string {
	var names []string
	for _, k := range s.Key {
		names = append(names, k.Name)
	}
	return names
}

func texts(row cdc.Row) []string {
	out := make([]string, len(row))
	for i, v := range row {
		out[i] = v.Text
	}
	return out
}

// Integer and UUID keys must be read over the primary key's index, or a copy
// would sort the whole table for each piece.
func TestPieceSQL_Index(t *testing.T) {
	conn := newDatabase(t, cluster(t), "keyindex")
	ctx := t.Context()
	for _, typ := range []string{"bigint", "integer", "uuid", `text COLLATE "C"`} {
		name := pg.TableName{Schema: "public", Name: "t_" + typ}
		if _, err := conn.Exec(ctx, fmt.Sprintf("CREATE TABLE %s (id %s PRIMARY KEY); SET enable_seqscan = off; SET enable_bitmapscan = off", name.SQL(), typ)); err != nil {
			t.Fatal(err)
		}
		s := sourceOf(mustReadCatalog(t, conn, []pg.TableName{name}).Table(name))
		key := "1"
		if typ == "uuid" {
			key = "00000000-0000-0000-0000-000000000001"
		}
		sql, args := s.PieceSQL([]string{key}, 10)
		var plan []string
		for _, row := range query(t, conn, "EXPLAIN "+sql, args) {
			plan = append(plan, row[0].Text)
		}
		if p := strings.Join(plan, "\n"); !strings.Contains(p, "Index Cond") || strings.Contains(p, "Sort") {
			t.Errorf("a piece of a table with a %s key doesn't use its index:\n%s", typ, p)
		}
	}
}
