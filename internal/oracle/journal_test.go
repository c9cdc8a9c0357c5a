package oracle

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
)

// change is one line of the journal.
type change struct {
	table    *table
	op       byte // I, U, D, T
	old, new cdc.Row
	seq      int // its ordinal among the mapped tables' changes
}

// transaction is one of the source, with its changes in order.
type transaction struct {
	xid     uint32
	end     cdc.LSN
	time    string // of the commit, as the server writes it
	changes []*change
	users   []user
	// messages are the logical messages in it, which the bridge gets too.
	messages int
}

// sliced reports that the bridge applies t in more than one slice if it takes
// rows of them at a time.
func (t *transaction) sliced(rows int) bool { return rows > 0 && len(t.changes)+t.messages > rows }

// commitSlot is a second slot, whose plugin says in which order transactions
// committed and in which order the WAL has their changes. Nothing of the bridge
// has a hand in it.
const commitSlot = "oracle"

// readJournal returns what has been committed, in commit order.
func readJournal(ctx context.Context, conn *pgx.Conn, s *spec) ([]*transaction, error) {
	byXID := map[uint32][]*change{}
	rows, err := conn.Query(ctx, "SELECT xid, rel, op, old, new FROM public.journal ORDER BY seq")
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	for rows.Next() {
		var xid, rel, op string
		var old, now []*string
		if err := rows.Scan(&xid, &rel, &op, &old, &now); err != nil {
			return nil, fmt.Errorf("read journal: %w", err)
		}
		full, err := strconv.ParseUint(xid, 10, 64)
		if err != nil {
			return nil, err
		}
		short := uint32(full)
		byXID[short] = append(byXID[short], &change{table: s.byName[rel], op: op[0], old: image(old), new: image(now)})
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	order, err := readCommits(ctx, conn, s)
	if err != nil {
		return nil, err
	}
	var all []*transaction
	for _, c := range order {
		t := &transaction{xid: c.xid, end: c.end, time: c.time, changes: byXID[c.xid], users: c.users, messages: c.messages}
		delete(byXID, c.xid)
		var have []string
		for i, ch := range t.changes {
			ch.seq = i + 1
			have = append(have, ch.table.name+" "+string(ch.op))
		}
		if !slices.Equal(have, c.changes) {
			return nil, fmt.Errorf("the journal of transaction %d has %v, the WAL %v: the oracle itself is wrong", c.xid, have, c.changes)
		}
		if len(t.changes) > 0 {
			all = append(all, t)
		}
	}
	if len(byXID) > 0 {
		return nil, fmt.Errorf("%d transactions of the journal are not in the WAL: the oracle itself is wrong", len(byXID))
	}
	return all, nil
}

func image(vals []*string) cdc.Row {
	if vals == nil {
		return nil
	}
	row := make(cdc.Row, len(vals))
	for i, v := range vals {
		if v != nil {
			row[i] = cdc.TextValue(*v)
		}
	}
	return row
}

type commit struct {
	xid      uint32
	end      cdc.LSN
	time     string
	changes  []string // "table O"
	users    []user
	messages int
}

// readCommits reads the order of commits by test_decoding.
func readCommits(ctx context.Context, conn *pgx.Conn, s *spec) ([]*commit, error) {
	rows, err := conn.Query(ctx, `SELECT lsn::text, xid::text, left(data, 200) FROM pg_catalog.pg_logical_slot_peek_changes($1, NULL, NULL,
		'include-timestamp', '1', 'skip-empty-xacts', '0')`, commitSlot)
	if err != nil {
		return nil, fmt.Errorf("read commits: %w", err)
	}
	defer rows.Close()
	var all []*commit
	var open *commit
	for rows.Next() {
		var lsn, xid, data string
		if err := rows.Scan(&lsn, &xid, &data); err != nil {
			return nil, fmt.Errorf("read commits: %w", err)
		}
		switch {
		case strings.HasPrefix(data, "BEGIN"):
			n, err := strconv.ParseUint(xid, 10, 32)
			if err != nil {
				return nil, err
			}
			open = &commit{xid: uint32(n)}
		case strings.HasPrefix(data, "COMMIT"):
			if err := open.end.Scan(lsn); err != nil {
				return nil, err
			}
			if _, at, ok := strings.Cut(data, " (at "); ok {
				open.time = strings.TrimSuffix(at, ")")
			}
			all = append(all, open)
		case strings.HasPrefix(data, "table "):
			open.note(data, s)
		case strings.HasPrefix(data, "message: transactional: 1 prefix: "):
			open.messages++
			if _, content, ok := strings.Cut(data, " prefix: walbridge, "); ok {
				_, content, _ = strings.Cut(content, " content:")
				open.acts(content)
			}
		}
	}
	return all, rows.Err()
}

// note takes the tables and the operation out of a line such as
// "table public.a, public.b: TRUNCATE: (no-flags)".
func (c *commit) note(data string, s *spec) {
	names, rest, _ := strings.Cut(strings.TrimPrefix(data, "table "), ": ")
	op, _, _ := strings.Cut(rest, ":")
	for name := range strings.SplitSeq(names, ", ") {
		name = strings.TrimPrefix(name, "public.")
		if s.byName[name] != nil {
			c.changes = append(c.changes, name+" "+op[:1])
		}
	}
}

// acts notes who acts from here on, if a logical message says so. One that can't
// be read changes nothing.
func (c *commit) acts(content string) {
	var m struct {
		UserID json.RawMessage `json:"user_id"`
	}
	if json.Unmarshal([]byte(content), &m) != nil {
		return
	}
	var v cdc.Value
	if text := strings.Trim(string(m.UserID), `"`); text != "null" {
		if _, err := strconv.ParseInt(text, 10, 64); err != nil {
			return
		}
		v = cdc.TextValue(text)
	}
	c.users = append(c.users, user{after: len(c.changes), value: v})
}
