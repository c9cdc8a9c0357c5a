package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// SchemaVersion is the version of the private schema that this binary makes and
// understands. A target whose schema is newer is refused.
const SchemaVersion = 1

// object is a table, an index or a function of the private schema.
type object struct {
	name   string
	create string
	// body is a function's, as pg_proc.prosrc has it; it is replaced when it
	// differs. args are the types of its parameters.
	body, args string
	// rights are what the bridge's role needs on a table, and no more: nobody
	// but the owner removes a checkpoint.
	rights string
}

// Keys and names are compared byte by byte: another collation would cost, and a
// new version of the system's locales would corrupt the indexes.
var privateTables = []object{
	{name: "schema_version", rights: "SELECT", create: `CREATE TABLE IF NOT EXISTS walbridge.schema_version (
	version int4 PRIMARY KEY,
	installed_at timestamptz NOT NULL DEFAULT now()
)`},
	// The row is updated by every batch; the free space keeps those updates on
	// its page and out of the index.
	{name: "checkpoint", rights: "SELECT, INSERT, UPDATE", create: `CREATE TABLE IF NOT EXISTS walbridge.checkpoint (
	name text COLLATE "C" PRIMARY KEY,
	epoch int8 NOT NULL,
	holder text NOT NULL DEFAULT '',
	lease_until timestamptz,
	incarnation text NOT NULL DEFAULT '',
	system_id text NOT NULL DEFAULT '',
	timeline int4 NOT NULL DEFAULT 0,
	database text NOT NULL DEFAULT '',
	slot text NOT NULL DEFAULT '',
	lsn pg_lsn NOT NULL DEFAULT '0/0',
	heartbeat_token text NOT NULL DEFAULT '',
	heartbeat_lsn pg_lsn NOT NULL DEFAULT '0/0',
	rows_applied int8 NOT NULL DEFAULT 0,
	audit_rows int8 NOT NULL DEFAULT 0,
	held_rows int8 NOT NULL DEFAULT 0,
	dropped_rows int8 NOT NULL DEFAULT 0,
	audit_head int8 NOT NULL DEFAULT 0,
	fingerprint text NOT NULL DEFAULT '',
	publication text NOT NULL DEFAULT '',
	schema_version int4 NOT NULL,
	state text NOT NULL DEFAULT '',
	updated_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 20)`},
	{name: "held", rights: "SELECT, INSERT, UPDATE, DELETE", create: `CREATE TABLE IF NOT EXISTS walbridge.held (
	bridge text COLLATE "C" NOT NULL,
	"table" text COLLATE "C" NOT NULL,
	key text COLLATE "C" NOT NULL,
	vals text[] COLLATE "C" NOT NULL,
	reason text NOT NULL,
	code text NOT NULL DEFAULT '',
	since pg_lsn NOT NULL,
	held_at timestamptz NOT NULL DEFAULT now(),
	waiting text[] NOT NULL DEFAULT '{}',
	PRIMARY KEY (bridge, "table", key)
)`},
	{name: "path_values", rights: "SELECT, INSERT, UPDATE, DELETE", create: `CREATE TABLE IF NOT EXISTS walbridge.path_values (
	bridge text COLLATE "C" NOT NULL,
	source text COLLATE "C" NOT NULL,
	key text COLLATE "C" NOT NULL,
	vals text[] COLLATE "C" NOT NULL,
	gone bool NOT NULL DEFAULT false,
	PRIMARY KEY (bridge, source, key)
)`},
	{name: "deleted", rights: "SELECT, INSERT, UPDATE, DELETE", create: `CREATE TABLE IF NOT EXISTS walbridge.deleted (
	bridge text COLLATE "C" NOT NULL,
	"table" text COLLATE "C" NOT NULL,
	key text COLLATE "C" NOT NULL,
	lsn pg_lsn NOT NULL,
	at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (bridge, "table", key)
)`},
	{name: "copies", rights: "SELECT, INSERT, UPDATE", create: `CREATE TABLE IF NOT EXISTS walbridge.copies (
	bridge text COLLATE "C" NOT NULL,
	source text COLLATE "C" NOT NULL,
	upto text NOT NULL DEFAULT '',
	pending text[] NOT NULL DEFAULT '{}',
	done bool NOT NULL DEFAULT false,
	rows int8 NOT NULL DEFAULT 0,
	tenants jsonb NOT NULL DEFAULT '{}',
	PRIMARY KEY (bridge, source)
)`},
	// Tables that Tend has taken out of Realtime and is to put back.
	{name: "quieted", rights: "SELECT", create: `CREATE TABLE IF NOT EXISTS walbridge.quieted (
	bridge text COLLATE "C" NOT NULL,
	"table" text COLLATE "C" NOT NULL,
	PRIMARY KEY (bridge, "table")
)`},
	{name: "requests", rights: "SELECT, INSERT, UPDATE", create: `CREATE TABLE IF NOT EXISTS walbridge.requests (
	id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	bridge text COLLATE "C" NOT NULL,
	kind text NOT NULL,
	args jsonb NOT NULL DEFAULT '{}',
	state text NOT NULL DEFAULT 'new',
	progress text NOT NULL DEFAULT '',
	error text NOT NULL DEFAULT '',
	created_at timestamptz NOT NULL DEFAULT now(),
	updated_at timestamptz NOT NULL DEFAULT now()
)`},
}

// privateColumn is a column that a later version has added to a private table.
type privateColumn struct{ table, name, typ string }

// laterColumns are added to tables of whichever version, new ones included. A
// constant default rewrites no row.
var laterColumns = []privateColumn{
	{"checkpoint", "chain_from", "int8 NOT NULL DEFAULT 0"},
	{"checkpoint", "chain_head", "int8 NOT NULL DEFAULT 0"},
	{"checkpoint", "chain_link", "text NOT NULL DEFAULT ''"},
}

func (c privateColumn) create() string {
	return fmt.Sprintf("ALTER TABLE walbridge.%s ADD COLUMN IF NOT EXISTS %s %s", c.table, c.name, c.typ)
}

const lockBody = `
DECLARE
	c record;
BEGIN
	SELECT k.epoch, k.lsn INTO c FROM walbridge.checkpoint AS k WHERE k.name = $1 FOR UPDATE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'WB004', MESSAGE = 'no checkpoint';
	ELSIF c.epoch <> $2 THEN
		RAISE EXCEPTION USING ERRCODE = 'WB001', MESSAGE = 'fenced';
	ELSIF c.lsn <> $3 THEN
		RAISE EXCEPTION USING ERRCODE = 'WB002', MESSAGE = 'stale';
	END IF;
END`

const advanceBody = `
BEGIN
	UPDATE walbridge.checkpoint AS k SET
		lsn = $3, heartbeat_token = $4, heartbeat_lsn = $5,
		rows_applied = $6, audit_rows = $7, held_rows = $8, dropped_rows = $9, audit_head = $10,
		state = $11, updated_at = now(),
		lease_until = CASE WHEN $12 > 0 THEN clock_timestamp() + $12 * interval '1 microsecond' ELSE k.lease_until END
	WHERE k.name = $1 AND k.epoch = $2;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'WB001', MESSAGE = 'fenced';
	END IF;
END`

// Only its owner, and from PostgreSQL 17 on who has MAINTAIN, may analyze a table;
// for anybody else ANALYZE is a warning and does nothing.
const statisticsBody = `
BEGIN
	IF $1 = 'held' THEN
		ANALYZE walbridge.held;
	ELSIF $1 = 'path_values' THEN
		ANALYZE walbridge.path_values;
	END IF;
END`

const expectBody = `
BEGIN
	IF $1 <> $2 THEN
		RAISE EXCEPTION USING ERRCODE = 'WB003', MESSAGE = $2::text;
	END IF;
END`

// privateFunctions raise inside a pipeline what a client could only find out by
// reading a result, which is too late when COMMIT is already on its way.
var privateFunctions = []object{
	function("lock_checkpoint", "text, int8, pg_lsn", lockBody),
	function("advance", "text, int8, pg_lsn, text, pg_lsn, int8, int8, int8, int8, int8, text, int8", advanceBody),
	function("expect_rows", "int8, int8", expectBody),
	definer("refresh_statistics", "text", statisticsBody),
}

func function(name, args, body string) object { return makeFunction(name, args, "void", "", body) }

// definer makes a function that runs with its owner's rights.
func definer(name, args, body string) object {
	return makeFunction(name, args, "void", "SECURITY DEFINER ", body)
}

func makeFunction(name, args, returns, security, body string) object {
	return object{
		name: name,
		body: body,
		args: args,
		create: fmt.Sprintf(`CREATE OR REPLACE FUNCTION walbridge.%s(%s) RETURNS %s LANGUAGE plpgsql %sSET search_path = '' AS $body$%s$body$`,
			name, args, returns, security, body),
	}
}

// reverseIndexes are what Recompute, ReleaseHeld and Waiting find dependents by:
// from a path value to the rows that pass it, and from a row's own value to the
// held rows that start there.
func reverseIndexes(name string, schema *sink.Schema) []object {
	var indexes []object
	seen := make(map[string]bool)
	add := func(table, where string, column int) {
		index := "walbridge_" + table + "_" + digest(where, fmt.Sprint(column))
		if seen[index] {
			return
		}
		seen[index] = true
		indexes = append(indexes, object{
			name:   index,
			create: fmt.Sprintf("CREATE INDEX IF NOT EXISTS %s ON walbridge.%s ((vals[%d])) WHERE %s", pg.Quote(index), table, column+1, where),
		})
	}
	for _, n := range schema.Nodes {
		for i, next := range n.Next {
			if next != nil {
				indexes = append(indexes, statistics(i, seen)...)
				add("path_values", fmt.Sprintf("bridge = %s AND source = %s", pg.QuoteLiteral(name), pg.QuoteLiteral(n.Name)), i)
			}
		}
	}
	for _, t := range schema.Tables {
		for _, d := range t.Derived {
			for _, l := range d.From {
				if len(l.Steps) > 0 {
					add("held", fmt.Sprintf(`bridge = %s AND "table" = %s`, pg.QuoteLiteral(name), pg.QuoteLiteral(t.FullName())), l.Column)
				}
			}
		}
	}
	return indexes
}

// statistics tells the planner how often a value occurs at a position of
// path_values. It takes no statistics from a partial index, and without any it
// expects half a percent of the rows for an inbox that has most of them.
func statistics(i int, seen map[string]bool) []object {
	name := fmt.Sprintf("path_values_%d", i+1)
	if seen[name] {
		return nil
	}
	seen[name] = true
	return []object{{
		name:   name,
		create: fmt.Sprintf("CREATE STATISTICS IF NOT EXISTS walbridge.%s ON (vals[%d]) FROM walbridge.path_values", name, i+1),
	}}
}

// digest is a short name for texts of any length.
func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:8])
}
