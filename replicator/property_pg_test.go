package replicator_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/replicator"
)

// TestProperty makes applications that nobody has thought of: tables with keys and
// foreign keys of many types, a mapping over them, and a history. However a row came
// to the target, by the stream, by a copy in its middle, or by a copy at the end, it
// is the row that the mapping's SELECT makes, and a resync finds nothing to write.
//
// PROPERTY_SEEDS is how many it makes, from PROPERTY_FROM on.
func TestProperty(t *testing.T) {
	t.Parallel()
	number := func(env string, n uint64) uint64 {
		if v := os.Getenv(env); v != "" {
			var err error
			if n, err = strconv.ParseUint(v, 10, 64); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	from, n := number("PROPERTY_FROM", 1), number("PROPERTY_SEEDS", 2)
	w := &world{t: t, source: pgtest.Start(t), target: pgtest.Start(t)}
	for seed := from; seed < from+n; seed++ {
		a := newApplication(seed)
		if !t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { a.hold(t, w) }) {
			t.Fatalf("again: PROPERTY_FROM=%d PROPERTY_SEEDS=1 go test ./replicator -run TestProperty\n%s\n%s\n%s", seed, a.schema(), a.mapping(), strings.Join(a.history, "\n"))
		}
	}
}

// application is an application that was drawn, and its mapping.
type application struct {
	r       *rand.Rand
	tables  []*drawn
	n       int
	history []string
}

// drawn is one of its tables.
type drawn struct {
	name   string // as SQL takes it
	plain  string // as the mapping names it
	key    []field
	fields []field
	refs   []ref
	// tenant says that it has a tenant of its own.
	tenant bool
	// mapped are the mapping's lines, empty for a table that only paths pass.
	mapped string
}

type field struct {
	name string
	kind kind
}

// ref is a column that refers to another table.
type ref struct {
	column string
	to     *drawn
	// rule is what its foreign key does when the other row goes; without one there
	// is no foreign key, and the mapping says where it leads.
	rule string
}

// kind is a type, and how its values are drawn: as SQL of a number.
type kind struct{ name, value string }

var keyKinds = []kind{
	{"bigint", "%d"}, {"bigint", "%d"}, {"integer", "-%d"}, {"text", "'k %d'"}, {"uuid", "md5('%d')::uuid"}, {"numeric(9,2)", "%d.50"},
}

var fieldKinds = []kind{
	{"text", "'v%d'"}, {"text", "'ç😀 '' \\ %d'"}, {"text", "repeat(md5('%d'), 120)"}, {"integer", "%d"}, {"numeric", "1e-7 * %d"},
	{"boolean", "%d %% 2 = 0"}, {"timestamptz", "'2001-01-01 00:00:00.123+05'::timestamptz + %d * interval '1 day'"}, {"jsonb", `'{"a": [%d, null, 1.0]}'`},
	{"json", `'{"a":%d, "a" : 2}'`}, {"text[]", `ARRAY[NULL, 'a"b', '%d']`}, {"bytea", "decode(md5('%d'), 'hex')"}, {"double precision", "%d / 3.0"},
	{"date", "'0044-03-15 BC'::date + %d"}, {"inet", "'10.0.0.1'::inet + %d"}, {"int4range", "int4range(%d, NULL)"},
}

func one[T any](a *application, list []T) T { return list[a.r.IntN(len(list))] }

func (a *application) chance(percent int) bool { return a.r.IntN(100) < percent }

func newApplication(seed uint64) *application {
	a := &application{r: rand.New(rand.NewPCG(seed, 0x70726f7065727479))}
	for i := range 2 + a.r.IntN(4) {
		a.tables = append(a.tables, a.table(i))
	}
	mapped := 0
	for _, t := range a.tables {
		if paths := t.paths("provedor_id", 3); len(paths) > 0 && (a.chance(80) || t == a.tables[len(a.tables)-1]) {
			t.mapped = a.mapTable(t, paths)
			mapped++
		}
	}
	if mapped == 0 {
		t := a.tables[0]
		t.mapped = a.mapTable(t, t.paths("provedor_id", 3))
	}
	return a
}

func (a *application) table(i int) *drawn {
	t := &drawn{plain: fmt.Sprintf("t%d", i), tenant: i == 0 || a.chance(40)}
	t.name = t.plain
	if a.chance(20) {
		t.name, t.plain = fmt.Sprintf(`"Odd %d"`, i), fmt.Sprintf("Odd %d", i)
	}
	t.key = []field{{"id", one(a, keyKinds)}}
	if i > 0 && a.chance(15) {
		t.key = append(t.key, field{"part", one(a, keyKinds)})
	}
	for j := range 1 + a.r.IntN(4) {
		t.fields = append(t.fields, field{fmt.Sprintf("f%d", j), one(a, fieldKinds)})
	}
	for j, to := range a.tables {
		if len(to.key) == 1 && a.chance(60) {
			t.refs = append(t.refs, ref{column: fmt.Sprintf("r%d_id", j), to: to, rule: one(a, []string{"", "CASCADE", "SET NULL", "NO ACTION"})})
		}
	}
	return t
}

// paths are those that lead from the table to a column of that name, over depth
// references at most. With "" it is any plain column.
func (t *drawn) paths(column string, depth int) (list []string) {
	switch {
	case column != "" && t.tenant:
		list = append(list, column)
	case column == "":
		for _, f := range t.fields {
			list = append(list, f.name)
		}
	}
	if depth == 0 {
		return list
	}
	for _, r := range t.refs {
		for _, p := range r.to.paths(column, depth-1) {
			list = append(list, strings.TrimSuffix(r.column, "_id")+"."+p)
		}
	}
	return list
}

// mapTable draws the mapping of a table.
func (a *application) mapTable(t *drawn, tenants []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  m_%s:\n    from: '%s'\n", strings.ReplaceAll(strings.ToLower(t.plain), " ", "_"), t.plain)
	a.r.Shuffle(len(tenants), func(i, j int) { tenants[i], tenants[j] = tenants[j], tenants[i] })
	tenants = tenants[:min(len(tenants), 1+a.r.IntN(3))]
	fmt.Fprintf(&b, "    tenant: [%s]\n", strings.Join(tenants, ", "))
	if len(tenants) == 1 && tenants[0] == "provedor_id" && a.chance(30) {
		b.WriteString("    without_tenant: drop\n")
	}
	if a.chance(40) {
		b.WriteString("    on_delete: keep\n")
	}
	free := ""
	for _, r := range t.refs {
		if r.rule == "" {
			free += fmt.Sprintf("%s: {column: %s, table: '%s'}, ", strings.TrimSuffix(r.column, "_id"), r.column, r.to.plain)
		}
		for _, p := range r.to.free() {
			free += fmt.Sprintf("%s.%s, ", strings.TrimSuffix(r.column, "_id"), p)
		}
	}
	if free != "" {
		fmt.Fprintf(&b, "    paths: {%s}\n", strings.TrimSuffix(free, ", "))
	}
	b.WriteString("    audit: {entity: thing}\n    columns:\n")
	for _, k := range t.key {
		fmt.Fprintf(&b, "      - %s\n", k.name)
	}
	for _, r := range t.refs {
		fmt.Fprintf(&b, "      - %s\n", r.column)
	}
	for i, f := range t.fields {
		switch {
		case a.chance(15): // left out
		case a.chance(20):
			fmt.Fprintf(&b, "      - renamed_%d: %s\n", i, f.name)
		default:
			fmt.Fprintf(&b, "      - %s\n", f.name)
		}
	}
	if i := slices.Index(tenants, "provedor_id"); i > 0 || i == 0 && len(tenants) > 1 {
		b.WriteString("      - own: provedor_id\n")
	}
	if a.chance(30) {
		fmt.Fprintf(&b, "      - seven: {const: 7}\n")
	}
	if a.chance(30) {
		fmt.Fprintf(&b, "      - object: {json_object: [%s]}\n", t.fields[0].name)
	}
	for i, p := range t.paths("", 3) {
		if strings.Contains(p, ".") && a.chance(40) {
			fmt.Fprintf(&b, "      - over_%d: %s\n", i, p)
		}
	}
	if own := tenants[0]; a.chance(50) {
		fmt.Fprintf(&b, "      - first: [%s]\n", strings.Join(append([]string{own}, tenants[1:]...), ", "))
	}
	return b.String()
}

// free are the entries of a mapping's paths for references without a foreign key,
// named from the table on.
func (t *drawn) free() (list []string) {
	for _, r := range t.refs {
		name := strings.TrimSuffix(r.column, "_id")
		if r.rule == "" {
			list = append(list, fmt.Sprintf("%s: {column: %s, table: '%s'}", name, r.column, r.to.plain))
		}
		for _, p := range r.to.free() {
			list = append(list, name+"."+p)
		}
	}
	return list
}

func (a *application) schema() string {
	var b strings.Builder
	for _, t := range a.tables {
		fmt.Fprintf(&b, "CREATE TABLE %s (", t.name)
		names := make([]string, len(t.key))
		for i, k := range t.key {
			fmt.Fprintf(&b, "%s %s, ", k.name, k.kind.name)
			names[i] = k.name
		}
		for _, f := range t.fields {
			fmt.Fprintf(&b, "%s %s, ", f.name, f.kind.name)
		}
		if t.tenant {
			b.WriteString("provedor_id bigint, ")
		}
		for _, r := range t.refs {
			fmt.Fprintf(&b, "%s %s", r.column, r.to.key[0].kind.name)
			if r.rule != "" {
				fmt.Fprintf(&b, " REFERENCES %s ON DELETE %s ON UPDATE CASCADE DEFERRABLE", r.to.name, r.rule)
			}
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "PRIMARY KEY (%s));\n", strings.Join(names, ", "))
		for _, f := range t.fields {
			if f.kind.name == "text" { // not compressed, so that it is TOASTed
				fmt.Fprintf(&b, "ALTER TABLE %s ALTER COLUMN %s SET STORAGE EXTERNAL;\n", t.name, f.name)
			}
		}
		for _, r := range t.refs {
			if r.rule == "" {
				b.WriteString(r.letGo(t))
			}
		}
	}
	return b.String()
}

// letGo are triggers that do without a foreign key what ON DELETE SET NULL does with
// one. A row that refers to one that has been deleted would keep the last values that
// the bridge knows of it, which no SELECT can tell.
func (r ref) letGo(of *drawn) string {
	name := fmt.Sprintf("%s_%s", strings.ReplaceAll(of.plain, " ", "_"), r.column)
	return fmt.Sprintf(`CREATE FUNCTION let_go_%[1]s() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF TG_OP = 'TRUNCATE' THEN UPDATE %[2]s SET %[3]s = NULL WHERE %[3]s IS NOT NULL; ELSE UPDATE %[2]s SET %[3]s = NULL WHERE %[3]s = OLD.id; END IF;
		RETURN NULL; END $$;
		CREATE TRIGGER let_go_%[1]s AFTER DELETE OR UPDATE OF id ON %[4]s FOR EACH ROW EXECUTE FUNCTION let_go_%[1]s();
		CREATE TRIGGER let_all_go_%[1]s AFTER TRUNCATE ON %[4]s FOR EACH STATEMENT EXECUTE FUNCTION let_go_%[1]s();
`, name, of.name, r.column, r.to.name)
}

func (a *application) mapping() string {
	var b strings.Builder
	b.WriteString("audit_log: {table: audit_logs}\ntables:\n")
	for _, t := range a.tables {
		b.WriteString(t.mapped)
	}
	return b.String()
}

// value is one of a few values of a kind.
func (a *application) value(k kind, of int, null bool) string {
	if null && a.chance(20) {
		return "NULL"
	}
	return strings.Replace(fmt.Sprintf(k.value, 1+a.r.IntN(of)), "%%", "%", 1)
}

// keys is how many values each part of a key has.
const keys = 8

func (a *application) where(t *drawn) string {
	parts := make([]string, len(t.key))
	for i, k := range t.key {
		parts[i] = k.name + " = " + a.value(k.kind, keys, false)
	}
	return strings.Join(parts, " AND ")
}

func (a *application) refValue(r ref) string {
	if a.chance(20) {
		return "NULL"
	}
	if r.rule == "" && a.chance(30) { // nowhere
		return fmt.Sprintf(r.to.key[0].kind.value, keys+1+a.r.IntN(keys))
	}
	a.n++
	return fmt.Sprintf("(SELECT id FROM %s ORDER BY md5(id::text || '%d') LIMIT 1)", r.to.name, a.n)
}

func (a *application) tenantValue() string { return one(a, []string{"1", "2", "3", "NULL"}) }

// assignments are all columns but the key with values.
func (a *application) assignments(t *drawn) (columns, values []string) {
	for _, f := range t.fields {
		columns, values = append(columns, f.name), append(values, a.value(f.kind, 1000, true))
	}
	if t.tenant {
		columns, values = append(columns, "provedor_id"), append(values, a.tenantValue())
	}
	for _, r := range t.refs {
		columns, values = append(columns, r.column), append(values, a.refValue(r))
	}
	return columns, values
}

// statement is one of the application's. What a constraint refuses is left undone.
func (a *application) statement() string {
	t := one(a, a.tables)
	columns, values := a.assignments(t)
	sql := ""
	switch n := a.r.IntN(20); {
	case n < 8:
		for i := len(t.key) - 1; i >= 0; i-- {
			columns, values = append([]string{t.key[i].name}, columns...), append([]string{a.value(t.key[i].kind, keys, false)}, values...)
		}
		sql = fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s) ON CONFLICT DO NOTHING", t.name, strings.Join(columns, ", "), strings.Join(values, ", "))
	case n < 15:
		i := a.r.IntN(len(columns))
		sql = fmt.Sprintf("UPDATE %s SET %s = %s WHERE %s", t.name, columns[i], values[i], a.where(t))
	case n < 16:
		i := a.r.IntN(len(columns))
		sql = fmt.Sprintf("UPDATE %s SET %s = %s", t.name, columns[i], values[i])
	case n < 18:
		sql = fmt.Sprintf("DELETE FROM %s WHERE %s", t.name, a.where(t))
	case n < 19:
		k := one(a, t.key)
		sql = fmt.Sprintf("UPDATE %s SET %s = %s WHERE %s", t.name, k.name, a.value(k.kind, keys, false), a.where(t))
	case a.chance(80):
		return a.statement()
	default:
		sql = fmt.Sprintf("TRUNCATE %s CASCADE", t.name)
	}
	return "BEGIN " + sql + "; EXCEPTION WHEN integrity_constraint_violation THEN NULL; END;"
}

// transactions are n of them, as one text to be sent.
func (a *application) transactions(n int) []string {
	list := make([]string, n)
	for i := range list {
		var b strings.Builder
		b.WriteString("DO $do$ BEGIN ")
		for range 1 + a.r.IntN(5) {
			b.WriteString(a.statement())
		}
		b.WriteString(" END $do$")
		list[i] = b.String()
	}
	a.history = append(a.history, list...)
	return list
}

// hold has the property hold for an application.
func (a *application) hold(t *testing.T, on *world) {
	w := &world{t: t, source: on.source, target: on.target, mapping: a.mapping()}
	f, err := mapping.Parse("test.yaml", []byte(w.mapping))
	if err != nil {
		t.Fatal(err)
	}
	w.file = f
	w.tune = func(o *replicator.Options) { o.CopyRows = 3 }
	w.src, w.dst = on.database(t)
	w.exec(a.schema())
	w.exec(a.transactions(15)...)
	r := w.start()
	w.exec(a.transactions(60)...) // while it copies, and after
	w.catchUp(r)
	w.exec(a.transactions(30)...)
	w.catchUp(r)
	w.requireEqual()
	for _, args := range []string{"{}", `{"tenant": "1"}`} {
		state, _, _ := strings.Cut(w.ended(w.ask(request.Resync, args)), " | ")
		if state != "done" && args == "{}" {
			t.Errorf("the resync %s has %s", args, state)
		}
	}
	w.want("what a resync writes", `SELECT coalesce(sum((progress::json->>'written')::int + (progress::json->>'gone')::int), 0) FROM walbridge.requests WHERE progress <> ''`, "0")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.untilIdle()
	w.exec("SELECT pg_drop_replication_slot('walbridge')")
	_, w.dst = on.database(t)
	r = w.start()
	w.catchUp(r)
	w.requireEqual()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.untilIdle()
	w.exec("SELECT pg_drop_replication_slot('walbridge')")
}

// database makes a database on each side.
func (w *world) database(t *testing.T) (source, target string) {
	name := "d" + strings.ReplaceAll(strings.ToLower(t.Name()), "/", "_")
	name += fmt.Sprint(pgtest.QueryValue(t, w.target.URL("postgres"), "SELECT count(*) FROM pg_database"))
	for _, c := range []*pgtest.Cluster{w.source, w.target} {
		pgtest.Exec(t, c.URL("postgres"), `CREATE DATABASE "`+name+`"`)
	}
	return w.source.URL(name), w.target.URL(name)
}
