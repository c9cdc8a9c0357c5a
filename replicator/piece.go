package replicator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// piecePrefix is the prefix of the logical messages that mark where in the
// stream a piece belongs.
const piecePrefix = "walbridge.piece"

// pieceRequest asks for a part of a table: a range of keys, or a list of them.
type pieceRequest struct {
	table *tableCopy
	// generation ties a request to the state it was made from; a piece of an
	// older one is thrown away.
	generation int
	token      string
	after      []string
	limit      int
	keys       []sink.Key
	// settle: wait first until what runs now has ended, see pieceReader.settle.
	settle bool
	// step is what a resync asks for, nil for the first copy.
	step *resyncStep
}

// pieceRead is what was read for a request.
type pieceRead struct {
	request *pieceRequest
	snap    snapshot
	rows    []mappingRow
	room    cdc.Room
	end     bool // there are no rows behind these
	bytes   int
	// found are the keys that there are, where only that was asked; parents the
	// rows that paths pass, parents of others first.
	found   map[sink.Key]bool
	parents []parentRead
	// met: the target has a row of the piece, which was to be new.
	met bool
	// err is why a step of a resync can't be read. It ends the request and not the
	// session.
	err error
}

// mappingRow is a source row with its key.
type mappingRow struct {
	key sink.Key
	row cdc.Row
}

// parts are the texts of the row's key. They are copies: a part of the row would
// keep what was read with it in memory.
func (r *mappingRow) parts(s *mapping.Source) []string {
	parts := make([]string, len(s.Key))
	for i := range parts {
		parts[i] = strings.Clone(r.row[i].Text)
	}
	return parts
}

// pieceReader reads pieces from the source, each in a short REPEATABLE READ
// transaction of its own, so that no long snapshot keeps vacuum from cleaning
// the application's tables. One goroutine owns it.
type pieceReader struct {
	url    string
	opts   pg.Options
	conn   *pgx.Conn // reads
	marker *pgx.Conn // writes the markers, in transactions of their own
	log    *slog.Logger
}

// connect connects when the first piece is asked for; most sessions copy
// nothing.
func (r *pieceReader) connect(ctx context.Context) (err error) {
	if r.conn != nil {
		return nil
	}
	if r.conn, err = pg.Connect(ctx, r.url, r.opts); err != nil {
		return err
	}
	if r.marker, err = pg.Connect(ctx, r.url, r.opts); err != nil {
		return err
	}
	return r.settle(ctx)
}

func (r *pieceReader) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, c := range []*pgx.Conn{r.conn, r.marker} {
		if c != nil {
			_ = c.Close(ctx) // there is nothing to lose on it
		}
	}
}

// run answers requests until ctx ends.
func (r *pieceReader) run(ctx context.Context, requests <-chan *pieceRequest, results chan<- *pieceRead) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case req := <-requests:
			if err := r.connect(ctx); err != nil {
				return err
			}
			if req.settle {
				if err := r.settle(ctx); err != nil {
					return err
				}
			}
			p, err := r.read(ctx, req)
			if err != nil && req.step != nil && fault.ClassOf(err) != fault.Retry {
				p, err = &pieceRead{request: req, err: pg.Safe(err)}, exec(ctx, r.conn.PgConn(), "ROLLBACK")
			}
			if err != nil {
				return fmt.Errorf("copy %s: %w", req.table.p.Source, pg.Safe(err))
			}
			select {
			case results <- p:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// settle waits until every transaction that is running now has ended. The bridge
// doesn't know which transactions it applied before this session, and one of
// them may be in the WAL already and still be invisible: no snapshot that the
// pieces use may be so old as to miss it.
func (r *pieceReader) settle(ctx context.Context) error {
	first, err := r.snapshot(ctx)
	if err != nil {
		return fmt.Errorf("read snapshot: %w", pg.Safe(err))
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	said := time.Now()
	for {
		now, err := r.snapshot(ctx)
		if err != nil {
			return fmt.Errorf("read snapshot: %w", pg.Safe(err))
		}
		left := 0
		for xid := range first.running {
			if !now.seesFull(xid) {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			r.log.Warn("copy waits for open transactions at the source", "transactions", left,
				"hint", "SELECT pid, xact_start FROM pg_stat_activity WHERE backend_xid IS NOT NULL; SELECT gid, prepared FROM pg_prepared_xacts")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (r *pieceReader) snapshot(ctx context.Context) (snapshot, error) {
	var text string
	if err := r.conn.QueryRow(ctx, "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text", pgx.QueryExecModeSimpleProtocol).Scan(&text); err != nil {
		return snapshot{}, err
	}
	return parseSnapshot(text)
}

// read reads one piece: snapshot, marker, rows, in this order.
func (r *pieceReader) read(ctx context.Context, req *pieceRequest) (*pieceRead, error) {
	c := r.conn.PgConn()
	if err := exec(ctx, c, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return nil, err
	}
	p := &pieceRead{request: req}
	var err error
	if p.snap, err = r.snapshot(ctx); err != nil {
		return nil, err
	}
	if _, err := r.marker.Exec(ctx, "SELECT pg_catalog.pg_logical_emit_message(true, $1, $2)", pgx.QueryExecModeExec, piecePrefix, req.token); err != nil {
		return nil, fmt.Errorf("mark the piece in the stream: %w", err)
	}
	if err := r.readAll(ctx, p); err != nil {
		return nil, err
	}
	return p, exec(ctx, c, "COMMIT")
}

func (r *pieceReader) readAll(ctx context.Context, p *pieceRead) error {
	if p.request.step != nil {
		return r.readStep(ctx, p)
	}
	s := p.request.table.source
	if p.request.keys != nil {
		return r.readKeys(ctx, p, p.request.keys)
	}
	sql, args := s.PieceSQL(p.request.after, p.request.limit)
	return r.readRange(ctx, p, sql, args)
}

// readRange reads the rows behind a key.
func (r *pieceReader) readRange(ctx context.Context, p *pieceRead, sql string, args []string) error {
	err := r.query(ctx, sql, args, p.add)
	p.end = len(p.rows) < p.request.limit
	return err
}

// readKeys reads the rows with these source keys.
func (r *pieceReader) readKeys(ctx context.Context, p *pieceRead, keys []sink.Key) error {
	parts, err := splitKeys(p.request.table.source, keys)
	if err != nil {
		return err
	}
	sql, args := p.request.table.source.KeysSQL(parts)
	return r.query(ctx, sql, args, p.add)
}

func splitKeys(s *mapping.Source, keys []sink.Key) ([][]string, error) {
	parts := make([][]string, len(keys))
	for i, k := range keys {
		var err error
		if parts[i], err = k.Split(len(s.Key)); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// add takes a row over.
func (p *pieceRead) add(values [][]byte) error {
	row := p.room.Row(values)
	for i := range row {
		p.bytes += len(row[i].Text)
	}
	p.rows = append(p.rows, newMappingRow(p.request.table.source, row))
	return nil
}

// last is the key of the piece's last row, nil if it has none.
func (p *pieceRead) last() []string {
	if len(p.rows) == 0 {
		return nil
	}
	return p.rows[len(p.rows)-1].parts(p.request.table.source)
}

func newMappingRow(s *mapping.Source, row cdc.Row) mappingRow {
	return mappingRow{key: s.KeyOf(row), row: row}
}

// query runs a statement and calls each for every row, with values that are valid
// until it returns.
func (r *pieceReader) query(ctx context.Context, sql string, args []string, each func(values [][]byte) error) error {
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = []byte(a)
	}
	res := r.conn.PgConn().ExecParams(ctx, sql, params, nil, nil, nil)
	var failed error
	for res.NextRow() {
		if failed == nil {
			failed = each(res.Values())
		}
	}
	_, err := res.Close()
	return errors.Join(failed, err)
}

func exec(ctx context.Context, c *pgconn.PgConn, sql string) error {
	_, err := c.Exec(ctx, sql).ReadAll()
	return err
}

func newToken() string { return uuid.NewString() }
