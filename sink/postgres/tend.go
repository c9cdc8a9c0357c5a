package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// Tend calls the function that Install has made for this bridge.
func (s *Sink) Tend(ctx context.Context, epoch int64, t sink.Tending) (sink.Tended, error) {
	var counts []int64
	err := s.query(ctx, "tend the target", op{
		sql:  "SELECT unnest(walbridge." + tendName(s.name) + "($1::int8, $2::bool))",
		args: [][]byte{argInt(epoch), arg(strconv.FormatBool(t.Quiet))},
		read: each(func(v [][]byte) error {
			d := decoder{values: v}
			counts = append(counts, d.int64())
			return d.err
		}),
	})
	if err == nil && len(counts) != 2 {
		err = fmt.Errorf("tend the target: %w", errNoRow)
	}
	if err != nil {
		return sink.Tended{}, err
	}
	return sink.Tended{Alerts: counts[0], Quieted: counts[1]}, nil
}

// tendName and raiseName are functions of one bridge, because what they do is that
// of its mapping.
func tendName(bridge string) string  { return "tend_" + digest(bridge) }
func raiseName(bridge string) string { return "raise_alerts_" + digest(bridge) }

// RaiseAlerts is the statement with which the target's own scheduler raises the
// alerts of a bridge.
func RaiseAlerts(bridge string) string { return "SELECT walbridge." + raiseName(bridge) + "()" }

// tendFunctions are those of the bridge. They run with their owner's rights: to
// take a table out of a publication one has to own both, and nobody but them writes
// alerts.
func tendFunctions(bridge string, schema *sink.Schema) []object {
	var list []object
	alerts := "alerts := 0;"
	if a := schema.Alerts; a != nil {
		list = append(list, makeFunction(raiseName(bridge), "", "int8", "SECURITY DEFINER ", raiseBody(bridge, a)))
		alerts = fmt.Sprintf(tendAlerts, pg.QuoteLiteral(RaiseAlerts(bridge)), raiseName(bridge))
	}
	var tables []string
	for _, w := range wantedTables(schema) {
		tables = append(tables, "("+pg.QuoteLiteral(w.name.schema)+", "+pg.QuoteLiteral(w.name.name)+")")
	}
	if e := schema.Entries; e != nil {
		list = append(list, eraseFunction(bridge, e))
	}
	body := fmt.Sprintf(tendBody, pg.QuoteLiteral(bridge), strings.Join(tables, ", "), alerts)
	return append(list, makeFunction(tendName(bridge), "int8, bool", "int8[]", "SECURITY DEFINER ", body))
}

// tendBody: %[1]s is the bridge, %[2]s its tables, %[3]s raises alerts. The
// checkpoint row is locked, so that nobody can take the bridge over in between. A
// table that is published with a row filter or a list of columns stays, because
// these would be lost; so does one that couldn't be put back.
const tendBody = `
DECLARE
	alerts int8;
	moved record;
BEGIN
	PERFORM FROM walbridge.checkpoint AS k WHERE k.name = %[1]s AND k.epoch = $1 FOR SHARE;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'WB001', MESSAGE = 'fenced';
	END IF;
	IF $2 THEN
		FOR moved IN
			SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name
			FROM pg_catalog.pg_publication AS p
			JOIN pg_catalog.pg_publication_rel AS r ON r.prpubid = p.oid
			JOIN pg_catalog.pg_class AS c ON c.oid = r.prrelid
			JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
			WHERE p.pubname = 'supabase_realtime' AND (n.nspname, c.relname) IN (VALUES %[2]s)
			AND coalesce(pg_catalog.to_jsonb(r) ->> 'prqual', pg_catalog.to_jsonb(r) ->> 'prattrs') IS NULL
			AND pg_catalog.pg_has_role(p.pubowner, 'USAGE') AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
		LOOP
			EXECUTE 'ALTER PUBLICATION supabase_realtime DROP TABLE ' || moved.name;
			INSERT INTO walbridge.quieted (bridge, "table") VALUES (%[1]s, moved.name) ON CONFLICT DO NOTHING;
		END LOOP;
	ELSE
		FOR moved IN DELETE FROM walbridge.quieted WHERE bridge = %[1]s RETURNING "table" AS name LOOP
			IF pg_catalog.to_regclass(moved.name) IS NOT NULL
				AND EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = 'supabase_realtime')
				AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel AS r JOIN pg_catalog.pg_publication AS p ON p.oid = r.prpubid
					WHERE p.pubname = 'supabase_realtime' AND r.prrelid = pg_catalog.to_regclass(moved.name))
			THEN
				EXECUTE 'ALTER PUBLICATION supabase_realtime ADD TABLE ' || moved.name;
			END IF;
		END LOOP;
	END IF;
	%[3]s
	RETURN ARRAY[alerts, (SELECT pg_catalog.count(*) FROM walbridge.quieted WHERE bridge = %[1]s)];
END`

// tendAlerts leaves the alerts to pg_cron if it has them. Where nobody may read its
// jobs both raise them, which raises none twice.
const tendAlerts = `DECLARE
		scheduled bool := false;
	BEGIN
		IF pg_catalog.to_regclass('cron.job') IS NOT NULL THEN
			BEGIN
				EXECUTE 'SELECT EXISTS (SELECT FROM cron.job WHERE active AND command = $1)' INTO scheduled USING %s;
			EXCEPTION WHEN insufficient_privilege THEN
				scheduled := false;
			END;
		END IF;
		alerts := CASE WHEN scheduled THEN 0 ELSE walbridge.%s() END;
	END;`

// raiseBody raises the alerts that are due. A conversation that has ended at the
// source without being closed, because it was deleted there and kept here, raises
// none. An alert follows its conversation to another tenant.
func raiseBody(bridge string, a *sink.Alerts) string {
	r := alertNames(a)
	return r.Replace(`
DECLARE
	raised int8;
BEGIN
	UPDATE {alerts} AS a SET {tenant} = c.{tenant} FROM {of} AS c
	WHERE {open} AND a.conversation_id = c.{key} AND a.kind = {kind} AND a.episode_start = {start}
	AND a.{tenant} IS DISTINCT FROM c.{tenant};
	WITH new AS (
		INSERT INTO {alerts} (conversation_id, {tenant}, kind, episode_start)
		SELECT c.{key}, c.{tenant}, {kind}, {start}
		FROM {of} AS c LEFT JOIN {thresholds} AS t ON t.{tenant} = c.{tenant}
		WHERE {open} AND {start} < now() - coalesce(t.open_for, interval {after})
		AND NOT EXISTS (SELECT FROM {alerts} AS a WHERE a.conversation_id = c.{key} AND a.kind = {kind} AND a.episode_start = {start})
		AND NOT EXISTS (SELECT FROM walbridge.deleted AS d WHERE d.bridge = ` + pg.QuoteLiteral(bridge) + ` AND d."table" = {full} AND d.key = c.{key}::text)
		ORDER BY {start}
		ON CONFLICT (conversation_id, kind, episode_start) DO NOTHING
		RETURNING conversation_id, {tenant})
	SELECT pg_catalog.count(pg_catalog.pg_notify('conversation_alert', pg_catalog.json_build_object(
		'conversation_id', n.conversation_id, {tenant_key}, n.{tenant}, 'alert_type', {kind})::text))
	INTO raised FROM new AS n;
	RETURN raised;
END`)
}

// alertNames puts the names of the alerts' tables and columns into statements;
// c is the row of a conversation.
func alertNames(a *sink.Alerts) *strings.Replacer {
	c := func(i int) string { return pg.Quote(a.Of.Columns[i].Name) }
	start := func(of string) string {
		if a.Since < 0 {
			return of + c(a.Created)
		}
		return "coalesce(" + of + c(a.Since) + ", " + of + c(a.Created) + ")"
	}
	tenant := a.Of.Columns[a.Of.Tenant]
	return strings.NewReplacer(
		"{alerts}", pg.Quote(a.Schema, a.Name), "{thresholds}", pg.Quote(a.Schema, a.ThresholdTable()),
		"{of}", tableName(a.Of), "{full}", pg.QuoteLiteral(a.Of.FullName()),
		"{key}", c(a.Of.Key[0]), "{key_type}", a.Of.Columns[a.Of.Key[0]].Type,
		"{tenant}", pg.Quote(tenant.Name), "{tenant_type}", tenant.Type, "{tenant_key}", pg.QuoteLiteral(tenant.Name),
		"{start}", start("c."), "{own_start}", start(""),
		"{open}", "c."+openCondition(a), "{own_open}", openCondition(a),
		"{kind}", pg.QuoteLiteral(sink.LongOpen), "{after}", pg.QuoteLiteral(fmt.Sprintf("%d microseconds", a.After.Microseconds())),
	)
}

func openCondition(a *sink.Alerts) string {
	return pg.Quote(a.Of.Columns[a.Status].Name) + " IN (" + list(len(a.Open), ", ", func(i int) string { return pg.QuoteLiteral(a.Open[i]) }) + ")"
}

// AlertTables are the names of the tables that alerts need.
func AlertTables(a *sink.Alerts) []pg.TableName {
	return []pg.TableName{{Schema: a.Schema, Name: a.Name}, {Schema: a.Schema, Name: a.ThresholdTable()}}
}

// missingAlerts returns what the alerts lack: their tables, out of the API's reach
// until schema target opens them, and an index on the rows that are open, which are
// few.
func (s *Sink) missingAlerts(ctx context.Context, schema *sink.Schema) ([]string, error) {
	a := schema.Alerts
	if a == nil {
		return nil, nil
	}
	revoke, err := s.outsiders(ctx)
	if err != nil {
		return nil, err
	}
	index := indexName(relName{a.Of.Schema, a.Of.Name}, []string{"open"})
	found, err := s.rows(ctx, `SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
		WHERE (n.nspname, c.relname) IN ((`+pg.QuoteLiteral(a.Schema)+", "+pg.QuoteLiteral(a.Name)+`), (`+
		pg.QuoteLiteral(a.Schema)+", "+pg.QuoteLiteral(a.ThresholdTable())+`), (`+pg.QuoteLiteral(a.Of.Schema)+", "+pg.QuoteLiteral(index)+"))")
	if err != nil {
		return nil, fmt.Errorf("inspect alerts: %w", err)
	}
	has := make(map[string]cdc.Value)
	for _, r := range found {
		has[r[0].Text] = r[0]
	}
	var missing []string
	for _, o := range alertObjects(a, revoke) {
		if _, ok := has[o.name]; !ok {
			missing = append(missing, o.sql...)
		}
	}
	return missing, nil
}

// madeTogether are the statements that make one relation.
type madeTogether struct {
	name string // schema-qualified, unquoted
	sql  []string
}

func alertObjects(a *sink.Alerts, revoke string) []madeTogether {
	index := indexName(relName{a.Of.Schema, a.Of.Name}, []string{"open"})
	r := alertNames(a)
	closed := func(table string) []string {
		return []string{"ALTER TABLE " + table + " ENABLE ROW LEVEL SECURITY", "REVOKE ALL ON TABLE " + table + " FROM " + revoke}
	}
	return []madeTogether{
		{a.Schema + "." + a.Name, append([]string{r.Replace(`CREATE TABLE IF NOT EXISTS {alerts} (
	id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	{tenant} {tenant_type} NOT NULL,
	conversation_id {key_type} NOT NULL,
	kind text NOT NULL,
	episode_start timestamptz NOT NULL,
	raised_at timestamptz NOT NULL DEFAULT now(),
	UNIQUE (conversation_id, kind, episode_start)
)`),
			fmt.Sprintf(r.Replace("CREATE INDEX IF NOT EXISTS %s ON {alerts} ({tenant}, raised_at)"), pg.Quote(indexName(relName{a.Schema, a.Name}, []string{"tenant"}))),
			fmt.Sprintf("DO $$ BEGIN EXECUTE pg_catalog.format('REVOKE ALL ON SEQUENCE %%s FROM %s', pg_catalog.pg_get_serial_sequence(%s, 'id')); END $$", strings.ReplaceAll(revoke, "%", "%%"), pg.QuoteLiteral(pg.Quote(a.Schema, a.Name)))},
			closed(pg.Quote(a.Schema, a.Name))...)},
		{a.Schema + "." + a.ThresholdTable(), append([]string{r.Replace(`CREATE TABLE IF NOT EXISTS {thresholds} (
	{tenant} {tenant_type} PRIMARY KEY,
	open_for interval NOT NULL CHECK (open_for > '0')
)`)}, closed(pg.Quote(a.Schema, a.ThresholdTable()))...)},
		{a.Of.Schema + "." + index, []string{fmt.Sprintf(r.Replace("CREATE INDEX IF NOT EXISTS %s ON {of} (({own_start})) WHERE {own_open}"), pg.Quote(index))}},
	}
}
