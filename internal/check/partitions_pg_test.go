package check_test

import (
	"strings"
	"testing"

	"github.com/walbridge/walbridge/internal/check"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// A publication that names partitions is one finding, and what it says mends it.
func TestRun_PartitionsPublished(t *testing.T) {
	t.Parallel()
	p := newPair(t, unchanging(t), "parts")
	src := p.cluster.URL(p.source)
	pgtest.Exec(t, src, `CREATE TABLE part (id bigint PRIMARY KEY, tenant bigint) PARTITION BY RANGE (id);
		CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (9); CREATE PUBLICATION parts FOR TABLE part`)
	mapped := func(o *check.Options) {
		o.Mapping = []byte("tables:\n  parts: {from: part, tenant: [tenant], columns: [id]}\n")
	}
	r := p.check(t, mapped)
	f := one(t, r, check.Source, "publication")
	if list := others(r, "source publication"); list != nil || !strings.Contains(f.What, "under the names of its partitions") {
		t.Errorf("found %+v, and %q", f, list)
	}
	pgtest.Exec(t, src, f.Fix)
	if list := others(p.check(t, mapped)); list != nil {
		t.Errorf("still found %q", list)
	}
}
