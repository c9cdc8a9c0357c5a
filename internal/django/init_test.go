package django

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/walbridge/walbridge/internal/demo"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/mapping"
)

// manage runs manage.py of the application in dir.
func manage(t *testing.T, dir, url string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), python(t), append([]string{"manage.py"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DATABASE_URL="+url, "PYTHONDONTWRITEBYTECODE=1", "PYTHONUTF8=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("manage.py %v: %v\n%s", args, err, out)
	}
}

// An application that walbridge has never seen is bridged with nothing but what
// init proposes: its rows are copied, and what its ORM writes afterwards arrives.
func TestInit_UnknownApplication(t *testing.T) {
	t.Parallel()
	source := pgtest.CreateDB(t, newCluster(t), "shop")
	target := pgtest.CreateDB(t, newCluster(t), "supabase")
	manage(t, "shop", source, "migrate")
	manage(t, "shop", source, "trade", "--seed=1", "--steps=60")

	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "shop.yaml")
	env := append(os.Environ(), "WALBRIDGE_SOURCE_URL="+source, "WALBRIDGE_TARGET_URL="+target)
	cmd := exec.CommandContext(t.Context(), path, "init", "--output", file)
	cmd.Env = env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("walbridge init: %v\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", text)

	b := startBridge(t, source, target, "WALBRIDGE_CONFIG="+file)
	for seed := range 3 {
		manage(t, "shop", source, "trade", "--seed="+strconv.Itoa(2+seed), "--steps=60")
	}
	catchUp(t, b, source)

	f, err := mapping.Parse(file, text)
	if err != nil {
		t.Fatal(err)
	}
	rows, entries, err := demo.Compare(t.Context(), f, source, target, verify.Options{Keys: 5})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s\naudit log: %s", rows, entries)
	if !rows.Equal() || entries == nil || !entries.OK() {
		t.Error("the target differs from the source")
	}
	for _, table := range []string{"orders_customer", "orders_order", "orders_line"} {
		if n := pgtest.QueryValue(t, target, "SELECT count(DISTINCT shop_id) FROM public."+table); n != "2" {
			t.Errorf("%s has rows of %s shops, want both", table, n)
		}
	}
	for _, table := range []string{"auth_user", "django_session", "orders_currency", "orders_shop"} {
		if pgtest.QueryValue(t, target, "SELECT to_regclass('public."+table+"') IS NULL") != "t" {
			t.Errorf("%s was mapped", table)
		}
	}
}
