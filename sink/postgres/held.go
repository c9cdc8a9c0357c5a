package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/walbridge/walbridge/sink"
)

// maxHeld is about how many bytes the rows of a page of held rows have, and what
// waits with them.
const maxHeld = 4 << 20

// loadHeld reads a page of keys, with the size of their rows to cut it by.
func (s *Sink) loadHeld(q *sink.HeldQuery, l *sink.Loaded) op {
	where := `h.bridge = $1 AND h."table" = $2`
	args := [][]byte{arg(s.name), arg(q.Table.FullName()), argInt(int64(q.Limit) + 1)}
	add := func(cond string, value []byte) {
		args = append(args, value)
		where += fmt.Sprintf(" AND "+cond, len(args))
	}
	if q.Reason != "" {
		add("h.reason = $%d", arg(string(q.Reason)))
	}
	if len(q.Keys) > 0 {
		add("h.key = ANY ($%d::text[])", keyArray(q.Keys))
	}
	if q.After != nil {
		add("h.key > $%d", arg(string(*q.After)))
	}
	size := 0
	return op{
		sql: `SELECT h.key, pg_catalog.octet_length(h.vals::text) + pg_catalog.octet_length(h.waiting::text)
			FROM walbridge.held AS h WHERE ` + where + ` ORDER BY h.key LIMIT $3::int8`,
		args: args,
		read: each(func(v [][]byte) error {
			n, err := strconv.Atoi(string(v[1]))
			if err != nil {
				return fmt.Errorf("read size of a held row: %w", err)
			}
			size += n
			if l.MoreHeld || len(l.Held) == q.Limit || len(l.Held) > 0 && size > maxHeld {
				l.MoreHeld = true
				return nil
			}
			l.Held = append(l.Held, sink.Key(v[0]))
			return nil
		}),
	}
}

// Held counts held rows by table and reason. The limit is within the statement's
// text, so that the plan knows it.
func (s *Sink) Held(ctx context.Context) ([]sink.HeldCount, error) {
	var counts []sink.HeldCount
	err := s.query(ctx, "count held rows", op{
		sql: fmt.Sprintf(`SELECT h."table", h.reason, pg_catalog.count(*) FROM (
				SELECT "table", reason FROM walbridge.held WHERE bridge = $1 LIMIT %d) AS h
			GROUP BY 1, 2 ORDER BY 1, 2`, sink.HeldCountLimit),
		args: [][]byte{arg(s.name)},
		read: each(func(v [][]byte) error {
			d := decoder{values: v}
			counts = append(counts, sink.HeldCount{Table: d.text(), Reason: sink.HeldReason(d.text()), Rows: d.int64()})
			return d.err
		}),
	})
	return counts, err
}
