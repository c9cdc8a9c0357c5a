package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// entryStream is a COPY into the audit table that goes on while the mapping works
// out what comes next. Entries are most of what an audited batch writes, and the
// target takes longer to index them than the bridge to make them.
//
// It has the connection for itself until it is finished: whatever else goes to
// the target waits for that (tx.finishEntries), and learns of its error then.
type entryStream struct {
	sets   chan []cdc.Row
	stop   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of the COPY, once done is closed
}

// streamAhead is how many sets may wait for the target.
const streamAhead = 2

var errAbandoned = errors.New("the batch was given up")

// streamEntries sends entries by a COPY that stays open for more of them.
func (t *tx) streamEntries(ctx context.Context, set *sink.RowSet) error {
	if t.entries == nil {
		if err := t.flush(ctx); err != nil {
			return err
		}
		t.entries = t.openEntries(ctx, set)
	}
	select {
	case t.entries.sets <- set.Rows:
		return nil
	case <-t.entries.done:
		return t.finishEntries(ctx)
	}
}

func (t *tx) openEntries(ctx context.Context, set *sink.RowSet) *entryStream {
	e := &entryStream{sets: make(chan []cdc.Row, streamAhead), stop: make(chan struct{}), done: make(chan struct{})}
	ctx, e.cancel = context.WithCancel(ctx)
	conn, sql := t.s.conn, copySQL(set)
	go func() {
		defer close(e.done)
		_, e.err = conn.CopyFrom(ctx, &copyReader{next: e.next}, sql)
	}()
	return e
}

// next waits for further rows.
func (e *entryStream) next() ([]cdc.Row, error) {
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

// finishEntries ends the stream of entries, if one is open, and waits until the
// target has all of them.
func (t *tx) finishEntries(ctx context.Context) error {
	e := t.entries
	if e == nil {
		return nil
	}
	t.entries = nil
	close(e.sets)
	<-e.done
	e.cancel()
	if e.err == nil {
		return nil
	}
	o := &op{table: t.s.entries.FullName(), entries: true}
	return t.fail(ctx, fmt.Errorf("table %s: %w", o.table, explain(o, e.err)))
}

// abandonEntries gives an open stream up, and the connection with it where the
// target doesn't answer.
func (t *tx) abandonEntries() {
	e := t.entries
	if e == nil {
		return
	}
	t.entries = nil
	close(e.stop)
	defer e.cancel()
	select {
	case <-e.done:
	case <-time.After(closeWait):
		e.cancel()
		<-e.done
	}
}
