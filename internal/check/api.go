package check

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/walbridge/walbridge/internal/config"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/supabase"
	"github.com/walbridge/walbridge/sink/rest"
)

// Statements are those by which a target is looked at over its API.
func Statements() []string {
	return slices.Concat([]string{
		selectIdentity, selectStandby, selectEncoding, selectClock, selectLogging, selectWritable, selectPrivate, selectSubject,
		selectTriggers, selectForeignKeys, selectExposed, selectCallers, selectRealtime, selectQuieted,
	}, supabase.Statements())
}

// soonExpired is how long before its end a key is worth a word.
const soonExpired = 30 * 24 * time.Hour

// keyCheck looks at address and key before anybody sends them.
func keyCheck(_ context.Context, e *Env) (found []Finding, err error) {
	opts := e.target.apiOptions
	if _, err := config.CheckProjectURL(opts.URL); err != nil {
		found = append(found, failed(err))
	}
	key, err := opts.Key()
	if err != nil {
		return found, fmt.Errorf("read the API key: %w", err)
	}
	if err := config.CheckAPIKey(key); err != nil {
		return append(found, failed(err)), nil
	}
	if end := config.KeyExpiry(key); !end.IsZero() && end.Before(e.Now().Add(soonExpired)) {
		found = append(found, Finding{
			Severity: Warning, What: "the API key expires on " + end.UTC().Format(time.DateOnly),
			Why: "The API refuses it then, and the bridge stops writing until it has another one.",
			Fix: "take a secret key (sb_secret_…): Project settings, API keys; in a file (SUPABASE_SECRET_KEY_FILE) it is read again by itself",
		})
	}
	return found, nil
}

// apiCheck calls the function that the bridge writes by, with nothing to do.
func apiCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	s := e.target
	at, err := config.CheckProjectURL(s.apiOptions.URL)
	if err != nil {
		return nil, unmadeError("the address is refused")
	}
	key, err := s.apiOptions.Key()
	if err != nil || config.CheckAPIKey(key) != nil {
		return nil, unmadeError("the key is refused")
	}
	if s.api, err = rest.Open(ctx, *s.apiOptions, discard); err != nil {
		return nil, err
	}
	return []Finding{{Severity: Info, What: fmt.Sprintf("the API at %s, with %s", at.Host, config.KeyKind(key))}}, nil
}

// functionsCheck: what check asks, the functions at the target have to know, too.
func functionsCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	s := e.target
	if err := s.api.Reads(ctx); err != nil {
		s.deaf = "verify and check read by a function that doesn't answer"
		return nil, err
	}
	known, err := s.api.Knows(ctx, Statements()...)
	if err != nil {
		s.deaf = "the functions at the target don't know what check asks"
		return nil, err
	}
	if !known {
		s.deaf = "the functions at the target don't know what check asks"
		return []Finding{{Severity: Warning, What: s.deaf, Fix: rest.SchemaHint,
			Why: "They were made by another version of walbridge. What the bridge needs may be there all the same."}}, nil
	}
	server, err := s.identify(ctx)
	if err != nil {
		return nil, err
	}
	return []Finding{{Severity: Info, What: fmt.Sprintf("%s, with the rights of %s, who owns public.walbridge(json)", server, s.role)}}, nil
}

const selectCallers = `SELECT pg_catalog.format('public.%I(%s)', p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)), pg_catalog.string_agg(r.rolname::text, ' and ' ORDER BY r.rolname)
	FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
	JOIN pg_catalog.pg_roles r ON r.rolname IN ('anon', 'authenticated')
	WHERE n.nspname = 'public' AND p.proname IN ('walbridge', 'walbridge_read') AND p.prosecdef AND pg_catalog.has_function_privilege(r.oid, p.oid, 'EXECUTE')
	GROUP BY 1 ORDER BY 1`

// callers finds functions of the bridge that users of the API may call.
func callers(ctx context.Context, ask pg.Ask) (found []Finding, err error) {
	rows, err := ask(ctx, selectCallers)
	if err != nil {
		return nil, fmt.Errorf("read who may call the bridge's functions: %w", err)
	}
	for _, r := range rows {
		found = append(found, Finding{
			Severity: Error, What: fmt.Sprintf("%s may call function %s", r[1].Text, r[0].Text),
			Why: "It does what the bridge does, with its owner's rights: whoever has the public key reads and writes the rows of all tenants.",
			Fix: fmt.Sprintf("REVOKE ALL ON FUNCTION %s FROM PUBLIC, anon, authenticated;", r[0].Text),
		})
	}
	return found, nil
}

const selectWritable = withTargets + `
	SELECT w.schema, w.name, pg_catalog.string_agg(r.name, ', ' ORDER BY r.n), pg_catalog.pg_get_userbyid(c.relowner)::text
	FROM w JOIN pg_catalog.pg_class c ON c.oid = w.oid
	CROSS JOIN (VALUES (1, 'SELECT'), (2, 'INSERT'), (3, 'UPDATE'), (4, 'DELETE')) AS r(n, name)
	WHERE NOT (pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, r.name))
	GROUP BY 1, 2, c.relowner ORDER BY 1, 2`

// apiWriteCheck asks for the rights of the functions' owner.
func apiWriteCheck(ctx context.Context, e *Env) (found []Finding, err error) {
	rows, err := e.targetRows(ctx, selectWritable)
	if err != nil {
		return nil, fmt.Errorf("read rights: %w", err)
	}
	for _, r := range rows {
		found = append(found, Finding{
			Severity: Error, What: fmt.Sprintf("the role %s lacks rights on table %s: %s", e.target.role, r.table, r.a),
			Why: "The functions at the target write with its rights, because it owns them.", Fix: giveFunctions(r.b),
		})
	}
	return found, nil
}

// giveFunctions has them write with the rights of a table's owner.
func giveFunctions(owner string) string {
	return fmt.Sprintf("ALTER FUNCTION public.walbridge(json) OWNER TO %s; ALTER FUNCTION public.walbridge_read(json) OWNER TO %[1]s;", pg.Quote(owner))
}
