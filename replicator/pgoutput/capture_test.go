package pgoutput

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// setup makes the tables of the cases, and rows with a value that is stored out of
// line: beyond about 2000 bytes, the threshold for a row.
const setup = `
create type mood as enum ('ok', 'sad');
create domain email as text;
create table d (id bigint primary key, note text, mood mood, mail email, big text);
create table f (id int primary key, note varchar(20), big text);
create table i (id int primary key, code text not null unique, note text);
create table n (id int primary key);
create table two (a int, b text, dropped int, c int generated always as (a * 2) stored, d text, primary key (b, a));
create table parent (id int primary key);
create table child (id int primary key, parent int references parent);
create table other (id int generated always as identity primary key);
create table types (id int primary key, "numeric" numeric, float8 float8, bool bool, bytea bytea, date date,
	timestamptz timestamptz, "interval" interval, json json, jsonb jsonb, uuid uuid, ints int[], texts text[][], mood mood[]);
create table domains (id int primary key, v information_schema.cardinal_number, w pg_catalog.pg_am);
create table nothing ();
create table alters (id int primary key);
create table part (id int primary key, note text) partition by range (id);
create table part_1 partition of part for values from (0) to (10);
create table part_2 partition of part for values from (10) to (20);
create schema "Odd ""Schema""";
create table "Odd ""Schema"""."Tábela" ("Não" int primary key, "select" text);
alter table two drop column dropped;
alter table d alter big set storage external;
alter table f alter big set storage external, replica identity full;
alter table i replica identity using index i_code_key;
alter table n replica identity nothing;
insert into d values (4, 'note', 'ok', 'a@b', repeat('x', 2100));
insert into f values (1, 'note', repeat('x', 2100)), (2, 'note', 'small');
create publication p for all tables;
`

// serverCase is something that happens at the source, and is decoded by itself.
type serverCase struct {
	name string
	// sql are transactions.
	sql []string
}

// cases happen in this order.
var cases = []serverCase{
	{"insert", []string{`insert into d values (1, 'note', 'ok', 'a@b', null)`}},
	{"insert_empty_text", []string{`insert into d values (2, '', null, '', '')`}},
	{"insert_all_null", []string{`insert into child values (1, null)`}},
	{"insert_unicode", []string{`insert into d (id, note) values (3, E'ação 🎉 \\N \t\n "''')`}},
	{"insert_many", []string{`insert into n select generate_series(1, 3)`}},
	{"insert_generated_and_dropped", []string{`insert into two (a, b) values (1, 'b')`}},
	{"insert_no_columns", []string{`insert into nothing default values`}},
	{"insert_odd_names", []string{`insert into "Odd ""Schema"""."Tábela" values (1, 'x')`}},
	{"update", []string{`update d set note = 'new' where id = 1`}},
	{"update_unchanged", []string{`update d set note = 'new' where id = 4`}},
	{"update_key", []string{`update d set id = 10 where id = 1`}},
	{"update_key_unchanged", []string{`update d set id = 40 where id = 4`}},
	{"update_composite_key", []string{`update two set a = 2`}},
	{"update_full_unchanged", []string{`update f set note = 'new' where id = 1`}},
	{"update_full_key", []string{`update f set id = 3 where id = 2`}},
	{"update_index", []string{`insert into i values (1, 'code', 'note')`, `update i set code = 'edoc'`}},
	{"update_index_primary_key", []string{`update i set id = 2`}},
	{"delete", []string{`delete from d where id = 2`}},
	{"delete_composite_key", []string{`delete from two`}},
	{"delete_full", []string{`delete from f where id = 3`}},
	{"delete_index", []string{`delete from i`}},
	{"partition", []string{`insert into part values (1, 'a')`, `update part set id = 11`, `delete from part`}},
	{"truncate", []string{`truncate d`}},
	{"truncate_cascade", []string{`truncate parent cascade`}},
	{"truncate_several", []string{`truncate other, n restart identity`}},
	{"truncate_partitioned", []string{`truncate part`}},
	{"types_exact", []string{`insert into types values (1, 1.500, 0.1::float8 + 0.2, true, '\x00ff', '0044-03-15 BC',
		'2000-01-01 12:00:00.000001+02', '1 mon -2 days 03:00:00.5', '{"a" : 1, "a":2}', '{"b": 1.00}',
		'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{1,null,3}', '{{a,"b c"},{"",null}}', '{ok,sad}')`}},
	{"types_special", []string{`insert into types (id, "numeric", float8, date, timestamptz) values
		(2, 'NaN', 'NaN', 'infinity', '-infinity'), (3, 'Infinity', '-Infinity', '5874897-12-31', '294276-12-31 23:59:59+00')`}},
	{"types_domains", []string{`insert into domains values (1, 7, row(1, 'x', 1, 'i')::pg_catalog.pg_am)`}},
	{"message", []string{`select pg_logical_emit_message(true, 'prefix', 'content')`}},
	{"message_empty", []string{`select pg_logical_emit_message(true, '', '')`}},
	{"message_binary", []string{`select pg_logical_emit_message(true, 'bytes', '\x00ff0a'::bytea)`}},
	{"message_outside_transaction", []string{`select pg_logical_emit_message(false, 'prefix', 'content')`,
		`create table flushed ()` /* its commit flushes the message */}},
	{"origin", []string{`select pg_replication_origin_create('elsewhere')`, `select pg_replication_origin_session_setup('elsewhere')`,
		`begin; select pg_replication_origin_xact_setup('1/2345', '2020-02-02 12:00+00'); insert into n values (4); commit`}},
	{"alter_inside_transaction", []string{`begin; insert into alters values (1); alter table alters add note text default 'x';
		insert into alters values (2, 'y'); alter table alters rename note to remark; insert into alters values (3, 'z');
		alter table alters replica identity full; delete from alters where id = 1; commit`}},
	{"savepoint", []string{`begin; insert into n values (5); savepoint s; insert into n values (6); rollback to s; insert into n values (7); commit`}},
	{"two_phase", []string{`begin; insert into n values (8); prepare transaction 'x'`, `commit prepared 'x'`}},
	{"copy_on_conflict", []string{`insert into d (id, note) values (10, 'a') on conflict do nothing`, `insert into d (id, note) values (10, 'b') on conflict (id) do update set note = excluded.note`}},
}

// filterCases need a publication with a row filter, which PostgreSQL 14 has not.
var filterCases = []serverCase{
	{"filter_update_to_insert_unchanged", []string{`create table filtered (id int primary key, big text);
		alter table filtered alter big set storage external;
		create publication filter for table filtered where (id > 10)`,
		`insert into filtered values (1, repeat('x', 2100))`, `update filtered set id = 11`}},
	{"filter_update_to_delete", []string{`update filtered set id = 2`}},
}

// record runs all cases on c.
func record(t *testing.T, c *pgtest.Cluster) []capture {
	t.Helper()
	url := c.URL("postgres")
	pgtest.Exec(t, url, setup, `select pg_create_logical_replication_slot('s', 'pgoutput')`)
	var out []capture
	run := func(tc serverCase, publication string) {
		pgtest.Exec(t, url, tc.sql...)
		rows := pgtest.QueryText(t, url, `select encode(data, 'hex') from pg_logical_slot_get_binary_changes('s', null, null,
			'proto_version', '1', 'messages', 'true', 'publication_names', $1)`, publication)
		got := capture{name: tc.name}
		for _, row := range rows {
			frame, err := hex.DecodeString(row[0])
			if err != nil {
				t.Fatal(err)
			}
			got.frames = append(got.frames, frame)
		}
		out = append(out, got)
	}
	for _, tc := range cases {
		run(tc, "p")
	}
	if c.Version() >= 15 {
		for _, tc := range filterCases {
			run(tc, "filter")
		}
	}
	return out
}

// TestCapture writes the captures in testdata and the seeds of FuzzDecode anew,
// from the servers whose bin directories PGOUTPUT_CAPTURE lists, separated by
// colons; the seeds are those of the last. Then run TestDecode_Captures -update.
func TestCapture(t *testing.T) {
	list := os.Getenv("PGOUTPUT_CAPTURE")
	if list == "" {
		t.Skip("PGOUTPUT_CAPTURE lists no servers")
	}
	for _, bin := range filepath.SplitList(list) {
		c := pgtest.Start(t, pgtest.WithBin(bin))
		captures := record(t, c)
		version := fmt.Sprintf("pg%d", c.Version())
		write(t, "testdata/"+version+".hex", hexFile(captures))
		for _, got := range captures {
			seed(t, got)
		}
	}
}

// seed writes the last change of a capture, with the description of its table,
// as a seed of FuzzDecode.
func seed(t *testing.T, c capture) {
	var relation, frame []byte
	for _, f := range c.frames {
		switch Kind(f[0]) {
		case Relation:
			relation = f
		case Begin, Commit:
		default:
			frame = f
		}
	}
	if frame == nil {
		t.Fatalf("case %s has no change", c.name)
	}
	content := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n[]byte(%q)\n", relation, frame)
	write(t, "testdata/fuzz/FuzzDecode/"+c.name, []byte(content))
}

func write(t *testing.T, path string, content []byte) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Ensure that the server at hand sends what those of the captures sent.
func TestDecode_Server(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t)
	all := allCaptures(t)
	kept, ok := all[fmt.Sprintf("pg%d", c.Version())]
	if !ok {
		t.Skipf("no capture of PostgreSQL %d; see TestCapture", c.Version())
	}
	got, err := render(record(t, c), false)
	if err != nil {
		t.Fatal(err)
	}
	want, err := render(kept, false)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("the server sent something else (-capture +server):\n%s", diff)
	}
}
