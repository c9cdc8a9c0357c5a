package propose_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/propose"
	"github.com/walbridge/walbridge/mapping"
)

var update = flag.Bool("update", false, "write the golden files anew")

// odd is what no tidy application has, and some application has all the same.
const odd = `
CREATE SCHEMA "Vendas";
CREATE TABLE loja (id bigint PRIMARY KEY, nome text NOT NULL);
CREATE TABLE "Vendas"."Pedido" (id uuid PRIMARY KEY, loja_id bigint NOT NULL REFERENCES loja, "valor.total" numeric(12,2), "yes" bool,
	situacao text, area point, total numeric GENERATED ALWAYS AS (1) STORED, api_token text);
CREATE TABLE "Vendas".item ("Pedido_id" uuid REFERENCES "Vendas"."Pedido", n int, texto text, extra hstore_like, PRIMARY KEY ("Pedido_id", n));
CREATE TABLE nota (id bigint PRIMARY KEY, pedido uuid NOT NULL REFERENCES "Vendas"."Pedido", "ação" text, "a""b" text);
CREATE TABLE recado (texto text, loja_id bigint REFERENCES loja);
CREATE TABLE evento (id bigint, loja_id bigint REFERENCES loja, dia date, PRIMARY KEY (id, dia)) PARTITION BY RANGE (dia);
CREATE TABLE evento_2026 PARTITION OF evento FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE auth_user (id bigint PRIMARY KEY, password text, loja_id bigint REFERENCES loja);
CREATE TABLE perfil (id bigint PRIMARY KEY, user_id bigint REFERENCES auth_user);
CREATE TABLE django_session (session_key text PRIMARY KEY, session_data text);
CREATE TABLE audit_logs (id bigint PRIMARY KEY, loja_id bigint REFERENCES loja, what text);
CREATE TABLE no (id bigint PRIMARY KEY, pai_id bigint REFERENCES no, folha_id bigint, loja_id bigint REFERENCES loja);
`

func TestRead_Golden(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	tests := []struct {
		name, sql string
		opts      propose.Options
	}{
		{"niochat", demo.SourceSchema, propose.Options{}},
		{"odd", "CREATE TYPE hstore_like AS (k text, v text);" + odd, propose.Options{}},
		{"odd_schema", "CREATE TYPE hstore_like AS (k text, v text);" + odd, propose.Options{Tenant: "loja_id", Schemas: []string{"Vendas"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.CreateDB(t, cluster, tt.name)
			pgtest.Exec(t, url, tt.sql)
			conn := pgtest.Connect(t, url)
			p, err := propose.Read(t.Context(), conn, tt.opts)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := p.Write(&got); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", tt.name+".yaml")
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("the proposal is not %s; it is:\n%s", golden, got.String())
			}
			// As a user's file: read and compiled against what is there.
			file, err := mapping.Parse("walbridge.yaml", got.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			cat, err := pg.ReadCatalog(t.Context(), conn, file.SourceTables())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := mapping.Compile(file, cat, nil, mapping.CompileOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRead_Refused(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t)
	tests := []struct {
		name, sql, tenant string
		want              []string
	}{
		{"empty", "", "", []string{"the source has no tables"}},
		{"no_keys", "CREATE TABLE a (id int PRIMARY KEY)", "", []string{"candidates: none", "--tenant COLUMN"}},
		{"unnamed", "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, x_id int REFERENCES a)", "",
			[]string{"candidates: x_id (reached by 1 of 2 tables)"}},
		{"two", "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, shop_id int REFERENCES a, team_id int REFERENCES a)", "",
			[]string{"shop_id (reached by 1 of 2 tables), team_id (reached by 1 of 2 tables)"}},
		{"unknown", "CREATE TABLE a (id int PRIMARY KEY)", "org_id", []string{`no table that can be mapped reaches a column "org_id"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := pgtest.CreateDB(t, cluster, tt.name)
			pgtest.Exec(t, url, tt.sql)
			_, err := propose.Read(t.Context(), pgtest.Connect(t, url), propose.Options{Tenant: tt.tenant})
			if err == nil || fault.ClassOf(err) != fault.Config {
				t.Fatalf("error %v of class %v, want one of the configuration", err, fault.ClassOf(err))
			}
			text := err.Error() + " " + fault.HintOf(err)
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q doesn't say %q", text, want)
				}
			}
		})
	}
}
