package sinktest

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
)

// Postgres looks at the PostgreSQL database that url leads to, for sinks that
// end there. url's role must not be subject to row security.
func Postgres(t *testing.T, url string, open func(name string) sink.Sink) Target {
	p := &database{t: t, url: url}
	return Target{Open: open, Rows: p.rows, Entries: p.entries, Put: p.put, Remove: p.remove, Unique: p.unique,
		Ask: p.ask, Request: p.request, Alerts: p.alerts, Threshold: p.threshold}
}

type database struct {
	t   *testing.T
	url string
}

func (d *database) query(sql string, args ...any) []cdc.Row {
	d.t.Helper()
	conn, err := pg.Connect(d.t.Context(), d.url, pg.Options{Side: pg.Target})
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	rows, err := conn.Query(d.t.Context(), sql, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		d.t.Fatalf("query %s: %v", sql, err)
	}
	got, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (cdc.Row, error) {
		return cdc.CopyRow(r.RawValues()), nil
	})
	if err != nil {
		d.t.Fatalf("query %s: %v", sql, err)
	}
	return got
}

func (d *database) exec(sql string) {
	d.t.Helper()
	pgtest.Exec(d.t, d.url, sql)
}

func (d *database) rows(table *sink.Table) map[sink.Key]cdc.Row {
	d.t.Helper()
	all := make(map[sink.Key]cdc.Row)
	for _, r := range d.query(fmt.Sprintf("SELECT %s FROM %s", columns(table), pg.Quote(table.Schema, table.Name))) {
		all[table.KeyOf(r)] = r
	}
	return all
}

func columns(table *sink.Table) string {
	s := ""
	for i, c := range table.Columns {
		if i > 0 {
			s += ", "
		}
		s += pg.Quote(c.Name)
	}
	return s
}

func (d *database) entries(e *sink.EntryTable) []sink.Entry {
	d.t.Helper()
	var all []sink.Entry
	sql := fmt.Sprintf("SELECT %s, %s, %s, %s, %s, extract(epoch FROM %s) * 1000000 FROM %s",
		pg.Quote(e.ID), pg.Quote(e.Tenant), pg.Quote(e.User), pg.Quote(e.Action), pg.Quote(e.Details), pg.Quote(e.Time),
		pg.Quote(e.Schema, e.Name))
	for _, r := range d.query(sql) {
		var micros float64
		if _, err := fmt.Sscan(r[5].Text, &micros); err != nil {
			d.t.Fatalf("read time of an entry: %v", err)
		}
		all = append(all, sink.Entry{ID: r[0].Text, Tenant: r[1].Text, User: r[2], Action: r[3].Text, Details: r[4].Text,
			Time: time.UnixMicro(int64(micros)).UTC()})
	}
	return all
}

func (d *database) put(table *sink.Table, row cdc.Row) {
	d.t.Helper()
	values := ""
	for i, v := range row {
		if i > 0 {
			values += ", "
		}
		if v.IsNull() {
			values += "NULL"
		} else {
			values += pg.QuoteLiteral(v.Text)
		}
	}
	d.exec(fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", pg.Quote(table.Schema, table.Name), columns(table), values))
}

func (d *database) remove(table *sink.Table, key sink.Key) {
	d.t.Helper()
	parts, err := key.Split(len(table.Key))
	if err != nil {
		d.t.Fatal(err)
	}
	where := ""
	for i, k := range table.Key {
		if i > 0 {
			where += " AND "
		}
		where += pg.Quote(table.Columns[k].Name) + " = " + pg.QuoteLiteral(parts[i])
	}
	d.exec(fmt.Sprintf("DELETE FROM %s WHERE %s", pg.Quote(table.Schema, table.Name), where))
}

func (d *database) unique(table *sink.Table, column string) {
	d.t.Helper()
	d.exec(fmt.Sprintf("ALTER TABLE %s ADD UNIQUE (%s)", pg.Quote(table.Schema, table.Name), pg.Quote(column)))
}

func (d *database) ask(bridge, kind, args string) int64 {
	d.t.Helper()
	r := d.query("INSERT INTO walbridge.requests (bridge, kind, args) VALUES ($1, $2, $3) RETURNING id", bridge, kind, args)
	return d.number(r[0][0])
}

func (d *database) request(id int64) sink.Request {
	d.t.Helper()
	r := d.query("SELECT id, kind, args, state, progress, error FROM walbridge.requests WHERE id = $1", id)[0]
	return sink.Request{ID: d.number(r[0]), Kind: r[1].Text, Args: r[2].Text, State: sink.RequestState(r[3].Text), Progress: r[4].Text, Error: r[5].Text}
}

func (d *database) alerts(a *sink.Alerts) []sink.Alert {
	d.t.Helper()
	var all []sink.Alert
	for _, r := range d.query(fmt.Sprintf("SELECT %s, conversation_id, kind, (extract(epoch FROM episode_start) * 1000000)::int8 FROM %s",
		pg.Quote(a.Of.Columns[a.Of.Tenant].Name), pg.Quote(a.Schema, a.Name))) {
		all = append(all, sink.Alert{Tenant: r[0].Text, Conversation: r[1].Text, Kind: r[2].Text, Start: time.UnixMicro(d.number(r[3])).UTC()})
	}
	return all
}

func (d *database) threshold(a *sink.Alerts, tenant string, open time.Duration) {
	d.t.Helper()
	d.query(fmt.Sprintf("INSERT INTO %s AS t VALUES ($1, $2 * interval '1 microsecond') ON CONFLICT (%s) DO UPDATE SET open_for = excluded.open_for",
		pg.Quote(a.Schema, a.ThresholdTable()), pg.Quote(a.Of.Columns[a.Of.Tenant].Name)), tenant, open.Microseconds())
}

func (d *database) number(v cdc.Value) int64 {
	d.t.Helper()
	n, err := strconv.ParseInt(v.Text, 10, 64)
	if err != nil {
		d.t.Fatal(err)
	}
	return n
}
