package supabase

import (
	"fmt"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
)

// policyName is that of the policies by which tenants read.
const policyName = "walbridge_tenant"

// claimBody reads a claim of the request's token: set by the project's own access
// token hook or server, else from app_metadata. Users can edit neither, unlike
// user_metadata. PostgREST leaves the setting empty after a transaction, and a
// claim may be missing or malformed: all of that is no tenant, and no error that
// every query of its bearer would end in. Reading it in a policy by (SELECT …)
// makes it an InitPlan: once a query, and an index on the tenant can be used.
const claimBody = `
DECLARE
	claims jsonb;
BEGIN
	claims := nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::jsonb;
	RETURN nullif(coalesce(claims ->> $1, claims -> 'app_metadata' ->> $1), '')::%s;
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END`

// claimFunction is the name of the function that reads a claim as a type.
func claimFunction(typ string) string {
	name := strings.NewReplacer(`"pg_catalog".`, "", `"."`, "_", `"`, "").Replace(typ)
	return pg.Quote("walbridge_api", "claim_"+name)
}

// tenantOf is the condition that a row is the tenant's of the request.
func tenantOf(t Table) string {
	return fmt.Sprintf("%s = (SELECT %s(%s))", pg.Quote(t.Tenant), claimFunction(t.Type), pg.QuoteLiteral(t.Tenant))
}

// access lets tenants read their rows. A table that somebody has left open, without
// row security or by a policy of his own, is not opened further.
func (p *planner) access(findings []Finding) {
	leaky := map[pg.TableName]bool{}
	for _, f := range findings {
		leaky[f.Table] = leaky[f.Table] || f.policy && f.Leak
	}
	var functions []pg.Statement
	var types []string
	for _, t := range p.tables {
		if slices.Contains(types, t.Type) {
			continue
		}
		types = append(types, t.Type)
		f := claimFunction(t.Type)
		functions = append(functions,
			do("CREATE OR REPLACE FUNCTION %s(text) RETURNS %s LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = '' AS $body$%s$body$",
				f, t.Type, fmt.Sprintf(claimBody, t.Type)),
			do("REVOKE ALL ON FUNCTION %s(text) FROM PUBLIC, anon, authenticated", f),
			do("GRANT EXECUTE ON FUNCTION %s(text) TO authenticated", f))
	}
	p.add("Which tenant a request is of: the claim that has the name of the tenant's column, in its token's\napp_metadata or, by an access token hook, in the token itself.",
		append([]pg.Statement{
			do("CREATE SCHEMA IF NOT EXISTS walbridge_api"),
			do("REVOKE ALL ON SCHEMA walbridge_api FROM PUBLIC, anon, authenticated"),
			do("GRANT USAGE ON SCHEMA walbridge_api TO authenticated"),
		}, functions...)...)

	var policies []pg.Statement
	for _, t := range p.tables {
		condition := tenantOf(t)
		if t.Condition != "" {
			condition += " AND " + t.Condition
		}
		if mark := mark(condition); p.has.policies[t.Name] != mark {
			on := policyName + " ON " + t.Name.SQL()
			policies = append(policies,
				pg.Statement{
					SQL: fmt.Sprintf("CREATE POLICY %s FOR SELECT TO authenticated USING (%s)", on, condition),
					Unless: fmt.Sprintf("SELECT FROM pg_catalog.pg_policy WHERE polrelid = %s::regclass AND polname = %s",
						pg.QuoteLiteral(t.Name.SQL()), pg.QuoteLiteral(policyName)),
				},
				// One of an earlier release, or of another mapping.
				do("ALTER POLICY %s TO authenticated USING (%s)", on, condition),
				do("COMMENT ON POLICY %s IS %s", on, pg.QuoteLiteral(mark)))
		}
		if !p.has.open[t.Name] && !leaky[t.Name] {
			policies = append(policies, do("GRANT SELECT ON TABLE %s TO authenticated", t.Name.SQL()))
		}
	}
	p.add("Tenants read their own rows. Nobody but the bridge writes, and anon reads nothing.", policies...)
}

// hook makes an access token hook for projects that keep their members in a table.
// It takes effect when somebody chooses it in Supabase's settings.
func (p *planner) hook() {
	if !p.has.auth || len(p.tables) == 0 {
		return
	}
	t := p.tables[0]
	claim := pg.QuoteLiteral(t.Tenant)
	body := fmt.Sprintf(`
DECLARE
	tenant %s := (SELECT m.tenant FROM walbridge_api.members AS m WHERE m.user_id = (event ->> 'user_id')::uuid);
BEGIN
	IF tenant IS NULL THEN
		RETURN event;
	END IF;
	RETURN pg_catalog.jsonb_set(event, ARRAY['claims', %s], pg_catalog.to_jsonb(tenant));
END`, t.Type, claim)
	p.add("An access token hook (Authentication → Hooks): users get the tenant that walbridge_api.members has for\nthem. Without it the claim comes from app_metadata.",
		do("CREATE TABLE IF NOT EXISTS walbridge_api.members (\n\tuser_id uuid PRIMARY KEY,\n\ttenant %s NOT NULL\n)", t.Type),
		do("REVOKE ALL ON TABLE walbridge_api.members FROM PUBLIC, anon, authenticated"),
		do("CREATE OR REPLACE FUNCTION walbridge_api.access_token_hook(event jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE SET search_path = '' AS $body$%s$body$", body),
		do("REVOKE ALL ON FUNCTION walbridge_api.access_token_hook(jsonb) FROM PUBLIC, anon, authenticated"),
		do("GRANT USAGE ON SCHEMA walbridge_api TO supabase_auth_admin"),
		do("GRANT SELECT ON TABLE walbridge_api.members TO supabase_auth_admin"),
		do("GRANT EXECUTE ON FUNCTION walbridge_api.access_token_hook(jsonb) TO supabase_auth_admin"))
}
