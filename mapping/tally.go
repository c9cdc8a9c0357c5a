package mapping

import (
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Tally is how many rows a batch has written, by source table and by tenant, and
// how many transactions of the source with changes of mapped tables it has ended.
// It is for people to look at, and counts as Counters.Rows does.
type Tally struct {
	Transactions int64
	Tables       map[string]int64 // by the source table's full name
	Tenants      map[string]int64
}

func newTally() Tally { return Tally{Tables: map[string]int64{}, Tenants: map[string]int64{}} }

// add counts rows of s. Those of no tenant count for the table alone.
func (t *Tally) add(s *Source, tenant cdc.Value, rows int64) {
	t.Tables[s.FullName()] += rows
	if tenant.Kind == cdc.Text {
		t.Tenants[tenant.Text] += rows
	}
}

// moved counts rows that a recompute has written, for who has them now.
func (t *Tally) moved(s *Source, m *sink.Moved) {
	if m.To.IsNull() {
		t.add(s, m.From, m.Rows)
		return
	}
	t.add(s, m.To, m.Rows)
}

// Merge adds what another batch has done. Its tenants are copied, because those of a
// batch are parts of its rows' texts and of the path values' cache, and whoever
// sums up batches would keep all of that in memory. Even one that is in the map
// already: an assignment takes the new key over.
func (t *Tally) Merge(o *Tally) {
	if t.Tables == nil {
		*t = newTally()
	}
	t.Transactions += o.Transactions
	for table, n := range o.Tables {
		t.Tables[table] += n
	}
	for tenant, n := range o.Tenants {
		t.Tenants[strings.Clone(tenant)] += n
	}
}

// tally counts what the writer has handed to the sink.
func (w *writer) tally() {
	for s, ts := range w.sets {
		column := s.Target.Table.Tenant
		for _, tenant := range ts.removed {
			w.b.Tally.add(s, tenant, 1)
		}
		for _, row := range ts.insert {
			w.b.Tally.add(s, row[column], 1)
		}
		for _, set := range ts.update {
			for _, row := range set.rows {
				w.b.Tally.add(s, row[column], 1)
			}
		}
	}
}
