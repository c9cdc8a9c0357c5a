package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// reader is a sink.Reader over a connection of its own.
type reader struct{ s *Sink }

var _ sink.Reader = (*reader)(nil)

// OpenReader connects to the target to read what the bridge has written there.
func OpenReader(ctx context.Context, opts Options, schema *sink.Schema, log *slog.Logger) (sink.Reader, error) {
	s := &Sink{opts: opts, name: opts.Name, log: log, schema: schema}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return &reader{s}, nil
}

// NewReader reads over a connection that package pg has made and the caller
// closes.
func NewReader(conn *pgconn.PgConn, name string, schema *sink.Schema) sink.Reader {
	return &reader{&Sink{name: name, log: slog.New(slog.DiscardHandler), schema: schema, conn: conn}}
}

// Close releases the connection.
func (r *reader) Close(ctx context.Context) error { return r.s.Close(ctx) }

// beginSnapshot begins a transaction whose statements all see the same.
const beginSnapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

// query runs statements in one read-only snapshot. What fails leaves the
// connection fit for the next call.
func (r *reader) query(ctx context.Context, what string, ops ...op) error {
	if len(ops) > 1 {
		ops = append(append([]op{{sql: beginSnapshot}}, ops...), op{sql: "COMMIT"})
	}
	err := r.s.query(ctx, what, ops...)
	if c := r.s.conn; err != nil && c != nil && !c.IsClosed() && c.TxStatus() != 'I' {
		if _, e := r.s.run(ctx, []op{{sql: "ROLLBACK"}}); e != nil {
			r.s.drop(ctx)
		}
	}
	return err
}

// atWork asks as package request does: of a checkpoint that is locked, SKIP LOCKED
// makes none. It is looked at only where the lease has run out.
const atWork = `coalesce(k.lease_until > clock_timestamp(), false)
	OR (SELECT count(*) FROM (SELECT FROM walbridge.checkpoint AS l WHERE l.name = $1 FOR KEY SHARE SKIP LOCKED) AS free) = 0`

// Position reads the checkpoint.
func (r *reader) Position(ctx context.Context) (sink.Position, error) {
	var p sink.Position
	var found bool
	scan := r.s.scanCheckpoint(&p.Checkpoint, &found)
	err := r.s.query(ctx, "read checkpoint", op{
		sql:  "SELECT " + atWork + ", " + checkpointColumns + " FROM walbridge.checkpoint AS k WHERE k.name = $1",
		args: [][]byte{arg(r.s.name)},
		read: each(func(v [][]byte) error {
			p.AtWork = string(v[0]) == "t"
			return scan(v[1:])
		}),
	})
	switch {
	case err != nil && notInstalled(err):
		return p, sink.ErrNoCheckpoint
	case err == nil && !found:
		return p, sink.ErrNoCheckpoint
	}
	return p, err
}

// Copies returns the progress of the copies.
func (r *reader) Copies(ctx context.Context) ([]sink.CopyProgress, error) { return r.s.Copies(ctx) }

// Load answers q.
func (r *reader) Load(ctx context.Context, q *sink.Query) (*sink.Loaded, error) {
	l, ops, err := r.s.loads(q)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	if len(ops) == 0 {
		return l, nil
	}
	return l, r.query(ctx, "load", ops...)
}

// Sums digests a range.
func (r *reader) Sums(ctx context.Context, rg *sink.Range) ([]sink.Sum, error) {
	var sums []sink.Sum
	q := r.rangeSQL(rg)
	tenant := column(rg.Table, rg.Table.Tenant)
	err := r.query(ctx, "digest rows", op{
		sql: fmt.Sprintf("SELECT %s, pg_catalog.count(*), coalesce(pg_catalog.sum(%s), 0) FROM %s AS t WHERE %s GROUP BY 1",
			tenant, q.hash, tableName(rg.Table), q.where),
		args: q.args,
		read: each(func(v [][]byte) error {
			d := decoder{values: v}
			sums = append(sums, sink.Sum{Tenant: d.value(), Rows: d.int64(), Hash: d.text()})
			return d.err
		}),
	})
	return sums, err
}

// Hashes reads the hashes of a range.
func (r *reader) Hashes(ctx context.Context, rg *sink.Range) ([]sink.RowHash, error) {
	var rows []sink.RowHash
	q := r.rangeSQL(rg)
	t := rg.Table
	n := len(t.Key)
	key := list(n, ", ", func(i int) string { return column(t, t.Key[i]) })
	order := list(n, ", ", func(i int) string { return keyOrder(t, i) })
	err := r.query(ctx, "read hashes", op{
		sql: fmt.Sprintf("SELECT %s, %s, %s FROM %s AS t WHERE %s ORDER BY %s LIMIT %d",
			column(t, t.Tenant), q.hash, key, tableName(t), q.where, order, rg.Limit),
		args: q.args,
		read: each(func(v [][]byte) error {
			d := decoder{values: v}
			row := sink.RowHash{Tenant: d.value(), Hash: d.int64()}
			parts := make([]string, n)
			for i := range parts {
				parts[i] = d.text()
			}
			row.Key = sink.EncodeKey(parts...)
			rows = append(rows, row)
			return d.err
		}),
	})
	return rows, err
}

// keyOrder is what the i-th column of the key is ordered by.
func keyOrder(t *sink.Table, i int) string {
	c := &t.Columns[t.Key[i]]
	if c.ByValue() {
		return column(t, t.Key[i])
	}
	return textOf(column(t, t.Key[i]), c.Type) + ` COLLATE pg_catalog."C"`
}

// rangeQuery are the parts of a statement about a range.
type rangeQuery struct {
	where, hash string
	args        [][]byte
}

func (q *rangeQuery) add(v []byte, cast string) string {
	q.args = append(q.args, v)
	return "$" + strconv.Itoa(len(q.args)) + "::" + cast
}

func (r *reader) rangeSQL(rg *sink.Range) *rangeQuery {
	q := &rangeQuery{}
	var where []string
	if rg.After != nil {
		where = append(where, q.beyond(rg.Table, ">", rg.After))
	}
	if rg.Upto != nil {
		where = append(where, q.beyond(rg.Table, "<=", rg.Upto))
	}
	if rg.Tenant != nil {
		where = append(where, q.tenantIs(rg.Table, *rg.Tenant))
	}
	if e := r.s.schema.Entries; e != nil && e.Schema == rg.Table.Schema && e.Name == rg.Table.Name {
		where = append(where, "(t."+pg.Quote(e.Details)+"::jsonb ->> 'by') IS DISTINCT FROM 'walbridge'")
	}
	where = append(where, q.unmarked(r.s.name, rg.Table))
	q.where = strings.Join(where, " AND ")
	q.hash = `pg_catalog.hashtextextended(ROW(` + list(len(rg.Parts), ", ", func(i int) string { return q.part(rg.Table, &rg.Parts[i]) }) +
		`)::text COLLATE pg_catalog."C", 0)`
	return q
}

// unmarked leaves rows with a deletion mark out. Where the table has none, which
// the first condition finds out once, no row is looked up; else OFFSET 0 keeps
// each look-up a probe of the primary key: a join would read all marks for every
// range.
func (q *rangeQuery) unmarked(bridge string, t *sink.Table) string {
	marks := fmt.Sprintf(`SELECT FROM walbridge.deleted AS d WHERE d.bridge = %s AND d."table" = %s`,
		q.add(arg(bridge), "text"), q.add(arg(t.FullName()), "text"))
	return fmt.Sprintf(`(NOT (SELECT EXISTS (%s)) OR NOT EXISTS (%[1]s AND d.key = (%s) COLLATE pg_catalog."C" OFFSET 0))`, marks, keyText(t))
}

// beyond compares the key with a bound.
func (q *rangeQuery) beyond(t *sink.Table, op string, bound []string) string {
	left := list(len(t.Key), ", ", func(i int) string { return keyOrder(t, i) })
	right := list(len(t.Key), ", ", func(i int) string {
		switch c := &t.Columns[t.Key[i]]; {
		case c.Type == typeUUID:
			return q.add(arg(bound[i]), "uuid")
		case c.ByValue():
			return q.add(arg(bound[i]), "int8")
		}
		return q.add(arg(bound[i]), "text")
	})
	return "(" + left + ") " + op + " (" + right + ")"
}

func (q *rangeQuery) tenantIs(t *sink.Table, tenant string) string {
	c := &t.Columns[t.Tenant]
	if !c.ByValue() {
		return textOf(column(t, t.Tenant), c.Type) + " = " + q.add(arg(tenant), "text")
	}
	if c.Type != typeUUID {
		if _, err := strconv.ParseInt(tenant, 10, 64); err != nil {
			return "false" // no row has it, and the server would refuse to compare
		}
		return column(t, t.Tenant) + " = " + q.add(arg(tenant), "int8")
	}
	return column(t, t.Tenant) + "::text = " + q.add(arg(tenant), "text")
}

// part is what of a column is hashed.
func (q *rangeQuery) part(t *sink.Table, p *sink.Part) string {
	expr := column(t, p.Column)
	if p.Presence {
		expr += " IS NOT NULL"
	}
	if len(p.Values) == 0 {
		return expr
	}
	watched := textOf(column(t, p.Unless), t.Columns[p.Unless].Type)
	return fmt.Sprintf(`CASE WHEN (%s) COLLATE pg_catalog."C" = ANY (%s) THEN NULL ELSE %s END`,
		watched, q.add(textArray(p.Values), "text[]"), expr)
}

// Keys lists a page of keys.
func (r *reader) Keys(ctx context.Context, l *sink.Listing) ([]sink.Key, error) {
	var from, of string
	switch l.Of {
	case sink.ListMarks:
		from, of = `walbridge.deleted AS x WHERE x.bridge = $1 AND x."table" = $2`, l.Table.FullName()
	case sink.ListHeld:
		from, of = `walbridge.held AS x WHERE x.bridge = $1 AND x."table" = $2`, l.Table.FullName()
	case sink.ListPaths:
		from, of = `walbridge.path_values AS x WHERE x.bridge = $1 AND x.source = $2 AND NOT x.gone`, l.Node.Name
	}
	args := [][]byte{arg(r.s.name), arg(of)}
	if l.After != nil {
		from += " AND x.key > $3"
		args = append(args, arg(string(*l.After)))
	}
	var keys []sink.Key
	err := r.query(ctx, "list keys", op{
		sql:  fmt.Sprintf("SELECT x.key FROM %s ORDER BY x.key LIMIT %d", from, l.Limit),
		args: args,
		read: each(func(v [][]byte) error {
			keys = append(keys, sink.Key(v[0]))
			return nil
		}),
	})
	return keys, err
}

// Written asks the type how it writes texts.
func (r *reader) Written(ctx context.Context, typ string, texts []string) ([]string, error) {
	written := make([]string, 0, len(texts))
	err := r.query(ctx, "compare values", op{
		sql:  fmt.Sprintf("SELECT x::%s FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS u(x, n) ORDER BY n", typ),
		args: [][]byte{textArray(texts)},
		read: each(func(v [][]byte) error {
			written = append(written, string(v[0]))
			return nil
		}),
	})
	if code := pg.Code(err); len(code) == 5 && code[:2] == "22" {
		return nil, nil
	}
	return written, err
}
