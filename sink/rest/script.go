package rest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/held"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/request"
	"github.com/walbridge/walbridge/sink/postgres"
)

// Version is that of the function and of the form of requests.
const Version = 1

// ServiceRole is whom the API works as with the service's key.
const ServiceRole = "service_role"

// The tables of the private schema that only this sink needs.
//
// What is staged is of use to one batch alone, so it need not survive a crash.
var tables = []string{
	`CREATE TABLE IF NOT EXISTS walbridge.statements (
	bridge text COLLATE "C" NOT NULL,
	id text COLLATE "C" NOT NULL,
	parts text[] NOT NULL,
	lists text[],
	PRIMARY KEY (bridge, id)
)`,
	`CREATE UNLOGGED TABLE IF NOT EXISTS walbridge.stage (
	bridge text COLLATE "C" NOT NULL,
	batch text COLLATE "C" NOT NULL,
	unit int4 NOT NULL,
	part int4 NOT NULL,
	body text NOT NULL,
	PRIMARY KEY (bridge, batch, unit, part)
)`,
	// It isn't there for long enough to be worth compressing.
	"ALTER TABLE walbridge.stage ALTER COLUMN body SET STORAGE EXTERNAL",
}

// function executes requests. Its statement_timeout is made that of the
// transaction by PostgREST (db-hoisted-tx-settings) and stays below the 60 s that
// the gateway waits.
//
// Errors are returned and not raised: PostgREST doesn't pass on which statement
// failed, nor on which constraint. The block's subtransaction takes everything
// back then. A message goes along where it is the private schema's own.
//
// A request is taken apart in one go, because each look into a json value reads all
// of its text.
const function = `CREATE OR REPLACE FUNCTION public.walbridge(json) RETURNS json LANGUAGE plpgsql SECURITY DEFINER
	SET search_path = '' SET statement_timeout = '50s' SET lock_timeout = '8s' SET synchronous_commit = on
` + pinned + `
AS $body$
DECLARE
	asked record;
	head text[];
	units int4[];
	n int4 := 0;
	ops json;
	args text[];
	st record;
	sql text;
	r record;
	answer text[];
	results text[] := '{}';
	code text; message text; context text; s text; t text; c text; k text;
BEGIN
	SELECT x.head, x.first, x.ops INTO asked FROM pg_catalog.json_to_record($1) AS x(head json, first json, ops json);
	head := ARRAY(SELECT pg_catalog.json_array_elements_text(asked.head));
	units := pg_catalog.string_to_array(head[5], ',')::int4[];
` + otherRelease + `
	IF head[6]::int8 <> (SELECT pg_catalog.count(*) FROM walbridge.stage AS g
			WHERE g.bridge = head[2] AND g.batch = head[4] AND g.unit = ANY (units)) THEN
		RETURN '{"error": {"code": "WB005"}}';
	END IF;
	FOR u IN 0 .. pg_catalog.cardinality(units) + 1 LOOP
		IF u = 0 THEN
			ops := asked.first;
		ELSIF u <= pg_catalog.cardinality(units) THEN
			SELECT pg_catalog.string_agg(g.body, '' ORDER BY g.part)::json INTO ops FROM walbridge.stage AS g
				WHERE g.bridge = head[2] AND g.batch = head[4] AND g.unit = units[u];
		ELSE
			ops := asked.ops;
		END IF;
		FOR args IN SELECT ARRAY(SELECT pg_catalog.json_array_elements_text(x.e)) FROM pg_catalog.json_array_elements(ops) AS x(e) LOOP
			n := n + 1;
			SELECT q.parts, q.lists INTO st FROM walbridge.statements AS q WHERE q.bridge = head[2] AND q.id = args[1];
			IF NOT FOUND THEN
				RAISE EXCEPTION USING ERRCODE = 'WB006', MESSAGE = args[1];
			END IF;
` + assemble + `
			IF args[3] = '' THEN
				EXECUTE sql USING args;
				CONTINUE;
			END IF;
			answer := '{}';
			FOR r IN EXECUTE sql USING args LOOP
				answer := answer || r::text;
			END LOOP;
			IF args[3] = 'r' THEN
				results := results || pg_catalog.json_build_object('op', n, 'rows', answer)::text;
			ELSIF args[3] <> 'm' || pg_catalog.md5(coalesce((SELECT pg_catalog.string_agg(a, E'\n' ORDER BY a COLLATE "C") FROM pg_catalog.unnest(answer) AS a), '')) THEN
				RAISE EXCEPTION USING ERRCODE = 'WB005', MESSAGE = 'changed';
			END IF;
		END LOOP;
	END LOOP;
	n := n + 1;
	IF head[3] <> 'commit' THEN
		RAISE EXCEPTION USING ERRCODE = 'WB000', MESSAGE = 'taken back';
	END IF;
	SET CONSTRAINTS ALL IMMEDIATE;
	IF pg_catalog.cardinality(units) > 0 THEN
		DELETE FROM walbridge.stage AS g WHERE g.bridge = head[2];
	END IF;
	RETURN ('{"results": [' || pg_catalog.array_to_string(results, ',') || ']}')::json;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, context = PG_EXCEPTION_CONTEXT,
		s = SCHEMA_NAME, t = TABLE_NAME, c = COLUMN_NAME, k = CONSTRAINT_NAME;
	IF code = 'WB000' THEN
		RETURN ('{"results": [' || pg_catalog.array_to_string(results, ',') || ']}')::json;
	END IF;
	IF code NOT LIKE 'WB%' AND context LIKE '%at RAISE%' THEN
		message := '';
	END IF;
	RETURN pg_catalog.json_build_object('op', n, 'error', pg_catalog.json_build_object(
		'code', code, 'message', message, 'schema', s, 'table', t, 'column', c, 'constraint', k));
END
$body$`

// readFunction executes what a reader asks. It is STABLE: all that it runs sees
// the snapshot of the statement which calls it, and it can't change anything
// (PostgreSQL documentation, xfunc-volatility).
const readFunction = `CREATE OR REPLACE FUNCTION public.walbridge_read(json) RETURNS json LANGUAGE plpgsql STABLE SECURITY DEFINER
	SET search_path = '' SET statement_timeout = '50s' SET lock_timeout = '8s'
` + pinned + `
AS $body$
DECLARE
	asked record;
	head text[];
	n int4 := 0;
	args text[];
	st record;
	sql text;
	results text[] := '{}';
	answer text[];
	r record;
	code text;
BEGIN
	SELECT x.head, x.ops INTO asked FROM pg_catalog.json_to_record($1) AS x(head json, ops json);
	head := ARRAY(SELECT pg_catalog.json_array_elements_text(asked.head));
` + otherRelease + `
	FOR args IN SELECT ARRAY(SELECT pg_catalog.json_array_elements_text(x.e)) FROM pg_catalog.json_array_elements(asked.ops) AS x(e) LOOP
		n := n + 1;
		SELECT q.parts, q.lists INTO st FROM walbridge.statements AS q WHERE q.bridge = head[2] AND q.id = args[1];
		IF NOT FOUND THEN
			RETURN pg_catalog.json_build_object('op', n, 'error', '{"code": "WB006"}'::json);
		END IF;
` + assemble + `
		answer := '{}';
		FOR r IN EXECUTE sql USING args LOOP
			answer := answer || r::text;
		END LOOP;
		results := results || pg_catalog.json_build_object('op', n, 'rows', answer)::text;
	END LOOP;
	RETURN ('{"results": [' || pg_catalog.array_to_string(results, ',') || ']}')::json;
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE;
	RETURN pg_catalog.json_build_object('op', n, 'error', pg_catalog.json_build_object('code', code));
END
$body$`

// Parts of both functions.
const (
	// pinned are the settings that values are read and written under, as in package
	// pg.
	pinned = `	SET datestyle = 'ISO' SET intervalstyle = 'postgres' SET extra_float_digits = 3 SET timezone = 'UTC' SET bytea_output = 'hex'
	SET lc_monetary = 'C' SET array_nulls = on SET xmloption = content SET quote_all_identifiers = off`
	// otherRelease refuses a request that is made up in another way.
	otherRelease = `	IF head[1] IS DISTINCT FROM '1' THEN
		RETURN '{"error": {"code": "WB007"}}';
	END IF;`
	// assemble makes the statement st, with the columns of its lists that are asked for.
	assemble = `		sql := st.parts[1];
		FOR l IN 1 .. coalesce(pg_catalog.array_length(st.lists, 1), 0) LOOP
			sql := sql || (SELECT pg_catalog.string_agg(st.lists[l][i::int4], ', ')
				FROM pg_catalog.string_to_table(pg_catalog.split_part(args[2], ';', l), ',') AS i) || st.parts[l + 1];
		END LOOP;`
)

// Statements of the session's own.
const (
	// keepLease keeps whoever waits for the lease away while a batch is staged.
	keepLease = `WITH u AS (UPDATE walbridge.checkpoint AS k
			SET lease_until = CASE WHEN $3::int8 > 0 THEN clock_timestamp() + $3::int8 * interval '1 microsecond' ELSE k.lease_until END
			WHERE k.name = $1 AND k.epoch = $2::int8 RETURNING 1)
		SELECT walbridge.expect_rows(1, (SELECT count(*) FROM u))`
	// clearStage removes what batches have left that were given up.
	clearStage = `DELETE FROM walbridge.stage AS g WHERE g.bridge = $1 AND g.batch <> $2`
	putStage   = `INSERT INTO walbridge.stage AS g (bridge, batch, unit, part, body) VALUES ($1, $2, $3::int4, $4::int4, $5)
		ON CONFLICT (bridge, batch, unit, part) DO UPDATE SET body = excluded.body`
	unknownStatements = `SELECT DISTINCT u.id FROM pg_catalog.unnest($2::text[]) AS u(id)
		WHERE NOT EXISTS (SELECT FROM walbridge.statements AS q WHERE q.bridge = $1 AND q.id = u.id)`
	// unknownNames are names of tables that no statement has, and of columns that
	// none has of a table that is known.
	unknownNames = `WITH x AS MATERIALIZED (SELECT pg_catalog.concat(pg_catalog.array_to_string(q.parts, ' '), pg_catalog.array_to_string(q.lists, ' ')) AS sql
			FROM walbridge.statements AS q WHERE q.bridge = $1)
		SELECT w.name FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS w(name, of_table, of_column, n)
		CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.bool_or(true), false) AS a_table, coalesce(pg_catalog.bool_or(pg_catalog.strpos(x.sql, w.of_column) > 0), false) AS a_column
			FROM x WHERE pg_catalog.strpos(x.sql, w.of_table) > 0) AS known
		WHERE CASE WHEN w.of_column = '' THEN NOT a_table ELSE a_table AND NOT a_column END ORDER BY w.n`
)

// ownStatements are those, and those of operators' commands.
func ownStatements() []*postgres.Template {
	list := []*postgres.Template{plain(keepLease), plain(clearStage), plain(putStage), plain(unknownStatements), plain(unknownNames)}
	for _, sql := range slices.Concat(request.Statements(), held.Statements()) {
		list = append(list, plain(sql))
	}
	return list
}

// Script returns the statements that make a target ready for the API: those of a,
// which is for the bridge called name, and the functions with its statements. more
// are those of commands that look at the target.
func Script(name string, a *postgres.APIScript, more ...string) []pg.Statement {
	list := append(slices.Clone(a.Statements),
		about("For the API: the statements that the bridge may run, by name, and a place for what doesn't fit into one request.", tables...)...)
	var values []string
	templates := append(a.Templates, ownStatements()...)
	for _, sql := range more {
		templates = append(templates, plain(sql))
	}
	for _, t := range templates {
		lists := "NULL"
		if len(t.Lists) > 0 {
			rows := make([]string, len(t.Lists))
			for i, l := range t.Lists {
				rows[i] = literals(passed(l))
			}
			lists = "ARRAY[" + strings.Join(rows, ", ") + "]"
		}
		values = append(values, fmt.Sprintf("(%s, %s, %s, %s)", pg.QuoteLiteral(name), pg.QuoteLiteral(statementID(t)), literals(passed(t.Parts)), lists))
	}
	from := "PUBLIC"
	for _, role := range a.Outsiders {
		from += ", " + pg.Quote(role)
	}
	list = append(list, pg.Statement{SQL: "INSERT INTO walbridge.statements (bridge, id, parts, lists) VALUES\n" + strings.Join(values, ",\n") +
		"\nON CONFLICT (bridge, id) DO UPDATE SET parts = excluded.parts, lists = excluded.lists"})
	list = append(list, about("Nobody else reads them.", "REVOKE ALL ON TABLE walbridge.statements, walbridge.stage FROM "+from)...)
	return append(list, about("The two functions that the API shows. They run these statements and nothing else, and only for the service's key; the second only reads.",
		function,
		readFunction,
		"REVOKE ALL ON FUNCTION public.walbridge(json), public.walbridge_read(json) FROM "+from,
		"GRANT EXECUTE ON FUNCTION public.walbridge(json), public.walbridge_read(json) TO "+ServiceRole,
		"NOTIFY pgrst, 'reload schema'")...)
}

// passed are texts with the parameters as the function passes them.
func passed(texts []string) []string {
	list := make([]string, len(texts))
	for i, text := range texts {
		list[i] = parameters(text)
	}
	return list
}

// literals is an array of texts.
func literals(texts []string) string {
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = pg.QuoteLiteral(t)
	}
	return "ARRAY[" + strings.Join(quoted, ", ") + "]"
}

func plain(sql string) *postgres.Template { return &postgres.Template{Parts: []string{sql}} }

func about(text string, sql ...string) []pg.Statement {
	list := make([]pg.Statement, len(sql))
	for i, s := range sql {
		list[i].SQL = s
	}
	list[0].About = text
	return list
}

// parameters makes $1, $2 … elements of the one parameter that the function passes,
// behind the three that are its own. Names and literals in quotes may hold
// anything.
func parameters(sql string) string {
	var b strings.Builder
	var quote byte
	for i := 0; i < len(sql); i++ {
		c := sql[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0 // a doubled one opens again
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '$':
			end := i + 1
			for end < len(sql) && sql[end] >= '0' && sql[end] <= '9' {
				end++
			}
			if n, err := strconv.Atoi(sql[i+1 : end]); err == nil {
				b.WriteString("($1::text[])[" + strconv.Itoa(n+3) + "]")
				i = end - 1
				continue
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}
