package postgrest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
)

// function is one function of an exposed schema.
type function struct {
	names, types []string
	// defaults is how many of the last arguments have one.
	defaults   int
	set, void  bool
	composite  bool
	config     []string
	singleJSON bool
}

const findFunctions = `SELECT coalesce(p.proargnames[1:p.pronargs], '{}'), coalesce(ARRAY(
		SELECT pg_catalog.format_type(t, NULL) FROM pg_catalog.unnest(p.proargtypes::oid[]) WITH ORDINALITY AS a(t, o) ORDER BY a.o), '{}'),
		p.pronargs = 1 AND p.proargnames IS NULL AND p.proargtypes[0] IN ('pg_catalog.json'::pg_catalog.regtype, 'pg_catalog.jsonb'::pg_catalog.regtype),
		p.pronargdefaults::int4, p.proretset, p.prorettype = 'pg_catalog.void'::pg_catalog.regtype, ty.typtype = 'c',
		coalesce(p.proconfig, '{}')
	FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
	JOIN pg_catalog.pg_type AS ty ON ty.oid = p.prorettype
	WHERE n.nspname = $1 AND p.proname = $2 AND p.prokind = 'f'`

// hoisted are the settings of a function that PostgREST makes those of the
// transaction (db-hoisted-tx-settings): a statement_timeout that only the function
// had would come too late for the statement that calls it.
var hoisted = []string{"statement_timeout", "plan_filter.statement_cost_limit", "default_transaction_isolation"}

// call runs a function. PostgREST finds it in its cache of the schema, which
// anybody's request may use, so the lookup is not subject to the role.
func (q *query) call(ctx context.Context) *response {
	args, refused := q.arguments()
	if refused != nil {
		return refused
	}
	f, err := q.find(ctx, args)
	if err != nil {
		return q.failed(err)
	}
	if f == nil {
		return problem(http.StatusNotFound, "PGRST202",
			fmt.Sprintf("Could not find the function %s.%s in the schema cache", q.schema, q.name))
	}
	settings := make(map[string]string)
	for _, c := range f.config {
		if name, value, ok := strings.Cut(c, "="); ok && slices.Contains(hoisted, name) {
			settings[name] = value
		}
	}
	return q.run(ctx, settings, func(tx pgx.Tx) (*response, error) {
		sql, params := f.sql(pg.Quote(q.schema, q.name), args, q.body)
		var body []byte
		if err := tx.QueryRow(ctx, sql, params...).Scan(&body); err != nil {
			return nil, err
		}
		if f.void {
			return &response{status: http.StatusNoContent, header: http.Header{}}, nil
		}
		return respond(http.StatusOK, "application/json; charset=utf-8", body), nil
	})
}

// arguments are those of the query of a GET, or the members of the body.
func (q *query) arguments() (map[string]json.RawMessage, *response) {
	args := make(map[string]json.RawMessage)
	if q.r.Method != http.MethodPost {
		for name, values := range q.r.URL.Query() {
			if name != "apikey" && name != "select" {
				args[name], _ = json.Marshal(values[0])
			}
		}
		return args, nil
	}
	if len(q.body) == 0 {
		return args, nil
	}
	var syntax *json.SyntaxError
	switch err := json.Unmarshal(q.body, &args); {
	case errors.As(err, &syntax):
		return nil, problem(http.StatusBadRequest, "PGRST102", "Empty or invalid json")
	case err != nil: // an array: of what, PostgREST asks by its objects
		return nil, problem(http.StatusBadRequest, "PGRST102", "All object keys must match")
	}
	return args, nil
}

// find chooses the function that takes just these arguments, else one with a
// single unnamed parameter of JSON, which takes the body as it is.
func (q *query) find(ctx context.Context, args map[string]json.RawMessage) (*function, error) {
	conn, err := q.s.connection(ctx)
	if err != nil {
		return nil, err
	}
	defer q.s.giveBack(conn)
	rows, err := conn.Query(ctx, findFunctions, q.schema, q.name)
	if err != nil {
		return nil, err
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f function, err error) {
		err = row.Scan(&f.names, &f.types, &f.singleJSON, &f.defaults, &f.set, &f.void, &f.composite, &f.config)
		return f, err
	})
	if err != nil {
		return nil, err
	}
	var single *function
	for i := range all {
		f := &all[i]
		if f.singleJSON {
			single = f
			continue
		}
		if f.takes(args) {
			return f, nil
		}
	}
	if q.r.Method != http.MethodPost {
		return nil, nil
	}
	return single, nil
}

func (f *function) takes(args map[string]json.RawMessage) bool {
	found := 0
	for i, name := range f.names {
		if _, ok := args[name]; ok {
			found++
		} else if i < len(f.types)-f.defaults {
			return false
		}
	}
	return found == len(args)
}

var errArgument = errors.New("an argument is of no known form")

// sql is the call as PostgREST makes it: the arguments are read from the body by
// their types, and the result is one JSON document.
func (f *function) sql(name string, args map[string]json.RawMessage, body []byte) (string, []any) {
	from := name + "()"
	var params []any
	switch {
	case f.singleJSON:
		from = name + "($1::" + f.types[0] + ")"
		params = append(params, string(body))
	case len(args) > 0:
		var columns, named []string
		for i, arg := range f.names {
			if _, ok := args[arg]; ok {
				columns = append(columns, pg.Quote(arg)+" "+f.types[i])
				named = append(named, pg.Quote(arg)+" => p."+pg.Quote(arg))
			}
		}
		doc, err := json.Marshal(args)
		if err != nil {
			doc = []byte(errArgument.Error())
		}
		from = fmt.Sprintf("pg_catalog.json_to_record($1::json) AS p(%s), LATERAL %s(%s)",
			strings.Join(columns, ", "), name, strings.Join(named, ", "))
		params = append(params, string(doc))
	}
	switch {
	case f.void:
		return "SELECT pg_catalog.count(*)::text FROM " + from + " AS r", params
	case f.set && f.composite:
		return "SELECT coalesce(pg_catalog.json_agg(r), '[]')::text FROM " + from + " AS r", params
	case f.set:
		return "SELECT coalesce(pg_catalog.json_agg(r.v), '[]')::text FROM " + from + " AS r(v)", params
	case f.composite:
		return "SELECT coalesce(pg_catalog.json_agg(r)->0, 'null')::text FROM " + from + " AS r", params
	}
	return "SELECT coalesce(pg_catalog.json_agg(r.v)->0, 'null')::text FROM " + from + " AS r(v)", params
}
