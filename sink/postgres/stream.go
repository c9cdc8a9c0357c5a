package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
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
	format copyFormat
	// buf is filled with rows, and goes to chunks when there are enough of them.
	buf    *[]byte
	chunks chan *[]byte
	stop   chan struct{}
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of the COPY, once done is closed
}

// copyFormat is how rows are written for COPY.
type copyFormat interface {
	with() string // what goes behind COPY … FROM STDIN
	head() string
	tail() string
	// row appends a row; it is false for one that needs the text format.
	row(b []byte, row cdc.Row) ([]byte, bool)
}

type textFormat struct{}

func (textFormat) with() string                             { return "" }
func (textFormat) head() string                             { return "" }
func (textFormat) tail() string                             { return "" }
func (textFormat) row(b []byte, row cdc.Row) ([]byte, bool) { return appendCopyRow(b, row), true }

const (
	// streamChunk is about how many bytes are handed on at once, and streamAhead how
	// many times that may wait for the target.
	streamChunk = 64 << 10
	streamAhead = 8
)

var chunkPool = sync.Pool{New: func() any { b := make([]byte, 0, streamChunk+streamChunk/4); return &b }}

var errAbandoned = errors.New("the batch was given up")

// streamSet sends rows by a COPY that stays open for more of them. What waits to
// be sent goes before them.
func (t *tx) streamSet(ctx context.Context, set *sink.RowSet) error {
	if t.stream == nil || t.stream.table != set.Table || len(t.pending) > 0 {
		binary, err := t.takesBinary(ctx, set)
		if err != nil {
			return err
		}
		t.openStream(ctx, set, binary)
	}
	for _, row := range set.Rows {
		if ok := t.stream.add(row); ok {
			continue
		}
		if err := t.finishStream(ctx); err != nil {
			return err
		}
		t.openStream(ctx, set, textFormat{})
		t.stream.add(row)
	}
	select {
	case <-t.stream.done:
		return t.finishStream(ctx)
	default:
		return nil
	}
}

// takesBinary flushes what waits, and chooses the format. In the binary one a
// column that somebody has given another type could take what is meant for the
// former and make a wrong value of it. So the columns are looked at, under a lock
// that keeps them as they are. Nothing waits for a lock on the audit log before its
// entries do.
func (t *tx) takesBinary(ctx context.Context, set *sink.RowSet) (copyFormat, error) {
	f, ok := newBinaryFormat(set)
	if !ok || set.Table == t.s.entries {
		return textFormat{}, t.flush(ctx)
	}
	names, types := newArray(256), newArray(512)
	for _, c := range set.Columns {
		names.add(set.Table.Columns[c].Name)
		types.add(set.Table.Columns[c].Type)
	}
	same := false
	err := t.flush(ctx,
		op{sql: "LOCK TABLE " + tableName(set.Table) + " IN ROW EXCLUSIVE MODE"},
		op{
			sql: `SELECT pg_catalog.count(*) = pg_catalog.cardinality($2::text[]) FROM unnest($2::text[], $3::text[]) AS q(n, t)
				JOIN pg_catalog.pg_attribute AS a ON a.attrelid = pg_catalog.to_regclass($1) AND a.attname = q.n
					AND a.atttypid = pg_catalog.to_regtype(q.t)`,
			args: [][]byte{arg(tableName(set.Table)), names.done(), types.done()},
			read: one(func(v [][]byte) error {
				same = string(v[0]) == "t"
				return nil
			}),
		})
	if err != nil || !same {
		return textFormat{}, err
	}
	return f, nil
}

func (t *tx) openStream(ctx context.Context, set *sink.RowSet, format copyFormat) {
	e := &rowStream{table: set.Table, format: format, chunks: make(chan *[]byte, streamAhead), stop: make(chan struct{}), done: make(chan struct{})}
	ctx, e.cancel = context.WithCancel(ctx)
	conn, sql := t.s.conn, copySQL(set)+format.with()
	e.begin()
	*e.buf = append(*e.buf, format.head()...)
	go func() {
		defer close(e.done)
		_, e.err = conn.CopyFrom(ctx, &chunkReader{next: e.next}, sql)
	}()
	t.stream = e
}

func (e *rowStream) begin() {
	e.buf = chunkPool.Get().(*[]byte)
	*e.buf = (*e.buf)[:0]
}

// add sends a row, as soon as there are more of them. It is false for one that the
// format doesn't take.
func (e *rowStream) add(row cdc.Row) bool {
	b, ok := e.format.row(*e.buf, row)
	if !ok {
		return false
	}
	if *e.buf = b; len(b) >= streamChunk {
		e.send()
		e.begin()
	}
	return true
}

// send hands the buffer on, unless the COPY has ended already.
func (e *rowStream) send() {
	select {
	case e.chunks <- e.buf:
	case <-e.done:
	}
}

// next waits for a further chunk.
func (e *rowStream) next() (*[]byte, error) {
	select {
	case b, ok := <-e.chunks:
		if !ok {
			return nil, io.EOF
		}
		return b, nil
	case <-e.stop:
		return nil, errAbandoned // the server is told that the COPY has failed
	}
}

// chunkReader reads chunks one after the other, and gives them back.
type chunkReader struct {
	next func() (*[]byte, error)
	buf  *[]byte
	rest []byte
}

func (r *chunkReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.buf != nil && cap(*r.buf) <= 2*streamChunk { // others would keep a large value's room
			chunkPool.Put(r.buf)
		}
		r.buf = nil
		b, err := r.next()
		if err != nil {
			return 0, err
		}
		r.buf, r.rest = b, *b
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// finishStream ends the stream, if one is open, and waits until the target has all
// of its rows.
func (t *tx) finishStream(ctx context.Context) error {
	e := t.stream
	if e == nil {
		return nil
	}
	t.stream = nil
	*e.buf = append(*e.buf, e.format.tail()...)
	e.send()
	close(e.chunks)
	<-e.done
	e.cancel()
	if e.err == nil {
		return nil
	}
	return t.fail(ctx, fmt.Errorf("table %s: %w", e.table.FullName(), t.streamError(e)))
}

func (t *tx) streamError(e *rowStream) error {
	o := &op{table: e.table.FullName(), entries: e.table == t.s.entries}
	if e.table == pathsTable {
		o.table = "" // of the private schema
	}
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
