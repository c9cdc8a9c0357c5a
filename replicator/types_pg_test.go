package replicator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/postgrest"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
	"github.com/walbridge/walbridge/sink/rest"
)

// madeTypes are the types that an application makes for itself, on both sides.
const madeTypes = `
CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree;
CREATE TYPE "Mood ""x""" AS ENUM ('sad', 'it''s "ok", {}', '', 'NULL', E'\\');
CREATE DOMAIN short AS varchar(3) CHECK (value <> 'x');
CREATE DOMAIN email AS citext;
CREATE DOMAIN whole AS numeric NOT NULL DEFAULT 0 CHECK (value = trunc(value));
CREATE TYPE pair AS (a int, "B b" text);
CREATE TYPE nest AS (p pair, l pair[], at timestamptz, raw bytea);
CREATE TYPE floats AS RANGE (subtype = float8, multirange_type_name = manyfloats);`

// oddTexts are texts that some encoding on the way takes for something else.
var oddTexts = []string{
	"", " ", "a  ", "NULL", "null", `\N`, `\.`, `\`, `"`, "'", "{a,NULL}", "(,)", "a\tb\nc\rd", "\x01\x7f", "ação ÿ", "日本語 ﷽ שלום",
	"👩‍👩‍👧 e\u0301 \u202e\u2028\ufeff\U0010ffff", `{"a": "b\\c"}`, "$$;--", strings.Repeat(`\"`, 3000),
}

// typeMatrix are types with the values whose text a cast, a comparison, an
// encoding or a setting on the way would change. Null is tried with each.
var typeMatrix = []struct {
	typ    string
	values []string
}{
	{"smallint", []string{"-32768", "32767", "0"}},
	{"integer", []string{"-2147483648", "2147483647"}},
	{"bigint", []string{"-9223372036854775808", "9223372036854775807", "9007199254740993"}},
	{"numeric", []string{"1", "1.0", "1.00", "NaN", "Infinity", "-Infinity", "-0.00", "1e-300", strings.Repeat("9", 400) + "." + strings.Repeat("1", 300)}},
	{"numeric(50,30)", []string{"12345678901234567890.000000000000000000000000000001", "NaN", "1"}},
	{"real", []string{"0.1", "-0", "NaN", "Infinity", "1e-45", "16777216", "3.4028235e38"}},
	{"double precision", []string{"0.30000000000000004", "0.3", "-0", "0", "NaN", "-Infinity", "5e-324", "1.7976931348623157e308"}},
	{"money", []string{"-92233720368547758.08", "1234.5", "0"}},
	{"boolean", []string{"t", "f"}},
	{"text", oddTexts},
	{"varchar", oddTexts},
	{"varchar(12)", []string{"", "   ", "twelve chars", "ação"}},
	{"char(4)", []string{"", "a", "a b", "ação"}},
	{"name", []string{"", "x", strings.Repeat("n", 63)}},
	{`"char"`, []string{"a", "", " ", `\377`}},
	{"bytea", []string{`\x`, `\x00ff5c2722`, `\x` + strings.Repeat("00", 2000)}},
	{"date", []string{"infinity", "-infinity", "0044-03-15 BC", "5874897-12-31", "2026-03-04", "4713-01-01 BC"}},
	{"time", []string{"24:00:00", "05:06:07.000001", "00:00:00"}},
	{"timetz", []string{"05:06:07.1+05:30", "24:00:00-15:59", "05:06:07.1+00"}},
	{"timestamp", []string{"-infinity", "infinity", "2026-03-04 05:06:07.123456", "294276-12-31 23:59:59.999999", "4713-01-01 00:00:00 BC"}},
	{"timestamptz", []string{"infinity", "2026-03-04 05:06:07+00", "0001-01-01 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "1800-01-01 00:00:00+03:06:28"}},
	{"timestamptz(0)", []string{"2026-03-29 01:30:00+00"}},
	{"interval", []string{"1 mon", "30 days", "720:00:00", "-1 years -2 mons +3 days -04:05:06.7", "178000000 years", "-00:00:00.000001", "0"}},
	{"interval day to second", []string{"3 days 04:05:06.7"}},
	{"uuid", []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"}},
	{"json", []string{`{"a":1,"a":2}`, `"\u0000"`, ` [ 1 ,` + "\n" + `2] `, `"\ud800"`, "null", `1e400`, `"ação"`, `{"":{"\u0000":[]}}`}},
	{"jsonb", []string{`{"a": 1.00}`, `"x"`, "null", "[]", "1e400", "12345678901234567890.12345678901234567890", `{"b": 1, "a": "\\u0000", "aa": "\"\n"}`, "-0", "9007199254740993"}},
	{"jsonpath", []string{`$."a"[*]?(@ > 1.50)`}},
	{"xml", []string{"<a>b</a>", "", "text <b/> <c/>", `<!DOCTYPE a><a x="1&amp;2"/>`, `<?xml version="1.0" standalone="yes"?><a/>`}},
	{"inet", []string{"192.168.0.1", "10.1.2.3/8", "::1", "::ffff:1.2.3.4/96"}},
	{"cidr", []string{"10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32"}},
	{"macaddr", []string{"08:00:2b:01:02:03"}},
	{"macaddr8", []string{"08:00:2b:ff:fe:01:02:03"}},
	{"bit(3)", []string{"101", "000"}},
	{"bit varying", []string{"", "0101", strings.Repeat("10", 500)}},
	{"point", []string{"(1,2)", "(0.1,-0)", "(NaN,Infinity)"}},
	{"line", []string{"{1,-1,0.30000000000000004}"}},
	{"lseg", []string{"[(1,2),(3,4)]"}},
	{"box", []string{"(2,2),(1,1)"}},
	{"path", []string{"((1,2),(3,4))", "[(1,2),(3,4)]"}},
	{"polygon", []string{"((0,0),(1,0.1),(1,1))"}},
	{"circle", []string{"<(1,2),0.1>"}},
	{"tsvector", []string{`'a':1A,2 'it''s':3`, "", `'\\' 'ação'`}},
	{"tsquery", []string{`'a':*A & !('b' <-> 'c')`, ""}},
	{"int4range", []string{"[1,5)", "empty", "(,)"}},
	{"numrange", []string{"(1.50,2.5]", "[-Infinity,NaN]"}},
	{"daterange", []string{"[2026-03-04,infinity]", "(,0044-03-15 BC)"}},
	{"tstzrange", []string{`["2026-03-04 05:06:07.1+00",)`, "empty"}},
	{"int8multirange", []string{"{}", "{[1,2),[9223372036854775806,9223372036854775807)}"}},
	{"tsmultirange", []string{`{["2026-03-04 05:06:07","2026-03-04 06:00:00"),[infinity,]}`}},
	{"pg_lsn", []string{"FFFFFFFF/FFFFFFFF", "0/0"}},
	{"xid8", []string{"18446744073709551615"}},
	{"oid", []string{"4294967295"}},
	{"regtype", []string{"integer", "timestamp with time zone"}},
	{"integer[]", []string{"{}", "{1,NULL,3}", "{{1,2},{NULL,4}}", "[0:1]={5,6}", "[-2:-2][3:4]={{1,2}}"}},
	{"text[]", []string{`{"",NULL,"NULL","a\\b\"c","{x}"," "}`, `{{"a,b"},{null}}`, `{ação}`}},
	{"timestamptz[]", []string{`{"2026-03-04 05:06:07+00",NULL,infinity}`}},
	{"bytea[]", []string{`{"\\x00ff","\\x",NULL}`}},
	{"jsonb[]", []string{`{"{\"a\": \"\\\"\"}",NULL,"null"}`}},
	{"numeric[]", []string{"{1.00,NaN,NULL}"}},
	{`"Mood ""x"""`, []string{"sad", `it's "ok", {}`, "", "NULL", `\`}},
	{`"Mood ""x"""[]`, []string{`{sad,NULL,"NULL","it's \"ok\", {}","\\"}`}},
	{"short", []string{"abc", "", "  "}},
	{"email", []string{"A@b.c", "a@B.c"}},
	{"citext", []string{"Ação", "AÇÃO", "a", "A", ""}},
	{"hstore", []string{`"a"=>"1", "b"=>NULL`, `"NULL"=>"NULL"`, "", `"a\"\\"=>"=>,"`}},
	{"ltree", []string{"a.b.c", ""}},
	{"lquery", []string{"*.a{1,2}.b|c%"}},
	{"pair", []string{"(1,)", `(,"")`, `(1,"a ""b"" \\\\ ,NULL")`, "(,)"}},
	{"pair[]", []string{`{"(1,a)",NULL,"(,\"\\\"\\\"\")"}`}},
	{"nest", []string{`("(1,)","{""(2,b)"",NULL}","2026-03-04 05:06:07+00","\\x00ff")`}},
	{"floats", []string{"[0.1,0.30000000000000004)", "[-Infinity,NaN]"}},
	{"manyfloats", []string{"{[0.1,0.2),(3,)}"}},
}

// hostile are settings under which the text of values is another one, or is read
// as another value.
const hostile = `
ALTER DATABASE postgres SET datestyle = 'SQL, DMY';
ALTER DATABASE postgres SET intervalstyle = 'sql_standard';
ALTER DATABASE postgres SET extra_float_digits = -15;
ALTER DATABASE postgres SET timezone = 'America/Sao_Paulo';
ALTER DATABASE postgres SET bytea_output = 'escape';
ALTER DATABASE postgres SET array_nulls = off;
ALTER DATABASE postgres SET xmloption = document;
ALTER DATABASE postgres SET quote_all_identifiers = on;`

// plainly is a URL under whose settings the text of a value is unambiguous.
func plainly(t *testing.T, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for _, s := range []string{
		"datestyle=ISO", "intervalstyle=postgres", "extra_float_digits=3", "timezone=UTC", "bytea_output=hex", "array_nulls=on",
		"xmloption=content", "quote_all_identifiers=off", "lc_monetary=C", "client_encoding=UTF8",
	} {
		name, value, _ := strings.Cut(s, "=")
		q.Set(name, value)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// matrix is a world whose table has a column for each type.
type matrix struct {
	*world
	columns []string
	deepest int
}

func newMatrix(t *testing.T, latin1 bool) *matrix {
	t.Helper()
	m := &matrix{}
	var opts []pgtest.Option
	if latin1 {
		opts = append(opts, pgtest.WithEncoding("LATIN1"))
	}
	var defs, mapped strings.Builder
	var values [][]string
	for i, c := range typeMatrix {
		name := fmt.Sprintf("c%02d", i)
		m.columns = append(m.columns, name)
		fmt.Fprintf(&defs, ", %s %s", name, c.typ)
		fmt.Fprintf(&mapped, "      - %s\n", name)
		vs := slices.Clone(c.values)
		if latin1 {
			vs = slices.DeleteFunc(vs, func(s string) bool {
				return strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxLatin1 })
			})
		}
		values = append(values, vs)
		m.deepest = max(m.deepest, len(vs)+1)
	}
	m.world = newWorld(t, "", `
audit_log:
  table: audit_logs
tables:
  everything:
    from: everything
    tenant: [owner.provedor_id]
    columns:
      - id
      - owner_id
`+mapped.String(), opts...)
	for _, u := range []string{m.src, m.dst} {
		pgtest.Exec(t, u, madeTypes)
	}
	pgtest.Exec(t, m.dst, "CREATE TABLE everything (id bigint PRIMARY KEY, owner_id bigint, provedor_id bigint NOT NULL"+defs.String()+")")
	m.exec(`CREATE TABLE owners (id bigint PRIMARY KEY, provedor_id bigint); INSERT INTO owners VALUES (1, 1), (2, NULL)`,
		"CREATE TABLE everything (id bigint PRIMARY KEY, owner_id bigint REFERENCES owners"+defs.String()+")",
		"CREATE TABLE samples (n int PRIMARY KEY"+defs.String()+")")
	conn := pgtest.Connect(t, plainly(t, m.src))
	for n := range m.deepest {
		row := []string{fmt.Sprint(n)}
		for i, vs := range values {
			if k := n % (len(vs) + 1); k < len(vs) {
				row = append(row, "'"+strings.ReplaceAll(vs[k], "'", "''")+"'::"+typeMatrix[i].typ)
			} else {
				row = append(row, "NULL")
			}
		}
		if _, err := conn.Exec(t.Context(), "INSERT INTO samples VALUES ("+strings.Join(row, ", ")+")"); err != nil {
			t.Fatal(err)
		}
	}
	for _, u := range []string{m.src, m.dst} {
		pgtest.Exec(t, u, hostile)
	}
	return m
}

// insert adds a row for each sample, from id on.
func (m *matrix) insert(id, owner int) {
	m.t.Helper()
	m.exec(fmt.Sprintf("INSERT INTO everything SELECT n + %d, %d, %s FROM samples", id, owner, strings.Join(m.columns, ", ")))
}

// turn gives each row the values that are so many samples further on.
func (m *matrix) turn(by int) {
	m.t.Helper()
	list := strings.Join(m.columns, ", ")
	m.exec(fmt.Sprintf("UPDATE everything e SET (%s) = (SELECT %s FROM samples s WHERE s.n = (e.id %% 100 + %d) %% %d)", list, list, by, m.deepest))
}

// texts are the rows by id, in the text of the types' output functions. A cast to
// text is something else for boolean, char(n), inet and xml.
func (m *matrix) texts(u, where string) map[string][]string {
	m.t.Helper()
	rows := map[string][]string{}
	sql := "SELECT id, " + strings.Join(m.columns, ", ") + " FROM public.everything WHERE " + where
	for _, r := range pgtest.QueryText(m.t, plainly(m.t, u), sql) {
		rows[r[0]] = r[1:]
	}
	return rows
}

// same compares the rows of owners.
func (m *matrix) same(when, where string) {
	m.t.Helper()
	want, got := m.texts(m.src, where), m.texts(m.dst, "true")
	if len(got) != len(want) {
		m.t.Errorf("%s: %d rows, want %d", when, len(got), len(want))
	}
	for id, w := range want {
		g, ok := got[id]
		if !ok {
			m.t.Fatalf("%s: row %s is not there; held: %s", when, id,
				m.rows("SELECT reason, code, count(*) FROM walbridge.held GROUP BY 1, 2"))
		}
		for i := range w {
			if g[i] != w[i] {
				m.t.Errorf("%s: %s of row %s: %.80q became %.80q", when, typeMatrix[i].typ, id, w[i], g[i])
			}
		}
	}
}

// audited compares the entries of the last update with the values on both sides of
// it. Equal texts make no change.
func (m *matrix) audited(before, after map[string][]string) {
	m.t.Helper()
	for id, b := range before {
		text := m.rows("SELECT details->'changed' FROM audit_logs WHERE details->>'op' = 'update' AND details->'key'->>'id' = '" + id + "' ORDER BY (details->>'n')::int DESC LIMIT 1")
		var changed map[string][2]json.RawMessage
		if err := json.Unmarshal([]byte(text), &changed); err != nil {
			m.t.Fatalf("the entry of row %s: %v: %.200s", id, err, text)
		}
		for i, c := range m.columns {
			pair, has := changed[c]
			if has != (b[i] != after[id][i]) {
				m.t.Errorf("row %s: %s went from %.80q to %.80q, in the entry: %t", id, typeMatrix[i].typ, b[i], after[id][i], has)
				continue
			}
			for n, want := range []string{b[i], after[id][i]} {
				if !has {
					break
				}
				var got *string
				if pair[n][0] == '{' {
					continue // so large that the entry has its hash
				}
				if err := json.Unmarshal(pair[n], &got); err != nil {
					m.t.Errorf("row %s: %s: %v", id, typeMatrix[i].typ, err)
				} else if got == nil && want != pgtest.Null || got != nil && *got != want {
					m.t.Errorf("row %s: the entry has %s of %s, want %.80q", id, pair[n], typeMatrix[i].typ, want)
				}
			}
		}
	}
}

// overAPI has the world write over the API of a project.
func (w *world) overAPI() *postgrest.Server {
	w.t.Helper()
	server, at := postgrest.Start(w.t, w.target, "postgres", postgrest.Options{})
	w.tune = func(o *replicator.Options) {
		o.OpenSink = func(ctx context.Context) (sink.Sink, error) {
			s := scripted{w: w}
			if err := s.prepare(ctx, &sink.Schema{}); err != nil {
				return nil, err
			}
			var err error
			s.Sink, err = rest.Open(ctx, rest.Options{
				URL: at, Key: func() (string, error) { return server.Keys().Secret, nil }, Name: "walbridge", MaxBody: 1 << 20, Version: "test",
			}, slog.New(slog.DiscardHandler))
			return s, err
		}
	}
	return server
}

// scripted is a sink over the API for which somebody has run the script.
type scripted struct {
	*rest.Sink
	w *world
}

func (s scripted) prepare(ctx context.Context, schema *sink.Schema) error {
	script, err := postgres.NewAPIScript(ctx, postgres.Options{URL: s.w.dst, Name: "walbridge"}, schema)
	if err != nil {
		return err
	}
	for _, st := range rest.Script("walbridge", script) {
		pgtest.Exec(s.w.t, s.w.dst, st.String())
	}
	return nil
}

func (s scripted) Install(ctx context.Context, schema *sink.Schema, dry bool) ([]string, error) {
	if err := s.prepare(ctx, schema); err != nil {
		return nil, err
	}
	return s.Sink.Install(ctx, schema, dry)
}

// Values of every type have the same text at the target: by the first copy, as
// inserts, as updates from one value to the next, out of held rows, and in the
// entries; whatever the settings of the two databases make of them.
func TestBridge_EveryType(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		latin1, api bool
	}{{name: "over a connection"}, {name: "from LATIN1", latin1: true}, {name: "over the API", api: true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMatrix(t, c.latin1)
			if c.api {
				m.overAPI()
			}
			m.linked()
			m.insert(0, 1)
			m.insert(100, 2)
			r := m.start()
			m.catchUp(r)
			m.same("copied", "owner_id = 1")
			m.insert(1000, 1)
			m.insert(2000, 2)
			m.catchUp(r)
			m.same("inserted", "owner_id = 1")
			for _, by := range []int{1, 3, 0} {
				before := m.texts(m.src, "owner_id = 1")
				m.turn(by)
				m.catchUp(r)
				m.same(fmt.Sprint("updated by ", by), "owner_id = 1")
				m.audited(before, m.texts(m.src, "owner_id = 1"))
			}
			m.exec("UPDATE owners SET provedor_id = 2 WHERE id = 2")
			m.catchUp(r)
			m.same("released", "true")
			m.turn(2)
			m.exec("UPDATE owners SET provedor_id = NULL WHERE id = 1")
			m.catchUp(r)
			m.same("taken back", "owner_id = 2")
			m.turn(5)
			m.exec("UPDATE owners SET provedor_id = 1 WHERE id = 1")
			m.catchUp(r)
			m.same("released again", "true")
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			m.requireLinked()
		})
	}
}
