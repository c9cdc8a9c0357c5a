package postgres_test

import (
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// tripCounter is a proxy that counts how often a client speaks after it has heard
// an answer.
type tripCounter struct {
	net.Listener
	mu      sync.Mutex
	trips   int
	waiting bool // the client has spoken and heard nothing yet
}

func countTrips(t *testing.T, target string) *tripCounter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &tripCounter{Listener: l}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				return
			}
			all.Go(func() { c.pump(server, client, true) })
			all.Go(func() { c.pump(client, server, false) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return c
}

func (c *tripCounter) pump(to, from net.Conn, asks bool) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		c.mu.Lock()
		if n > 0 && asks && !c.waiting {
			c.trips++
		}
		if n > 0 {
			c.waiting = asks
		}
		c.mu.Unlock()
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// of returns the round trips that f takes.
func (c *tripCounter) of(f func()) int {
	c.mu.Lock()
	before := c.trips
	c.mu.Unlock()
	f()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trips - before
}

func TestSink_RoundTrips(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	url, admin := newDB(t, c)
	counter := countTrips(t, c.Addr())
	b := newBridge(t, strings.Replace(url, c.Addr(), counter.Addr().String(), 1), admin)
	t.Cleanup(func() { _ = b.s.Close(t.Context()) }) // before the proxy ends

	if got := counter.of(func() { b.must(b.insert(1, 2, 3)) }); got != 1 {
		t.Errorf("a small batch took %d round trips, want 1", got)
	}
	var tx sink.Tx
	if got := counter.of(func() {
		tx = b.begin(sink.TxOptions{})
		if _, err := tx.Load(t.Context(), &sink.Query{Rows: map[*sink.Table][]sink.Key{b.contacts: {"1", "2"}}}); err != nil {
			t.Fatal(err)
		}
	}); got != 1 {
		t.Errorf("Begin and Load took %d round trips, want 1", got)
	}
	if got := counter.of(func() {
		for n := range 20 {
			if err := tx.Apply(t.Context(), b.insert(100+n)); err != nil {
				t.Fatal(err)
			}
		}
		update := sink.RowSet{Table: b.contacts, Mode: sink.Update, Columns: []int{0, 2}, Rows: []cdc.Row{{cdc.TextValue("1"), cdc.TextValue("x")}}}
		if err := tx.Apply(t.Context(), &sink.Writes{Rows: []sink.RowSet{update}}); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(t.Context(), sink.Progress{LSN: b.lsn + 10}); err != nil {
			t.Fatal(err)
		}
		b.lsn += 10
	}); got != 1 {
		t.Errorf("21 Applies and Commit took %d round trips, want 1", got)
	}
	b.must(b.insert(upTo(300)...)) // asks about row security
	ids := make([]int, 400)
	for i := range ids {
		ids[i] = 1000 + i
	}
	// Up to the savepoint, COPY's command and its data, the rest and COMMIT.
	if got := counter.of(func() { b.must(b.insert(ids...)) }); got > 4 {
		t.Errorf("a batch with a COPY took %d round trips, want 4 at most", got)
	}
}
