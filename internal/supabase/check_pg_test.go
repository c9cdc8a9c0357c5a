package supabase_test

import (
	"testing"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/check"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/schema"
)

// On a project that schema target has prepared, check finds nothing wrong, as the
// role that it has made.
func TestCheck(t *testing.T) {
	t.Parallel()
	p := newProject(t, "niochat.yaml", pgtest.WithSetting("max_slot_wal_keep_size", "1GB"))
	p.apply()
	preset, err := configs.Read("niochat.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r, err := check.Run(t.Context(), check.Options{Name: "walbridge", SourceURL: p.src,
		TargetURL: p.cluster.URLAs(schema.TargetRole, "", "project"), MappingName: "niochat.yaml", Mapping: preset})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range r.Findings {
		if f.Severity > check.Info && f.Check != "row_security" { // the role is subject to it, and is to be
			t.Errorf("%s %s: %s\n%s\n%s", f.Part, f.Check, f.What, f.Why, f.Fix)
		}
	}
}
