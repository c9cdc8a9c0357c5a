package postgres

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

func tableName(t *sink.Table) string { return pg.Quote(t.Schema, t.Name) }

// column is a column of the target table, which every statement calls t.
func column(t *sink.Table, i int) string { return "t." + pg.Quote(t.Columns[i].Name) }

// plain are the types whose cast to text is their output function. Others have a
// cast of their own that makes another text: 'true' of a bool, no trailing
// blanks of a char(n), '/32' of an inet.
var plain = map[string]bool{
	"int2": true, "int4": true, "int8": true, "numeric": true, "float4": true, "float8": true,
	"text": true, "varchar": true, "json": true, "jsonb": true, "uuid": true, "bytea": true,
	"date": true, "time": true, "timestamp": true, "timestamptz": true, "interval": true,
}

// textOf is a column's value as its output function writes it, as the stream
// carries it.
func textOf(expr, typ string) string {
	if name, ok := strings.CutPrefix(typ, `"pg_catalog".`); ok && plain[strings.Trim(name, `"`)] {
		return expr + "::text"
	}
	// format gives '' for null.
	return fmt.Sprintf("CASE WHEN %s IS NULL THEN NULL ELSE pg_catalog.format('%%s', %[1]s) END", expr)
}

// keyText is the row's Key, as sink.EncodeKey writes it.
func keyText(t *sink.Table) string {
	parts := make([]string, len(t.Key))
	for i, k := range t.Key {
		parts[i] = textOf(column(t, k), t.Columns[k].Type)
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "pg_catalog.array_to_json(ARRAY[" + strings.Join(parts, ", ") + "])::text"
}

// list joins what f makes of 0…n-1.
func list(n int, sep string, f func(i int) string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(sep)
		}
		b.WriteString(f(i))
	}
	return b.String()
}

// params is "(SELECT $first::text[]), …", n arrays for an unnest. Behind the
// sub-select the planner doesn't see how long they are and assumes a handful,
// which makes a join with them a series of index probes. Told that there are ten
// thousand it reads a table of 200,000 rows from end to end instead: three times
// as slow, and a burden on everybody else.
func params(first, n int) string {
	return list(n, ", ", func(i int) string { return "(SELECT $" + strconv.Itoa(first+i) + "::text[])" })
}

// keyed is "unnest(…) AS q(n, k)" of table names and keys, in $2 and $3.
const keyed = `unnest((SELECT $2::text[]), (SELECT $3::text[])) AS q(n, k)`

// aliases is "c1, …, cn".
func aliases(prefix string, n int) string {
	return list(n, ", ", func(i int) string { return prefix + strconv.Itoa(i+1) })
}

// differ compares two rows image by image: by what is stored, not by what the
// types call equal. It works for types without an equality (json), and sees that
// 1.0 became 1.00 or 'A' a citext 'a', which an ordinary comparison would leave
// unwritten for ever. The casts keep the two from being read as SQL's row-wise
// comparison, which needs a btree operator.
func differ(a, b []string) string {
	return "ROW(" + strings.Join(a, ", ") + ")::record OPERATOR(pg_catalog.*<>) ROW(" + strings.Join(b, ", ") + ")::record"
}

// rounded are types whose values an assignment may alter by the column's
// modifier (numeric(10,2), char(3), timestamptz(0)): the stored image then
// differs from that of the value that was assigned, although it is right.
var rounded = map[string]bool{
	"numeric": true, "bpchar": true, "interval": true,
	"time": true, "timetz": true, "timestamp": true, "timestamptz": true,
}

// differsDerived compares derived columns with their new values.
func differsDerived(table *sink.Table, values []string) string {
	var old, now, conds []string
	for i, d := range table.Derived {
		c := column(table, d.Column)
		name, _ := strings.CutPrefix(table.Columns[d.Column].Type, `"pg_catalog".`)
		if rounded[strings.Trim(name, `"`)] {
			conds = append(conds, c+" IS DISTINCT FROM "+values[i])
			continue
		}
		old, now = append(old, c), append(now, values[i])
	}
	if len(old) > 0 {
		conds = append(conds, differ(old, now))
	}
	return "(" + strings.Join(conds, " OR ") + ")"
}
