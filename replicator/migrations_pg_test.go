package replicator_test

import (
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
)

const changing = `
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE item (gone text, id bigint PRIMARY KEY, tenant bigint, small int, mood mood, v text, rest text);
INSERT INTO item VALUES ('g', 1, 1, 1, 'sad', 'one', 'r');`

const changingMapping = `
audit_log:
  table: audit_logs
tables:
  item:
    from: item
    tenant: [tenant]
    columns: [id, small, mood, v]
`

func newChanging(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, changing, changingMapping)
	pgtest.Exec(t, w.dst, `CREATE TYPE mood AS ENUM ('sad', 'ok');
		CREATE TABLE item (id bigint PRIMARY KEY, provedor_id bigint NOT NULL, small bigint, mood mood, v text)`)
	return w
}

// Each row is decoded under the layout that it was written with, also where the
// layout changes within a transaction.
func TestBridge_LayoutChangesInMidTransaction(t *testing.T) {
	t.Parallel()
	w := newChanging(t)
	r := w.start()
	w.catchUp(r)
	w.exec(`BEGIN;
		INSERT INTO item VALUES ('g', 2, 1, 2, 'ok', 'two', 'r');
		ALTER TABLE item ADD COLUMN added int DEFAULT 7;
		INSERT INTO item VALUES ('g', 3, 1, 3, 'ok', 'three', 'r', 8);
		ALTER TABLE item DROP COLUMN gone;
		INSERT INTO item VALUES (4, 1, 4, 'ok', 'four', 'r', 9);
		ALTER TABLE item RENAME COLUMN rest TO remains;
		UPDATE item SET v = 'ONE', remains = 'x' WHERE id = 1;
		SAVEPOINT s;
		ALTER TABLE item ADD COLUMN undone text DEFAULT 'u';
		INSERT INTO item VALUES (5, 1, 5, 'ok', 'five', 'r', 9, 'u');
		ROLLBACK TO s;
		ALTER TABLE item ALTER COLUMN remains TYPE varchar(9);
		INSERT INTO item VALUES (6, 1, 6, 'sad', 'six', 'r', 9);
		ALTER TABLE item RENAME COLUMN small TO other;
		ALTER TABLE item RENAME COLUMN other TO small;
		DELETE FROM item WHERE id = 2;
		COMMIT`,
		`UPDATE item SET v = v || '!' WHERE id > 1`)
	w.catchUp(r)
	w.want("after", "SELECT id, small, mood, v FROM item ORDER BY id",
		"1 | 1 | sad | ONE\n3 | 3 | ok | three!\n4 | 4 | ok | four!\n6 | 6 | sad | six!")
	w.requireEqual()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// A type that the mapping wasn't compiled for is refused. After a restart the rows
// from before a migration that widened it are read as well: they are in the same
// transaction.
func TestBridge_FollowsAWiderTypeAfterARestart(t *testing.T) {
	t.Parallel()
	w := newChanging(t)
	r := w.start()
	w.catchUp(r)
	w.exec(`BEGIN;
		INSERT INTO item VALUES ('g', 2, 1, 2, 'ok', 'two', 'r');
		ALTER TABLE item ALTER COLUMN small TYPE bigint;
		INSERT INTO item VALUES ('g', 3, 1, 9223372036854775807, 'ok', 'three', 'r');
		COMMIT`)
	r.blocked("column small: its type has changed")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = w.start()
	w.catchUp(r)
	w.want("after", "SELECT id, small FROM item ORDER BY id", "1 | 1\n2 | 2\n3 | 9223372036854775807")
	w.requireEqual()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// A value that the target's enum lacks blocks the bridge until it has it: held,
// all rows of that value would be missing. Nothing else is needed then.
func TestBridge_WaitsForAnEnumsValue(t *testing.T) {
	t.Parallel()
	w := newChanging(t)
	r := w.start()
	w.catchUp(r)
	w.exec("ALTER TYPE mood ADD VALUE 'new'", "INSERT INTO item VALUES ('g', 2, 1, 2, 'new', 'two', 'r')", "UPDATE item SET mood = 'new' WHERE id = 1")
	r.blocked("table public.item refuses a row: SQLSTATE 22P02")
	w.want("nothing is held", "SELECT count(*) FROM walbridge.held", "0")
	pgtest.Exec(t, w.dst, "ALTER TYPE mood ADD VALUE 'new'")
	w.catchUp(r)
	w.want("resumed", "SELECT id, mood FROM item ORDER BY id", "1 | new\n2 | new")
	w.requireEqual()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

// Rows that came under another name or layout are the mapped table's all the same.
// They are not passed over, and a resync is the way on.
func TestBridge_RefusesRowsOfAnotherLayout(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		migrate, says string
		restart       bool
	}{
		"renamed and back": {`ALTER TABLE item RENAME TO other; INSERT INTO other VALUES ('g', 2, 1, 2, 'ok', 'two', 'r');
			ALTER TABLE other RENAME TO item`, "rows of it come under the name public.other", false},
		"moved and back": {`CREATE SCHEMA elsewhere; ALTER TABLE item SET SCHEMA elsewhere; INSERT INTO elsewhere.item VALUES ('g', 2, 1, 2, 'ok', 'two', 'r');
			ALTER TABLE elsewhere.item SET SCHEMA public`, "rows of it come under the name elsewhere.item", false},
		"a column renamed and back": {`ALTER TABLE item RENAME COLUMN small TO other; INSERT INTO item VALUES ('g', 2, 1, 2, 'ok', 'two', 'r');
			ALTER TABLE item RENAME COLUMN other TO small`, "column small: it was dropped or renamed", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newChanging(t)
			r := w.start()
			w.catchUp(r)
			w.exec(tt.migrate)
			r.blocked(tt.says)
			if tt.restart {
				if err := r.stop(); err != nil {
					t.Fatal(err)
				}
				r = w.start()
				r.blocked(tt.says)
			}
			w.compared(w.ask("resync", "{}"))
			w.exec("UPDATE item SET v = v || '!'")
			w.catchUp(r)
			w.want("after the resync", "SELECT id, small, mood, v FROM item ORDER BY id", "1 | 1 | sad | one!\n2 | 2 | ok | two!")
			w.want("the gap in the log", "SELECT count(*) > 0 FROM audit_logs WHERE action = 'audit.gap'", "t")
			w.requireEqual()
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A table that is dropped and made again under its name is another one, and none
// that is published.
func TestBridge_RefusesATableThatWasMadeAgain(t *testing.T) {
	t.Parallel()
	w := newChanging(t)
	r := w.start()
	w.catchUp(r)
	w.exec(`DROP TABLE item; CREATE TABLE item (v text, mood mood, small int, tenant bigint, id bigint PRIMARY KEY);
		INSERT INTO item VALUES ('again', 'ok', 1, 1, 1)`)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.refused("publication")
	w.want("untouched", "SELECT id, v FROM item", "1 | one")
	w.beginsAnew("SELECT id, small, mood, v FROM item", "1 | 1 | ok | again")
}

// beginsAnew does what the refusal of a table says.
func (w *world) beginsAnew(sql, want string) {
	w.t.Helper()
	id := w.ask("resync", "{}")
	r := w.start()
	w.compared(id)
	w.catchUp(r)
	w.want("after the resync", sql, want)
	w.requireEqual()
	if err := r.stop(); err != nil {
		w.t.Fatal(err)
	}
}
