package verify_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/verify"
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
