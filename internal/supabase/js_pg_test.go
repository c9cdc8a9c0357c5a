package supabase_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/postgrest"
)

// A page of the guide's frontend, with supabase-js under a tenant's token, sees the
// tenant's rows; without one it sees nothing.
func TestSupabaseJS(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("no node; make extras installs it")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	found, _ := filepath.Glob(filepath.Join(cache, "walbridge", "supabase-js-*", "node_modules"))
	if len(found) == 0 {
		t.Skip("no supabase-js in the cache; make extras installs it")
	}
	p := newProject(t, "niochat.yaml")
	if v := p.cluster.Version(); v < 15 {
		t.Skipf("PostgreSQL %d has no views that read with the caller's rights", v)
	}
	server, url := postgrest.Start(t, p.cluster, "project", postgrest.Options{})
	p.apply()
	pgtest.Exec(t, p.dst, guideRows, alertRows)

	run := func(token string) map[string]string {
		cmd := exec.CommandContext(t.Context(), node, "testdata/dashboard.cjs")
		cmd.Env = append(os.Environ(), "NODE_PATH="+found[len(found)-1], "SUPABASE_URL="+url, "SUPABASE_ANON_KEY="+server.Keys().Anon, "TOKEN="+token)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("node: %v\n%s", err, err.(*exec.ExitError).Stderr)
		}
		got := map[string]string{}
		for line := range strings.Lines(string(out)) {
			var r struct {
				Name, Error string
				Rows        []map[string]any
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			rows, err := json.Marshal(r.Rows)
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Rows) > 0 && len(rows) > 150 { // whole rows
				rows, _ = json.Marshal([]any{len(r.Rows), r.Rows[0]["id"], r.Rows[0]["provedor_id"]})
			}
			got[r.Name] = r.Error + string(rows)
		}
		return got
	}
	seven := map[string]string{
		"conversations":     `[{"id":1,"provedor_id":7,"status":"open"},{"id":2,"provedor_id":7,"status":"closed"}]`,
		"open":              "[1,1,7]",
		"foreign":           "[]",
		"messages":          "[2,1,7]",
		"dashboard_metrics": `[{"avg_resolution_time_hours":null,"closed_conversations":1,"open_conversations":1,"provedor_id":7,"total_conversations":2}]`,
		"csat_metrics":      `[{"avg_rating":5,"dissatisfied":0,"neutral":0,"provedor_id":7,"satisfied":1,"total_feedbacks":1}]`,
		"audit_logs":        `[{"action":"x"}]`,
		"alerts":            `[{"conversation_id":1,"kind":"long_open_conversation"}]`,
	}
	token := func(claims map[string]any) string {
		claims["role"] = "authenticated"
		return server.Token(claims)
	}
	if diff := cmp.Diff(seven, run(token(map[string]any{"app_metadata": map[string]any{"provedor_id": 7}}))); diff != "" {
		t.Errorf("tenant 7 (-want +got):\n%s", diff)
	}
	for name, rows := range run(token(map[string]any{"user_metadata": map[string]any{"provedor_id": 7}})) {
		if rows != "[]" {
			t.Errorf("without a tenant: %s: %s", name, rows)
		}
	}
	for name, rows := range run("") {
		if !strings.HasPrefix(rows, "42501") {
			t.Errorf("without a token: %s: %s", name, rows)
		}
	}
}
