package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/postgrest"
)

// patience ends a test that hangs; nothing is measured against it.
const patience = 2 * time.Minute

// seed makes three contacts of two tenants. Foreign keys are left aside: the
// tenants themselves don't matter here.
const seed = `SET session_replication_role = replica;
INSERT INTO public.conversations_contact (id, name, phone, additional_attributes, provedor_id, created_at, updated_at)
SELECT n, 'contact', n::text, '{}', 1 + n % 2, now(), now() FROM generate_series(1, 3) n`

// TestScripts_Postgres runs scripts against two databases each: SOURCE_URL has
// NioChat's tables, TARGET_URL is empty.
func TestScripts_Postgres(t *testing.T) {
	t.Parallel()
	// With a bound, so that check has nothing to say about the cluster.
	cluster := pgtest.Start(t, pgtest.WithSetting("max_slot_wal_keep_size", "10GB"))
	// The API's roles, and one that may stream and owns nothing.
	pgtest.Exec(t, cluster.URL("postgres"), "CREATE ROLE anon; CREATE ROLE authenticated; CREATE ROLE plain LOGIN REPLICATION")
	replica := pgtest.Start(t, pgtest.WithSetting("wal_level", "replica"))
	pgtest.Exec(t, replica.URL("postgres"), demo.SourceSchema)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/postgres",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(4 * patience),
		Setup: func(env *testscript.Env) error {
			name := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
			source := pgtest.CreateDB(t, cluster, name+"_source")
			target := pgtest.CreateDB(t, cluster, name+"_target")
			pgtest.Exec(t, source, demo.SourceSchema, seed)
			listen, err := pgtest.FreeAddress()
			env.Setenv("SOURCE_URL", source)
			env.Setenv("SOURCE_URL_PLAIN", cluster.URLAs("plain", "", name+"_source"))
			env.Setenv("TARGET_URL_PLAIN", cluster.URLAs("plain", "", name+"_target"))
			env.Setenv("SOURCE_URL_REPLICA", replica.URL("postgres"))
			env.Setenv("TARGET_URL", target)
			env.Setenv("SERVER", cluster.Addr())
			// The server asks for no password; the bridge must not show it anyway.
			env.Setenv("WALBRIDGE_SOURCE_URL", strings.Replace(source, "@", ":hunter2@", 1))
			env.Setenv("WALBRIDGE_TARGET_URL", strings.Replace(target, "@", ":hunter2@", 1))
			env.Setenv("WALBRIDGE_LISTEN", "off")
			env.Setenv("WALBRIDGE_NAME", name)
			env.Setenv("LISTEN", listen)
			if strings.HasPrefix(name, "api_") {
				withAPI(t, cluster, name+"_target", env)
			}
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			// finding PART CHECK SEVERITY: the JSON on stdout has one.
			"finding": finding,
			"json":    jsonField,
			// appears FILE REGEXP waits until a file that is being written matches.
			"appears": func(ts *testscript.TestScript, _ bool, args []string) {
				want := regexp.MustCompile(args[1])
				ts.Check(eventually(func() error {
					data, err := os.ReadFile(ts.MkAbs(args[0]))
					if err == nil && !want.Match(data) {
						err = fmt.Errorf("%s holds no %s: %s", args[0], want, data)
					}
					return err
				}))
			},
			// update URL SQL
			"update": func(ts *testscript.TestScript, _ bool, args []string) { pgtest.Exec(t, args[0], args[1:]...) },
			// psql URL FILE runs a script.
			"psql": func(ts *testscript.TestScript, _ bool, args []string) { pgtest.Exec(t, args[0], ts.ReadFile(args[1])) },
			// query URL SQL WANT waits until the only value of a query is WANT.
			"query": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(eventually(func() error {
					if got := pgtest.QueryValue(t, args[0], args[1]); got != args[2] {
						return fmt.Errorf("%s is %s, want %s", args[1], got, args[2])
					}
					return nil
				}))
			},
			// await ADDRESS STATE waits until the bridge says that it is ready.
			"await": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Check(eventually(func() error { return ready(t, args[0], args[1]) }))
			},
		},
	})
}

// withAPI leaves a script nothing of its target but the API of a Supabase project.
func withAPI(t *testing.T, cluster *pgtest.Cluster, db string, env *testscript.Env) {
	api, url := postgrest.Start(t, cluster, db, postgrest.Options{})
	keys := api.Keys()
	env.Setenv("WALBRIDGE_TARGET_URL", "")
	env.Setenv("SUPABASE_URL", url)
	env.Setenv("SUPABASE_SECRET_KEY", keys.Secret)
	env.Setenv("LEGACY_KEY", keys.ServiceRole)
	env.Setenv("ANON_KEY", keys.Anon)
	env.Setenv("PUBLISHABLE_KEY", keys.Publishable)
	env.Setenv("EXPIRED_KEY", api.Token(map[string]any{"role": "service_role", "exp": 24 * 60 * 60}))
	env.Setenv("ENDING_KEY", api.Token(map[string]any{"role": "service_role", "exp": time.Now().Add(24 * time.Hour).Unix()}))
}

func ready(t *testing.T, address, want string) error {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if got := strings.TrimSpace(string(body)); err == nil && got != want {
		err = fmt.Errorf("the bridge is %s, want %s", got, want)
	}
	return err
}

func eventually(try func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
