package postgres

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// recomputeSQL is one statement over the path values as they are: it writes the
// rows that differ and still have a tenant, takes those without one away to
// walbridge.held, and counts both. $1 are the node's keys, $2 the LSN. It is
// empty for a table that doesn't pass the node.
//
// Where all paths of a table begin at one column, the new values depend on that
// column alone: they are looked up once for each of its values (a conversation)
// instead of once for each row (its messages), and a move of a million rows
// takes little longer than the bare UPDATE.
func (s *Sink) recomputeSQL(r *sink.Recompute) string {
	ways := reaches(r.Table, r.Node)
	if len(ways) == 0 {
		return ""
	}
	if oneStart(r.Table) {
		return s.recomputeByStart(r.Table, ways)
	}
	return s.recomputeByRow(r.Table, ways)
}

// oneStart reports whether all derived columns begin at the same column.
func oneStart(table *sink.Table) bool {
	for _, d := range table.Derived {
		for _, l := range d.From {
			if len(l.Steps) == 0 || l.Column != table.Derived[0].From[0].Column {
				return false
			}
		}
	}
	return true
}

// recomputeByStart: n has, for each value of the start column that passes a key,
// the key (via), the new values (d1 …), and whether the tenant is lost.
func (s *Sink) recomputeByStart(table *sink.Table, ways []reach) string {
	start := ways[0].start
	typ := table.Columns[start].Type
	n := union(ways, "start", func(way reach) string {
		from, where, via, first := s.walk(way, anyKey)
		if first == "" {
			from, where = []string{"unnest($1::text[]) AS q(k)"}, []string{"true"}
			via, first = "q.k", "q.k"
		}
		l := s.lookups(table, func(int) string { return first })
		columns, _ := newValues(table, l)
		return fmt.Sprintf("SELECT %s::%s AS start, %s AS via, %s FROM %s%s WHERE %s", first, typ, via, columns,
			crossed(from...), l.joins.String(), strings.Join(where, " AND "))
	})
	var values []string
	for i := range table.Derived {
		values = append(values, "n.d"+strconv.Itoa(i+1))
	}
	on := column(table, start) + " = n.start AND " + differsDerived(table, values)
	was := textOf(column(table, table.Tenant), table.Columns[table.Tenant].Type)
	now := was
	for i, d := range table.Derived {
		if d.Column == table.Tenant {
			now = textOf(values[i], table.Columns[d.Column].Type)
		}
	}
	return fmt.Sprintf(`WITH n AS MATERIALIZED (%s),
		u AS (UPDATE %s AS t SET %s FROM n WHERE %s AND NOT n.lost)%s
		SELECT n.via, %s, %s, count(*) FROM n JOIN %[2]s AS t ON %[4]s WHERE %[8]s GROUP BY 1, 2, 3`,
		n, tableName(table), assignDerived(table), on, s.holdLost(table, on), was, now,
		"NOT (n.lost AND "+s.heldBeside(table, keyText(table))+")")
}

// recomputeByRow: n has the rows that differ by their key (k1 …, as one text id),
// with the node's key (via), the tenant before (was), the new values (d1 …), and whether the
// tenant is lost.
func (s *Sink) recomputeByRow(table *sink.Table, ways []reach) string {
	keys := aliases("k", len(table.Key))
	n := union(ways, keys, func(way reach) string { return s.differing(table, way) })
	on := list(len(table.Key), " AND ", func(i int) string {
		return fmt.Sprintf("%s = n.k%d", column(table, table.Key[i]), i+1)
	})
	tenant := textOf(column(table, table.Tenant), table.Columns[table.Tenant].Type)
	return fmt.Sprintf(`WITH n AS MATERIALIZED (%s),
		u AS (UPDATE %s AS t SET %s FROM n WHERE %s AND NOT n.lost RETURNING n.via, n.was, %s AS now)%s
		SELECT via, was, now, count(*) FROM (
			SELECT via, was, now FROM u UNION ALL SELECT via, was, NULL FROM n WHERE n.lost AND NOT %s) AS m GROUP BY 1, 2, 3`,
		n, tableName(table), assignDerived(table), on, tenant, s.holdLost(table, on), s.heldBeside(table, "n.id"))
}

// union joins what each way finds. What is reached on several ways counts once.
func union(ways []reach, by string, query func(way reach) string) string {
	if len(ways) == 1 {
		return query(ways[0])
	}
	all := list(len(ways), " UNION ALL ", func(i int) string { return query(ways[i]) })
	return fmt.Sprintf("SELECT DISTINCT ON (%s) * FROM (%s) AS a ORDER BY %[1]s", by, all)
}

// differing selects the rows that are reached over way and are not what the path
// values say.
func (s *Sink) differing(table *sink.Table, way reach) string {
	from, where, via, start := s.walk(way, anyKey)
	own, typ := column(table, way.start), table.Columns[way.start].Type
	if start == "" {
		via = textOf(own, typ)
		where = append(where, own+" = ANY ($1::text[]::"+typ+"[])")
	} else {
		where = append(where, own+" = "+start+"::"+typ)
	}
	l := s.lookups(table, func(c int) string { return textOf(column(table, c), table.Columns[c].Type) })
	columns, values := newValues(table, l)
	where = append(where, differsDerived(table, values))
	keys := list(len(table.Key), ", ", func(i int) string {
		return fmt.Sprintf("%s AS k%d", column(table, table.Key[i]), i+1)
	})
	keys += ", " + keyText(table) + " AS id"
	return fmt.Sprintf("SELECT %s, %s AS via, %s AS was, %s FROM %s%s WHERE %s", keys, via,
		textOf(column(table, table.Tenant), table.Columns[table.Tenant].Type), columns,
		crossed(append(from, tableName(table)+" AS t")...), l.joins.String(), strings.Join(where, " AND "))
}

// crossed is a FROM list that joins may follow: after a comma they would see only
// the last table (7.2.1.1: JOIN binds more tightly than the comma).
func crossed(from ...string) string { return strings.Join(from, " CROSS JOIN ") }

// newValues is "… AS d1, …, … AS lost" for the derived columns, and their bare
// expressions.
func newValues(table *sink.Table, l *lookups) (columns string, values []string) {
	lost := "false" // a tenant of the row's own doesn't depend on paths
	var named []string
	for i, d := range table.Derived {
		value := l.typed(d)
		values = append(values, value)
		named = append(named, value+" AS d"+strconv.Itoa(i+1))
		if d.Column == table.Tenant {
			lost = "(" + l.text(d) + ") IS NULL"
		}
	}
	return strings.Join(named, ", ") + ", " + lost + " AS lost", values
}

// assignDerived is SET's list.
func assignDerived(table *sink.Table) string {
	return list(len(table.Derived), ", ", func(i int) string {
		return fmt.Sprintf("%s = n.d%d", pg.Quote(table.Columns[table.Derived[i].Column].Name), i+1)
	})
}

// holdLost moves the rows of n that have no tenant any more to walbridge.held. One
// that has a held row of its key beside it is another writer's: it goes, and the
// held row, which is the source's, stays as it is.
func (s *Sink) holdLost(table *sink.Table, on string) string {
	if _, derived := derivedAt(table, table.Tenant); !derived {
		return ""
	}
	vals := list(len(table.Columns), ", ", func(i int) string {
		for j, d := range table.Derived {
			if d.Column == i {
				return textOf("n.d"+strconv.Itoa(j+1), table.Columns[i].Type)
			}
		}
		return textOf(column(table, i), table.Columns[i].Type)
	})
	return fmt.Sprintf(`,
		d AS (DELETE FROM %s AS t USING n WHERE %s AND n.lost RETURNING %s AS key, ARRAY[%s] AS vals),
		h AS (INSERT INTO walbridge.held AS x (bridge, "table", key, vals, reason, since)
			SELECT %s, %s, d.key, d.vals, 'tenant', $2::pg_lsn FROM d
			ON CONFLICT (bridge, "table", key) DO NOTHING)`,
		tableName(table), on, keyText(table), vals, pg.QuoteLiteral(s.name), pg.QuoteLiteral(table.FullName()))
}

// heldBeside is the condition that a row of this key is held already.
func (s *Sink) heldBeside(table *sink.Table, key string) string {
	return fmt.Sprintf(`EXISTS (SELECT FROM walbridge.held AS b WHERE b.bridge = %s AND b."table" = %s AND b.key = %s)`,
		pg.QuoteLiteral(s.name), pg.QuoteLiteral(table.FullName()), key)
}
