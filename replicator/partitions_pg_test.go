package replicator_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/replicator"
)

// parted are partitioned tables: one whose rows get their tenants over another, of
// several levels and with partitions whose columns lie otherwise than the root's;
// and one of which a partition is mapped by itself.
const parted = `
CREATE TABLE inbox (id bigint PRIMARY KEY, tenant bigint) PARTITION BY HASH (id);
CREATE TABLE inbox_0 PARTITION OF inbox FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE inbox_1 PARTITION OF inbox FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE message (id bigint, day date, inbox_id bigint REFERENCES inbox, content text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
ALTER TABLE message ALTER content SET STORAGE EXTERNAL;
CREATE TABLE message_1 PARTITION OF message FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE message_2 PARTITION OF message FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (id);
CREATE TABLE message_2_even PARTITION OF message_2 FOR VALUES IN (2, 4, 6);
CREATE TABLE message_2_odd PARTITION OF message_2 FOR VALUES IN (1, 3, 5);
CREATE TABLE message_3 (gone int, content text, inbox_id bigint, day date NOT NULL, id bigint NOT NULL);
ALTER TABLE message_3 DROP COLUMN gone;
ALTER TABLE message ATTACH PARTITION message_3 FOR VALUES FROM ('2026-03-01') TO ('2026-04-01');
ALTER TABLE message_2_odd REPLICA IDENTITY FULL;
CREATE TABLE event (id bigint PRIMARY KEY, inbox_id bigint REFERENCES inbox, content text) PARTITION BY RANGE (id);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (100);
CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM (100) TO (200);
INSERT INTO inbox VALUES (1, 10), (2, 20), (3, NULL);
INSERT INTO message VALUES (1, '2026-01-05', 1, 'one'), (2, '2026-02-05', 2, 'two'), (3, '2026-02-05', 1, 'three'), (4, '2026-03-05', 3, 'four');
INSERT INTO event VALUES (1, 1, 'in'), (101, 1, 'out')`

const partedMapping = `
audit_log: {table: audit_logs}
tables:
  messages:
    from: message
    tenant: [inbox.tenant]
    columns: [id, day, inbox_id, content]
    audit: {entity: message}
  events:
    from: event_1
    tenant: [inbox.tenant]
    columns: [id, inbox_id, content]
    audit: {entity: event}
`

// A partitioned table's rows come from all its partitions under its own name, and
// those of a partition that is mapped by itself under its own.
func TestBridge_Partitions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, parted, partedMapping)
	const all = "SELECT id, day, provedor_id, left(content, 9) FROM messages ORDER BY id, day"
	r := w.start()
	w.catchUp(r)
	w.want("copied", all, "1 | 2026-01-05 | 10 | one\n2 | 2026-02-05 | 20 | two\n3 | 2026-02-05 | 10 | three")
	w.want("copied from one partition", "SELECT id, provedor_id FROM events", "1 | 10")
	w.requireEqual()

	// Changes in every partition, by the root and by the partition itself.
	w.exec(`UPDATE message SET content = content || '!'`,
		`UPDATE message_2_odd SET content = repeat('x', 10000) WHERE id = 3`,
		`UPDATE inbox SET tenant = 30 WHERE id = 3`,
		`UPDATE inbox SET tenant = 11 WHERE id = 1`,
		`INSERT INTO message_3 (id, day, inbox_id, content) VALUES (5, '2026-03-06', 2, 'five')`,
		`UPDATE event SET content = 'changed'`)
	w.catchUp(r)
	w.want("streamed", all, `1 | 2026-01-05 | 11 | one!
2 | 2026-02-05 | 20 | two!
3 | 2026-02-05 | 11 | xxxxxxxxx
4 | 2026-03-05 | 30 | four!
5 | 2026-03-06 | 20 | five`)
	w.want("streamed from one partition", "SELECT id, provedor_id, content FROM events", "1 | 11 | changed")
	w.requireEqual()

	// Rows that change their partition, with a value that isn't sent again; within
	// one, and out of the one that is mapped by itself, and into it.
	w.exec(`UPDATE message SET day = '2026-03-07' WHERE id = 3`,
		`UPDATE message SET id = 6 WHERE id = 2`,
		`UPDATE event SET id = id + 150 WHERE id = 1`,
		`UPDATE event SET id = 3 WHERE id = 101`)
	w.catchUp(r)
	w.want("moved", all, `1 | 2026-01-05 | 11 | one!
3 | 2026-03-07 | 11 | xxxxxxxxx
4 | 2026-03-05 | 30 | four!
5 | 2026-03-06 | 20 | five
6 | 2026-02-05 | 20 | two!`)
	w.want("moved out and in", "SELECT id, provedor_id FROM events", "3 | 11")
	w.requireEqual()
	w.want("entries of the row that moved", `SELECT action, details->>'op', details->'key'->>'day' FROM audit_logs
		WHERE details->'key'->>'id' = '3' AND details->>'op' <> 'update' AND details->>'table' = 'message' ORDER BY (details->>'n')::int`,
		"message.deleted | delete | 2026-02-05\nmessage.created | insert | 2026-03-07")

	w.exec(`TRUNCATE event_1`)
	w.catchUp(r)
	w.want("after TRUNCATE of the mapped partition", "SELECT count(*) FROM events", "0")
	w.exec(`TRUNCATE message`)
	w.catchUp(r)
	w.want("after TRUNCATE of the root", "SELECT count(*) FROM messages", "0")
	w.requireEqual()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if got := pgtest.QueryValue(t, w.src, "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_publication_tables"); got != "event_1 inbox message" {
		t.Errorf("published: %s", got)
	}
}

// Partitions that come without rows are followed at once. Rows that come or go with
// a partition, of which the stream tells nothing, are noticed while the bridge runs
// and when it starts, and its hint mends it.
func TestBridge_PartitionsComeAndGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, parted, partedMapping)
	w.tune = func(o *replicator.Options) { o.Recheck = 100 * time.Millisecond }
	noted := func(names ...string) {
		t.Helper()
		pgtest.Eventually(t, "partitions that are noted", patience, func() error {
			for _, name := range names {
				id := pgtest.QueryValue(t, w.src, "SELECT c.oid::text || '/%/' || relfilenode FROM pg_class c WHERE c.oid = '"+name+"'::regclass")
				if got := w.rows("SELECT publication LIKE '% " + id + "%' FROM walbridge.checkpoint"); got != "t" {
					return errors.New(name + " is not")
				}
			}
			return nil
		})
	}
	r := w.start()
	w.catchUp(r)
	noted("message_1", "message_2_even", "inbox_0")
	w.exec(`CREATE TABLE message_4 PARTITION OF message FOR VALUES FROM ('2026-04-01') TO ('2026-05-01')`,
		`BEGIN; CREATE TABLE message_5 (LIKE message INCLUDING ALL);
			ALTER TABLE message ATTACH PARTITION message_5 FOR VALUES FROM ('2026-05-01') TO ('2026-06-01');
			INSERT INTO message VALUES (50, '2026-05-05', 1, 'of the same transaction'); COMMIT`,
		`CREATE TABLE message_rest PARTITION OF message DEFAULT`,
		`CREATE TABLE inbox_2 (id bigint PRIMARY KEY, tenant bigint)`,
		`INSERT INTO message SELECT n, '2026-04-05', 2, 'new' FROM generate_series(40, 49) n`,
		`VACUUM FULL message_1`)
	noted("message_4", "message_5", "message_rest", "message_1")
	w.catchUp(r)
	w.want("rows", "SELECT count(*) FROM messages", "14")
	w.requireEqual()

	const attach = `CREATE TABLE message_6 (LIKE message INCLUDING ALL);
		INSERT INTO message_6 SELECT n, '2026-06-01', 1, 'brought' FROM generate_series(60, 69) n;
		ALTER TABLE message ATTACH PARTITION message_6 FOR VALUES FROM ('2026-06-01') TO ('2026-07-01');
		UPDATE message SET content = 'changed' WHERE id = 61; DELETE FROM message WHERE id = 62`
	for _, tt := range []struct{ name, sql, says string }{
		{"AttachedInOneTransaction", "BEGIN; " + attach + "; COMMIT", `partition public.message_6 was attached to "public"."message" with rows`},
		{"Detached", `ALTER TABLE message DETACH PARTITION message_6; DELETE FROM message_6 WHERE id = 64`, "partition public.message_6 was detached"},
		{"Attached", `DROP TABLE message_6; ` + attach, "partition public.message_6 was attached"},
		{"Truncated", `TRUNCATE message_6`, "partition public.message_6 of"},
		{"Dropped", `DROP TABLE message_4`, "was dropped"},
	} {
		w.exec(strings.Split(tt.sql, ";")...) // each in a transaction of its own
		w.startOver(r.blocked(tt.says))
		w.catchUp(r)
		w.requireEqual()
		if t.Failed() {
			t.Fatal(tt.name)
		}
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.exec(`ALTER TABLE message DETACH PARTITION message_5`)
	w.refused("partition public.message_5 was detached")
	w.exec(`CREATE TABLE message_7 PARTITION OF message FOR VALUES FROM ('2026-07-01') TO ('2026-08-01')`,
		`INSERT INTO message VALUES (70, '2026-07-05', 1, 'written while the bridge was away')`)
	w.startOver("walbridge resync --no-wait")
	r = w.start()
	w.catchUp(r)
	noted("message_7")
	w.requireEqual()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}
