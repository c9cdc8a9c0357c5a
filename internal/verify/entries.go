package verify

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// EntriesReport is what was found about the bridge's audit entries.
type EntriesReport sink.EntryCounts

// OK reports whether nothing is missing, doubled or out of place.
func (r *EntriesReport) OK() bool {
	return r.Rows+r.Removed == r.Head && r.Lost+r.Beyond+r.Doubled+r.Repeated+r.Tenantless == 0
}

func (r *EntriesReport) String() string {
	first := ""
	if r.Removed > 0 {
		first = fmt.Sprintf(" from n = %d on", r.Removed+1)
	}
	if r.OK() {
		return fmt.Sprintf("%d entries%s, none missing, none twice", r.Rows, first)
	}
	return fmt.Sprintf("%d entries%s, head %d: %d missing (first n = %d), %d beyond the head, %d with a number twice, %d with a change twice, %d without a tenant",
		r.Rows, first, r.Head, r.Lost, r.FirstLost, r.Beyond, r.Doubled, r.Repeated, r.Tenantless)
}

// Entries checks the bridge's audit log by itself: its numbers run from 1 to the
// head that the checkpoint names, and no change of the source has two entries
// for one tenant. Entry and head change in one transaction, so the bridge may be
// at work. name is the bridge's, DefaultName if empty. It returns nil where the
// mapping audits nothing.
func Entries(ctx context.Context, m *mapping.Mapping, target *pgx.Conn, name string) (*EntriesReport, error) {
	if name == "" {
		name = DefaultName
	}
	return ReadEntries(ctx, m, postgres.NewReader(target.PgConn(), name, m.Schema), 1)
}

// ReadEntries does the same over a reader, from number first on: those before it
// have been removed on purpose.
func ReadEntries(ctx context.Context, m *mapping.Mapping, target sink.Reader, first int64) (*EntriesReport, error) {
	if m.Schema.Entries == nil {
		return nil, nil
	}
	counts, err := target.Entries(ctx, first)
	if err != nil {
		return nil, pg.Safe(err)
	}
	r := EntriesReport(counts)
	return &r, nil
}
