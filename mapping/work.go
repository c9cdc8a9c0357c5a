package mapping

import (
	"github.com/walbridge/walbridge/internal/cdc"
)

// work is one transaction being worked through.
type work struct {
	b     *Batch
	t     *cdc.Transaction
	items []item
	// steps are the row changes in the order of the source.
	steps []step
	// written is how many of steps writeOneByOne has written.
	written int
	paths   []pathChange
	// truncated are the tables that a TRUNCATE emptied, with the rows it hit.
	truncated []truncation
	// released are rows of a piece that entries wait with.
	released []*rowState
}

// step is one version of a row following another.
type step struct {
	item       *item
	st         *rowState
	op         cdc.Op
	prev, next version
	quiet      bool // makes no entry: the other half of a key change
	// moved is where the row is after a later change of its key, nil without one.
	moved *rowState
}

// end is where the row is at the end of the transaction.
func (s *step) end() *rowState {
	if s.moved != nil {
		return s.moved
	}
	return s.st
}
