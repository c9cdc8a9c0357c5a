//go:build unix

package replicator

import (
	"context"
	"fmt"
	"io"
	"net"
	osexec "os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// BenchmarkReceive drains a backlog of small transactions, an insert and an
// update each, and throws it away. Contestants are the stream, the stream over
// Go's network poller, and pg_recvlogical. Compare them with each other in one
// run only:
//
//	go test -run '^$' -bench Receive -benchtime 3x ./replicator
func BenchmarkReceive(b *testing.B) {
	const transactions = 100_000
	cluster := pgtest.Start(b, pgtest.WithSetting("max_wal_size", "8GB"))
	url := pgtest.CreateDB(b, cluster, "app")
	pgtest.Exec(b, url, `
		CREATE TABLE public.message (id bigint PRIMARY KEY, conversation_id bigint, body text, created_at timestamptz DEFAULT now());
		CREATE TABLE public.conversation (id bigint PRIMARY KEY, status text, updated_at timestamptz);
		INSERT INTO public.conversation SELECT i, 'open', now() FROM generate_series(0, 999) i;
		CREATE PUBLICATION bridge FOR TABLE public.message, public.conversation`)
	conn, err := pg.Connect(b.Context(), url, pg.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := CreateSlot(b.Context(), conn, "backlog", SlotOptions{}); err != nil {
		b.Fatal(err)
	}
	pgtest.Exec(b, url, fmt.Sprintf(`DO $$ BEGIN FOR i IN 1..%d LOOP
		INSERT INTO public.message VALUES (i, i %% 1000, repeat('lorem ipsum ', 10));
		UPDATE public.conversation SET updated_at = clock_timestamp() WHERE id = i %% 1000;
		COMMIT; END LOOP; END $$`, transactions))
	end := pgtest.QueryValue(b, url, "SELECT pg_current_wal_flush_lsn()")

	plain := func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr)
	}
	for _, c := range []struct {
		name string
		run  func(b *testing.B, slot string) (cpu time.Duration, err error)
	}{
		{"stream", func(b *testing.B, slot string) (time.Duration, error) {
			return drainSlot(b, url, slot, transactions, nil)
		}},
		{"poller", func(b *testing.B, slot string) (time.Duration, error) {
			return drainSlot(b, url, slot, transactions, plain)
		}},
		{"pg_recvlogical", func(b *testing.B, slot string) (time.Duration, error) {
			cmd := osexec.CommandContext(b.Context(), filepath.Join(cluster.Bin(), "pg_recvlogical"), "-d", url, "-S", slot,
				"--start", "--no-loop", "--endpos", end, "-o", "proto_version=1", "-o", "publication_names=bridge", "-f", "-")
			cmd.Stdout = io.Discard
			err := cmd.Run()
			return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			var spent, cpu time.Duration
			for i := range b.N {
				slot := fmt.Sprintf("copy_%d", i)
				if _, err := conn.Exec(b.Context(), "SELECT pg_copy_logical_replication_slot('backlog', $1)", slot); err != nil {
					b.Fatal(err)
				}
				began := time.Now()
				used, err := c.run(b, slot)
				if err != nil {
					b.Fatal(err)
				}
				spent += time.Since(began)
				cpu += used
				if err := DropSlot(b.Context(), conn, slot, true); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*2*transactions)/spent.Seconds(), "changes/s")
			b.ReportMetric(float64(cpu.Microseconds())/float64(b.N*2*transactions), "cpu-µs/change")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// drainSlot receives n transactions.
func drainSlot(b *testing.B, url, slot string, n int, dial func(context.Context, string, string) (net.Conn, error)) (time.Duration, error) {
	began := cpuTime()
	s, err := OpenStream(b.Context(), StreamConfig{URL: url, Name: "bench", Slot: slot, Publication: "bridge", Dial: dial}, discard)
	if err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(b.Context()) }()
	for n > 0 {
		select {
		case err := <-done:
			return 0, err
		case <-s.Ready():
			for _, it := range s.Take(10_000, 4<<20) {
				if it.Tx != nil {
					n--
				}
			}
		}
	}
	_ = s.Close()
	<-done
	return cpuTime() - began, nil
}
