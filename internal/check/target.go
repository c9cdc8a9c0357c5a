package check

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
	"github.com/walbridge/walbridge/sink/rest"
)

// tablesCheck asks the sink what it would make, and what it can't write to.
func tablesCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	if err := e.openSink(ctx); err != nil {
		return nil, err
	}
	e.missing, err = e.sink.Install(ctx, e.mapping.Schema, true)
	for _, err := range unjoin(err) {
		f := failed(err)
		var s *sink.SchemaError
		if errors.As(err, &s) {
			bare := *s
			bare.Fix = ""
			f.What, f.Fix = bare.Error(), s.Fix
			f.Why = "The bridge doesn't change tables that are there."
		}
		found = append(found, f)
	}
	if len(e.missing) == 0 {
		return found, nil
	}
	f := Finding{Severity: Info, What: "not there yet: " + e.summary(), Why: "run makes it."}
	switch {
	case e.target.byAPI():
		f.Severity, f.Why, f.Fix = Error, "Over the API, run makes nothing.", rest.SchemaHint
	case e.Manual:
		f.Severity, f.Why, f.Fix = Warning, "With --prepare=manual, run doesn't.", "walbridge run --prepare=manual prints the SQL and stops"
	}
	return append(found, f), nil
}

// summary counts what the target lacks.
func (e *Env) summary() string {
	var parts, tables []string
	indexes, columns, private := 0, 0, false
	for _, sql := range e.missing {
		object, isTable := strings.CutPrefix(sql, "CREATE TABLE IF NOT EXISTS ")
		object, _, _ = strings.Cut(object, " (")
		switch {
		case strings.Contains(sql, " walbridge"):
			private = true
		case isTable:
			tables = append(tables, object)
		case strings.HasPrefix(sql, "CREATE INDEX "):
			indexes++
		case addsColumn(sql):
			columns++
		}
	}
	if private {
		parts = append(parts, "the private schema walbridge or a part of it")
	}
	if len(tables) > 0 {
		parts = append(parts, "tables "+strings.Join(tables, ", "))
	}
	if columns > 0 {
		parts = append(parts, fmt.Sprintf("%d observed columns", columns))
	}
	if indexes > 0 {
		parts = append(parts, fmt.Sprintf("%d indexes", indexes))
	}
	return strings.Join(parts, "; ")
}

// addsColumn: the statement adds an observed column to a table that is there.
func addsColumn(sql string) bool {
	return strings.HasPrefix(sql, "ALTER TABLE ") && strings.Contains(sql, " ADD COLUMN ")
}

// createCheck asks for the rights to make what is missing.
func createCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	role := pg.Quote(e.target.role)
	refuse := func(what, fix string) {
		found = append(found, Finding{
			Severity: Error, What: fmt.Sprintf("the role %s may not make %s", e.target.role, what),
			Why: "It is missing, and run would make it.", Fix: fix + " or make it as another role: walbridge run --prepare=manual prints the SQL",
		})
	}
	var inDatabase, inPrivate, private bool
	var database string
	err = e.target.conn.QueryRow(ctx, `
		SELECT current_database()::text, has_database_privilege(current_database(), 'CREATE'), n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'CREATE'), false)
		FROM (VALUES (1)) AS one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'walbridge'`).
		Scan(&database, &inDatabase, &private, &inPrivate)
	if err != nil {
		return nil, fmt.Errorf("read rights: %w", err)
	}
	lacksPrivate := slices.ContainsFunc(e.missing, func(sql string) bool { return strings.Contains(sql, " walbridge.") })
	switch {
	case !private && !inDatabase:
		refuse("the private schema walbridge", fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s;", pg.Quote(database), role))
	case private && lacksPrivate && !inPrivate:
		refuse("objects in the private schema walbridge", fmt.Sprintf("GRANT CREATE, USAGE ON SCHEMA walbridge TO %s;", role))
	}
	rights, err := e.tableRights(ctx)
	if err != nil {
		return found, err
	}
	closed := map[string][]pg.TableName{}
	for _, r := range rights {
		index := func(sql string) bool {
			return strings.HasPrefix(sql, "CREATE INDEX ") && strings.Contains(sql, " ON "+r.name.SQL()+" (")
		}
		column := func(sql string) bool {
			return addsColumn(sql) && strings.HasPrefix(sql, "ALTER TABLE "+r.name.SQL()+" ")
		}
		switch {
		case !r.exists && !r.create:
			closed[r.name.Schema] = append(closed[r.name.Schema], r.name)
		case r.exists && !r.owner && slices.ContainsFunc(e.missing, index):
			refuse("an index of table "+r.name.String(), fmt.Sprintf("ALTER TABLE %s OWNER TO %s;", r.name.SQL(), role))
		case r.exists && !r.owner && slices.ContainsFunc(e.missing, column):
			refuse("a column of table "+r.name.String(), fmt.Sprintf("ALTER TABLE %s OWNER TO %s;", r.name.SQL(), role))
		}
	}
	for _, schema := range slices.Sorted(maps.Keys(closed)) {
		refuse("tables "+names(closed[schema]), fmt.Sprintf("GRANT CREATE, USAGE ON SCHEMA %s TO %s;", pg.Quote(schema), role))
	}
	return found, nil
}

// tableRight is what the role may do about a target table. Tables whose schema
// doesn't exist are left out: tablesCheck names them.
type tableRight struct {
	name                  pg.TableName
	exists, create, owner bool
}

func (e *Env) tableRights(ctx context.Context) (list []tableRight, err error) {
	schemas, tables := pg.SplitNames(e.file.TargetTables())
	rows, err := e.target.conn.Query(ctx, `
		SELECT w.schema, w.name, c.oid IS NOT NULL, pg_catalog.has_schema_privilege(n.oid, 'CREATE'), coalesce(pg_catalog.pg_has_role(c.relowner, 'USAGE'), false)
		FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS w(schema, name)
		JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
		LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
		ORDER BY 1, 2`, schemas, tables)
	if err != nil {
		return nil, fmt.Errorf("read rights: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var r tableRight
		if err := rows.Scan(&r.name.Schema, &r.name.Name, &r.exists, &r.create, &r.owner); err != nil {
			return nil, fmt.Errorf("read rights: %w", err)
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// writeCheck tries the kinds of statements that the bridge writes with.
func writeCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	if e.target.byAPI() {
		return apiWriteCheck(ctx, e)
	}
	columns, err := e.written(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range e.file.TargetTables() {
		list := columns[t]
		if len(list) == 0 {
			continue // it is missing
		}
		quoted := make([]string, len(list))
		for i, c := range list {
			quoted[i] = pg.Quote(c)
		}
		all := strings.Join(quoted, ", ")
		for _, s := range []struct{ right, sql string }{
			{"SELECT", fmt.Sprintf("SELECT %s FROM %s", all, t.SQL())},
			{"INSERT", fmt.Sprintf("INSERT INTO %s (%s) SELECT %[2]s FROM %[1]s", t.SQL(), all)},
			{"UPDATE", fmt.Sprintf("UPDATE %s SET %s = %[2]s", t.SQL(), quoted[0])},
			{"DELETE", "DELETE FROM " + t.SQL() + " WHERE true"},
		} {
			err := try(ctx, e.target.conn, s.sql)
			if err == nil {
				continue
			}
			if e.target.conn.IsClosed() {
				return found, fmt.Errorf("try to write to %s: %w", t, err)
			}
			f := failed(fmt.Errorf("%s on table %s as %s: %w", s.right, t, e.target.role, err))
			if fault.Code(err) == "42501" {
				f.Why = "The bridge keeps the table in step."
				f.Fix = fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s; GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %[2]s;",
					pg.Quote(t.Schema), pg.Quote(e.target.role), t.SQL())
			}
			found = append(found, f)
			break // what mends it mends the others
		}
	}
	return found, nil
}

// written returns the columns that the bridge writes of the tables that exist.
func (e *Env) written(ctx context.Context) (map[pg.TableName][]string, error) {
	catalog, err := e.target.catalog(ctx, e.file.TargetTables())
	if err != nil {
		return nil, err
	}
	wanted := map[pg.TableName][]string{}
	if e.mapping != nil {
		for _, t := range e.mapping.Schema.Tables {
			for _, c := range t.Columns {
				n := pg.TableName{Schema: t.Schema, Name: t.Name}
				wanted[n] = append(wanted[n], c.Name)
			}
		}
		if a := e.mapping.Schema.Entries; a != nil {
			n := pg.TableName{Schema: a.Schema, Name: a.Name}
			wanted[n] = append(wanted[n], a.ID, a.Tenant, a.User, a.Action, a.Details, a.Time)
		}
	}
	columns := map[pg.TableName][]string{}
	for _, n := range e.file.TargetTables() {
		t := catalog.Table(n)
		if t == nil {
			continue
		}
		for _, c := range t.Columns {
			// Without a mapping that fits, any column may be meant.
			if c.Generated == "" && (e.mapping == nil || slices.Contains(wanted[n], c.Name)) {
				columns[n] = append(columns[n], c.Name)
			}
		}
	}
	return columns, nil
}

// privateCheck looks at the rights on the private schema, if it is there. Of a table
// that this release doesn't know it takes all to be needed.
func privateCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	needed, functions := postgres.PrivateRights(e.Name)
	var tables, rights []string
	for _, r := range needed {
		tables, rights = append(tables, r.Table), append(rights, r.Right)
	}
	rows, err := e.target.ask(ctx, selectPrivate, pg.TextArray(tables), pg.TextArray(rights), pg.TextArray(functions))
	if err != nil {
		return nil, fmt.Errorf("read rights on the private schema: %w", err)
	}
	var lacking []string
	for _, r := range rows {
		lacking = append(lacking, r[0].Text)
	}
	if len(lacking) > 0 {
		role := pg.Quote(e.target.role)
		found = append(found, Finding{
			Severity: Error, What: fmt.Sprintf("the role %s lacks rights on %s", e.target.role, strings.Join(lacking, ", ")),
			Why: "The checkpoint and the held rows are there.",
			Fix: fmt.Sprintf("GRANT USAGE ON SCHEMA walbridge TO %s; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA walbridge TO %[1]s; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA walbridge TO %[1]s; or no more than it needs: walbridge schema target --apply --role %[1]s", role),
		})
	}
	return found, nil
}

const selectPrivate = `WITH need AS (SELECT t, r FROM unnest($1::text[], $2::text[]) AS n(t, r))
	SELECT 'the schema walbridge' FROM pg_catalog.pg_namespace n WHERE n.nspname = 'walbridge' AND NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE')
	UNION ALL
	SELECT 'table walbridge.' || c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
	WHERE n.nspname = 'walbridge' AND c.relkind = 'r' AND EXISTS (
	  SELECT FROM (SELECT r FROM need WHERE t = c.relname
	    UNION ALL SELECT r FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS r WHERE NOT EXISTS (SELECT FROM need WHERE t = c.relname)) AS d(r)
	  WHERE NOT pg_catalog.has_table_privilege(c.oid, d.r))
	UNION ALL
	SELECT 'function walbridge.' || p.proname FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
	WHERE n.nspname = 'walbridge' AND p.proname = ANY ($3::text[]) AND NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE')`
