package postgres

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// Statements returns the texts of all statements that a sink over a Session may
// run for the bridge called name. Nothing lists them: a sink is led through all
// that it can do, and its statements are written down.
//
// The audit table's columns have the types that entries finds, or those that it
// would be made with.
func (s *Sink) Statements(schema *sink.Schema) []*Template {
	r := &recorder{seen: make(map[string]bool)}
	twin := Over(r, s.opts, slog.New(slog.DiscardHandler))
	twin.schema, twin.entries = schema, s.entries
	if twin.entries == nil {
		twin.entries = entriesTable(schema, nil)
	}
	twin.everything(schema)
	(&reader{s: twin}).everything()
	return r.texts
}

// recorder is a session that answers nothing and fails never.
type recorder struct {
	texts []*Template
	seen  map[string]bool
}

func (r *recorder) Run(_ context.Context, statements []*Statement) (*Statement, error) {
	for _, st := range statements {
		if key := strings.Join(st.Template.Parts, "\x00"); st.Control == 0 && !r.seen[key] {
			r.seen[key] = true
			r.texts = append(r.texts, st.Template)
		}
	}
	return nil, nil
}

func (r *recorder) Idle() bool { return true }
func (r *recorder) Close()     {}

// everything does what a sink can do. Since nothing is answered, much of it comes
// to an error, after its statements have been run.
func (s *Sink) everything(schema *sink.Schema) {
	ctx := context.Background()
	_, _ = s.missing(ctx, schema, false)
	_, _ = s.missingAlerts(ctx, schema)
	_, _ = s.version(ctx)
	_, _ = s.Catalog(ctx, []pg.TableName{{}})
	_, _ = s.Acquire(ctx, "", 0, true)
	_ = s.Store(ctx, 0, sink.Origin{}, 0)
	_ = s.Renew(ctx, 0, time.Second, "")
	_ = s.Release(ctx, 0)
	_, _ = s.Copies(ctx)
	_, _ = s.Requests(ctx)
	_ = s.Report(ctx, 0, sink.Request{})
	_, _ = s.Held(ctx)
	_, _ = s.Tend(ctx, 0, sink.Tending{})

	for _, table := range schema.Tables {
		s.recordTable(ctx, schema, table)
	}
	for _, node := range schema.Nodes {
		s.recordBatch(ctx, func(t *tx) {
			_, _ = t.Load(ctx, &sink.Query{Paths: map[*sink.Node][]sink.Key{node: {""}}})
			for _, after := range []*sink.Key{nil, new(sink.Key)} {
				_, _ = t.Load(ctx, &sink.Query{Keys: &sink.KeyQuery{Node: node, After: after}})
			}
			_, _ = t.Load(ctx, &sink.Query{Waiting: map[*sink.Node][]sink.Key{node: {""}}})
			_ = t.Apply(ctx, &sink.Writes{Paths: []sink.PathWrite{
				{Node: node, Row: sink.PathRow{Values: make(cdc.Row, len(node.Columns))}}, {Node: node, Forget: true}}})
			_, _ = t.Truncate(ctx, &sink.Truncate{Node: node})
			for i := range node.Columns {
				_, _ = t.Load(ctx, &sink.Query{Dependents: &sink.DependentQuery{Node: node, Column: i}})
			}
		})
	}
	s.recordBatch(ctx, func(t *tx) {
		w := &sink.Writes{Anew: true, Copied: []sink.CopyProgress{{Done: true}}, Requests: []sink.Request{{}}}
		if schema.Entries != nil {
			w.Entries = []sink.Entry{{}}
			_, _ = t.EraseEntries(ctx, &sink.Erase{})
		}
		_ = t.Apply(ctx, w)
	})
}

// recordBatch runs f in a batch that is committed.
func (s *Sink) recordBatch(ctx context.Context, f func(t *tx)) {
	begun, err := s.Begin(ctx, 0, 0, sink.TxOptions{})
	if err != nil {
		return
	}
	f(begun.(*tx))
	_ = begun.Commit(ctx, sink.Progress{Counters: sink.Counters{Chain: sink.Chain{Head: 1}}})
}

func (s *Sink) recordTable(ctx context.Context, schema *sink.Schema, table *sink.Table) {
	all := &sink.RowSet{Table: table, Mode: sink.Insert, Rows: []cdc.Row{make(cdc.Row, len(table.Columns))}}
	for i := range table.Columns {
		all.Columns = append(all.Columns, i)
	}
	keyed := func(mode sink.Mode) sink.RowSet {
		return sink.RowSet{Table: table, Mode: mode, Columns: table.Key, Rows: []cdc.Row{make(cdc.Row, len(table.Key))}}
	}
	key := sink.EncodeKey(make([]string, len(table.Key))...)
	ref := []sink.Ref{{Table: table, Key: key}}
	s.recordBatch(ctx, func(t *tx) {
		_, _ = t.Load(ctx, &sink.Query{Rows: map[*sink.Table][]sink.Key{table: {key}}})
		for _, reason := range []sink.HeldReason{"", sink.HeldTenant} {
			for _, keys := range [][]sink.Key{nil, {key}} {
				for _, after := range []*sink.Key{nil, &key} {
					_, _ = t.Load(ctx, &sink.Query{Held: &sink.HeldQuery{Table: table, Reason: reason, Keys: keys, After: after}})
				}
			}
		}
		for _, tenant := range []*string{nil, new(string)} {
			for _, after := range []*sink.Key{nil, &key} {
				_, _ = t.Load(ctx, &sink.Query{Keys: &sink.KeyQuery{Table: table, Tenant: tenant, After: after}})
			}
		}
		for _, column := range starts(table) {
			_, _ = t.Load(ctx, &sink.Query{Dependents: &sink.DependentQuery{Table: table, Column: column}})
		}
		_ = t.Apply(ctx, &sink.Writes{
			Unhold: ref, Mark: ref, Unmark: ref,
			Delete: []sink.RowSet{keyed(sink.Remove)},
			Rows:   []sink.RowSet{*all, keyed(sink.Insert), keyed(sink.Update)},
			Hold:   []sink.HeldRow{{Table: table, Row: make(cdc.Row, len(table.Columns))}},
		})
		if len(table.Key) < len(table.Columns) {
			t.add(op{template: updateTemplate(table)})
			t.add(op{template: upsertTemplate(table)})
		}
		for _, node := range schema.Nodes {
			r := &sink.Recompute{Table: table, Node: node, Keys: []sink.Key{""}}
			_, _ = t.Recompute(ctx, r)
			_, _ = t.ReleaseHeld(ctx, r, 1)
		}
		_, _ = t.Truncate(ctx, &sink.Truncate{Table: table, Keep: true})
		_, _ = t.Truncate(ctx, &sink.Truncate{Table: table})
	})
	// Statistics are refreshed when they are due, which they may be at any time.
	s.recordBatch(ctx, func(t *tx) { t.add(refreshStatistics("")) })
}

// everything does what a reader can do, beside what a sink does, too.
func (r *reader) everything() {
	ctx := context.Background()
	_, _ = r.Position(ctx)
	for _, table := range r.s.schema.Tables {
		rg := &sink.Range{Table: table}
		_, _ = r.Hashes(ctx, rg)
		_, _ = r.Sums(ctx, rg)
		rg.Parts = []sink.Part{{Column: table.Tenant}}
		_, _ = r.Hashes(ctx, rg)
		_, _ = r.Sums(ctx, rg)
		_, _ = r.Load(ctx, &sink.Query{Rows: map[*sink.Table][]sink.Key{table.Whose(): {sink.EncodeKey(make([]string, len(table.Key))...)}}})
		for _, c := range table.Columns {
			_, _ = r.Written(ctx, c.Type, nil)
		}
		for _, after := range []*sink.Key{nil, new(sink.Key)} {
			_, _ = r.Keys(ctx, &sink.Listing{Of: sink.ListMarks, Table: table, After: after})
			_, _ = r.Keys(ctx, &sink.Listing{Of: sink.ListHeld, Table: table, After: after})
		}
	}
	for _, node := range r.s.schema.Nodes {
		for _, after := range []*sink.Key{nil, new(sink.Key)} {
			_, _ = r.Keys(ctx, &sink.Listing{Of: sink.ListPaths, Node: node, After: after})
		}
	}
	if r.s.schema.Entries != nil {
		_, _ = r.Entries(ctx, 1)
		_, _, _ = r.Numbered(ctx, 0, 1)
	}
}
