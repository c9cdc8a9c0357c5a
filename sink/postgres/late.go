package postgres

import (
	"context"
	"fmt"
)

// lateIndexes are statements that make the indexes of a table, by the source table
// whose first copy they wait for (sink.Schema.LateIndexes).
type lateIndexes map[string][]string

// putOff takes indexes out of what tables lack that may be made later: where
// nothing has been copied to the end yet, and the bridge's role may make them then.
// The audit log is written from the start on.
func (s *Sink) putOff(ctx context.Context, tables []compared) error {
	s.late = lateIndexes{}
	copied, err := s.copied(ctx)
	if err != nil {
		return err
	}
	for i := range tables {
		c := &tables[i]
		if source := c.want.source; source != "" && !copied[source] && (!c.exists || c.owned) {
			s.late[source], c.indexes = c.indexes, nil
		}
	}
	return nil
}

// copied are the source tables that have been copied, as far as there is a private
// schema that says so.
func (s *Sink) copied(ctx context.Context) (map[string]bool, error) {
	copied := make(map[string]bool)
	there, err := s.rows(ctx, "SELECT pg_catalog.to_regclass('walbridge.copies') IS NOT NULL")
	if err != nil || len(there) != 1 || there[0][0].Text != "t" {
		return copied, err
	}
	done, err := s.rows(ctx, "SELECT source FROM walbridge.copies WHERE bridge = $1 AND done", arg(s.name))
	if err != nil {
		return nil, fmt.Errorf("read progress of copies: %w", err)
	}
	for _, r := range done {
		copied[r[0].Text] = true
	}
	return copied, nil
}

// makeLate makes the indexes that wait for the copy of a source table.
func (t *tx) makeLate(source string) {
	list := t.s.late[source]
	if len(list) == 0 {
		return
	}
	t.add(op{sql: noTimeout})
	for _, sql := range list {
		t.add(op{sql: sql})
	}
	t.made = append(t.made, source)
}
