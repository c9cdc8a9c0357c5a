package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// rowStream is a COPY into a table that goes on while the mapping works out what
// comes next: of entries, which are most of what an audited batch writes, and of
// rows that the target doesn't have. It takes longer to index them than the bridge
// to make them.
//
// It has the connection for itself until it is finished: whatever else goes to
// the target waits for that (tx.finishStream), and learns of its error then.
type rowStream struct {
	table  *sink.Table
	sets   chan []cdc.Row
	stop   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of the COPY, once done is closed
}

// streamAhead is how many sets may wait for the target.
const streamAhead = 2

var errAbandoned = errors.New("the batch was given up")

// streamSet sends rows by a COPY that stays open for more of them. What waits to
// be sent goes before them.
func (t *tx) streamSet(ctx context.Context, set *sink.RowSet) error {
	if t.stream == nil || t.stream.table != set.Table || len(t.pending) > 0 {
		if err := t.flush(ctx); err != nil {
			return err
		}
		t.stream = t.openStream(ctx, set)
	}
	select {
	case t.stream.sets <- set.Rows:
		return nil
	case <-t.stream.done:
		return t.finishStream(ctx)
	}
}

func (t *tx) openStream(ctx context.Context, set *sink.RowSet) *rowStream {
	e := &rowStream{table: set.Table, sets: make(chan []cdc.Row, streamAhead), stop: make(chan struct{}), done: make(chan struct{})}
	ctx, e.cancel = context.WithCancel(ctx)
	conn, sql := t.s.conn, copySQL(set)
	go func() {
		defer close(e.done)
		_, e.err = conn.CopyFrom(ctx, &copyReader{next: e.next}, sql)
	}()
	return e
}

// next waits for further rows.
func (e *rowStream) next() ([]cdc.Row, error) {
	select {
	case rows, ok := <-e.sets:
		if !ok {
			return nil, io.EOF
		}
		return rows, nil
	case <-e.stop:
		return nil, errAbandoned // the server is told that the COPY has failed
	}
}

// finishStream ends the stream, if one is open, and waits until the target has all
// of its rows.
func (t *tx) finishStream(ctx context.Context) error {
	e := t.stream
	if e == nil {
		return nil
	}
	t.stream = nil
	close(e.sets)
	<-e.done
	e.cancel()
	if e.err == nil {
		return nil
	}
	return t.fail(ctx, fmt.Errorf("table %s: %w", e.table.FullName(), t.streamError(e)))
}

func (t *tx) streamError(e *rowStream) error {
	o := &op{table: e.table.FullName(), entries: e.table == t.s.entries}
	switch code := pg.Code(e.err); {
	case o.entries:
	case code == "23505":
		return sink.ErrExists
	case code == "0A000": // row security was switched on since we asked
		t.s.subject[e.table] = true
		return fault.Wrap(fault.Retry, "", pg.Safe(e.err))
	}
	return explain(o, e.err)
}

// abandonStream gives an open stream up, and the connection with it where the
// target doesn't answer.
func (t *tx) abandonStream() {
	e := t.stream
	if e == nil {
		return
	}
	t.stream = nil
	close(e.stop)
	defer e.cancel()
	select {
	case <-e.done:
	case <-time.After(closeWait):
		e.cancel()
		<-e.done
	}
}
