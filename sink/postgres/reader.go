package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// reader is a sink.Reader over a connection of its own, or over a session.
type reader struct {
	s *Sink
	// numbers is how many the next page of entries may have.
	numbers int64
}

var _ sink.Reader = (*reader)(nil)

// OpenReader connects to the target to read what the bridge has written there.
func OpenReader(ctx context.Context, opts Options, schema *sink.Schema, log *slog.Logger) (sink.Reader, error) {
	s := &Sink{opts: opts, name: opts.Name, log: log, schema: schema}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return &reader{s: s}, nil
}

// NewReader reads over a connection that package pg has made and the caller
// closes.
func NewReader(conn *pgconn.PgConn, name string, schema *sink.Schema) sink.Reader {
	return &reader{s: &Sink{name: name, log: slog.New(slog.DiscardHandler), schema: schema, conn: conn}}
}

// Close releases the connection.
func (r *reader) Close(ctx context.Context) error { return r.s.Close(ctx) }

// ReaderOver reads over a session, for which the statements of one Run see the
// same.
func ReaderOver(session Session, name string, schema *sink.Schema, log *slog.Logger) sink.Reader {
	s := Over(session, Options{Name: name}, log)
	s.schema = schema
	return &reader{s: s}
}

// beginSnapshot begins a transaction whose statements all see the same.
const beginSnapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

// query runs statements in one read-only snapshot. What fails leaves the
// connection fit for the next call.
func (r *reader) query(ctx context.Context, what string, ops ...op) error {
	if len(ops) > 1 && r.s.session == nil {
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
	if !possible(rg) {
		return nil, nil
	}
	var sums []sink.Sum
	q := r.rangeSQL(rg)
	o, err := r.hashing(rg, q, fmt.Sprintf("SELECT %s, pg_catalog.count(*), coalesce(pg_catalog.sum(", column(rg.Table, rg.Table.Tenant)),
		fmt.Sprintf("), 0) FROM %s AS t WHERE %s GROUP BY 1", tableName(rg.Table), q.where))
	if err != nil {
		return nil, err
	}
	o.read = each(func(v [][]byte) error {
		d := decoder{values: v}
		sums = append(sums, sink.Sum{Tenant: d.value(), Rows: d.int64(), Hash: d.text()})
		return d.err
	})
	return sums, r.query(ctx, "digest rows", o)
}

// Hashes reads the hashes of a range.
func (r *reader) Hashes(ctx context.Context, rg *sink.Range) ([]sink.RowHash, error) {
	if !possible(rg) {
		return nil, nil
	}
	var rows []sink.RowHash
	q := r.rangeSQL(rg)
	t := rg.Table
	n := len(t.Key)
	key := list(n, ", ", func(i int) string { return column(t, t.Key[i]) })
	order := list(n, ", ", func(i int) string { return keyOrder(t, i) })
	limit := q.add(argInt(int64(rg.Limit)), "int8")
	o, err := r.hashing(rg, q, fmt.Sprintf("SELECT %s, ", column(t, t.Tenant)),
		fmt.Sprintf(", %s FROM %s AS t WHERE %s ORDER BY %s LIMIT %s", key, tableName(t), q.where, order, limit))
	if err != nil {
		return nil, err
	}
	o.read = each(func(v [][]byte) error {
		d := decoder{values: v}
		row := sink.RowHash{Tenant: d.value(), Hash: d.int64()}
		parts := make([]string, n)
		for i := range parts {
			parts[i] = d.text()
		}
		row.Key = sink.EncodeKey(parts...)
		rows = append(rows, row)
		return d.err
	})
	return rows, r.query(ctx, "read hashes", o)
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
	where string
	args  [][]byte
}

func (q *rangeQuery) add(v []byte, cast string) string {
	q.args = append(q.args, v)
	return "$" + strconv.Itoa(len(q.args)) + "::" + cast
}

// rangeSQL is the same text for every range of a table, for sessions that know
// only texts that were made known to them. What a range leaves out are parameters
// that are null; the planner, which knows them, leaves the conditions out.
func (r *reader) rangeSQL(rg *sink.Range) *rangeQuery {
	q := &rangeQuery{}
	where := []string{q.beyond(rg.Table, ">", rg.After), q.beyond(rg.Table, "<=", rg.Upto), q.tenantIs(rg.Table, rg.Tenant)}
	if e := r.s.schema.Entries; e != nil && e.Schema == rg.Table.Schema && e.Name == rg.Table.Name {
		where = append(where, "(t."+pg.Quote(e.Details)+"::jsonb ->> 'by') IS DISTINCT FROM 'walbridge'")
	}
	where = append(where, q.unmarked(r.s.name, rg.Table))
	q.where = strings.Join(where, " AND ")
	return q
}

// hashing is a statement with a row's hash between before and after.
func (r *reader) hashing(rg *sink.Range, q *rangeQuery, before, after string) (op, error) {
	before += "pg_catalog.hashtextextended(ROW("
	after = `)::text COLLATE pg_catalog."C", 0)` + after
	var watched []string
	for _, p := range rg.Parts {
		for _, v := range p.Values {
			watched = append(watched, watchedText(&p, v))
		}
	}
	values := "$" + strconv.Itoa(len(q.args)+1)
	if watched != nil {
		q.args = append(q.args, textArray(watched))
	}
	parts := make([]string, len(rg.Parts))
	for i := range parts {
		parts[i] = part(rg.Table, &rg.Parts[i], values)
	}
	o := op{args: q.args, pure: true}
	if r.s.session == nil || len(parts) == 0 {
		o.sql = before + strings.Join(parts, ", ") + after
		return o, nil
	}
	known := knownParts(rg.Table, values)
	chosen := make([]int, len(parts))
	for i := range parts {
		if chosen[i] = slices.Index(known, parts[i]); chosen[i] < 0 {
			return o, fmt.Errorf("table %s: no statement hashes column %s like that", rg.Table.FullName(), rg.Table.Columns[rg.Parts[i].Column].Name)
		}
	}
	o.template, o.choose = &Template{Parts: []string{before, after}, Lists: [][]string{known}}, [][]int{chosen}
	return o, nil
}

// knownParts are the parts that the rows of a table can be hashed of over a
// session: the values, and of observed columns whether there is one.
func knownParts(t *sink.Table, values string) []string {
	var known []string
	for i := range t.Columns {
		known = append(known, part(t, &sink.Part{Column: i}, values))
		if !t.Columns[i].Observed {
			continue
		}
		known = append(known, part(t, &sink.Part{Column: i, Presence: true}, values))
		for u := range t.Columns {
			for _, presence := range []bool{false, true} {
				known = append(known, part(t, &sink.Part{Column: i, Presence: presence, Unless: u, Values: []string{""}}, values))
			}
		}
	}
	return known
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

// beyond compares the key with a bound, unless that is nil.
func (q *rangeQuery) beyond(t *sink.Table, op string, bound []string) string {
	var none string
	left := list(len(t.Key), ", ", func(i int) string { return keyOrder(t, i) })
	right := list(len(t.Key), ", ", func(i int) string {
		var v []byte
		if bound != nil {
			v = arg(bound[i])
		}
		p := q.add(v, "text")
		if i == 0 {
			none = p
		}
		switch c := &t.Columns[t.Key[i]]; {
		case c.Type == typeUUID:
			return p + "::uuid"
		case c.ByValue():
			return p + "::int8"
		}
		return p
	})
	return "(" + none + " IS NULL OR (" + left + ") " + op + " (" + right + "))"
}

// possible is false of a tenant that no row of the table can have, and that the
// server would refuse to compare.
func possible(rg *sink.Range) bool {
	c := &rg.Table.Columns[rg.Table.Tenant]
	if rg.Tenant == nil || !c.ByValue() || c.Type == typeUUID {
		return true
	}
	_, err := strconv.ParseInt(*rg.Tenant, 10, 64)
	return err == nil
}

func (q *rangeQuery) tenantIs(t *sink.Table, tenant *string) string {
	var v []byte
	if tenant != nil {
		v = arg(*tenant)
	}
	c := &t.Columns[t.Tenant]
	p := q.add(v, "text")
	is := textOf(column(t, t.Tenant), c.Type) + " = " + p
	switch {
	case c.Type == typeUUID:
		is = column(t, t.Tenant) + "::text = " + p
	case c.ByValue():
		is = column(t, t.Tenant) + " = " + p + "::int8"
	}
	return "(" + p + " IS NULL OR " + is + ")"
}

// part is what of a column is hashed. values are those of all parts' Values, as
// watchedText writes them.
func part(t *sink.Table, p *sink.Part, values string) string {
	expr := column(t, p.Column)
	if p.Presence {
		expr += " IS NOT NULL"
	}
	if len(p.Values) == 0 {
		return expr
	}
	watched := textOf(column(t, p.Unless), t.Columns[p.Unless].Type)
	return fmt.Sprintf(`CASE WHEN (%s || (%s)) COLLATE pg_catalog."C" = ANY (%s::text[]) THEN NULL ELSE %s END`,
		pg.QuoteLiteral(watchedText(p, "")), watched, values, expr)
}

// watchedText is one of a part's Values, and whose it is.
func watchedText(p *sink.Part, value string) string { return strconv.Itoa(p.Column) + " " + value }

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
	args = append(args, argInt(int64(l.Limit)))
	var keys []sink.Key
	err := r.query(ctx, "list keys", op{
		sql:  fmt.Sprintf("SELECT x.key FROM %s ORDER BY x.key LIMIT $%d::int8", from, len(args)),
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
