package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// installLock keeps two installs of one database apart. It belongs to the
// transaction, so it holds over any pooler.
const installLock = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext('walbridge.install'))"

// Install makes what is missing. Whatever is there already is only looked at, so
// a role without any right to create passes over a complete target. An index of a
// large table keeps writers from it while it is built; readers go on.
func (s *Sink) Install(ctx context.Context, schema *sink.Schema, dry bool) ([]string, error) {
	if err := s.connect(ctx); err != nil {
		return nil, fmt.Errorf("install: %w", err)
	}
	missing, err := s.install(ctx, schema, dry)
	if !s.idle() {
		if _, e := s.run(ctx, []op{{sql: sqlRollback}}); e != nil {
			s.drop(ctx)
		}
	}
	if err != nil {
		return missing, fmt.Errorf("install: %w", err)
	}
	s.schema = schema
	return missing, nil
}

func (s *Sink) install(ctx context.Context, schema *sink.Schema, dry bool) ([]string, error) {
	if s.session != nil {
		return s.missing(ctx, schema, false) // nothing can be made
	}
	begin := []op{{sql: "BEGIN ISOLATION LEVEL READ COMMITTED"}, {sql: noTimeout}}
	if !dry {
		begin = append(begin, op{sql: installLock})
	}
	if failed, err := s.run(ctx, begin); err != nil {
		return nil, explain(failed, err)
	}
	missing, err := s.missing(ctx, schema, schema.LateIndexes && !dry)
	if err != nil || dry {
		return missing, err
	}
	for _, sql := range missing {
		if _, err := s.run(ctx, []op{{sql: sql}}); err != nil {
			err = fmt.Errorf("%s: %w", pg.Statement{SQL: sql}.FirstLine(), pg.Safe(err))
			if pg.Code(err) == "42501" {
				err = fault.Wrap(fault.Stop, "as a role that may create it: walbridge schema target --apply --admin-url-file FILE", err)
			}
			return missing, err
		}
	}
	if _, err := s.run(ctx, []op{{sql: sqlCommit, read: readCommit}}); err != nil {
		return missing, fmt.Errorf("commit: %w", pg.Safe(err))
	}
	return missing, nil
}

// missing returns what the private schema and the tables lack; late leaves out
// indexes that are made later.
func (s *Sink) missing(ctx context.Context, schema *sink.Schema, late bool) ([]string, error) {
	missing, err := s.missingPrivate(ctx, schema)
	if err != nil {
		return nil, err
	}
	tables, err := s.missingTables(ctx, schema, late)
	return append(missing, tables...), err
}

// rows reads a small result.
func (s *Sink) rows(ctx context.Context, sql string, args ...[]byte) ([]cdc.Row, error) {
	var rows []cdc.Row
	_, err := s.run(ctx, []op{{sql: sql, args: args, read: each(func(v [][]byte) error {
		rows = append(rows, cdc.CopyRow(v))
		return nil
	})}})
	return rows, pg.Safe(err)
}

// apiRoles are the roles of Supabase's API. On any database they may or may not
// exist.
var apiRoles = []string{"anon", "authenticated"}

// inspectPrivate lists what the private schema has, as (kind, name, detail), and
// the API roles of the server.
const inspectPrivate = `
	SELECT 'schema', n.nspname::text, '' FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'walbridge'
	UNION ALL
	SELECT 'relation', c.relname, '' FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	WHERE n.nspname = 'walbridge'
	UNION ALL
	SELECT 'column', c.relname || '.' || a.attname, '' FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
	JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
	WHERE n.nspname = 'walbridge' AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
	UNION ALL
	SELECT 'relation', x.stxname, '' FROM pg_catalog.pg_statistic_ext AS x JOIN pg_catalog.pg_namespace AS n ON n.oid = x.stxnamespace
	WHERE n.nspname = 'walbridge'
	UNION ALL
	SELECT 'function', p.proname, p.prosrc FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
	WHERE n.nspname = 'walbridge'
	UNION ALL
	SELECT 'role', r.rolname, '' FROM pg_catalog.pg_roles AS r WHERE r.rolname = ANY ($1::text[])
	UNION ALL
	SELECT DISTINCT 'grant', '', '' FROM (
		SELECT n.nspacl AS acl FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'walbridge'
		UNION ALL
		SELECT c.relacl FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname = 'walbridge'
		UNION ALL
		SELECT coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))
		FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
		WHERE n.nspname = 'walbridge') AS o
	CROSS JOIN LATERAL pg_catalog.aclexplode(o.acl) AS a
	LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = a.grantee
	WHERE a.grantee = 0 OR r.rolname = ANY ($1::text[])`

const createSchema = "CREATE SCHEMA IF NOT EXISTS walbridge"

// inspectPrivate returns the answers of the query by "kind name", and the version
// of the private schema, which is refused if it is newer than this binary.
func (s *Sink) inspectPrivate(ctx context.Context) (has map[string]cdc.Value, version int, err error) {
	found, err := s.rows(ctx, inspectPrivate, textArray(apiRoles))
	if err != nil {
		return nil, 0, fmt.Errorf("inspect private schema: %w", err)
	}
	has = make(map[string]cdc.Value)
	for _, r := range found {
		has[r[0].Text+" "+r[1].Text] = r[2]
	}
	if _, ok := has["relation schema_version"]; ok {
		version, err = s.version(ctx)
	}
	return has, version, err
}

// missingPrivate returns what the private schema lacks.
func (s *Sink) missingPrivate(ctx context.Context, schema *sink.Schema) ([]string, error) {
	has, version, err := s.inspectPrivate(ctx)
	if err != nil {
		return nil, err
	}
	var missing []string
	if _, ok := has["schema walbridge"]; !ok {
		missing = append(missing, createSchema)
	}
	for _, o := range slices.Concat(privateTables, reverseIndexes(s.name, schema)) {
		if _, ok := has["relation "+o.name]; !ok {
			missing = append(missing, o.create)
		}
	}
	for _, c := range laterColumns {
		if _, ok := has["column "+c.table+"."+c.name]; !ok {
			missing = append(missing, c.create())
		}
	}
	for _, o := range slices.Concat(privateFunctions, tendFunctions(s.name, schema)) {
		if has["function "+o.name].Text != o.body {
			missing = append(missing, o.create)
		}
	}
	if _, granted := has["grant "]; granted || len(missing) > 0 {
		missing = append(missing, revokePrivate(has)...)
	}
	if version < SchemaVersion {
		missing = append(missing, insertVersion())
	}
	return missing, nil
}

func revokePrivate(has map[string]cdc.Value) (sql []string) {
	from := strings.Join(revokeFrom(has), ", ")
	for _, what := range []string{"SCHEMA walbridge", "ALL TABLES IN SCHEMA walbridge", "ALL SEQUENCES IN SCHEMA walbridge", "ALL FUNCTIONS IN SCHEMA walbridge"} {
		sql = append(sql, "REVOKE ALL ON "+what+" FROM "+from)
	}
	return sql
}

func insertVersion() string {
	return fmt.Sprintf("INSERT INTO walbridge.schema_version (version) VALUES (%d) ON CONFLICT DO NOTHING", SchemaVersion)
}

// revokeFrom names whom rights are taken from: Supabase's default privileges give
// them to the API's roles by name, so that PUBLIC alone is not enough.
func revokeFrom(has map[string]cdc.Value) []string {
	from := []string{"PUBLIC"}
	for _, role := range apiRoles {
		if _, ok := has["role "+role]; ok {
			from = append(from, pg.Quote(role))
		}
	}
	return from
}

// outsiders lists, for REVOKE, whom a table that is made is closed to.
func (s *Sink) outsiders(ctx context.Context) (string, error) {
	roles, err := s.rows(ctx, "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY ($1::text[])", textArray(apiRoles))
	if err != nil {
		return "", fmt.Errorf("inspect roles: %w", err)
	}
	has := make(map[string]cdc.Value)
	for _, r := range roles {
		has["role "+r[0].Text] = cdc.Value{}
	}
	return strings.Join(revokeFrom(has), ", "), nil
}

func (s *Sink) version(ctx context.Context) (int, error) {
	rows, err := s.rows(ctx, "SELECT coalesce(max(version), 0) FROM walbridge.schema_version")
	if err != nil {
		return 0, fmt.Errorf("read version of the private schema: %w", err)
	}
	if len(rows) != 1 {
		return 0, errNoRow
	}
	d := decoder{values: [][]byte{[]byte(rows[0][0].Text)}}
	version := int(d.int64())
	if d.err == nil && version > SchemaVersion {
		return 0, newerSchema(version)
	}
	return version, d.err
}

// missingTables returns what the target tables lack, see compareTables.
func (s *Sink) missingTables(ctx context.Context, schema *sink.Schema, late bool) ([]string, error) {
	tables, err := s.compareTables(ctx, schema)
	if late && err == nil {
		err = s.putOff(ctx, tables)
	}
	var missing []string
	for i := range tables {
		missing = append(missing, tables[i].missing()...)
	}
	if err != nil {
		return missing, err
	}
	alerts, err := s.missingAlerts(ctx, schema)
	return append(missing, alerts...), err
}

// compared is a target table beside what the mapping wants of it.
type compared struct {
	want          *wantedTable
	exists, owned bool
	// lacks is the table itself, or columns of it.
	lacks, indexes []string
}

func (c *compared) missing() []string { return slices.Concat(c.lacks, c.indexes) }

// compareTables says what the target tables lack, with errors for what a bridge
// must not change by itself: all of them at once, each with the SQL that mends it.
func (s *Sink) compareTables(ctx context.Context, schema *sink.Schema) ([]compared, error) {
	have, err := s.inspectTables(ctx, schema)
	if err != nil {
		return nil, err
	}
	revoke, err := s.outsiders(ctx)
	if err != nil {
		return nil, err
	}

	var all []compared
	var problems []error
	for _, want := range wantedTables(schema) {
		t := have[want.name]
		c := compared{want: want}
		switch {
		case t == nil:
			problems = append(problems, &sink.SchemaError{Table: want.name.String(),
				Reason: "there is no schema of that name", Fix: fmt.Sprintf("CREATE SCHEMA %s;", pg.Quote(want.name.schema))})
		case t.kind == "":
			c.lacks, c.indexes = want.create(revoke), want.missingIndexes(nil)
		default:
			c.exists, c.owned = true, t.owned
			problems = append(problems, want.problems(t)...)
			c.lacks, c.indexes = want.missingColumns(t), want.missingIndexes(t)
		}
		all = append(all, c)
	}
	s.entries = entriesTable(schema, have)
	return all, errors.Join(problems...)
}
