package verify

import (
	"context"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// finding is what a row turned out to be.
type finding uint8

const (
	nothing finding = iota // neither side has it, or it is counted elsewhere
	equal
	held
	dropped
	foreign
	missing
	different
	extra
	unsettled
)

// wrong reports a mistake of the bridge.
func (f finding) wrong() bool { return f == missing || f == different || f == extra }

// firm reports what needs no second look: it can't be what a change makes that is
// under way.
func (f finding) firm() bool { return !f.wrong() && f != foreign }

// verdict says what was found about one key.
type verdict struct {
	finding finding
	// why is what is wrong, tenant the one that it is counted under.
	why    string
	tenant string
	// atSource says that the source has the row.
	atSource bool
	columns  []string
	// mended: it was wrong until the bridge repaired it.
	mended bool
	// besides is the tenant of a row of somebody else's beside the bridge's held
	// one.
	besides *string
}

// suspect is a row that may be wrong.
type suspect struct {
	// key is the target's, from the source's; nil if only the target has it.
	key  sink.Key
	from []string

	verdict verdict
	hits    int
}

// seen is a row of the source, as the target should have it; row is nil where
// there is none.
type seen struct {
	row cdc.Row
	// version is the same as long as nothing has touched the row or what it was
	// made of.
	version string
}

// same reports that nothing happened to the row between two reads, as far as they
// can tell.
func (s seen) same(o seen) bool { return (s.row == nil) == (o.row == nil) && s.version == o.version }

// judge compares rows with what the target has. The values of those that are on
// both sides become doubts, which the target's types settle.
func (t *tableComparison) judge(ctx context.Context, target sink.Reader, list []*suspect, rows map[*suspect]seen, stored map[sink.Key]sink.Stored) error {
	doubts := newDoubts(t.table)
	for _, s := range list {
		if want := rows[s].row; want != nil {
			s.verdict = t.judgeRow(s, want, stored[s.key], doubts)
		} else {
			s.verdict = t.judgeAbsent(stored[s.key])
		}
	}
	return doubts.settle(ctx, target)
}

// markedAsDeleted is why a row is wrong that has a mark and is at the source.
const markedAsDeleted = "marked as deleted"

// judgeRow judges a row that the source has.
func (t *tableComparison) judgeRow(s *suspect, want cdc.Row, stored sink.Stored, doubts *doubts) verdict {
	tenant := want[t.table.Tenant]
	v := verdict{tenant: tenant.Text, atSource: true}
	row := stored.Row
	if row != nil && stored.Held != nil && t.opts.OthersWrite {
		v.besides, row = &row[t.table.Tenant].Text, nil
	}
	wrong := func(why string) verdict {
		v.finding, v.why = different, why
		return v
	}
	switch h := stored.Held; {
	case stored.Deleted:
		return wrong(markedAsDeleted)
	case row != nil && h != nil:
		return wrong("in the table and held")
	case h != nil && h.Reason == sink.HeldIncomplete:
		v.finding = held // and is being read from the source
	case h != nil && tenant.IsNull() != (h.Reason == sink.HeldTenant):
		return wrong("held for another reason")
	case h != nil && len(h.Row) != len(want):
		return wrong("held with other columns")
	case h != nil:
		v.finding = held
		doubts.add(t.spec, s, want, h.Row)
	case row != nil && tenant.IsNull():
		return wrong("at the target without a tenant")
	case row != nil:
		v.finding = equal
		doubts.add(t.spec, s, want, row)
	case tenant.IsNull() && t.spec.WithoutTenant == mapping.Drop:
		v.finding = dropped
	default:
		v.finding, v.why = missing, "missing"
	}
	return v
}

// judgeAbsent judges a row that the source doesn't have. Kept ones are counted by
// their marks.
func (t *tableComparison) judgeAbsent(stored sink.Stored) verdict {
	v := verdict{tenant: NoTenant}
	if stored.Row != nil {
		v.tenant = stored.Row[t.table.Tenant].Text
	}
	keep := t.spec.OnDelete == mapping.Keep
	switch {
	case stored.Row == nil && stored.Held == nil, stored.Deleted && keep:
	case stored.Deleted:
		v.finding, v.why = extra, "marked instead of deleted"
	case t.opts.OthersWrite && stored.Held != nil:
		v.finding = foreign // a move takes along what it reaches, whoever wrote it
	case stored.Held != nil:
		v.finding, v.why = extra, "held, and not at the source"
	case keep:
		v.finding = foreign
	default:
		v.finding, v.why = extra, "not at the source"
	}
	return v
}

// count puts a verdict into the report.
func (t *tableComparison) count(v *verdict, key sink.Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out.count(v, key, t.opts.Keys)
	if v.why == markedAsDeleted {
		t.marked[key] = true
	}
}
