package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// starts are the columns of table that paths begin at.
func starts(table *sink.Table) []int {
	var columns []int
	seen := make(map[int]bool)
	for _, d := range table.Derived {
		for _, l := range d.From {
			if len(l.Steps) > 0 && !seen[l.Column] {
				seen[l.Column] = true
				columns = append(columns, l.Column)
			}
		}
	}
	return columns
}

// loadDependents finds rows by a column that refers to others.
func (s *Sink) loadDependents(q *sink.DependentQuery, l *sink.Loaded) op {
	args := [][]byte{keyArray(q.Keys), argInt(int64(q.Limit))}
	read := each(func(v [][]byte) error {
		l.Dependents = append(l.Dependents, sink.Key(v[0]))
		return nil
	})
	bridge := pg.QuoteLiteral(s.name)
	if q.Node != nil {
		return op{args: args, read: read, sql: fmt.Sprintf(
			"SELECT x.key FROM walbridge.path_values AS x WHERE x.bridge = %s AND x.source = %s AND x.vals[%d] = ANY ($1::text[]) LIMIT $2::int8",
			bridge, pg.QuoteLiteral(q.Node.Name), q.Column+1)}
	}
	t := q.Table
	return op{args: args, read: read, table: t.FullName(), sql: fmt.Sprintf(
		`SELECT f.key FROM (
			SELECT (%s) COLLATE "C" AS key FROM %s AS t WHERE %s = ANY ($1::text[]::%s[])
			UNION ALL SELECT h.key FROM walbridge.held AS h WHERE h.bridge = %s AND h."table" = %s AND h.vals[%d] = ANY ($1::text[])
		) AS f LIMIT $2::int8`,
		keyText(t), tableName(t), column(t, q.Column), t.Columns[q.Column].Type, bridge, pg.QuoteLiteral(t.FullName()), q.Column+1)}
}

// EraseEntries calls the function that Install has made for this bridge. It reads
// the whole log: nothing finds entries by the row that they are about.
func (t *tx) EraseEntries(ctx context.Context, r *sink.Erase) ([]sink.Erased, error) {
	if err := t.usable(); err != nil {
		return nil, fmt.Errorf("erase entries: %w", err)
	}
	var numbers map[string][]int64
	o := op{
		sql:  "SELECT walbridge." + eraseName(t.s.name) + "($1::int8, $2, $3::text[])",
		args: [][]byte{argInt(t.epoch), arg(r.Source), textArray(r.Keys)},
		read: one(func(v [][]byte) error { return json.Unmarshal(v[0], &numbers) }),
	}
	err := t.careful(ctx, func() error {
		numbers = nil
		return t.flush(ctx, op{sql: noTimeout}, o)
	})
	if err != nil {
		return nil, fmt.Errorf("erase entries: %w", err)
	}
	var erased []sink.Erased
	for _, tenant := range slices.Sorted(maps.Keys(numbers)) {
		erased = append(erased, sink.Erased{Tenant: tenant, Numbers: numbers[tenant]})
	}
	return erased, nil
}

func eraseName(bridge string) string { return "erase_entries_" + digest(bridge) }

// eraseFunction makes the function of the bridge. It runs with its owner's rights:
// entries are written once and for all, and the bridge's role can change nothing
// about them but this.
//
// The details may be text, too. What isn't a bridge's may be no JSON then, and is
// never looked into.
func eraseFunction(bridge string, e *sink.EntryTable) object {
	names := strings.NewReplacer("{audit}", pg.Quote(e.Schema, e.Name), "{id}", pg.Quote(e.ID), "{tenant}", pg.Quote(e.Tenant),
		"{details}", pg.Quote(e.Details), "{bridge}", pg.QuoteLiteral(bridge))
	return makeFunction(eraseName(bridge), "int8, text, text[]", "jsonb", "SECURITY DEFINER ", names.Replace(`
DECLARE
	numbers jsonb;
BEGIN
	PERFORM FROM walbridge.checkpoint AS k WHERE k.name = {bridge} AND k.epoch = $1 FOR SHARE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'WB001', MESSAGE = 'fenced';
	END IF;
	WITH e AS (
		SELECT t.{id} AS id, (CASE WHEN t.{details}::text LIKE '%"walbridge"%' THEN t.{details}::text END)::jsonb AS d
		FROM {audit} AS t OFFSET 0
	), f AS (
		SELECT e.id, e.d FROM e JOIN (SELECT DISTINCT q.k FROM unnest($3::jsonb[]) AS q(k)) AS q ON e.d -> 'key' = q.k
		WHERE e.d ->> 'by' = 'walbridge' AND e.d ->> 'table' = $2 AND e.d ->> 'op' <> 'forget' AND NOT e.d ? 'forgotten'
	), u AS (
		UPDATE {audit} AS t SET {details} = (f.d - 'changed') #- '{chain,salt}' || '{"forgotten": true}'::jsonb
		FROM f WHERE t.{id} = f.id RETURNING t.{tenant}::text AS tenant, coalesce((f.d ->> 'n')::int8, 0) AS n
	)
	SELECT coalesce(jsonb_object_agg(c.tenant, c.numbers), '{}') INTO numbers
	FROM (SELECT u.tenant, jsonb_agg(u.n ORDER BY u.n) AS numbers FROM u GROUP BY u.tenant) AS c;
	RETURN numbers;
END`))
}
