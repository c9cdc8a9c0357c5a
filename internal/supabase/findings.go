package supabase

import (
	"context"
	"fmt"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
)

// Finding is something by which the API's users read or write more than their
// tenant's rows, or might. It is never changed from here.
type Finding struct {
	Table pg.TableName
	// Leak says that it does; else only its author can tell.
	Leak bool
	// Dormant says that nobody of the API has a right on the table yet.
	Dormant        bool
	What, Why, Fix string

	// policy: it is a policy of the table itself.
	policy bool
}

// Inspect looks for policies, rights and views that let the roles of Supabase's API
// pass by the policies of this package. Permissive policies add up, so one old one
// is enough.
func Inspect(ctx context.Context, ask pg.Ask, tables []pg.TableName) ([]Finding, error) {
	var list []Finding
	for _, inspect := range []func(context.Context, pg.Ask, []pg.TableName) ([]Finding, error){policies, rights, otherViews} {
		found, err := inspect(ctx, ask, tables)
		if err != nil {
			return nil, fmt.Errorf("inspect who reads the target's tables: %w", pg.Safe(err))
		}
		list = append(list, found...)
	}
	return list, nil
}

// Statements are those that Inspect asks.
func Statements() []string { return []string{selectPolicies, selectRights, selectViews} }

// wanted is a CTE w(schema, name, oid) of the tables that exist, and api(oid, name)
// of the roles that its users have.
const wanted = `WITH RECURSIVE w AS (
		SELECT q.s AS schema, q.n AS name, c.oid FROM unnest($1::text[], $2::text[]) AS q(s, n)
		JOIN pg_catalog.pg_namespace AS n ON n.nspname = q.s
		JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = q.n),
	api AS (SELECT r.oid, r.rolname AS name FROM pg_catalog.pg_roles AS r WHERE r.rolname IN ('anon', 'authenticated'))`

// found is a row about a table: texts whose meaning goes with the query.
type found struct {
	table pg.TableName
	texts [4]string
}

func query(ctx context.Context, ask pg.Ask, sql string, tables []pg.TableName) ([]found, error) {
	schemas, names := pg.SplitNames(tables)
	rows, err := ask(ctx, sql, pg.TextArray(schemas), pg.TextArray(names))
	list := make([]found, len(rows))
	for i, r := range rows {
		list[i].table = pg.TableName{Schema: r[0].Text, Name: r[1].Text}
		for n := range list[i].texts {
			list[i].texts[n] = r[2+n].Text
		}
	}
	return list, err
}

const selectPolicies = wanted + `
		SELECT w.schema, w.name, p.polname::text, p.polcmd::text,
			pg_catalog.pg_get_expr(CASE p.polcmd WHEN 'a' THEN p.polwithcheck ELSE p.polqual END, p.polrelid),
			EXISTS (SELECT FROM api WHERE pg_catalog.has_table_privilege(api.oid, w.oid, 'SELECT, INSERT, UPDATE, DELETE'))::text
		FROM w JOIN pg_catalog.pg_policy AS p ON p.polrelid = w.oid
		WHERE p.polpermissive AND EXISTS (SELECT FROM api, unnest(p.polroles) AS r(oid) WHERE r.oid = 0 OR pg_catalog.pg_has_role(api.oid, r.oid, 'USAGE'))
		ORDER BY 1, 2, 3`

func policies(ctx context.Context, ask pg.Ask, tables []pg.TableName) (list []Finding, err error) {
	rows, err := query(ctx, ask, selectPolicies, tables)
	for _, r := range rows {
		name, expr := r.texts[0], r.texts[2]
		// One that goes by the claim as ours do is as good as ours.
		if strings.Contains(expr, "walbridge_api.claim_") && !strings.Contains(strings.ToUpper(expr), " OR ") {
			continue
		}
		f := Finding{Table: r.table, policy: true, Dormant: r.texts[3] != "true", What: fmt.Sprintf("table %s has a policy of somebody else's for users of the API: %s", r.table, pg.Quote(name)),
			Fix: fmt.Sprintf("DROP POLICY %s ON %s;", pg.Quote(name), r.table.SQL())}
		f.Why, f.Leak = judge(expr)
		list = append(list, f)
	}
	return list, err
}

// judge says what is wrong with a policy's expression.
func judge(expr string) (why string, leak bool) {
	e := strings.ToLower(expr)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(e, p) {
				return true
			}
		}
		return false
	}
	const add = "Policies add up, so one is enough. "
	switch {
	case has("request.header"):
		return add + "This one goes by a header, which whoever asks sets as he likes.", true
	case has("user_metadata", "user_meta_data"):
		return add + "This one goes by user_metadata, which users edit themselves.", true
	case has(" or "):
		return add + "This one says OR: the rows of either side pass.", true
	case !has("jwt", "auth.", "session_user"):
		return add + "This one doesn't look at whose token it is: it lets everybody at the rows that it passes.", true
	case has("coalesce("):
		return add + "This one falls back to something when the token has no tenant.", true
	}
	return add + "This one looks at the token; only its author can tell whether it lets through what it should.", false
}

const selectRights = wanted + `
		SELECT w.schema, w.name, pg_catalog.string_agg(DISTINCT api.name::text, ' and '), pg_catalog.string_agg(DISTINCT r.name, ', '), '', ''
		FROM w CROSS JOIN api CROSS JOIN (VALUES ('INSERT'), ('UPDATE'), ('DELETE'), ('TRUNCATE')) AS r(name)
		WHERE pg_catalog.has_table_privilege(api.oid, w.oid, r.name) GROUP BY 1, 2 ORDER BY 1, 2`

// rights finds what the API's users may do beside reading. Row security doesn't
// keep anybody from a TRUNCATE.
func rights(ctx context.Context, ask pg.Ask, tables []pg.TableName) (list []Finding, err error) {
	rows, err := query(ctx, ask, selectRights, tables)
	for _, r := range rows {
		list = append(list, Finding{
			Table: r.table, Leak: true, What: fmt.Sprintf("%s may write to table %s (%s)", r.texts[0], r.table, r.texts[1]),
			Why: "The bridge is to be the only writer, and row security stops no TRUNCATE. An application that still writes here with a key of the API stops working.",
			Fix: fmt.Sprintf("REVOKE ALL ON %s FROM anon; REVOKE INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER ON %[1]s FROM authenticated;", r.table.SQL()),
		})
	}
	return list, err
}

const selectViews = wanted + `,
	v AS (
		SELECT w.schema, w.name, r.ev_class AS oid FROM w
		JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = w.oid AND d.classid = 'pg_catalog.pg_rewrite'::regclass
		JOIN pg_catalog.pg_rewrite AS r ON r.oid = d.objid AND r.ev_class <> w.oid
		UNION
		SELECT v.schema, v.name, r.ev_class FROM v
		JOIN pg_catalog.pg_depend AS d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = v.oid AND d.classid = 'pg_catalog.pg_rewrite'::regclass
		JOIN pg_catalog.pg_rewrite AS r ON r.oid = d.objid AND r.ev_class <> v.oid)
		SELECT pg_catalog.min(v.schema), pg_catalog.min(v.name), pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind::text,
			(SELECT pg_catalog.string_agg(api.name::text, ' and ' ORDER BY api.name) FROM api WHERE pg_catalog.has_table_privilege(api.oid, c.oid, 'SELECT')),
			pg_catalog.current_setting('server_version_num')
		FROM v JOIN pg_catalog.pg_class AS c ON c.oid = v.oid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE (c.relkind = 'm' OR c.relkind = 'v' AND NOT EXISTS (
			SELECT FROM pg_catalog.pg_options_to_table(c.reloptions) AS o WHERE o.option_name = 'security_invoker' AND o.option_value::bool))
		AND EXISTS (SELECT FROM api WHERE pg_catalog.has_table_privilege(api.oid, c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(api.oid, n.oid, 'USAGE'))
		GROUP BY c.oid, c.relkind, n.nspname, c.relname ORDER BY 3`

// otherViews finds views over the tables that read with their owner's rights.
func otherViews(ctx context.Context, ask pg.Ask, tables []pg.TableName) (list []Finding, err error) {
	rows, err := query(ctx, ask, selectViews, tables)
	for _, r := range rows {
		f := Finding{Table: r.table, Leak: true, What: fmt.Sprintf("%s can read the view %s, which reads table %s with its owner's rights", r.texts[2], r.texts[0], r.table),
			Why: "It shows every tenant's rows or numbers to every tenant.",
			Fix: fmt.Sprintf("ALTER VIEW %s SET (security_invoker = true);", r.texts[0])}
		if r.texts[1] == "m" || r.texts[3] < "150000" { // which had no other views, either
			f.Why += " A materialized view has no row security, nor has any view before PostgreSQL 15."
			f.Fix = fmt.Sprintf("REVOKE ALL ON %s FROM anon, authenticated;", r.texts[0])
		}
		list = append(list, f)
	}
	return list, err
}
