package verify

import (
	"context"
	"sync"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/mapping"
)

// span is a range of a source table's keys: beyond after, upto at most. The first
// one has no after, the last one no upto, so that together they cover every key
// that the target may have.
type span struct{ after, upto []string }

// spans cuts a source table into spans of about rows rows. It is shared by the
// workers.
type spans struct {
	source *mapping.Source
	rows   int

	mu    sync.Mutex
	after []string
	done  bool
}

// next returns the next span, false when there are no more.
func (s *spans) next(ctx context.Context, src *reading) (span, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return span{}, false, nil
	}
	sp := span{after: s.after}
	sql, args := s.source.BoundSQL(s.after, s.rows-1)
	err := src.rows(ctx, sql, args, func(row cdc.Row) error {
		sp.upto = texts(row)
		return nil
	})
	if err != nil {
		return span{}, false, err
	}
	s.after, s.done = sp.upto, sp.upto == nil
	return sp, true, nil
}

// shrink makes the spans smaller that are still to come.
func (s *spans) shrink() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = max(s.rows/4, leastPage)
}
