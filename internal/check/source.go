package check

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/replicator"
)

// identityCheck leaves out tables that the mapping can't follow: that is said
// already, with the line of the file.
func identityCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	tables := slices.DeleteFunc(e.sourceTables(), func(t pg.TableName) bool { return e.refused[t] })
	_, err = replicator.CheckIdentities(ctx, e.source.conn, tables)
	var problems *replicator.IdentityError
	if !errors.As(err, &problems) {
		return nil, err
	}
	for _, p := range problems.Problems {
		found = append(found, Finding{
			Severity: Error, What: fmt.Sprintf("table %s %s", p.Table, p.Reason),
			Why: "Once it is published, the application's UPDATE and DELETE on it fail.", Fix: p.Fix,
		})
	}
	return found, nil
}

// sourceSecurityCheck: what row security hides is missing in the first copy,
// while the stream, which it doesn't concern, has it.
func sourceSecurityCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	subject, err := subjectTables(ctx, e.source.ask, e.sourceTables())
	if err != nil {
		return nil, err
	}
	for _, t := range subject {
		e.refused[t.name] = true
		found = append(found, Finding{
			Severity: Error, What: fmt.Sprintf("row security of table %s binds the role %s", t.name, e.source.role),
			Why: "The first copy would lack the rows that it hides, so the bridge refuses to read the table.",
			Fix: "as a superuser: ALTER ROLE " + pg.Quote(e.source.role) + " BYPASSRLS;",
		})
	}
	return found, nil
}

// subject is a table whose row security binds the role.
type subject struct {
	name      pg.TableName
	owner     string
	hasPolicy bool
}

// subjectTables asks the server, which knows of owners, superusers, BYPASSRLS and
// FORCE ROW LEVEL SECURITY.
func subjectTables(ctx context.Context, ask pg.Ask, tables []pg.TableName) ([]subject, error) {
	schemas, names := pg.SplitNames(tables)
	rows, err := ask(ctx, selectSubject, pg.TextArray(schemas), pg.TextArray(names))
	if err != nil {
		return nil, fmt.Errorf("read row security: %w", err)
	}
	list := make([]subject, len(rows))
	for i, r := range rows {
		list[i] = subject{name: pg.TableName{Schema: r[0].Text, Name: r[1].Text}, owner: r[2].Text, hasPolicy: r[3].Text == "t"}
	}
	return list, nil
}

const selectSubject = `SELECT n.nspname::text, c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text,
		EXISTS (SELECT FROM pg_catalog.pg_policy p, pg_catalog.unnest(p.polroles) AS r WHERE p.polrelid = c.oid AND (r = 0 OR pg_catalog.pg_has_role(r, 'USAGE')))
	FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS w(schema, name)
	JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
	JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind IN ('r', 'p')
	WHERE pg_catalog.row_security_active(c.oid) ORDER BY 1, 2`

// selectCheck tries the statements of the first copy.
func selectCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	statements := map[pg.TableName]string{}
	for _, t := range e.sourceTables() {
		statements[t] = "SELECT FROM ONLY " + t.SQL()
	}
	if e.mapping != nil {
		for _, s := range e.mapping.Sources {
			statements[pg.TableName{Schema: s.Schema, Name: s.Name}], _ = s.PieceSQL(nil, 1)
		}
	}
	for _, t := range e.sourceTables() {
		if e.refused[t] {
			continue
		}
		err := try(ctx, e.source.conn, statements[t])
		switch {
		case err == nil:
		case e.source.conn.IsClosed():
			return found, fmt.Errorf("try to read %s: %w", t, err)
		case fault.Code(err) != "42501": // a lock, for instance
			found = append(found, failed(fmt.Errorf("try to read %s: %w", t, err)))
		default:
			found = append(found, Finding{
				Severity: Error, What: fmt.Sprintf("the role %s may not read table %s: %v", e.source.role, t, err),
				Why: "The first copy reads it.",
				Fix: fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s; GRANT SELECT ON %s TO %[2]s;", pg.Quote(t.Schema), pg.Quote(e.source.role), t.SQL()),
			})
		}
	}
	return found, nil
}

// publicationCheck compares the publication with the mapping, or, while there is
// none, looks whether the role may make it.
func publicationCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	var tables []pg.TableName // without a mapping that fits, only the operations are looked at
	if e.mapping != nil {
		tables = e.sourceTables()
	}
	p, err := replicator.ReadPublication(ctx, e.source.conn, e.Name)
	exists := !errors.Is(err, replicator.ErrNoPublication)
	if err != nil && exists {
		return nil, err
	}
	partitioned, err := replicator.CheckIdentities(ctx, e.source.conn, tables)
	var problems *replicator.IdentityError
	if err != nil && !errors.As(err, &problems) {
		return nil, err
	}
	if exists {
		for _, problem := range p.Problems(tables, partitioned) {
			f := failed(problem)
			f.Why = "Changes would be lost without a trace."
			found = append(found, f)
		}
	}
	if partitioned && exists && !p.ViaRoot {
		return found, nil // what it holds can't be told by names
	}
	if e.mapping == nil {
		if !exists {
			found = append(found, Finding{Severity: Info, What: fmt.Sprintf("there is no publication %s yet", e.Name)})
		}
		return found, nil
	}
	plan := p.Plan(tables, exists, partitioned)
	if len(plan.Extra) > 0 {
		found = append(found, Finding{
			Severity: Warning, What: fmt.Sprintf("publication %s has tables that the mapping doesn't need: %s", e.Name, names(plan.Extra)),
			Why: "Their rows travel to the bridge and are thrown away, and whoever may use the slot can read them.",
			Fix: dropExtra(p, plan.Extra),
		})
	}
	if len(plan.SQL) == 0 {
		return found, nil
	}
	able, err := mayPublish(ctx, e.source.conn, tables)
	if err != nil {
		return found, err
	}
	return append(found, e.unpublished(plan.SQL[0], exists, able)), nil
}

func dropExtra(p replicator.Publication, extra []pg.TableName) string {
	if p.AllTables || len(p.Schemas) > 0 {
		return "make a publication of the mapped tables alone: DROP PUBLICATION " + pg.Quote(p.Name) + "; run makes it then"
	}
	sql := "ALTER PUBLICATION " + pg.Quote(p.Name) + " DROP TABLE "
	for i, t := range extra {
		if i > 0 {
			sql += ", "
		}
		sql += t.SQL()
	}
	return sql + ";"
}

// unpublished is about tables that are not published yet.
func (e *Env) unpublished(sql string, exists, able bool) Finding {
	f := Finding{Severity: Info, What: fmt.Sprintf("there is no publication %s yet", e.Name), Why: "run makes it."}
	if exists {
		f.What = fmt.Sprintf("publication %s lacks tables of the mapping", e.Name)
		f.Why = "run adds them when it makes the slot."
	}
	switch {
	case e.slot != nil && exists:
		f.Severity, f.Fix = Error, sql
		f.Why = "Changes of theirs that the slot has not streamed yet are lost: it reads the WAL under the publication as it was then."
	case e.slot != nil:
		f.Severity = Error
		f.What = fmt.Sprintf("slot %s exists, its publication doesn't", e.Name)
		f.Why = "A slot reads the WAL under the publication as it was then, so one that is made now doesn't serve it."
		f.Fix = "SELECT pg_drop_replication_slot(" + pg.QuoteLiteral(e.Name) + "); run makes both, the publication first"
	case !able:
		f.Severity, f.Fix = Error, "as the owner of the tables: "+sql
		f.Why = fmt.Sprintf("The role %s can't make it: that takes the ownership of all tables, and CREATE on the database.", e.source.role)
	case e.Manual:
		f.Severity, f.Fix = Warning, sql
		f.Why = "With --prepare=manual, run doesn't."
	}
	return f
}

// mayPublish reports whether the role may make a publication of tables.
func mayPublish(ctx context.Context, conn *pgx.Conn, tables []pg.TableName) (able bool, err error) {
	schemas, names := pg.SplitNames(tables)
	err = conn.QueryRow(ctx, `
		SELECT pg_catalog.has_database_privilege(current_database(), 'CREATE') AND coalesce(bool_and(pg_catalog.pg_has_role(c.relowner, 'USAGE')), true)
		FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS w(schema, name)
		JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
		JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name`, schemas, names).Scan(&able)
	if err != nil {
		return false, fmt.Errorf("read the right to publish: %w", err)
	}
	return able, nil
}
