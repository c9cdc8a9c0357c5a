package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// Load answers q in one round trip, together with everything that is pending.
func (t *tx) Load(ctx context.Context, q *sink.Query) (*sink.Loaded, error) {
	if err := t.usable(); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	fresh := t.touched != nil && t.touched.spares(t.s.schema, q)
	l, err := t.load(ctx, q, fresh)
	if err == nil && fresh && !t.touched.sparesPaths(q, l) {
		l, err = t.load(ctx, q, false)
	}
	return l, err
}

// load asks for q; fresh as in Statement.
func (t *tx) load(ctx context.Context, q *sink.Query, fresh bool) (*sink.Loaded, error) {
	l, ops, err := t.s.loads(q)
	if err != nil {
		return nil, t.fail(ctx, fmt.Errorf("load: %w", err))
	}
	if len(ops) == 0 {
		return l, nil
	}
	for i := range ops {
		ops[i].pure, ops[i].fresh = true, fresh
	}
	if err := t.flush(ctx, ops...); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return l, nil
}

// loads returns the answer to q, and the statements that fill it in.
func (s *Sink) loads(q *sink.Query) (*sink.Loaded, []op, error) {
	l := &sink.Loaded{
		Rows:    make(map[*sink.Table]map[sink.Key]sink.Stored),
		Paths:   make(map[*sink.Node]map[sink.Key]sink.PathRow),
		Waiting: make(map[*sink.Node]map[sink.Key]bool),
	}
	var ops []op
	for table, keys := range q.Rows {
		if len(keys) == 0 {
			continue
		}
		o, err := s.loadRows(table, keys, l)
		if err != nil {
			return nil, nil, err
		}
		ops = append(ops, o)
	}
	ops = append(ops, s.loadMarks(q, l)...)
	if q.Held != nil {
		ops = append(ops, s.loadHeld(q.Held, l))
	}
	if q.Dependents != nil {
		ops = append(ops, s.loadDependents(q.Dependents, l))
	}
	if q.Keys != nil {
		o, err := s.loadKeys(q.Keys, l)
		if err != nil {
			return nil, nil, err
		}
		ops = append(ops, o)
	}
	ops = append(ops, s.loadPaths(q.Paths, l)...)
	for node, keys := range q.Waiting {
		o, err := s.loadWaiting(node, keys, l)
		if err != nil {
			return nil, nil, err
		}
		ops = append(ops, o...)
	}
	return l, ops, nil
}

// loadRows reads the mapped columns of rows by primary key. The text of a key is
// cast to the column's type and never the other way round, which would keep the
// index out of it.
func (s *Sink) loadRows(table *sink.Table, keys []sink.Key, l *sink.Loaded) (op, error) {
	args, err := keyArrays(table, keys)
	if err != nil {
		return op{}, err
	}
	n := len(table.Key)
	rows := stored(l, table, len(keys))
	return op{
		sql: fmt.Sprintf("SELECT q.o, %s FROM unnest(%s) WITH ORDINALITY AS q(%s, o) JOIN %s AS t ON %s",
			list(len(table.Columns), ", ", func(i int) string { return column(table, i) }),
			params(1, n), aliases("k", n), tableName(table), onKey(table, "q.k")),
		args: args,
		read: each(func(v [][]byte) error {
			i, err := strconv.Atoi(string(v[0]))
			if err != nil || i < 1 || i > len(keys) {
				return errNoRow
			}
			rows[keys[i-1]] = sink.Stored{Row: cdc.CopyRow(v[1:])}
			return nil
		}),
	}, nil
}

// stored returns the answers for one table.
func stored(l *sink.Loaded, table *sink.Table, n int) map[sink.Key]sink.Stored {
	rows := l.Rows[table]
	if rows == nil {
		rows = make(map[sink.Key]sink.Stored, n)
		l.Rows[table] = rows
	}
	return rows
}

// onKey joins the table's key with columns prefix1, prefix2 … of texts.
func onKey(table *sink.Table, prefix string) string {
	return list(len(table.Key), " AND ", func(i int) string {
		k := table.Key[i]
		return fmt.Sprintf("%s = %s%d::%s", column(table, k), prefix, i+1, table.Columns[k].Type)
	})
}

// keyArrays are the texts of keys, one array for each key column.
func keyArrays(table *sink.Table, keys []sink.Key) ([][]byte, error) {
	n := len(table.Key)
	arrays := make([]*array, n)
	for i := range arrays {
		arrays[i] = newArray(24 * len(keys))
	}
	for _, k := range keys {
		if n == 1 {
			arrays[0].add(string(k))
			continue
		}
		parts, err := k.Split(n)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", table.FullName(), err)
		}
		for i, p := range parts {
			arrays[i].add(p)
		}
	}
	args := make([][]byte, n)
	for i, a := range arrays {
		args[i] = a.done()
	}
	return args, nil
}

// loadMarks reads deletion marks and held rows of all tables at once.
func (s *Sink) loadMarks(q *sink.Query, l *sink.Loaded) []op {
	byName := make(map[string]*sink.Table)
	names, keys := newArray(1024), newArray(1024)
	for table, asked := range q.Rows {
		byName[table.FullName()] = table
		for _, k := range asked {
			names.add(table.FullName())
			keys.add(string(k))
		}
	}
	if len(byName) == 0 {
		return nil
	}
	args := [][]byte{arg(s.name), names.done(), keys.done()}
	from := func(columns, table string) string {
		return fmt.Sprintf(`SELECT x."table", x.key, %s FROM `+keyed+`
			JOIN walbridge.%s AS x ON x.bridge = $1 AND x."table" = q.n AND x.key = q.k`, columns, table)
	}
	return []op{
		{sql: from("x.lsn", "deleted"), args: args, read: each(func(v [][]byte) error {
			d := decoder{values: v}
			rows := l.Rows[byName[d.text()]]
			key := sink.Key(d.text())
			row := rows[key]
			row.Deleted, row.DeletedAt = true, d.lsn()
			rows[key] = row
			return d.err
		})},
		{sql: from("x.vals, x.reason, x.code, x.since, x.waiting", "held"), args: args, read: each(func(v [][]byte) error {
			d := decoder{values: v}
			table := byName[d.text()]
			h := &sink.HeldRow{Table: table, Key: sink.Key(d.text()), Row: d.array(),
				Reason: sink.HeldReason(d.text()), Code: d.text(), Since: d.lsn()}
			for _, w := range d.array() {
				h.Waiting = append(h.Waiting, w.Text)
			}
			row := l.Rows[table][h.Key]
			row.Held = h
			l.Rows[table][h.Key] = row
			return d.err
		})},
	}
}

// pathsSQL follows path values over the edges $1, $2, $3 from the start $4, $5.
// OFFSET 0 keeps each lookup a probe of the primary key: a recursive query has no
// statistics, and a plan that guesses would read the whole table every time.
const pathsSQL = `WITH RECURSIVE e AS (
		SELECT n COLLATE "C" AS source, pos, nxt COLLATE "C" AS nxt
		FROM unnest((SELECT $1::text[]), (SELECT $2::int4[]), (SELECT $3::text[])) AS e(n, pos, nxt)
	), r AS (
		SELECT q.source COLLATE "C" AS source, p.key, p.vals, p.gone
		FROM unnest((SELECT $4::text[]), (SELECT $5::text[])) AS q(source, key)
		CROSS JOIN LATERAL (SELECT x.key, x.vals, x.gone FROM walbridge.path_values AS x
			WHERE x.bridge = $6 AND x.source = q.source AND x.key = q.key OFFSET 0) AS p
		UNION
		SELECT e.nxt, p.key, p.vals, p.gone
		FROM r JOIN e ON e.source = r.source
		CROSS JOIN LATERAL (SELECT x.key, x.vals, x.gone FROM walbridge.path_values AS x
			WHERE x.bridge = $6 AND x.source = e.nxt AND x.key = r.vals[e.pos] OFFSET 0) AS p
	)
	SELECT source, key, vals, gone FROM r`

// loadPaths reads path values and all that can be reached from them.
func (s *Sink) loadPaths(paths map[*sink.Node][]sink.Key, l *sink.Loaded) []op {
	names, keys := newArray(1024), newArray(1024)
	reachable := make(map[string]*sink.Node)
	asked := 0
	for node, ks := range paths {
		for _, k := range ks {
			names.add(node.Name)
			keys.add(string(k))
		}
		asked += len(ks)
		if len(ks) > 0 {
			follow(node, reachable)
		}
	}
	if asked == 0 {
		return nil
	}
	source, pos, next := newArray(256), newArray(64), newArray(256)
	for _, node := range reachable {
		for i, to := range node.Next {
			if to != nil {
				source.add(node.Name)
				pos.add(strconv.Itoa(i + 1))
				next.add(to.Name)
			}
		}
	}
	return []op{{
		sql:  pathsSQL,
		args: [][]byte{source.done(), pos.done(), next.done(), names.done(), keys.done(), arg(s.name)},
		read: each(func(v [][]byte) error {
			d := decoder{values: v}
			node := reachable[d.text()]
			rows := l.Paths[node]
			if rows == nil {
				rows = make(map[sink.Key]sink.PathRow)
				l.Paths[node] = rows
			}
			key := sink.Key(d.text())
			row := sink.PathRow{Values: d.array(), Gone: d.text() == "t"}
			if d.err == nil && len(row.Values) != len(node.Columns) {
				return damagedPath(node, len(row.Values))
			}
			rows[key] = row
			return d.err
		}),
	}}
}

// damagedPath refuses a row of path values that the bridge hasn't written.
func damagedPath(node *sink.Node, n int) error {
	source := pg.QuoteLiteral(node.Name)
	return fault.Errorf(fault.Stop, fmt.Sprintf("at the target: DELETE FROM walbridge.path_values WHERE source = %s AND cardinality(vals) <> %d; then walbridge resync --no-wait", source, len(node.Columns)),
		"walbridge.path_values has a row of %s with %d values, and it must have %d: somebody has edited it", node.Name, n, len(node.Columns))
}

func follow(node *sink.Node, seen map[string]*sink.Node) {
	if seen[node.Name] != nil {
		return
	}
	seen[node.Name] = node
	for _, next := range node.Next {
		if next != nil {
			follow(next, seen)
		}
	}
}

// loadWaiting asks which keys a row without a tenant is reached over. Where
// nothing is held, which is nearly always, the first condition answers alone.
func (s *Sink) loadWaiting(node *sink.Node, keys []sink.Key, l *sink.Loaded) ([]op, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	if s.schema == nil {
		return nil, errNoSchema
	}
	var ways []string
	for _, table := range s.schema.Tables {
		for _, r := range reaches(table, node) {
			ways = append(ways, "EXISTS (SELECT "+s.heldOver(table, r, func(expr string) string { return expr + " = q.k" })+")")
		}
	}
	if len(ways) == 0 {
		return nil, nil
	}
	found := make(map[sink.Key]bool)
	l.Waiting[node] = found
	return []op{{
		sql: fmt.Sprintf(`SELECT q.k FROM unnest((SELECT $1::text[])) AS q(k)
			WHERE EXISTS (SELECT FROM walbridge.held AS h WHERE h.bridge = %s AND h.reason = 'tenant') AND (%s)`,
			pg.QuoteLiteral(s.name), strings.Join(ways, " OR ")),
		args: [][]byte{keyArray(keys)},
		read: each(func(v [][]byte) error {
			found[sink.Key(v[0])] = true
			return nil
		}),
	}}, nil
}

func keyArray(keys []sink.Key) []byte {
	a := newArray(16 * len(keys))
	for _, k := range keys {
		a.add(string(k))
	}
	return a.done()
}
