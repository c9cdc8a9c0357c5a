package replicator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// testPulse is a pulse that runs.
type testPulse struct {
	*Pulse
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func startPulse(t *testing.T, src *testSource) *testPulse {
	t.Helper()
	return startPulseEvery(t, src, time.Hour)
}

func startPulseEvery(t *testing.T, src *testSource, interval time.Duration) *testPulse {
	t.Helper()
	p, err := OpenPulse(t.Context(), PulseConfig{URL: src.url, Name: "bridge", Interval: interval}, discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &testPulse{Pulse: p, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = p.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-r.done })
	pgtest.Eventually(t, "the first heartbeat", patience, func() bool { return p.Last().Token != "" })
	return r
}

func (p *testPulse) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-p.done:
		return p.err
	case <-time.After(patience):
		t.Fatal("the pulse did not end")
		return nil
	}
}

// messages returns the logical messages of transactions.
func messages(txs []*cdc.Transaction) (list []cdc.Change) {
	for _, tx := range txs {
		for _, c := range tx.Changes {
			if c.Op == cdc.Message {
				list = append(list, c)
			}
		}
	}
	return list
}

func TestPulse_Heartbeats(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	s := startStream(t, src.config())
	p := startPulseEvery(t, src, time.Millisecond)
	tokens := map[string]bool{}
	for _, m := range messages(s.txs(t, 3)) {
		h, ok := ParseHeartbeat(m.Content)
		if m.Prefix != HeartbeatPrefix || !ok || h.Bridge != "bridge" || !p.Owns(h.Token) {
			t.Errorf("message %s %s is no heartbeat of this pulse", m.Prefix, m.Content)
		}
		tokens[h.Token] = true
	}
	if len(tokens) < 3 {
		t.Errorf("%d tokens in three heartbeats", len(tokens))
	}
	if p.Owns("another") {
		t.Error("owns a token that it has not emitted")
	}
	last := p.Last()
	if last.LSN == 0 || last.Flush < last.LSN {
		t.Errorf("last beat %+v", last)
	}
	p.cancel()
	if err := p.wait(t); !errors.Is(err, context.Canceled) {
		t.Errorf("run: %v", err)
	}
	if _, err := p.Emit(t.Context(), "p", "late"); err == nil {
		t.Error("emitted after its end")
	}
}

// Emit interrupts the wait between heartbeats, from any number of goroutines.
func TestPulse_Emit(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	s := startStream(t, src.config())
	p := startPulse(t, src)
	const emitters, each = 5, 20
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		lsns = map[string]cdc.LSN{}
	)
	for i := range emitters {
		wg.Go(func() {
			for j := range each {
				content := fmt.Sprintf("%d/%d", i, j)
				lsn, err := p.Emit(context.Background(), "test", content)
				if err != nil {
					t.Errorf("emit: %v", err)
				}
				mu.Lock()
				lsns[content] = lsn
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	found := 0
	for _, tx := range s.txs(t, emitters*each+1) {
		for _, c := range tx.Changes {
			if c.Prefix != "test" {
				continue
			}
			found++
			if lsn := lsns[c.Content]; lsn == 0 || lsn > tx.Commit {
				t.Errorf("message %s at %s, its commit at %s", c.Content, lsn, tx.Commit)
			}
		}
	}
	if found != emitters*each {
		t.Errorf("%d messages, want %d", found, emitters*each)
	}
}

// A caller that gives up doesn't disturb the others, nor does the pulse's end
// leave one waiting.
func TestPulse_EmitCancelled(t *testing.T) {
	t.Parallel()
	src := newTestSource(t)
	p := startPulse(t, src)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Emit(ctx, "p", "cancelled"); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("emit: %v", err)
	}
	if _, err := p.Emit(t.Context(), "p", "next"); err != nil {
		t.Errorf("emit: %v", err)
	}
	results := make(chan error, 50)
	for range cap(results) {
		go func() {
			_, err := p.Emit(context.Background(), "p", "c")
			results <- err
		}()
	}
	p.cancel()
	for range cap(results) {
		select {
		case <-results:
		case <-time.After(patience):
			t.Fatal("a caller waits although the pulse has ended")
		}
	}
}

func TestPulse_Crash(t *testing.T) {
	t.Parallel()
	src := newOwnSource(t)
	p := startPulse(t, src)
	if err := src.cluster.Kill(); err != nil {
		t.Fatal(err)
	}
	// Backends that lose their postmaster say 57P01, if they can say anything.
	if err := p.wait(t); fault.ClassOf(err) != fault.Retry {
		t.Errorf("run: %v, want an error to retry", err)
	}
}

func TestParseHeartbeat(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "{", "null", "[]", `"x"`, `{"bridge":"b"}`, `{"token":7}`} {
		if h, ok := ParseHeartbeat(content); ok {
			t.Errorf("%q is heartbeat %+v", content, h)
		}
	}
	if h, ok := ParseHeartbeat(`{"bridge":"b","token":"t","more":1}`); !ok || h != (Heartbeat{"b", "t"}) {
		t.Errorf("heartbeat %+v %v", h, ok)
	}
}

// A commit is in the WAL before other sessions see it, here for as long as it
// waits for a standby that never comes. Up to there and no further may anybody
// vouch for the publication, although all looks at the catalogs show it unaltered.
func TestPulse_VouchesForNoMoreThanItSees(t *testing.T) {
	t.Parallel()
	src := newOwnSource(t)
	tables := []TableName{{Schema: "public", Name: "item"}, {Schema: "public", Name: "part"}}
	before, err := ReadCatalogs(t.Context(), src.conn, "bridge", tables)
	if err != nil {
		t.Fatal(err)
	}
	p, err := OpenPulse(t.Context(), PulseConfig{
		URL: src.url, Name: "bridge", Interval: 5 * time.Millisecond, Publication: "bridge", Tables: tables, Catalogs: before.ID(),
	}, discard)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- p.Run(context.Background()) }()
	// beaten waits until two more heartbeats have been emitted, and returns the last.
	beaten := func() Beat {
		t.Helper()
		first, n := p.Last().Token, 0
		last := first
		pgtest.Eventually(t, "heartbeats", patience, func() bool {
			if now := p.Last().Token; now != last {
				last, n = now, n+1
			}
			return n >= 2
		})
		return p.Last()
	}
	pgtest.Eventually(t, "a heartbeat vouched for", patience, func() bool { b := p.Last(); return b.Token != "" && p.Vouches("", b.LSN) })

	src.exec(t, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	src.exec(t, "SELECT pg_reload_conf()")
	waits := src.connect(t)
	if _, err := waits.Exec(t.Context(), "SET application_name = 'waits'"); err != nil {
		t.Fatal(err)
	}
	committed := make(chan error, 1)
	go func() {
		_, err := waits.Exec(context.Background(), "ALTER PUBLICATION bridge DROP TABLE public.part")
		committed <- err
	}()
	pgtest.Eventually(t, "the commit waits", patience, func() bool {
		return pgtest.QueryValue(t, src.url, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waits' AND wait_event = 'SyncRep'") == "1"
	})
	if b := beaten(); p.Vouches(b.Token, b.LSN) {
		t.Error("a heartbeat behind an alteration that nobody sees yet is vouched for")
	}
	src.exec(t, "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'waits'")
	var altered *PublicationAlteredError
	select {
	case err := <-ended:
		if !errors.As(err, &altered) || len(altered.What) != 1 || altered.What[0] != "table public.part" {
			t.Errorf("Run = %v (%+v)", err, altered)
		}
	case <-time.After(patience):
		t.Fatal("the pulse goes on")
	}
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
}
