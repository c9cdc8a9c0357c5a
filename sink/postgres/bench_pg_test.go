package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/postgres"
)

// batchRows is the batch size that the bridge is quickest with.
const batchRows = 10_000

// benchTarget is a target with NioChat's messages, indexes included.
type benchTarget struct {
	b            *testing.B
	url          string
	s            sink.Sink
	epoch        int64
	lsn          cdc.LSN
	messages     *sink.Table
	conversation *sink.Node
	inbox        *sink.Node
	next         int
}

func newBenchTarget(b *testing.B) *benchTarget {
	b.Helper()
	c := pgtest.Start(b, pgtest.WithFsync(), pgtest.WithSetting("shared_buffers", "512MB"), pgtest.WithSetting("max_wal_size", "8GB"))
	t := &benchTarget{b: b, url: c.URL("postgres")}
	t.inbox = &sink.Node{Name: "public.conversations_inbox", Columns: []string{"provedor_id"}, Next: []*sink.Node{nil}}
	contact := &sink.Node{Name: "public.conversations_contact", Columns: []string{"provedor_id"}, Next: []*sink.Node{nil}}
	t.conversation = &sink.Node{Name: "public.conversations_conversation", Columns: []string{"inbox_id", "contact_id"}, Next: []*sink.Node{t.inbox, contact}}
	over := func(column, end int, to *sink.Node) sink.Lookup {
		return sink.Lookup{Column: 1, Steps: []sink.Step{{Node: t.conversation, Column: column}, {Node: to, Column: end}}}
	}
	t.messages = &sink.Table{Schema: "public", Name: "messages", Key: []int{0}, Tenant: 3,
		Columns: []sink.Column{col("id", "int8"), {Name: "conversation_id", Type: typ("int8"), NotNull: true}, {Name: "contact_id", Type: typ("int8"), NotNull: true},
			{Name: "provedor_id", Type: typ("int8"), NotNull: true}, col("content", "text"), col("message_type", "text"), col("is_from_customer", "bool"),
			col("file_url", "text"), col("external_id", "text"), col("additional_attributes", "jsonb"), col("created_at", "timestamptz")},
		Derived: []sink.Derived{
			{Column: 3, From: []sink.Lookup{over(0, 0, t.inbox), over(1, 0, contact)}},
			{Column: 2, From: []sink.Lookup{{Column: 1, Steps: []sink.Step{{Node: t.conversation, Column: 1}}}}},
		},
		Indexes: [][]int{{1}, {3}, {10}}}
	schema := &sink.Schema{Tables: []*sink.Table{t.messages}, Nodes: []*sink.Node{t.inbox, contact, t.conversation},
		Entries: &sink.EntryTable{Schema: "public", Name: "audit_logs", ID: "id", Tenant: "provedor_id", User: "user_id",
			Action: "action", Details: "details", Time: "timestamp"}}
	var err error
	if t.s, err = postgres.Open(b.Context(), postgres.Options{URL: t.url, Name: "bench"}, slog.New(slog.DiscardHandler)); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = t.s.Close(context.Background()) })
	if _, err := t.s.Install(b.Context(), schema, false); err != nil {
		b.Fatal(err)
	}
	cp, err := t.s.Acquire(b.Context(), "bench", time.Hour, false)
	if err != nil {
		b.Fatal(err)
	}
	t.epoch, t.lsn = cp.Epoch, cp.LSN
	return t
}

// message is a row like those of the application.
func (t *benchTarget) message(id int, version string) cdc.Row {
	v := func(format string, args ...any) cdc.Value { return cdc.TextValue(fmt.Sprintf(format, args...)) }
	return cdc.Row{v("%d", id), v("%d", id%100_000), v("%d", id%50_000), v("%d", id%20),
		v("message %d%s, %s", id, version, strings.Repeat("bom dia ", id%20)), v("incoming"), v("t"), {}, v("wamid.%d", id),
		v(`{"external_id": "wamid.%d", "status": "delivered"}`, id), v("2026-03-04 05:06:07.%06d+00", id%1_000_000)}
}

func (t *benchTarget) insert(n int) sink.RowSet {
	set := sink.RowSet{Table: t.messages, Mode: sink.Insert, Columns: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}
	for range n {
		t.next++
		set.Rows = append(set.Rows, t.message(t.next, ""))
	}
	return set
}

func (t *benchTarget) update(n int, version string) sink.RowSet {
	set := sink.RowSet{Table: t.messages, Mode: sink.Update, Columns: []int{0, 4, 9}}
	for i := range n {
		r := t.message(i*7%t.next+1, version)
		set.Rows = append(set.Rows, cdc.Row{r[0], r[4], r[9]})
	}
	return set
}

func (t *benchTarget) entries(n int) []sink.Entry {
	entries := make([]sink.Entry, n)
	for i := range entries {
		t.next++
		entries[i] = sink.Entry{ID: fmt.Sprintf("00000000-0000-5000-8000-%012x", t.next), Tenant: "7", Action: "message.created",
			Details: fmt.Sprintf(`{"by": "walbridge", "n": %d, "table": "chat_message", "key": {"id": %d}, "op": "insert", "lsn": "0/16B3748", "xid": 742, "seq": 3}`, t.next, t.next),
			Time:    time.Unix(1_772_000_000, int64(i)*1000)}
	}
	return entries
}

func (t *benchTarget) batch(f func(tx sink.Tx) error) {
	t.b.Helper()
	tx, err := t.s.Begin(t.b.Context(), t.epoch, t.lsn, sink.TxOptions{Lease: time.Hour})
	if err != nil {
		t.b.Fatal(err)
	}
	if err := f(tx); err != nil {
		t.b.Fatal(err)
	}
	t.lsn += 10
	if err := tx.Commit(t.b.Context(), sink.Progress{LSN: t.lsn}); err != nil {
		t.b.Fatal(err)
	}
}

// BenchmarkApply measures batches of 10,000 rows, beside a COPY of the same rows
// by itself.
func BenchmarkApply(b *testing.B) {
	t := newBenchTarget(b)
	run := func(name string, rows int, make func(i int) *sink.Writes) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				b.StopTimer()
				w := make(i)
				i++
				b.StartTimer()
				t.batch(func(tx sink.Tx) error { return tx.Apply(b.Context(), w) })
			}
			b.ReportMetric(float64(rows*b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
	b.Run("plain copy", func(b *testing.B) {
		conn := pgtest.Connect(b, t.url)
		for b.Loop() {
			b.StopTimer()
			var data bytes.Buffer
			for _, row := range t.insert(batchRows).Rows {
				for i, v := range row {
					if i > 0 {
						data.WriteByte('\t')
					}
					if v.IsNull() {
						data.WriteString(`\N`)
					} else {
						data.WriteString(v.Text)
					}
				}
				data.WriteByte('\n')
			}
			b.StartTimer()
			if _, err := conn.PgConn().CopyFrom(b.Context(), &data, "COPY public.messages FROM STDIN"); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(batchRows*b.N)/b.Elapsed().Seconds(), "rows/s")
	})
	run("insert", batchRows, func(int) *sink.Writes { return &sink.Writes{Rows: []sink.RowSet{t.insert(batchRows)}} })
	run("update", batchRows, func(i int) *sink.Writes {
		return &sink.Writes{Rows: []sink.RowSet{t.update(batchRows, fmt.Sprint(" v", i))}}
	})
	run("half and half", batchRows, func(i int) *sink.Writes {
		return &sink.Writes{Rows: []sink.RowSet{t.insert(batchRows / 2), t.update(batchRows/2, fmt.Sprint(" w", i))}}
	})
	run("insert with entries", batchRows, func(int) *sink.Writes {
		return &sink.Writes{Rows: []sink.RowSet{t.insert(batchRows)}, Entries: t.entries(batchRows)}
	})
	run("insert over rows that are there", batchRows, func(i int) *sink.Writes {
		set := sink.RowSet{Table: t.messages, Mode: sink.Insert, Columns: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}
		for n := range batchRows {
			set.Rows = append(set.Rows, t.message(n+1, fmt.Sprint(" x", i)))
		}
		return &sink.Writes{Rows: []sink.RowSet{set}}
	})
	run("one row", 1, func(int) *sink.Writes { return &sink.Writes{Rows: []sink.RowSet{t.insert(1)}, Entries: t.entries(1)} })
	b.Run("one row after a load", func(b *testing.B) {
		for b.Loop() {
			t.batch(func(tx sink.Tx) error {
				q := &sink.Query{Rows: map[*sink.Table][]sink.Key{t.messages: {"1"}}, Paths: map[*sink.Node][]sink.Key{t.conversation: {"1"}}}
				if _, err := tx.Load(b.Context(), q); err != nil {
					return err
				}
				return tx.Apply(b.Context(), &sink.Writes{Rows: []sink.RowSet{t.insert(1)}, Entries: t.entries(1)})
			})
		}
	})
}

// BenchmarkRecompute moves a million messages to another tenant, beside the
// plain UPDATE that does the same without looking anything up.
func BenchmarkRecompute(b *testing.B) {
	t := newBenchTarget(b)
	pgtest.Exec(b, t.url,
		`INSERT INTO walbridge.path_values SELECT 'bench', 'public.conversations_conversation', i::text, ARRAY[(i % 10 / 9)::text, (i % 50000)::text] FROM generate_series(0, 99999) i`,
		`INSERT INTO walbridge.path_values SELECT 'bench', 'public.conversations_contact', i::text, ARRAY['1'] FROM generate_series(0, 49999) i`,
		`INSERT INTO walbridge.path_values SELECT 'bench', 'public.conversations_inbox', i::text, ARRAY['0'] FROM generate_series(0, 1) i`,
		`INSERT INTO messages SELECT i, i % 100000, i % 50000, 0, 'message ' || i || repeat('bom dia ', i % 20), 'incoming', true, NULL, 'wamid.' || i,
			'{"status": "delivered"}', now() FROM generate_series(1, 1111111) i`,
		"VACUUM ANALYZE")
	move := func(b *testing.B, inbox string, tenant int) {
		t.batch(func(tx sink.Tx) error {
			w := &sink.Writes{Paths: []sink.PathWrite{{Node: t.inbox, Key: sink.Key(inbox), Row: sink.PathRow{Values: cdc.Row{cdc.TextValue(fmt.Sprint(tenant))}}}}}
			if err := tx.Apply(b.Context(), w); err != nil {
				return err
			}
			_, err := tx.Recompute(b.Context(), &sink.Recompute{Table: t.messages, Node: t.inbox, Keys: []sink.Key{sink.Key(inbox)}})
			return err
		})
	}
	tenant := 0
	for range 3 { // alternately, because the table grows
		b.Run("million rows", func(b *testing.B) {
			for b.Loop() {
				tenant++
				move(b, "0", tenant)
			}
		})
		b.Run("million rows by a plain update", func(b *testing.B) {
			for b.Loop() {
				tenant++
				pgtest.Exec(b, t.url, fmt.Sprintf(`UPDATE messages t SET provedor_id = %d FROM walbridge.path_values p
					WHERE p.source = 'public.conversations_conversation' AND p.vals[1] = '0' AND t.conversation_id = p.key::int8`, tenant))
			}
		})
	}
	// One conversation's 11 messages of a million.
	b.Run("one conversation", func(b *testing.B) {
		for b.Loop() {
			tenant++
			t.batch(func(tx sink.Tx) error {
				w := &sink.Writes{Paths: []sink.PathWrite{{Node: t.conversation, Key: "5", Row: sink.PathRow{Values: cdc.Row{cdc.TextValue("0"), cdc.TextValue(fmt.Sprint(tenant % 2))}}}}}
				if err := tx.Apply(b.Context(), w); err != nil {
					return err
				}
				_, err := tx.Recompute(b.Context(), &sink.Recompute{Table: t.messages, Node: t.conversation, Keys: []sink.Key{"5"}})
				return err
			})
		}
	})
}
