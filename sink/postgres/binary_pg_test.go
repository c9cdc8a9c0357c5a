package postgres_test

import (
	"fmt"
	"testing"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
)

// Types that travel in their binary form, with texts as the server writes them, and
// with some that it alone can read.
var binaryValues = []struct {
	typ           string
	values, texts []string
}{
	{"int2", []string{"0", "-32768", "32767"}, nil},
	{"int4", []string{"-2147483648", "2147483647"}, nil},
	{"int8", []string{"-9223372036854775808", "9223372036854775807"}, nil},
	{"float4", []string{"0.1", "-1e-45", "3.4028235e+38", "NaN", "-Infinity"}, nil},
	{"float8", []string{"0.1", "5e-324", "-1.7976931348623157e+308", "NaN", "Infinity", "-0"}, nil},
	{"bool", []string{"t", "f"}, nil},
	{"text", []string{"", " ", `\N`, `\.`, "a\tb\nc\\", "ação 👩"}, nil},
	{"varchar", []string{"", "a "}, nil},
	{"json", []string{`{"a" : [1,2] }`, "null"}, nil},
	{"jsonb", []string{`{"a": [1, 2.50]}`, "null", `"x"`}, nil},
	{"uuid", []string{"00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}, nil},
	{"bytea", []string{`\x`, `\x00ff`}, nil},
	{"date", []string{"2000-01-01", "1999-12-31", "2024-02-29", "0001-01-01", "9999-12-31"}, []string{"10000-01-01", "0044-03-15 BC", "infinity"}},
	{"timestamp", []string{"2000-01-01 00:00:00", "1999-12-31 23:59:59.999999", "2024-02-29 12:34:56.7", "0001-01-01 00:00:00", "9999-12-31 23:59:59.000001"},
		[]string{"294276-12-31 23:59:59.999999", "4713-01-01 00:00:00 BC", "-infinity"}},
	{"timestamptz", []string{"2000-01-01 00:00:00+00", "1970-01-01 00:00:00.000001+00", "2024-02-29 12:34:56.07+00", "9999-12-31 23:59:59+00"}, []string{"10000-01-01 00:00:00+00", "infinity"}},
}

// binaryTable has a column for each of the types.
func binaryTable() (table *sink.Table, all []int) {
	table = &sink.Table{Schema: "public", Name: "everything", Key: []int{0}, Tenant: 1,
		Columns: []sink.Column{col("id", "int8"), {Name: "provedor_id", Type: typ("int8"), NotNull: true}}}
	for _, v := range binaryValues {
		table.Columns = append(table.Columns, col("c_"+v.typ, v.typ))
	}
	for i := range table.Columns {
		all = append(all, i)
	}
	return table, all
}

func binaryRows(from, n int, texts bool) (rows []cdc.Row) {
	for i := range n {
		row := cdc.Row{cdc.TextValue(fmt.Sprint(from + i)), cdc.TextValue("7")}
		for _, v := range binaryValues {
			values := v.values
			if texts && i%10 == 9 {
				values = append(values[:len(values):len(values)], v.texts...)
			}
			value := cdc.Value{} // every now and then a null
			if at := i % (len(values) + 1); at < len(values) {
				value = cdc.TextValue(values[at])
			}
			row = append(row, value)
		}
		rows = append(rows, row)
	}
	return rows
}

// Values that go in their binary form are the same texts afterwards, and so are
// those between them that can't.
func TestSink_BinaryCopy(t *testing.T) {
	t.Parallel()
	url, admin := newDB(t, newCluster(t))
	b := newBridge(t, url, admin)
	table, all := binaryTable()
	install(t, b.s, &sink.Schema{Tables: []*sink.Table{table}}, false)
	check := func(rows []cdc.Row) {
		t.Helper()
		b.must(&sink.Writes{Rows: []sink.RowSet{{Table: table, Mode: sink.Insert, New: true, Columns: all, Rows: rows}}})
		tx := b.begin(sink.TxOptions{})
		var keys []sink.Key
		for _, row := range rows {
			keys = append(keys, table.KeyOf(row))
		}
		l, err := tx.Load(t.Context(), &sink.Query{Rows: map[*sink.Table][]sink.Key{table: keys}})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range rows {
			got := l.Rows[table][keys[i]].Row
			if len(got) != len(want) {
				t.Fatalf("row %d is not there", i)
			}
			for j := range want {
				if got[j] != want[j] {
					t.Errorf("%s %+q became %+q", table.Columns[j].Type, want[j].Text, got[j].Text)
				}
			}
		}
		// After a rollback the sink would have to look for deletion marks.
		if err := tx.Commit(t.Context(), sink.Progress{LSN: b.lsn}); err != nil {
			t.Fatal(err)
		}
	}
	check(binaryRows(0, 300, false))
	check(binaryRows(1000, 300, true))
	// Somebody gives columns other types. What they are sent fits as long as it is text.
	pgtest.Exec(t, url, `ALTER TABLE everything ALTER c_int8 TYPE float8, ALTER c_date TYPE text`)
	rows := binaryRows(2000, 300, false)
	for _, row := range rows {
		for i := range row {
			if row[i].Kind == cdc.Text && table.Columns[i].Name == "c_int8" {
				row[i].Text = "12"
			}
		}
	}
	check(rows)
}
