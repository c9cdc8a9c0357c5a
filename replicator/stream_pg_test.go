package replicator

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pgtest"
)

func TestStream_Identify(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	s := startStreamPaused(t, src.config())
	got, err := s.Identify(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := pgtest.QueryValue(t, src.url, "SELECT system_identifier FROM pg_control_system()"); got.ID != want {
		t.Errorf("system id %s, want %s", got.ID, want)
	}
	if got.Database != src.db || got.Timeline != 1 || got.Version/10000 != src.cluster.Version() || got.Flush < src.start {
		t.Errorf("identity %+v, slot at %s", got, src.start)
	}
	// With one, the server's kernel ends the connection when the bridge has not
	// read for that long, which it may while the target is down.
	if got, err := s.queryValue(t.Context(), "SHOW tcp_user_timeout"); got != "0" || err != nil {
		t.Errorf("tcp_user_timeout=%s, %v", got, err)
	}
}

// Writers run side by side; the stream has every commit once, in commit order,
// and the positions only grow.
func TestStream_Order(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	s := startStream(t, src.config())
	const writers, each = 4, 50
	var wg sync.WaitGroup
	for w := range writers {
		conn := src.connect(t)
		wg.Go(func() {
			for i := range each {
				id := w*each + i
				_, err := conn.Exec(context.Background(), "WITH a AS (INSERT INTO public.item VALUES ($1, $2)) INSERT INTO public.part VALUES ($1, NULL)",
					id, strconv.Itoa(id))
				if err != nil {
					t.Errorf("insert: %v", err)
				}
			}
		})
	}
	txs := s.txs(t, writers*each)
	wg.Wait()
	var last cdc.LSN
	next := [writers]int{}
	for i, tx := range txs {
		if tx.Commit < last || tx.End <= tx.Commit {
			t.Fatalf("transaction %d: commit %s, end %s, after %s", i, tx.Commit, tx.End, last)
		}
		last = tx.End
		if !tx.First || !tx.Last || len(tx.Changes) != 2 || tx.Changes[0].Ordinal != 1 || tx.Changes[1].Ordinal != 2 {
			t.Fatalf("transaction %d: %+v", i, tx)
		}
		id, err := strconv.Atoi(bodies(txs[i : i+1])[0])
		if err != nil {
			t.Fatal(err)
		}
		if w := id / each; next[w] != id%each {
			t.Fatalf("transaction %d is number %d of its writer, want %d", i, id%each, next[w])
		} else {
			next[w]++
		}
	}
}

func TestStream_Slices(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	cfg := src.config()
	cfg.SliceRows, cfg.QueueBytes = 100, 64<<10 // more slices than the queue holds
	s := startStream(t, cfg)
	src.exec(t, "INSERT INTO public.item SELECT i, repeat('x', 100) || i FROM generate_series(1, 1050) i")
	src.exec(t, "INSERT INTO public.item VALUES (0, 'after')")

	txs := s.txs(t, 12)
	var ordinal uint32
	for i, tx := range txs[:11] {
		if tx.First != (i == 0) || tx.Last != (i == 10) || (tx.End != 0) != (i == 10) {
			t.Errorf("slice %d: First=%v Last=%v End=%s", i, tx.First, tx.Last, tx.End)
		}
		if tx.Commit != txs[0].Commit || tx.XID != txs[0].XID || tx.Commit == 0 {
			t.Errorf("slice %d: commit %s, xid %d", i, tx.Commit, tx.XID)
		}
		for _, c := range tx.Changes {
			if ordinal++; c.Ordinal != ordinal || c.New[0].Text != strconv.Itoa(int(ordinal)) {
				t.Fatalf("slice %d: ordinal %d of row %s, want %d", i, c.Ordinal, c.New[0].Text, ordinal)
			}
		}
	}
	if ordinal != 1050 || !cmp.Equal(bodies(txs[11:]), []string{"after"}) {
		t.Errorf("%d rows, then %v", ordinal, bodies(txs[11:]))
	}
}

// A restart sends again exactly what was not confirmed. Confirming the position
// of the commit record instead of its end has the transaction sent again.
func TestStream_Confirm(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		confirm func(*cdc.Transaction) cdc.LSN
		want    []string
	}{
		{"Nothing", func(*cdc.Transaction) cdc.LSN { return 0 }, []string{"0", "1", "2", "3", "4"}},
		{"Commit", func(tx *cdc.Transaction) cdc.LSN { return tx.Commit }, []string{"2", "3", "4"}},
		{"End", func(tx *cdc.Transaction) cdc.LSN { return tx.End }, []string{"3", "4"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			src := newTestSource(t)
			s := startStream(t, src.config())
			for i := range 5 {
				src.exec(t, "INSERT INTO public.item VALUES ($1, $2)", i, strconv.Itoa(i))
			}
			txs := s.txs(t, 5)
			lsn := tt.confirm(txs[2])
			s.Confirm(lsn)
			s.Confirm(lsn / 2) // never moves back
			if got := s.Confirmed(); got != lsn {
				t.Errorf("confirmed %s, want %s", got, lsn)
			}
			s.stop(t)
			if err := s.err; !errors.Is(err, context.Canceled) {
				t.Errorf("run: %v", err)
			}
			pgtest.Eventually(t, "the slot is free", patience, func() bool { return !src.slot(t).Active })
			want := max(lsn, src.start)
			if got := src.slot(t).Confirmed; got != want {
				t.Errorf("slot confirmed %s, want %s", got, want)
			}
			again := startStream(t, src.config())
			if diff := cmp.Diff(tt.want, bodies(again.txs(t, len(tt.want)))); diff != "" {
				t.Errorf("sent again (-want +got):\n%s", diff)
			}
		})
	}
}

// A new confirmed position reaches the source without waiting for the interval,
// and while nothing arrives.
func TestStream_ConfirmIdle(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	paused := startStreamPaused(t, src.config())
	paused.interval = time.Hour
	s := runStream(t, paused)
	src.exec(t, "INSERT INTO public.item VALUES (1, 'a')")
	tx := s.txs(t, 1)[0]
	s.Confirm(tx.End)
	pgtest.Eventually(t, "the slot has moved", patience, func() bool { return src.slot(t).Confirmed == tx.End })
}

// WAL that holds nothing for the bridge still moves the position: by keepalives,
// in the queue.
func TestStream_Keepalive(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	s := startStream(t, src.config())
	src.exec(t, "CREATE TABLE public.other (id int)")
	src.exec(t, "INSERT INTO public.other SELECT generate_series(1, 10000)")
	target, err := parseLSN(pgtest.QueryValue(t, src.url, "SELECT pg_current_wal_insert_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	items := s.until(t, "keepalive", func(items []Item) bool {
		return len(items) > 0 && items[len(items)-1].WALEnd >= target
	})
	if txs := onlyTxs(items); len(txs) > 0 {
		t.Errorf("%d transactions of a table that isn't published", len(txs))
	}
}

// While the queue is full the receiver doesn't read, and the source must not give
// up on it however long that takes.
func TestStream_FullQueue(t *testing.T) {
	t.Parallel()
	src := newOwnSource(t, pgtest.WithSetting("wal_sender_timeout", "2s"))
	const rows = 40_000
	for i := range 20 {
		src.exec(t, "INSERT INTO public.item SELECT i, repeat('x', 1000) FROM generate_series($1::int, $2::int) i", i*rows/20, (i+1)*rows/20-1)
	}
	cfg := src.config()
	cfg.QueueBytes = 256 << 10
	s := startStream(t, cfg)
	pgtest.Eventually(t, "the queue is full", patience, s.queue.full)
	pid := src.slot(t).ActivePID

	// Statuses go on arriving: their time advances to beyond twice the timeout.
	const reply = "SELECT coalesce(extract(epoch FROM reply_time), 0)::float8 FROM pg_stat_replication WHERE pid = $1"
	replied := func() (at float64) {
		if err := src.conn.QueryRow(t.Context(), reply, pid).Scan(&at); err != nil {
			t.Fatalf("the walsender is gone: %v", err)
		}
		return at
	}
	first := replied()
	pgtest.Eventually(t, "status while the queue is full", patience, func() bool {
		return replied() > first+5
	})
	if depth := s.Depth(); depth > 8<<20 {
		t.Errorf("%d bytes wait, far more than the bound", depth)
	}
	var got int
	s.until(t, "all rows", func(items []Item) bool {
		got = 0
		for _, tx := range onlyTxs(items) {
			got += len(tx.Changes)
		}
		return got >= rows
	})
	if got != rows {
		t.Errorf("%d rows, want %d", got, rows)
	}
	if now := src.slot(t).ActivePID; now != pid {
		t.Errorf("walsender %d, want still %d", now, pid)
	}
}

// Closing a stream that waits for room ends it.
func TestStream_CloseFull(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	src.exec(t, "INSERT INTO public.item SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i")
	cfg := src.config()
	cfg.QueueBytes = 1
	s := startStream(t, cfg)
	pgtest.Eventually(t, "the queue is full", patience, s.queue.full)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.wait(t); !errors.Is(err, net.ErrClosed) {
		t.Errorf("run: %v, want net.ErrClosed", err)
	}
	pgtest.Eventually(t, "the slot is free", patience, func() bool { return !src.slot(t).Active })
}

func TestStream_Messages(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	s := startStream(t, src.config())
	src.exec(t, "SELECT pg_logical_emit_message(false, 'p', 'alone')")
	src.exec(t, `DO $$ BEGIN
		INSERT INTO public.item VALUES (1, 'a');
		PERFORM pg_logical_emit_message(true, 'p', 'ação');
		PERFORM pg_logical_emit_message(false, 'p', 'alone');
		INSERT INTO public.item VALUES (2, 'b');
	END $$`)
	tx := s.txs(t, 1)[0]
	type change struct {
		Op              cdc.Op
		Ordinal         uint32
		Prefix, Content string
	}
	var got []change
	for _, c := range tx.Changes {
		got = append(got, change{c.Op, c.Ordinal, c.Prefix, c.Content})
	}
	want := []change{{cdc.Insert, 1, "", ""}, {cdc.Message, 0, "p", "ação"}, {cdc.Insert, 2, "", ""}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestStream_Truncate(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	s := startStream(t, src.config())
	src.exec(t, "INSERT INTO public.item VALUES (1, 'a')")
	src.exec(t, "TRUNCATE public.item CASCADE")
	tx := s.txs(t, 2)[1]
	var got []string
	for i, c := range tx.Changes {
		if c.Op != cdc.Truncate || int(c.Ordinal) != i+1 {
			t.Errorf("change %d: %c with ordinal %d", i, c.Op, c.Ordinal)
		}
		got = append(got, c.Relation.Name)
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"item", "part"}, got); diff != "" {
		t.Errorf("truncated (-want +got):\n%s", diff)
	}
}

// A row far beyond every buffer passes.
func TestStream_LargeRow(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	s := startStream(t, src.config())
	const size = 20 << 20
	src.exec(t, "INSERT INTO public.item VALUES (1, repeat('0123456789abcdef', $1))", size/16)
	src.exec(t, "INSERT INTO public.item VALUES (2, 'after')")
	got := bodies(s.txs(t, 2))
	if len(got) != 2 || len(got[0]) != size || got[1] != "after" {
		t.Errorf("%d rows", len(got))
	}
}

func TestStream_Transports(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	plain := func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
	for i, tt := range []struct {
		name  string
		alter func(*StreamConfig)
	}{
		{"Unix", func(c *StreamConfig) { c.URL = src.cluster.SocketURL(src.db) }},
		{"Poller", func(c *StreamConfig) { c.Dial = plain }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := src.config()
			tt.alter(&cfg)
			if cfg.URL == "" {
				t.Skip("the path of the socket is too long")
			}
			s := startStream(t, cfg)
			src.exec(t, "INSERT INTO public.item SELECT i, repeat('x', 500) FROM generate_series($1::int, $2::int) i", i*10000, i*10000+9999)
			rows := 0
			items := s.until(t, "the transaction", func(items []Item) bool {
				rows = 0
				for _, tx := range onlyTxs(items) {
					rows += len(tx.Changes)
				}
				return rows >= 10000
			})
			if rows != 10000 {
				t.Errorf("%d rows", rows)
			}
			s.Confirm(items[len(items)-1].WALEnd)
			s.stop(t)
			pgtest.Eventually(t, "the slot is free", patience, func() bool { return !src.slot(t).Active })
		})
	}
}

// Names are taken as they are, whatever is in them.
func TestStream_PublicationName(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	const name = `Pub, "x" 'y' ç`
	src.exec(t, `CREATE PUBLICATION "Pub, ""x"" 'y' ç" FOR TABLE public.item`)
	src.exec(t, "DROP PUBLICATION bridge")
	src.makeSlot(t, "named")
	cfg := src.config()
	cfg.Slot, cfg.Publication = "named", name
	s := startStream(t, cfg)
	src.exec(t, "INSERT INTO public.item VALUES (1, 'a')")
	if got := bodies(s.txs(t, 1)); !cmp.Equal(got, []string{"a"}) {
		t.Errorf("received %v", got)
	}
}

// Values arrive as text under the pinned settings, whatever the database's are.
func TestStream_PinnedSettings(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	for _, set := range []string{"datestyle = 'SQL, DMY'", "intervalstyle = 'sql_standard'", "extra_float_digits = 0",
		"bytea_output = 'escape'", "timezone = 'America/Sao_Paulo'", "client_min_messages = 'error'"} {
		src.exec(t, "ALTER DATABASE "+src.db+" SET "+set)
	}
	src.exec(t, `CREATE TABLE public.kinds (id int PRIMARY KEY, d date, t timestamptz, i interval, f float8, b bytea)`)
	src.exec(t, `ALTER PUBLICATION bridge ADD TABLE public.kinds`)
	paused := startStreamPaused(t, src.config())
	if got, err := paused.queryValue(t.Context(), "SHOW client_min_messages"); got != "warning" || err != nil {
		t.Errorf("client_min_messages=%s, %v: a missing publication would pass unnoticed", got, err)
	}
	s := runStream(t, paused)
	src.exec(t, `INSERT INTO public.kinds VALUES (1, '2026-03-04', '2026-03-04 12:00+00', '1 day 02:03:04', 0.1::float8 + 0.2, '\x00ff')`)
	var got []string
	for _, v := range s.txs(t, 1)[0].Changes[0].New {
		got = append(got, v.Text)
	}
	want := []string{"1", "2026-03-04", "2026-03-04 12:00:00+00", "1 day 02:03:04", "0.30000000000000004", `\x00ff`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}

// startStreamPaused opens a stream that is not run.
func startStreamPaused(t *testing.T, cfg StreamConfig) *Stream {
	t.Helper()
	s, err := OpenStream(t.Context(), cfg, discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
