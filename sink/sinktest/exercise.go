package sinktest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Target is one empty target for one test, seen from outside.
type Target struct {
	// Open returns another instance of the bridge name. It fails the test if it
	// can't.
	Open func(name string) sink.Sink
	// Rows returns the rows of table with its columns.
	Rows func(table *sink.Table) map[sink.Key]cdc.Row
	// Entries returns the entries of the audit table, in no order, their times
	// in UTC.
	Entries func(table *sink.EntryTable) []sink.Entry
	// Put and Remove write as somebody else.
	Put    func(table *sink.Table, row cdc.Row)
	Remove func(table *sink.Table, key sink.Key)
	// Unique puts a unique constraint on a column.
	Unique func(table *sink.Table, column string)
	// Ask makes a request as the commands do, Request reads it back.
	Ask     func(bridge, kind, args string) (id int64)
	Request func(id int64) sink.Request
	// Alerts returns those that were raised, their times in UTC; Threshold gives
	// a tenant one of its own.
	Alerts    func(a *sink.Alerts) []sink.Alert
	Threshold func(a *sink.Alerts, tenant string, open time.Duration)
}

// Target returns m as Exercise wants it.
func (m *Memory) Target() Target {
	return Target{Open: m.Open, Rows: m.Rows, Entries: m.Entries, Put: m.Put, Remove: m.Remove, Unique: m.Unique,
		Ask: m.Ask, Request: m.Request, Alerts: m.Alerts, Threshold: m.Threshold}
}

// Exercise is the conformance suite of sink.Sink. newTarget makes a target for
// each case; the cases run in parallel.
func Exercise(t *testing.T, newTarget func(t *testing.T) Target) {
	cases := []struct {
		name string
		run  func(*world)
	}{
		{"a target without a checkpoint says so", (*world).noCheckpoint},
		{"the checkpoint comes back as it was stored", (*world).checkpointRoundTrip},
		{"the checkpoint says how far the chain is", (*world).chainHead},
		{"a lease keeps the others out until it ends", (*world).lease},
		{"a batch and its checkpoint become visible at once", (*world).atOnce},
		{"a rolled-back batch leaves nothing", (*world).rollback},
		{"a batch that is replayed is stale", (*world).replay},
		{"a lost reply is an unknown outcome, and the checkpoint knows", (*world).lostReply},
		{"a fenced writer's next write fails and leaves nothing", (*world).fenced},
		{"bridges that share a target don't meet", (*world).neighbours},
		{"the checkpoint never goes back", (*world).backwards},
		{"copy progress comes back as it was stored", (*world).copies},
		{"a refused row fails the whole batch", (*world).reject},
		{"a careful batch goes on without the refused row", (*world).careful},
		{"an insert over a row that is there overwrites it", (*world).insertOver},
		{"an insert over a kept row takes its mark", (*world).insertOverKept},
		{"an update of a row that is gone is an error", (*world).updateMissing},
		{"a unique value passes from a deleted row to a new one", (*world).passedOn},
		{"a key of several columns", (*world).compositeKey},
		{"a table that has only key columns", (*world).keyOnly},
		{"names that need quotes", (*world).quotedNames},
		{"every text stays what it is", (*world).texts},
		{"large sets give what small ones give", (*world).largeSets},
		{"entries arrive once, and a duplicate stops", (*world).entries},
		{"entries come in any number of sets", (*world).entriesInSets},
		{"a value that was not sent is never written", (*world).unsent},
		{"load sees what the batch has written", (*world).loadOwnWrites},
		{"held rows come back as they were", (*world).heldRoundTrip},
		{"held rows are found page by page", (*world).heldPages},
		{"held rows are counted by table and reason", (*world).heldCounts},
		{"keys are found page by page", (*world).keys},
		{"what another mapping has laid out is forgotten", (*world).anew},
		{"a request is open until it ends", (*world).requests},
		{"a request is done with the rows that it changed", (*world).requestDone},
		{"a fenced writer can't touch a request", (*world).requestFenced},
		{"a conversation that stays open raises one alert an episode", (*world).alerts},
		{"a tenant has a threshold of its own", (*world).alertThresholds},
		{"a fenced writer tends nothing", (*world).tendFenced},
		{"path values are followed to their end", (*world).paths},
		{"waiting finds held rows over every path", (*world).waiting},
		{"a tenant that changes takes its rows along", (*world).recompute},
		{"a row reached on two ways moves once", (*world).recomputeTwoWays},
		{"a held row isn't taken for another writer's", (*world).recomputeBesideHeld},
		{"a tenant of its own stays when a path changes", (*world).recomputeOwnTenant},
		{"rows without a tenant leave, and come back", (*world).releaseHeld},
		{"a truncate keeps or removes", (*world).truncate},
		{"rows that refer to others are found", (*world).dependents},
		{"entries lose their values and stay", (*world).eraseEntries},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(newWorld(t, newTarget(t)))
		})
	}
}

// world is a small chat application's mapping and a target for it.
//
//	conversation ─► inbox ─► tenant
//	     └────────► contact ─► tenant, avatar
type world struct {
	*testing.T
	ctx    context.Context
	target Target
	schema *sink.Schema

	inbox, contact, conversation                           *sink.Node
	contacts, conversations, messages, pairs, tags, quoted *sink.Table
	tickets                                                *sink.Table
}

const (
	int8Type = `"pg_catalog"."int8"`
	textType = `"pg_catalog"."text"`
)

func newWorld(t *testing.T, target Target) *world {
	w := &world{T: t, ctx: t.Context(), target: target}
	w.inbox = &sink.Node{Name: "app.inbox", Columns: []string{"provedor_id"}, Next: []*sink.Node{nil}}
	w.contact = &sink.Node{Name: "app.contact", Columns: []string{"provedor_id", "avatar"}, Next: []*sink.Node{nil, nil}}
	w.conversation = &sink.Node{Name: "app.conversation", Columns: []string{"inbox_id", "contact_id"}, Next: []*sink.Node{w.inbox, w.contact}}

	number := func(name string) sink.Column { return sink.Column{Name: name, Type: int8Type} }
	tenant := sink.Column{Name: "provedor_id", Type: int8Type, NotNull: true}
	text := func(name string) sink.Column { return sink.Column{Name: name, Type: textType} }

	w.contacts = &sink.Table{Schema: "public", Name: "contacts", Key: []int{0}, Tenant: 1,
		Columns: []sink.Column{number("id"), tenant, text("name"), {Name: "age", Type: int8Type, Observed: true}}}
	w.conversations = &sink.Table{Schema: "public", Name: "conversations", Key: []int{0}, Tenant: 1,
		Columns: []sink.Column{number("id"), tenant, number("inbox_id"), number("contact_id"), text("status")},
		Derived: []sink.Derived{{Column: 1, From: []sink.Lookup{
			{Column: 2, Steps: []sink.Step{{Node: w.inbox, Column: 0}}},
			{Column: 3, Steps: []sink.Step{{Node: w.contact, Column: 0}}},
		}}},
		Indexes: [][]int{{2}, {3}}}
	w.messages = &sink.Table{Schema: "public", Name: "messages", Key: []int{0}, Tenant: 2,
		Columns: []sink.Column{number("id"), number("conversation_id"), tenant, number("contact_id"), text("avatar"), text("content")},
		Derived: []sink.Derived{
			{Column: 2, From: []sink.Lookup{
				{Column: 1, Steps: []sink.Step{{Node: w.conversation, Column: 0}, {Node: w.inbox, Column: 0}}},
				{Column: 1, Steps: []sink.Step{{Node: w.conversation, Column: 1}, {Node: w.contact, Column: 0}}},
			}},
			{Column: 3, From: []sink.Lookup{{Column: 1, Steps: []sink.Step{{Node: w.conversation, Column: 1}}}}},
			{Column: 4, From: []sink.Lookup{{Column: 1, Steps: []sink.Step{{Node: w.conversation, Column: 1}, {Node: w.contact, Column: 1}}}}},
		},
		Indexes: [][]int{{1}}}
	w.pairs = &sink.Table{Schema: "public", Name: "pairs", Key: []int{1, 0}, Tenant: 2,
		Columns: []sink.Column{text("b"), number("a"), tenant, text("value")}}
	w.tags = &sink.Table{Schema: "public", Name: "tags", Key: []int{0, 1}, Tenant: 0,
		Columns: []sink.Column{tenant, text("tag")}}
	w.quoted = &sink.Table{Schema: "public", Name: "Order", Key: []int{0}, Tenant: 1,
		Columns: []sink.Column{number("id"), tenant, text("ação"), text(`a"b`), text("select"), text(`it's \ {here}`),
			text("a_name_of_63_bytes_which_is_as_long_as_a_name_in_postgresql_is_")}}

	moment := func(name string) sink.Column { return sink.Column{Name: name, Type: `"pg_catalog"."timestamptz"`} }
	w.tickets = &sink.Table{Schema: "public", Name: "tickets", Key: []int{0}, Tenant: 1,
		Columns: []sink.Column{number("id"), tenant, text("status"), moment("public.made at"), moment("open_since")}}

	w.schema = &sink.Schema{
		Fingerprint: "f1",
		Tables:      []*sink.Table{w.contacts, w.conversations, w.messages, w.pairs, w.tags, w.quoted, w.tickets},
		Nodes:       []*sink.Node{w.inbox, w.contact, w.conversation},
		Entries: &sink.EntryTable{Schema: "public", Name: "audit_logs", ID: "id", Tenant: "provedor_id",
			User: "user_id", Action: "action", Details: "details", Time: "timestamp", Chained: true},
		Alerts: &sink.Alerts{Schema: "public", Name: "ticket_alerts", Of: w.tickets, Status: 2, Created: 3, Since: 4,
			Open: []string{"open"}, After: time.Hour},
	}
	return w
}

// instance is a sink that holds the lease, and where its checkpoint is.
type instance struct {
	w     *world
	s     sink.Sink
	epoch int64
	lsn   cdc.LSN
}

// open returns a sink that has been told the schema.
func (w *world) open(name string) sink.Sink {
	w.Helper()
	s := w.target.Open(name)
	w.Cleanup(func() { _ = s.Close(context.Background()) })
	if _, err := s.Install(w.ctx, w.schema, false); err != nil {
		w.Fatalf("Install: %v", err)
	}
	return s
}

// start is a bridge that is ready to write, with its checkpoint at 0/64.
func (w *world) start() *instance {
	w.Helper()
	i := &instance{w: w, s: w.open("bridge")}
	i.acquire("one", false)
	if err := i.s.Store(w.ctx, i.epoch, sink.Origin{Incarnation: "i1"}, 100); err != nil {
		w.Fatalf("Store: %v", err)
	}
	i.lsn = 100
	return i
}

func (i *instance) acquire(holder string, force bool) sink.Checkpoint {
	i.w.Helper()
	c, err := i.s.Acquire(i.w.ctx, holder, time.Minute, force)
	if err != nil {
		i.w.Fatalf("Acquire(%s): %v", holder, err)
	}
	i.epoch, i.lsn = c.Epoch, c.LSN
	return c
}

func (i *instance) begin(opts sink.TxOptions) sink.Tx {
	i.w.Helper()
	tx, err := i.s.Begin(i.w.ctx, i.epoch, i.lsn, opts)
	if err != nil {
		i.w.Fatalf("Begin: %v", err)
	}
	return tx
}

// write commits one batch.
func (i *instance) write(writes ...*sink.Writes) {
	i.w.Helper()
	i.batch(func(tx sink.Tx) {
		for _, ws := range writes {
			if err := tx.Apply(i.w.ctx, ws); err != nil {
				i.w.Fatalf("Apply: %v", err)
			}
		}
	})
}

// batch commits what f does in one batch.
func (i *instance) batch(f func(tx sink.Tx)) {
	i.w.Helper()
	tx := i.begin(sink.TxOptions{})
	f(tx)
	i.lsn += 10
	if err := tx.Commit(i.w.ctx, sink.Progress{LSN: i.lsn}); err != nil {
		i.w.Fatalf("Commit: %v", err)
	}
}

// try applies writes in a batch of their own and returns the first error of
// Begin, Apply or Commit: a sink may defer what it does.
func (i *instance) try(writes *sink.Writes) error {
	i.w.Helper()
	tx, err := i.s.Begin(i.w.ctx, i.epoch, i.lsn, sink.TxOptions{})
	if err != nil {
		return err
	}
	defer tx.Rollback(i.w.ctx)
	if err := tx.Apply(i.w.ctx, writes); err != nil {
		return err
	}
	if err := tx.Commit(i.w.ctx, sink.Progress{LSN: i.lsn + 10}); err != nil {
		return err
	}
	i.lsn += 10
	return nil
}

// load asks in a batch that is rolled back.
func (i *instance) load(q *sink.Query) *sink.Loaded {
	i.w.Helper()
	tx := i.begin(sink.TxOptions{})
	defer tx.Rollback(i.w.ctx)
	l, err := tx.Load(i.w.ctx, q)
	if err != nil {
		i.w.Fatalf("Load: %v", err)
	}
	return l
}

// row makes values of texts; nil is null.
func row(values ...any) cdc.Row {
	r := make(cdc.Row, len(values))
	for i, v := range values {
		if v != nil {
			r[i] = cdc.TextValue(fmt.Sprint(v))
		}
	}
	return r
}

func rows(r ...cdc.Row) []cdc.Row { return r }

// set is rows of all columns of a table.
func set(mode sink.Mode, table *sink.Table, r ...cdc.Row) []sink.RowSet {
	s := sink.RowSet{Table: table, Mode: mode, Rows: r}
	if mode != sink.Insert {
		s.Columns = append(s.Columns, table.Key...)
	}
	for i := range table.Columns {
		if mode == sink.Insert {
			s.Columns = append(s.Columns, i)
		}
	}
	return []sink.RowSet{s}
}

func inserts(table *sink.Table, r ...cdc.Row) *sink.Writes {
	return &sink.Writes{Rows: set(sink.Insert, table, r...)}
}

// wantRows compares the target's rows of a table, by key.
func (w *world) wantRows(table *sink.Table, want ...cdc.Row) {
	w.Helper()
	all := make(map[sink.Key]cdc.Row)
	for _, r := range want {
		all[table.KeyOf(r)] = r
	}
	if diff := cmp.Diff(all, w.target.Rows(table)); diff != "" {
		w.Fatalf("rows of %s (-want +got):\n%s", table.FullName(), diff)
	}
}

func (w *world) wantCheckpoint(s sink.Sink, lsn cdc.LSN) {
	w.Helper()
	c, err := s.Checkpoint(w.ctx)
	if err != nil {
		w.Fatalf("Checkpoint: %v", err)
	}
	if c.LSN != lsn {
		w.Fatalf("checkpoint at %s, want %s", c.LSN, lsn)
	}
}

func (w *world) wantError(what string, got, want error) {
	w.Helper()
	if !errors.Is(got, want) {
		w.Fatalf("%s = %v, want %v", what, got, want)
	}
}
