package verify_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/sink/postgres"
)

func TestEntries(t *testing.T) {
	t.Parallel()
	cluster, template := fixture(t)
	tests := []struct {
		name, sql string
		want      verify.EntriesReport
	}{
		{"whole", "SELECT", verify.EntriesReport{Head: 10, Rows: 10}},
		{"lost", "DELETE FROM mirror.audit_logs WHERE details ->> 'n' IN ('4', '5', '8')", verify.EntriesReport{Head: 10, Rows: 7, Lost: 3, FirstLost: 4}},
		{"first_lost", "DELETE FROM mirror.audit_logs WHERE details ->> 'n' = '1'", verify.EntriesReport{Head: 10, Rows: 9, Lost: 1, FirstLost: 1}},
		{"tail_lost", "DELETE FROM mirror.audit_logs WHERE (details ->> 'n')::int > 8 AND details ->> 'by' = 'walbridge'", verify.EntriesReport{Head: 10, Rows: 8, Lost: 2, FirstLost: 9}},
		{"all_lost", "DELETE FROM mirror.audit_logs WHERE details ->> 'by' = 'walbridge'", verify.EntriesReport{Head: 10, Rows: 0, Lost: 10, FirstLost: 1}},
		{"beyond", "UPDATE walbridge.checkpoint SET audit_head = 9", verify.EntriesReport{Head: 9, Rows: 10, Beyond: 1}},
		{"number_twice", `UPDATE mirror.audit_logs SET details = jsonb_set(details, '{n}', '3') WHERE details ->> 'n' = '2'`,
			verify.EntriesReport{Head: 10, Rows: 10, Lost: 1, FirstLost: 2, Doubled: 1}},
		{"change_twice", `UPDATE mirror.audit_logs SET details = jsonb_set(details, '{lsn}', '"0/3"') WHERE details ->> 'n' = '2'`,
			verify.EntriesReport{Head: 10, Rows: 10, Repeated: 1}},
		{"change_for_two_tenants", `UPDATE mirror.audit_logs SET details = jsonb_set(details, '{lsn}', '"0/3"'), provedor_id = 2 WHERE details ->> 'n' = '2'`,
			verify.EntriesReport{Head: 10, Rows: 10}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pgtest.Exec(t, cluster.URL("postgres"), fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", tt.name, template))
			url := cluster.URL(tt.name)
			pgtest.Exec(t, url, tt.sql)
			src, dst, m := open(t, url)
			defer src.Close(context.WithoutCancel(t.Context()))
			defer dst.Close(context.WithoutCancel(t.Context()))
			got, err := verify.Entries(t.Context(), m, dst, "")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, *got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if ok := tt.want == (verify.EntriesReport{Head: 10, Rows: 10}); got.OK() != ok {
				t.Errorf("OK() = %t: %s", got.OK(), got)
			}
		})
	}
}

// The SQL by which operations.md removes old entries leaves a log whose numbers
// have no gap from the one that it names, and one that is lost later shows.
func TestEntries_Removed(t *testing.T) {
	t.Parallel()
	cluster, template := fixture(t)
	url := cluster.URL(template)
	pgtest.Exec(t, url, `UPDATE mirror.audit_logs SET timestamp = now() - interval '1 day' * (100 * (8 - (details ->> 'n')::int))
		WHERE details ->> 'by' = 'walbridge'`)
	src, dst, m := open(t, url)
	defer src.Close(context.WithoutCancel(t.Context()))
	defer dst.Close(context.WithoutCancel(t.Context()))
	others := func() (n int) {
		t.Helper()
		err := dst.QueryRow(t.Context(), `SELECT count(*) FROM mirror.audit_logs WHERE details ->> 'by' IS DISTINCT FROM 'walbridge'`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := others()
	var first, removed int64
	if err := dst.QueryRow(t.Context(), removal(t)).Scan(&first, &removed); err != nil {
		t.Fatal(err)
	}
	if first != 5 || removed != 4 || others() != before || before == 0 {
		t.Errorf("removed %d entries before n = %d, and %d of %d rows that are none", removed, first, before-others(), before)
	}
	reader := postgres.NewReader(dst.PgConn(), verify.DefaultName, m.Schema)
	check := func(want verify.EntriesReport) {
		t.Helper()
		got, err := verify.ReadEntries(t.Context(), m, reader, want.Removed+1)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, *got); diff != "" || got.OK() != (want.Lost == 0) {
			t.Errorf("%s (-want +got):\n%s", got, diff)
		}
	}
	check(verify.EntriesReport{Head: 10, Rows: 6, Removed: 4})
	check(verify.EntriesReport{Head: 10, Rows: 6, Lost: 4, FirstLost: 1})
	pgtest.Exec(t, url, `DELETE FROM mirror.audit_logs WHERE details ->> 'n' IN ('5', '7')`)
	check(verify.EntriesReport{Head: 10, Rows: 4, Removed: 4, Lost: 2, FirstLost: 5})
}

// removal is the statement of operations.md, for the fixture's table.
func removal(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(page), "```") {
		if sql, ok := strings.CutPrefix(block, "sql\n"); ok && strings.Contains(sql, "DELETE FROM public.audit_logs") {
			return strings.ReplaceAll(sql, "public.audit_logs", "mirror.audit_logs")
		}
	}
	t.Fatal("operations.md shows no SQL that removes entries")
	return ""
}
