package pg_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
)

const catalogTables = `
CREATE ROLE plain LOGIN;
CREATE SCHEMA "Other Schema";
REVOKE ALL ON SCHEMA public, "Other Schema" FROM public;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN short AS varchar(10);
CREATE DOMAIN shorter AS short CHECK (length(value) < 5);
CREATE COLLATION fuzzy (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE "Other Schema"."top ""x""" (id int PRIMARY KEY);
CREATE TABLE middle (id int PRIMARY KEY, top_id int REFERENCES "Other Schema"."top ""x""", self_id int REFERENCES middle);
CREATE TABLE leaf (
	gone int, id bigint GENERATED ALWAYS AS IDENTITY, middle_id int REFERENCES middle, mood mood DEFAULT 'good', tags varchar(5)[],
	nick shorter, fuzz text COLLATE fuzzy NOT NULL, up text GENERATED ALWAYS AS (upper(fuzz)) STORED, price numeric(10,2),
	UNIQUE (fuzz, id) DEFERRABLE, PRIMARY KEY (middle_id, id));
ALTER TABLE leaf DROP COLUMN gone;
CREATE UNIQUE INDEX leaf_partial ON leaf (id) WHERE id > 0;
CREATE UNIQUE INDEX leaf_expr ON leaf (abs(id));
CREATE UNIQUE INDEX leaf_id ON leaf (id) INCLUDE (fuzz);
ALTER TABLE leaf REPLICA IDENTITY USING INDEX leaf_id;
ALTER TABLE leaf ENABLE ROW LEVEL SECURITY;
ALTER TABLE leaf FORCE ROW LEVEL SECURITY;
CREATE TABLE two (a int, b int, FOREIGN KEY (a, b) REFERENCES leaf (middle_id, id));
CREATE VIEW seen AS SELECT 1 AS one;
CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (1) TO (2);
ALTER TABLE part ADD up int REFERENCES part;`

func TestReadCatalog(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t)
	url := pgtest.CreateDB(t, c, "catalog")
	pgtest.Exec(t, url, catalogTables)
	// A role that may read nothing at all.
	conn, err := pg.Connect(t.Context(), c.URLAs("plain", "", "catalog"), pg.Options{Side: pg.Source})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	name := func(n string) pg.TableName { return pg.TableName{Schema: "public", Name: n} }
	cat, err := pg.ReadCatalog(t.Context(), conn, []pg.TableName{name("leaf"), name("nothing"), name("two"), name("seen"), name("part"), name("part_1"), name("leaf")})
	if err != nil {
		t.Fatal(err)
	}

	var found []string
	for n := range cat.Tables {
		found = append(found, n.String())
	}
	slices.Sort(found)
	want := []string{`Other Schema.top "x"`, "public.leaf", "public.middle", "public.part", "public.part_1", "public.seen", "public.two"}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}

	leaf := cat.Table(name("leaf"))
	mood := pg.Type{Schema: "public", Name: "mood", Mod: -1, Display: "public.mood", Kind: "e", Category: "E", Labels: []string{"good", "bad"}}
	text := pg.Type{Schema: "pg_catalog", Name: "text", Mod: -1, Display: "text", Kind: "b", Category: "S"}
	varchar := func(mod int32, display string) *pg.Type {
		return &pg.Type{Schema: "pg_catalog", Name: "varchar", Mod: mod, Display: display, Kind: "b", Category: "S"}
	}
	wantColumns := []pg.Column{
		{Name: "id", Type: pg.Type{Schema: "pg_catalog", Name: "int8", Mod: -1, Display: "bigint", Kind: "b", Category: "N"}, NotNull: true, Identity: "a"},
		{Name: "middle_id", Type: pg.Type{Schema: "pg_catalog", Name: "int4", Mod: -1, Display: "integer", Kind: "b", Category: "N"}, NotNull: true},
		{Name: "mood", Type: mood, Default: true},
		{Name: "tags", Type: pg.Type{Schema: "pg_catalog", Name: "_varchar", Mod: 9, Display: "character varying(5)[]", Kind: "b", Category: "A", Element: varchar(9, "character varying(5)")}},
		{Name: "nick", Type: pg.Type{Schema: "public", Name: "shorter", Mod: -1, Display: "public.shorter", Kind: "d", Category: "S", Base: varchar(14, "character varying(10)")}},
		{Name: "fuzz", Type: text, NotNull: true, Fuzzy: true},
		{Name: "up", Type: text, Generated: "s"},
		{Name: "price", Type: pg.Type{Schema: "pg_catalog", Name: "numeric", Mod: 655366, Display: "numeric(10,2)", Kind: "b", Category: "N"}},
	}
	noOID := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".OID" }, cmp.Ignore())
	if diff := cmp.Diff(wantColumns, leaf.Columns, noOID); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	if leaf.OID == 0 || leaf.Columns[0].Type.OID != 20 || leaf.Columns[3].Type.Element.OID != 1043 {
		t.Error("OIDs are missing")
	}
	if diff := cmp.Diff([]string{"middle_id", "id"}, leaf.PrimaryKey); diff != "" {
		t.Errorf("primary key (-want +got):\n%s", diff)
	}
	wantUniques := []pg.Unique{
		{Name: "leaf_fuzz_id_key", Columns: []string{"fuzz", "id"}, Deferrable: true},
		{Name: "leaf_id", Columns: []string{"id"}},
		{Name: "leaf_pkey", Columns: []string{"middle_id", "id"}, Primary: true},
	}
	if diff := cmp.Diff(wantUniques, leaf.Uniques); diff != "" {
		t.Errorf("unique indexes (-want +got):\n%s", diff)
	}
	if leaf.Kind != "r" || leaf.Persistence != "p" || leaf.Identity != "i" || !slices.Equal(leaf.IdentityColumns, []string{"id"}) || !leaf.RowSecurity || !leaf.ForceRowSecurity {
		t.Errorf("leaf is %q %q with identity %q %q, row security %v %v", leaf.Kind, leaf.Persistence, leaf.Identity, leaf.IdentityColumns, leaf.RowSecurity, leaf.ForceRowSecurity)
	}
	wantKeys := []pg.ForeignKey{{Name: "leaf_middle_id_fkey", Column: "middle_id", Ref: name("middle"), RefColumn: "id"}}
	if diff := cmp.Diff(wantKeys, leaf.ForeignKeys); diff != "" {
		t.Errorf("foreign keys (-want +got):\n%s", diff)
	}
	if two := cat.Table(name("two")); len(two.ForeignKeys) != 0 || two.PrimaryKey != nil {
		t.Errorf("table two has foreign keys %v and key %v, want none", two.ForeignKeys, two.PrimaryKey)
	}
	if k := cat.Table(name("seen")).Kind; k != "v" {
		t.Errorf("the view is %q", k)
	}
	part, leafPart := cat.Table(name("part")), cat.Table(name("part_1"))
	if part.Kind != "p" || !part.Children || part.Partition || leafPart.Kind != "r" || !leafPart.Partition || !leafPart.Inherits {
		t.Errorf("partitions are %+v and %+v", part, leafPart)
	}
	if part.Ancestors != nil || !slices.Equal(leafPart.Ancestors, []pg.TableName{name("part")}) {
		t.Errorf("partitions are in %v and %v", part.Ancestors, leafPart.Ancestors)
	}
	for _, p := range []*pg.Table{part, leafPart} {
		if len(p.ForeignKeys) != 1 || p.ForeignKeys[0].Ref != name("part") || p.ForeignKeys[0].Column != "up" {
			t.Errorf("foreign keys of %s: %+v", p.TableName, p.ForeignKeys)
		}
	}
	if cat.Table(name("nothing")) != nil || (*pg.Catalog)(nil).Table(name("leaf")) != nil {
		t.Error("a table that doesn't exist was found")
	}
}
