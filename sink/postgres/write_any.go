package postgres

import (
	"fmt"
	"slices"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// Over a session statements are known beforehand, but of the columns of a table any
// may be written. A template has parameters for all of them, NULL for those that a
// set doesn't have, and lists that are chosen from.

// anyArgs are args at the positions of their columns, and more behind them.
func anyArgs(set *sink.RowSet, args [][]byte, more ...[]byte) [][]byte {
	all := make([][]byte, len(set.Table.Columns), len(set.Table.Columns)+len(more))
	for i, c := range set.Columns {
		all[c] = args[i]
	}
	return append(all, more...)
}

// notKey are the columns of set that are not of the key.
func notKey(set *sink.RowSet) []int {
	var some []int
	for _, c := range set.Columns {
		if !slices.Contains(set.Table.Key, c) {
			some = append(some, c)
		}
	}
	return some
}

// whole reports that set has all columns of its table, in their order.
func whole(set *sink.RowSet) bool {
	for i, c := range set.Columns {
		if i != c {
			return false
		}
	}
	return len(set.Columns) == len(set.Table.Columns)
}

// columnList makes an item for each column.
func columnList(table *sink.Table, item func(name string, i int, typ string) string) []string {
	items := make([]string, len(table.Columns))
	for i, c := range table.Columns {
		items[i] = item(pg.Quote(c.Name), i+1, c.Type)
	}
	return items
}

// updateAny is update.
func (t *tx) updateAny(set *sink.RowSet) error {
	args, err := setArrays(set)
	if err != nil {
		return err
	}
	want := int64(len(set.Rows))
	t.add(op{template: updateTemplate(set.Table), choose: [][]int{notKey(set)}, args: anyArgs(set, args, argInt(want)),
		table: set.Table.FullName(), want: want})
	return nil
}

func updateTemplate(table *sink.Table) *Template {
	n := len(table.Columns)
	on := list(len(table.Key), " AND ", func(i int) string {
		k := table.Key[i]
		return fmt.Sprintf("%s = v.c%d::%s", column(table, k), k+1, table.Columns[k].Type)
	})
	return &Template{
		Parts: []string{
			fmt.Sprintf("WITH u AS (UPDATE %s AS t SET ", tableName(table)),
			fmt.Sprintf(" FROM unnest(%s) AS v(%s) WHERE %s RETURNING 1) SELECT walbridge.expect_rows($%d::int8, (SELECT count(*) FROM u))",
				params(1, n), aliases("c", n), on, n+1),
		},
		Lists: [][]string{columnList(table, func(name string, i int, typ string) string { return fmt.Sprintf("%s = v.c%d::%s", name, i, typ) })},
	}
}

// upsertAny is upsert of some columns.
func upsertAny(set *sink.RowSet, args [][]byte) op {
	some := notKey(set)
	return op{template: upsertTemplate(set.Table), choose: [][]int{set.Columns, set.Columns, some, some, some},
		args: anyArgs(set, args), table: set.Table.FullName()}
}

func upsertTemplate(table *sink.Table) *Template {
	n := len(table.Columns)
	key := list(len(table.Key), ", ", func(i int) string { return pg.Quote(table.Columns[table.Key[i]].Name) })
	return &Template{
		Parts: []string{
			fmt.Sprintf("INSERT INTO %s AS t (", tableName(table)),
			") OVERRIDING SYSTEM VALUE SELECT ",
			fmt.Sprintf(" FROM unnest(%s) AS v(%s) ON CONFLICT (%s) DO UPDATE SET ", params(1, n), aliases("c", n), key),
			" WHERE ROW(",
			")::record OPERATOR(pg_catalog.*<>) ROW(",
			")::record",
		},
		Lists: [][]string{
			columnList(table, func(name string, _ int, _ string) string { return name }),
			columnList(table, func(_ string, i int, typ string) string { return fmt.Sprintf("v.c%d::%s", i, typ) }),
			columnList(table, func(name string, _ int, _ string) string { return name + " = excluded." + name }),
			columnList(table, func(name string, _ int, _ string) string { return "t." + name }),
			columnList(table, func(name string, _ int, _ string) string { return "excluded." + name }),
		},
	}
}
