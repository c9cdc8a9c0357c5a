package schema_test

import (
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/schema"
	"github.com/walbridge/walbridge/mapping"
)

func TestCheckRole(t *testing.T) {
	t.Parallel()
	for role, ok := range map[string]bool{
		"walbridge_cdc": true, `odd "name", 1`: true, strings.Repeat("x", 56): true,
		"": false, "public": false, "none": false, "pg_read_all_data": false, "a\x00b": false, strings.Repeat("x", 57): false,
	} {
		if err := schema.CheckRole(role); (err == nil) != ok {
			t.Errorf("CheckRole(%q) is %v", role, err)
		}
	}
}

// What no statement of the script changes is said at its top, and an odd role's
// name does no harm.
func TestSource_Notes(t *testing.T) {
	t.Parallel()
	c := pgtest.Start(t, pgtest.WithSetting("wal_level", "replica"))
	url := c.URL("postgres")
	pgtest.Exec(t, url, demo.SourceSchema, "ALTER TABLE conversations_contact ENABLE ROW LEVEL SECURITY; REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
	file, err := mapping.Parse("test.yaml", []byte(preset(t)))
	if err != nil {
		t.Fatal(err)
	}
	o := schema.Options{Name: name, Role: `$walbridge$ it's "odd"`, File: file}
	s, err := schema.Source(t.Context(), pgtest.Connect(t, url), o)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if _, err := s.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"-- NOTE: wal_level is replica",
		"-- ALTER SYSTEM SET wal_level = 'logical'; and restart the source once",
		"-- NOTE: Table public.conversations_contact has row security",
		`GRANT CONNECT ON DATABASE "postgres" TO "$walbridge$ it's ""odd""";`,
	} {
		if !strings.Contains(b.String(), "\n"+want) {
			t.Errorf("the script doesn't say %q:\n%s", want, b.String())
		}
	}
	pgtest.Exec(t, url, b.String(), b.String())
	if got := pgtest.QueryValue(t, url, "SELECT rolreplication FROM pg_roles WHERE rolname = $1", o.Role); got != "t" {
		t.Error("the role may not replicate")
	}
	pgtest.Exec(t, url, "DROP PUBLICATION walbridge; CREATE PUBLICATION walbridge FOR ALL TABLES")
	_, err = schema.Source(t.Context(), pgtest.Connect(t, url), o)
	if err == nil || !strings.Contains(fault.HintOf(err), `DROP PUBLICATION "walbridge"`) {
		t.Errorf("a publication for all tables: %v", err)
	}
}
