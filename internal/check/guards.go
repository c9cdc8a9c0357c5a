package check

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/supabase"
	"github.com/walbridge/walbridge/replicator"
	"github.com/walbridge/walbridge/sink"
)

// targetSecurityCheck: what row security hides is not updated, and what it
// refuses stops the bridge.
func targetSecurityCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	subject, err := subjectTables(ctx, e.target.ask, e.file.TargetTables())
	if err != nil {
		return nil, err
	}
	for _, t := range subject {
		f := Finding{
			Severity: Warning, What: fmt.Sprintf("row security of table %s binds the role %s", t.name, e.target.role),
			Why: "Rows that a policy hides or refuses stop the bridge, and new rows go in more slowly, because COPY is refused.",
			Fix: "ALTER ROLE " + pg.Quote(e.target.role) + " BYPASSRLS; or use the role that owns the table",
		}
		if e.target.byAPI() {
			f.Why, f.Fix = "The functions at the target write with its rights, because it owns them. Rows that a policy hides or refuses stop the bridge.", giveFunctions(t.owner)
		}
		if !t.hasPolicy {
			f.Severity = Error
			f.Why = "It has no policy for the role, which reads and writes nothing."
		}
		found = append(found, f)
	}
	return found, nil
}

const selectTriggers = withTargets + `
	SELECT w.schema, w.name, pg_catalog.string_agg(t.tgname::text, ', ' ORDER BY t.tgname), ''
	FROM w JOIN pg_catalog.pg_trigger t ON t.tgrelid = w.oid
	WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') GROUP BY 1, 2 ORDER BY 1, 2`

// triggersCheck: a trigger doesn't know that a change is only being repeated.
func triggersCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	rows, err := e.targetRows(ctx, selectTriggers)
	if err != nil {
		return nil, fmt.Errorf("read triggers: %w", err)
	}
	for _, r := range rows {
		found = append(found, Finding{
			Severity: Warning, What: fmt.Sprintf("table %s has triggers: %s", r.table, r.a),
			Why: "They fire on what the bridge writes: on all rows during a first copy, and on repairs. An alert may be raised for a row that is years old.",
			Fix: "make them idempotent and look at what changed: CREATE TRIGGER … WHEN (OLD.* IS DISTINCT FROM NEW.*); or: ALTER TABLE " + r.table.SQL() + " DISABLE TRIGGER …;",
		})
	}
	return found, nil
}

const selectForeignKeys = withTargets + `
	SELECT w.schema, w.name, f.conname::text, 'out ' || CASE
	  WHEN f.confrelid NOT IN (SELECT oid FROM w WHERE oid IS NOT NULL) THEN 'elsewhere' WHEN f.condeferred THEN 'deferred' ELSE 'immediate' END
	FROM w JOIN pg_catalog.pg_constraint f ON f.conrelid = w.oid AND f.contype = 'f' AND f.conparentid = 0
	UNION ALL
	SELECT w.schema, w.name, f.conname::text || ' of ' || f.conrelid::regclass::text, 'in'
	FROM w JOIN pg_catalog.pg_constraint f ON f.confrelid = w.oid AND f.contype = 'f' AND f.conparentid = 0
	WHERE f.conrelid NOT IN (SELECT oid FROM w WHERE oid IS NOT NULL) ORDER BY 1, 2, 3`

// foreignKeysCheck: a child may come before its parent, and a parent may be held
// while its child isn't.
func foreignKeysCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	rows, err := e.targetRows(ctx, selectForeignKeys)
	if err != nil {
		return nil, fmt.Errorf("read foreign keys: %w", err)
	}
	for _, r := range rows {
		found = append(found, foreignKey(r))
	}
	return found, nil
}

func foreignKey(r targetRow) Finding {
	alter := "ALTER TABLE " + r.table.SQL()
	f := Finding{Severity: Warning, What: fmt.Sprintf("foreign key %s of table %s", r.a, r.table)}
	switch r.b {
	case "out immediate":
		f.What += " is checked at once"
		f.Why = "The source checks its own at COMMIT, so a child may come before its parent; and a parent that is held for want of a tenant isn't there. Such rows are refused."
		f.Fix = alter + " ALTER CONSTRAINT " + pg.Quote(r.a) + " DEFERRABLE INITIALLY DEFERRED; or drop it: the source keeps its own"
	case "out elsewhere":
		f.What += " leads to a table that the bridge doesn't keep"
		f.Why = "A row whose counterpart nobody has written there is refused."
		f.Fix = alter + " DROP CONSTRAINT " + pg.Quote(r.a) + ";"
	case "in":
		f.What = fmt.Sprintf("foreign key %s leads to table %s", r.a, r.table)
		f.Why = "A row that it refers to can't be deleted, or takes the other table's rows along."
		f.Fix = "drop it, or keep deleted rows: on_delete: keep in the mapping"
	default:
		f.Severity = Info
		f.What += " is checked at COMMIT"
		f.Why = "A row whose parent is held for want of a tenant would be refused there."
	}
	return f
}

const selectExposed = withTargets + `
	SELECT w.schema, w.name, pg_catalog.string_agg(r.rolname::text, ' and ' ORDER BY r.rolname), ''
	FROM w JOIN pg_catalog.pg_class c ON c.oid = w.oid AND NOT c.relrowsecurity
	JOIN pg_catalog.pg_roles r ON r.rolname IN ('anon', 'authenticated')
	WHERE pg_catalog.has_table_privilege(r.oid, c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'USAGE')
	GROUP BY 1, 2 ORDER BY 1, 2`

// exposureCheck: with row security off, whoever has the public key of the API
// reads all tenants.
func exposureCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	rows, err := e.targetRows(ctx, selectExposed)
	if err != nil {
		return nil, fmt.Errorf("read who may read the tables: %w", err)
	}
	for _, r := range rows {
		found = append(found, Finding{
			Severity: Warning, What: fmt.Sprintf("table %s can be read by %s, and its row security is off", r.table, r.a),
			Why: "Over Supabase's API everybody reads the rows of all tenants.",
			Fix: "ALTER TABLE " + r.table.SQL() + " ENABLE ROW LEVEL SECURITY; with a policy on the tenant",
		})
	}
	called, err := callers(ctx, e.target.ask)
	return append(found, called...), err
}

// accessCheck: what lets users of the API pass by the policies on the tenant.
func accessCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	list, err := supabase.Inspect(ctx, e.target.ask, e.file.TargetTables())
	for _, f := range list {
		if f.Dormant {
			continue
		}
		severity := Info
		if f.Leak {
			severity = Warning
		}
		found = append(found, Finding{Severity: severity, What: f.What, Why: f.Why, Fix: f.Fix})
	}
	return found, err
}

// targetRow is a target table and two texts about it.
type targetRow struct {
	table pg.TableName
	a, b  string
}

// targetRows runs a statement over w(schema, name, oid), the target tables of the
// mapping; oid is null for one that doesn't exist.
func (e *Env) targetRows(ctx context.Context, sql string) ([]targetRow, error) {
	schemas, tables := pg.SplitNames(e.file.TargetTables())
	rows, err := e.target.ask(ctx, sql, pg.TextArray(schemas), pg.TextArray(tables))
	list := make([]targetRow, len(rows))
	for i, r := range rows {
		list[i] = targetRow{pg.TableName{Schema: r[0].Text, Name: r[1].Text}, r[2].Text, r[3].Text}
	}
	return list, err
}

// withTargets is what statements of targetRows begin with.
const withTargets = `WITH w AS (
	SELECT w.schema, w.name, c.oid
	FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS w(schema, name)
	LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
	LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name)`

// historyCheck: whether the stream can go on from where the target says that it
// is.
func historyCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	switch {
	case e.system == nil:
		return nil, unmadeError("the source doesn't say who it is")
	case e.sink == nil:
		return nil, unmadeError("the target's checkpoint can't be read")
	}
	if e.slot != nil && e.slot.Usable(e.system.Database) != nil {
		return nil, unmadeError("the slot can't be used")
	}
	cp, err := e.sink.Checkpoint(ctx)
	if err != nil && !errors.Is(err, sink.ErrNoCheckpoint) {
		return nil, err
	}
	err = replicator.History{
		Name: e.Name, Checkpoint: cp, System: *e.system, Fingerprint: e.mapping.Schema.Fingerprint,
		Slot: e.slot, Manual: e.Manual,
	}.Check()
	if err == nil && cp.LSN != 0 {
		err = replicator.CheckUnaltered(ctx, e.source.conn, e.Name, e.mapping, cp.Origin.Publication, nil)
		if err == nil {
			_, err = replicator.CheckPartitions(ctx, e.source.conn, e.mapping, cp.Origin.Publication)
		}
	}
	switch {
	case err != nil:
		f := failed(err)
		f.Why = "run refuses to go on by guessing."
		return []Finding{f}, nil
	case cp.LSN == 0:
		return []Finding{{Severity: Info, What: "nothing has been copied yet", Why: "run begins with the first copy."}}, nil
	}
	what := []string{fmt.Sprintf("the target is at %s", cp.LSN)}
	if cp.LeaseLeft > 0 && cp.Holder != "" {
		what = append(what, "a bridge is at work ("+cp.Holder+")")
	}
	if cp.Counters.Held > 0 {
		what = append(what, fmt.Sprintf("%d rows are held", cp.Counters.Held))
	}
	return []Finding{{Severity: Info, What: strings.Join(what, "; ")}}, nil
}
