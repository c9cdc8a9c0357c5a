package postgres

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// copySet writes new rows by COPY, which is the fastest way into a table but
// knows no conflict. Behind a savepoint it may fail on a row that is there
// already; the set then goes as an upsert.
func (t *tx) copySet(ctx context.Context, set *sink.RowSet) error {
	subject, err := t.subjectTo(ctx, set.Table, true)
	if err != nil {
		return err
	}
	if subject {
		return t.upsert(set)
	}
	if !t.s.unmarked[set.Table] {
		t.unmark(set)
	}
	if err := t.flush(ctx, op{sql: "SAVEPOINT walbridge_copy"}); err != nil {
		return err
	}
	err = t.copyFrom(ctx, set)
	switch pg.Code(err) {
	case "":
		if err != nil {
			return t.fail(ctx, err)
		}
		t.add(op{sql: "RELEASE SAVEPOINT walbridge_copy"})
		return nil
	case "0A000": // row security was switched on since we asked
		t.s.subject[set.Table] = true
		fallthrough
	case "23505":
		t.add(op{sql: "ROLLBACK TO SAVEPOINT walbridge_copy"})
		t.add(op{sql: "RELEASE SAVEPOINT walbridge_copy"})
		return t.upsert(set)
	}
	return t.fail(ctx, explain(&op{table: set.Table.FullName()}, err))
}

// insertNew writes rows that are believed to be new by a COPY that stays open for
// more of them. A few are not worth one.
func (t *tx) insertNew(ctx context.Context, set *sink.RowSet) error {
	open := t.stream != nil && t.stream.table == set.Table
	if !open && !t.s.large(set.Rows) {
		return t.upsert(set)
	}
	subject, err := t.subjectTo(ctx, set.Table, true)
	switch {
	case err != nil:
		return err
	case subject || !t.s.unmarked[set.Table]:
		return t.copySet(ctx, set)
	}
	if err := writable(set); err != nil {
		return err
	}
	return t.streamSet(ctx, set)
}

// subjectTo reports whether the role is subject to the table's row security:
// COPY FROM is refused then, whatever the policies say. The first question for a
// table costs a round trip; with marks it takes along whether the table has
// deletion marks.
func (t *tx) subjectTo(ctx context.Context, table *sink.Table, marks bool) (bool, error) {
	if subject, ok := t.s.subject[table]; ok {
		return subject, nil
	}
	o := op{
		sql: `SELECT pg_catalog.row_security_active($1::text),
			EXISTS (SELECT FROM walbridge.deleted AS x WHERE x.bridge = $2 AND x."table" = $3)`,
		args: [][]byte{arg(tableName(table)), arg(t.s.name), arg(table.FullName())},
		read: one(func(v [][]byte) error {
			t.s.subject[table] = string(v[0]) == "t"
			if marks {
				t.s.unmarked[table] = string(v[1]) == "f"
			}
			return nil
		}),
	}
	if err := t.flush(ctx, o); err != nil {
		return false, err
	}
	return t.s.subject[table], nil
}

func (t *tx) copyFrom(ctx context.Context, set *sink.RowSet) error {
	if err := writable(set); err != nil {
		return err
	}
	_, err := t.s.conn.CopyFrom(ctx, &copyReader{rows: set.Rows}, copySQL(set))
	return err
}

// writable refuses a set with a row that lacks a value.
func writable(set *sink.RowSet) error {
	for _, row := range set.Rows {
		for i := range row {
			if row[i].Kind == cdc.Unchanged {
				return errUnchanged
			}
		}
	}
	return nil
}

func copySQL(set *sink.RowSet) string {
	return fmt.Sprintf("COPY %s (%s) FROM STDIN", tableName(set.Table), columnNames(set))
}

// copyReader renders rows in COPY's text format (PostgreSQL documentation,
// sql-copy) straight into the driver's buffers.
type copyReader struct {
	rows []cdc.Row
	// rest is what of a row did not fit into the last buffer, in spill.
	rest, spill []byte
}

func (r *copyReader) Read(p []byte) (int, error) {
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	for len(r.rest) == 0 && len(r.rows) > 0 && n < len(p) {
		row := r.rows[0]
		r.rows = r.rows[1:]
		if copySize(row) <= len(p)-n {
			n = len(appendCopyRow(p[:n], row))
			continue
		}
		r.spill = appendCopyRow(slices.Grow(r.spill[:0], rowSize(row)), row)
		m := copy(p[n:], r.spill)
		r.rest = r.spill[m:]
		n += m
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// rowSize is what a row takes if little has to be escaped.
func rowSize(row cdc.Row) int {
	n := 64
	for i := range row {
		n += len(row[i].Text) + len(row[i].Text)/32 + 3
	}
	return n
}

// copySize is the most that a row can take: every byte escaped.
func copySize(row cdc.Row) int {
	n := 0
	for i := range row {
		n += 2*len(row[i].Text) + 3
	}
	return n
}

func appendCopyRow(b []byte, row cdc.Row) []byte {
	for i := range row {
		if i > 0 {
			b = append(b, '\t')
		}
		if row[i].IsNull() {
			b = append(b, `\N`...)
			continue
		}
		b = appendCopyText(b, row[i].Text)
	}
	return append(b, '\n')
}

// appendCopyText escapes what would end a field or a row, and the escape itself,
// which also keeps the text \N from being null and \. from ending the data.
func appendCopyText(b []byte, s string) []byte {
	start := 0
	for i := range len(s) {
		c := s[i]
		if c > '\r' && c != '\\' { // most bytes
			continue
		}
		switch c {
		case '\n':
			c = 'n'
		case '\r':
			c = 'r'
		case '\t':
			c = 't'
		case '\\':
		default:
			continue
		}
		b = append(b, s[start:i]...)
		b = append(b, '\\', c)
		start = i + 1
	}
	return append(b, s[start:]...)
}
