package mapping

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// typeSamples are types with values at their edges.
var typeSamples = []struct {
	typ    string
	values []string
}{
	{"smallint", []string{"-32768", "0", "32767"}},
	{"integer", []string{"-2147483648", "7"}},
	{"bigint", []string{"-9223372036854775808", "9223372036854775807"}},
	{"numeric", []string{"1", "1.0", "1.00", "-0.000001", "NaN", "123456789012345678901234567890.5"}},
	{"numeric(10,2)", []string{"1.50", "-99999999.99"}},
	{"numeric(12,2)", []string{"9999999999.99"}},
	{"numeric(12,4)", []string{"1.5000"}},
	{"numeric(19,0)", []string{"9223372036854775807"}},
	{"real", []string{"0.1", "1e+10", "16777216", "Infinity"}},
	{"double precision", []string{"0.1", "1e+100", "0.30000000000000004", "NaN"}},
	{"boolean", []string{"t", "f"}},
	{"text", []string{"", " ", "null", `\N`, "a  ", "ação 👍", "{\"a\":1}"}},
	{"varchar", []string{"", "x  "}},
	{"varchar(5)", []string{"", "12345", "ab   "}},
	{"varchar(9)", []string{"123456789"}},
	{"char(3)", []string{"a", "abc", ""}},
	{`"char"`, []string{"a", ""}},
	{"name", []string{"x"}},
	{"mood", []string{"good", "bad"}},
	{"short", []string{"abc", ""}},
	{"email", []string{"A@b.c"}},
	{"uuid", []string{"00000000-0000-0000-0000-00000000000f"}},
	{"json", []string{`{"b" : 1, "a":1.00}`, `"\u0041"`, "null"}},
	{"jsonb", []string{`{"b" : 1, "a":1.00}`, "[1, 2]", "null"}},
	{"date", []string{"2024-02-29", "infinity", "0044-03-15 BC"}},
	{"timestamp", []string{"2024-01-01 00:00:00.123456", "infinity"}},
	{"timestamp(0)", []string{"2024-01-01 00:00:00"}},
	{"timestamptz", []string{"2024-01-01 00:00:00.1+02", "5874-01-01 00:00:00+00"}},
	{"timestamptz(3)", []string{"2024-01-01 00:00:00.123+00"}},
	{"time", []string{"24:00:00"}},
	{"timetz", []string{"12:00:00+05:30"}},
	{"interval", []string{"1 year 2 mons -3 days 04:05:06.789"}},
	{"interval(0)", []string{"00:00:06"}},
	{"bytea", []string{`\x00ff`}},
	{"inet", []string{"10.0.0.1", "::1/64"}},
	{"cidr", []string{"10.0.0.0/8"}},
	{"bit(3)", []string{"101"}},
	{"bit varying", []string{"1"}},
	{"bit varying(5)", []string{"10101"}},
	{"point", []string{"(1,2)"}},
	{"int4range", []string{"[1,5)", "empty"}},
	{"text[]", []string{`{a,NULL,"b,c"}`, "{{1,2},{3,4}}"}},
	{"varchar(5)[]", []string{"{abc}"}},
	{"integer[]", []string{"{1,NULL}", "[0:1]={1,2}"}},
	{"bigint[]", []string{"{9223372036854775807}"}},
	{"mood[]", []string{"{good}"}},
	{"pair", []string{"(1,x)"}},
}

// TestFits tries every pair of types that fits calls exact: the target must give
// back the very text that the source printed.
func TestFits(t *testing.T) {
	c := cluster(t)
	url := pgtest.CreateDB(t, c, "fits")
	var ddl strings.Builder
	ddl.WriteString(`CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE DOMAIN short AS varchar(5);
		CREATE DOMAIN email AS text; CREATE TYPE pair AS (a integer, b text);`)
	for i, s := range typeSamples {
		fmt.Fprintf(&ddl, "CREATE TABLE t%d (v %s);", i, s.typ)
	}
	pgtest.Exec(t, url, ddl.String())
	conn := connect(t, c, "fits")
	types := make([]*pg.Type, len(typeSamples))
	printed := make([][]string, len(typeSamples))
	for i, s := range typeSamples {
		name := pg.TableName{Schema: "public", Name: fmt.Sprintf("t%d", i)}
		types[i] = &mustReadCatalog(t, conn, []pg.TableName{name}).Table(name).Columns[0].Type
		printed[i] = write(t, conn, i, types[i], s.values)
	}
	exactPairs := 0
	for i, v := range types {
		for j, w := range types {
			if i == j && fits(v, w) != exact {
				t.Errorf("%s does not fit itself", v.Display)
			}
			if fits(v, w) != exact {
				continue
			}
			exactPairs++
			values := printed[i]
			switch { // an enum takes its labels only, of all texts
			case base(w).Kind == "e":
				values = []string{"good"}
			case isArray(w) && w.Element.Kind == "e":
				values = []string{"{good}"}
			}
			if diff := cmp.Diff(values, write(t, conn, j, w, values)); diff != "" {
				t.Errorf("%s to %s is called exact (-source +target):\n%s", v.Display, w.Display, diff)
			}
		}
	}
	t.Logf("%d exact pairs", exactPairs)
}

// write stores texts in a column of type w the way that the sink does, and
// returns what the column then prints.
func write(t *testing.T, conn *pgx.Conn, table int, w *pg.Type, values []string) []string {
	t.Helper()
	rows := query(t, conn, fmt.Sprintf("INSERT INTO public.t%d SELECT x::%s FROM unnest($1::text[]) x RETURNING v", table, w.SQL()),
		[]string{arrayText(values)})
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = r[0].Text
	}
	return out
}
