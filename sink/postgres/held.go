package postgres

import (
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
