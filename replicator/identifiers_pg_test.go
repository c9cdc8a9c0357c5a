package replicator_test

import (
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// longName has as many bytes as a name can have.
var longName = strings.Repeat("ç", 31) + "x"

// oddNames are tables whose names, and those of whose columns and schemas, mean
// something else without quotes; under keys of several columns and types.
const oddNames = `
CREATE TABLE victim (id int);
CREATE SCHEMA "Sch ""x""; DROP TABLE victim; --";
CREATE TABLE "Sch ""x""; DROP TABLE victim; --"."select" ("Order" text, "a""b" uuid, "ação" int, "user" text, LONGNAME text,
	"'; DROP TABLE victim; --" text, "$1" text, "%s" text, "two words" bigint, PRIMARY KEY ("a""b", "Order"));
CREATE TABLE public."Table" (id timestamptz PRIMARY KEY, "TENANT" bigint, v text);
CREATE TABLE public."табл" (id numeric PRIMARY KEY, "TENANT" bigint, v text);
CREATE TABLE public.LONGNAME (id bytea PRIMARY KEY, "TENANT" bigint, v text);`

const oddMapping = `
audit_log:
  table: '"Log"."Aud""it"'
tables:
  '"Out ""; --".select':
    from: '"Sch ""x""; DROP TABLE victim; --".select'
    tenant: ['"two words"']
    columns: [Order, '"a""b"', "ação", user, LONGNAME, "'; DROP TABLE victim; --", $1, "%s"]
  Table:
    from: Table
    tenant: [TENANT]
    audit: {entity: row}
    columns: [id, v]
  "табл":
    from: "табл"
    tenant: [TENANT]
    audit: {entity: row}
    columns: [id, v]
  LONGNAME:
    from: LONGNAME
    tenant: [TENANT]
    audit: {entity: row}
    columns: [id, v]
`

// Names that need quotes, and names that would be SQL without them, are names and
// nothing else; and keys of any type are followed through changes.
func TestBridge_EveryName(t *testing.T) {
	t.Parallel()
	named := func(s string) string { return strings.ReplaceAll(s, "LONGNAME", longName) }
	for _, api := range []bool{false, true} {
		t.Run(map[bool]string{false: "over a connection", true: "over the API"}[api], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, named(oddNames), named(oddMapping))
			pgtest.Exec(t, w.dst, `CREATE TABLE victim (id int); CREATE SCHEMA "Out ""; --"; CREATE SCHEMA "Log"`)
			if api {
				w.overAPI()
			}
			const odd = `"Sch ""x""; DROP TABLE victim; --"."select"`
			fill := func(n string) {
				w.exec(`INSERT INTO `+odd+` SELECT 'k' || n, md5(n::text)::uuid, n, 'u', 'l', 'q', 'd', 'p', 1 FROM generate_series(`+n+`, `+n+` + 4) n`,
					`INSERT INTO "Table" SELECT '2026-01-01+00'::timestamptz + n * interval '1 day', 1, 'v' FROM generate_series(`+n+`, `+n+` + 4) n`,
					`INSERT INTO "табл" SELECT n, 1, 'v' FROM generate_series(`+n+`, `+n+` + 4) n`,
					`INSERT INTO `+longName+` SELECT decode(md5(n::text), 'hex'), 1, 'v' FROM generate_series(`+n+`, `+n+` + 4) n`)
			}
			fill("0")
			r := w.start()
			w.catchUp(r)
			w.requireEqual()
			fill("100")
			w.exec(`UPDATE `+odd+` SET "ação" = -1, "$1" = 'x' WHERE "ação" IN (1, 101)`,
				`UPDATE `+odd+` SET "Order" = 'new' WHERE "ação" IN (2, 102)`,
				`DELETE FROM `+odd+` WHERE "ação" IN (3, 103)`,
				`UPDATE "Table" SET id = id + interval '1 microsecond', v = 'moved' WHERE extract(day FROM id AT TIME ZONE 'UTC') = 2`,
				`UPDATE "табл" SET id = 2.50 WHERE id = 2`,
				`UPDATE "табл" SET v = 'changed' WHERE id = 100`,
				`DELETE FROM "табл" WHERE id = 103`,
				`UPDATE `+longName+` SET id = '\x00'::bytea WHERE id = decode(md5('1'), 'hex')`,
				`DELETE FROM `+longName+` WHERE id = decode(md5('102'), 'hex')`)
			w.catchUp(r)
			w.requireEqual()
			w.exec(`TRUNCATE "табл"`)
			w.catchUp(r)
			w.requireEqual()
			if err := r.stop(); err != nil {
				t.Fatal(err)
			}
			for _, u := range []string{w.src, w.dst} {
				if got := pgtest.QueryValue(t, u, "SELECT to_regclass('public.victim') IS NOT NULL"); got != "t" {
					t.Error("a name was executed")
				}
			}
		})
	}
}
