package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// loadKeys reads a page of keys: a table's in the order of its primary key, path
// values' in the order of their bytes.
func (s *Sink) loadKeys(q *sink.KeyQuery, l *sink.Loaded) (op, error) {
	if q.Node != nil {
		return s.loadPathKeys(q, l), nil
	}
	t := q.Table
	var args [][]byte
	add := func(v []byte) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	var where []string
	if e := s.schema.Entries; e != nil && e.Schema == t.Schema && e.Name == t.Name {
		where = append(where, "(t."+pg.Quote(e.Details)+"::pg_catalog.jsonb OPERATOR(pg_catalog.->>) 'by') IS DISTINCT FROM 'walbridge'")
	}
	if q.Tenant != nil {
		where = append(where, column(t, t.Tenant)+" = "+add(arg(*q.Tenant))+"::pg_catalog.text::"+t.Columns[t.Tenant].Type)
	}
	names := list(len(t.Key), ", ", func(i int) string { return column(t, t.Key[i]) })
	if q.After != nil {
		parts, err := q.After.Split(len(t.Key))
		if err != nil {
			return op{}, fmt.Errorf("table %s: %w", t.FullName(), err)
		}
		bound := list(len(t.Key), ", ", func(i int) string {
			return add(arg(parts[i])) + "::pg_catalog.text::" + t.Columns[t.Key[i]].Type
		})
		where = append(where, "("+names+") > ("+bound+")")
	}
	sql := "SELECT " + names + " FROM " + tableName(t) + " AS t"
	if len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	sql += " ORDER BY " + names + " LIMIT " + add(argInt(int64(q.Limit)+1)) + "::pg_catalog.int8"
	return op{sql: sql, args: args, table: t.FullName(), read: pageOfKeys(q, l)}, nil
}

func (s *Sink) loadPathKeys(q *sink.KeyQuery, l *sink.Loaded) op {
	sql := "SELECT x.key FROM walbridge.path_values AS x WHERE x.bridge = $1 AND x.source = $2 AND NOT x.gone"
	args := [][]byte{arg(s.name), arg(q.Node.Name), argInt(int64(q.Limit) + 1)}
	if q.After != nil {
		sql += " AND x.key > $4"
		args = append(args, arg(string(*q.After)))
	}
	return op{sql: sql + " ORDER BY x.key LIMIT $3::int8", args: args, read: pageOfKeys(q, l)}
}

func pageOfKeys(q *sink.KeyQuery, l *sink.Loaded) func(Result) error {
	return each(func(v [][]byte) error {
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = string(v[i])
		}
		if l.MoreKeys = len(l.Keys) == q.Limit; !l.MoreKeys {
			l.Keys = append(l.Keys, sink.EncodeKey(parts...))
		}
		return nil
	})
}

// applyAnew forgets path values and the values of held rows, which are arrays
// that only the mapping which they were written under can read.
func (t *tx) applyAnew(_ context.Context, w *sink.Writes) error {
	if !w.Anew {
		return nil
	}
	t.add(op{sql: "DELETE FROM walbridge.path_values AS x WHERE x.bridge = $1", args: [][]byte{arg(t.s.name)}})
	for _, table := range t.s.schema.Tables {
		t.add(op{
			sql: `UPDATE walbridge.held AS x SET vals = pg_catalog.array_fill(NULL::pg_catalog.text, ARRAY[$3::pg_catalog.int4])
				WHERE x.bridge = $1 AND x."table" = $2`,
			args: [][]byte{arg(t.s.name), arg(table.FullName()), argInt(int64(len(table.Columns)))},
		})
	}
	return nil
}
