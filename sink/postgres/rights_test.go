package postgres

import (
	"slices"
	"strings"
	"testing"

	"github.com/walbridge/walbridge/sink"
)

// What check looks for is what the script grants.
func TestPrivateRights_AreGranted(t *testing.T) {
	t.Parallel()
	_, functions := PrivateRights("bridge")
	schema := &sink.Schema{Entries: &sink.EntryTable{Schema: "public", Name: "audit_logs", ID: "id", Tenant: "tenant", Details: "details"}}
	for _, st := range privateGrants("bridge", schema, "role") {
		_, name, isFunction := strings.Cut(st.SQL, "GRANT EXECUTE ON FUNCTION walbridge.")
		if name, _, _ = strings.Cut(name, "("); isFunction && !slices.Contains(functions, name) {
			t.Errorf("function %s is granted and not looked for", name)
		}
	}
}
