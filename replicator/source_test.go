package replicator

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// patience bounds waits for a server. It is there to end a test that hangs.
const patience = time.Minute

var discard = slog.New(slog.DiscardHandler)

// testSource is a database with tables "item" and "part" and a publication
// "bridge" of both, and a slot on it.
type testSource struct {
	cluster *pgtest.Cluster
	url     string
	conn    *pgx.Conn
	db      string  // also the slot's name
	start   cdc.LSN // the slot's consistent point
}

// shared is the cluster of the tests that need no server of their own.
var shared struct {
	sync.Mutex
	cluster *pgtest.Cluster
	dbs     int
}

// newTestSource makes a source on the shared cluster.
func newTestSource(t *testing.T) *testSource {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a server")
	}
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		var err error
		if shared.cluster, err = pgtest.New(context.Background(), ""); err != nil {
			t.Fatal(err)
		}
	}
	shared.dbs++
	return newSourceOn(t, shared.cluster, fmt.Sprintf("test_%d", shared.dbs))
}

// newOwnSource makes a source on a cluster that no other test uses: for settings,
// for open transactions, which every making of a slot waits for, and for its end.
func newOwnSource(t *testing.T, opts ...pgtest.Option) *testSource {
	t.Helper()
	return newSourceOn(t, pgtest.Start(t, opts...), "app")
}

func newSourceOn(t *testing.T, cluster *pgtest.Cluster, db string) *testSource {
	t.Helper()
	s := &testSource{cluster: cluster, db: db, url: pgtest.CreateDB(t, cluster, db)}
	s.conn = s.connect(t)
	s.exec(t, "CREATE TABLE public.item (id bigint PRIMARY KEY, body text)")
	s.exec(t, "CREATE TABLE public.part (id bigint PRIMARY KEY, item_id bigint REFERENCES public.item)")
	s.exec(t, "CREATE PUBLICATION bridge FOR TABLE public.item, public.part")
	s.start = s.makeSlot(t, db)
	return s
}

// makeSlot makes a slot that lives as long as the test.
func (s *testSource) makeSlot(t *testing.T, name string) cdc.LSN {
	t.Helper()
	lsn, err := CreateSlot(t.Context(), s.conn, name, SlotOptions{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A server that the test has stopped needs no tidying up.
		if err := DropSlot(context.Background(), s.conn, name, true); err != nil && !s.conn.IsClosed() {
			t.Errorf("drop slot: %v", err)
		}
	})
	return lsn
}

func (s *testSource) connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pg.Connect(t.Context(), s.url, pg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (s *testSource) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	if _, err := s.conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func (s *testSource) slot(t *testing.T) Slot {
	t.Helper()
	slot, err := ReadSlot(t.Context(), s.conn, s.db)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

func (s *testSource) config() StreamConfig {
	return StreamConfig{URL: s.url, Name: "bridge", Slot: s.db, Publication: "bridge"}
}

// testStream is a stream that runs.
type testStream struct {
	*Stream
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func startStream(t *testing.T, cfg StreamConfig) *testStream {
	t.Helper()
	s, err := OpenStream(t.Context(), cfg, discard)
	if err != nil {
		t.Fatal(err)
	}
	return runStream(t, s)
}

func runStream(t *testing.T, s *Stream) *testStream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &testStream{Stream: s, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = s.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	return r
}

// stop ends the stream politely.
func (s *testStream) stop(t *testing.T) {
	t.Helper()
	s.cancel()
	s.wait(t)
}

// wait returns the error that the stream ended with.
func (s *testStream) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-s.done:
		return s.err
	case <-time.After(patience):
		t.Fatal("the stream did not end")
		return nil
	}
}

// until takes items until enough says so, and returns all of them.
func (s *testStream) until(t *testing.T, what string, enough func([]Item) bool) []Item {
	t.Helper()
	var items []Item
	limit := time.After(patience)
	for !enough(items) {
		select {
		case <-s.Ready():
			items = append(items, s.Take(1000, 1<<20)...)
		case <-s.done:
			t.Fatalf("the stream ended while waiting for %s: %v", what, s.err)
		case <-limit:
			t.Fatalf("no %s; there were %d items", what, len(items))
		}
	}
	return items
}

// txs waits for n transactions, or slices, and returns them.
func (s *testStream) txs(t *testing.T, n int) []*cdc.Transaction {
	t.Helper()
	items := s.until(t, "transactions", func(items []Item) bool { return len(onlyTxs(items)) >= n })
	return onlyTxs(items)
}

func onlyTxs(items []Item) (txs []*cdc.Transaction) {
	for _, it := range items {
		if it.Tx != nil {
			txs = append(txs, it.Tx)
		}
	}
	return txs
}

// bodies returns the text of column body of each inserted item.
func bodies(txs []*cdc.Transaction) (list []string) {
	for _, tx := range txs {
		for _, c := range tx.Changes {
			if c.Op == cdc.Insert && c.Relation.Name == "item" {
				list = append(list, c.New[1].Text)
			}
		}
	}
	return list
}
