package replicator

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
)

// drain reads statuses until the client has gone.
func (w *fakeWalsender) drain() error { return w.await(func(standbyStatus) bool { return false }) }

// Nothing that is merely received is ever confirmed: flush stays zero until
// Confirm, and is exactly what Confirm said then.
func TestStream_Status(t *testing.T) {
	t.Parallel()
	confirmed := make(chan cdc.LSN, 1)
	checked := make(chan error, 1)
	cfg := fakeSource(t, "300", func(w *fakeWalsender) error {
		if err := w.data(wireBegin(1000), wireMessage("a"), wireCommit(1000)); err != nil {
			return err
		}
		var told cdc.LSN
		for {
			s, bye, err := w.status()
			if err != nil || bye {
				return err
			}
			select {
			case told = <-confirmed:
			default:
			}
			switch {
			case s.Flush != s.Apply, s.Flush != 0 && s.Flush != told, s.Write != 0 && s.Write != 1010:
				checked <- fmt.Errorf("status %+v, confirmed %s", s, told)
			case s.Flush == 1010:
				checked <- nil
			}
		}
	})
	s := startStream(t, cfg)
	tx := s.txs(t, 1)[0]
	confirmed <- tx.End
	s.Confirm(tx.End)
	select {
	case err := <-checked:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the position was not confirmed")
	}
	s.stop(t)
}

// A position that this server has not reached is never sent: it would take it,
// and leave out every change up to it.
func TestStream_ConfirmAhead(t *testing.T) {
	t.Parallel()
	result := make(chan error, 1)
	cfg := fakeSource(t, "300", func(w *fakeWalsender) error {
		for _, received := range []cdc.LSN{0, 500} {
			if received > 0 {
				if err := w.keepalive(received, false); err != nil {
					return err
				}
			}
			for n := 0; n < 3; {
				s, _, err := w.status()
				if err != nil {
					return err
				}
				if s.Flush > received {
					result <- fmt.Errorf("confirmed %s, received up to %s", s.Flush, received)
				}
				if s.Flush == received {
					n++
				}
			}
		}
		result <- nil
		return w.drain()
	})
	paused := startStreamPaused(t, cfg)
	paused.Confirm(1 << 40)
	runStream(t, paused)
	select {
	case err := <-result:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("too few statuses")
	}
}

// The last word has what was confirmed, and is followed by a goodbye.
func TestStream_Goodbye(t *testing.T) {
	t.Parallel()
	got := make(chan standbyStatus, 1)
	cfg := fakeSource(t, "60000", func(w *fakeWalsender) error {
		if err := w.data(wireBegin(1000), wireMessage("a"), wireCommit(1000)); err != nil {
			return err
		}
		var last standbyStatus
		for {
			s, bye, err := w.status()
			if bye {
				got <- last
			}
			if err != nil || bye {
				return err
			}
			last = s
		}
	})
	s := startStream(t, cfg)
	s.txs(t, 1)
	s.Confirm(1010)
	s.stop(t)
	select {
	case last := <-got:
		if want := (standbyStatus{Write: 1010, Flush: 1010, Apply: 1010}); last != want {
			t.Errorf("last status %+v, want %+v", last, want)
		}
	case <-time.After(patience):
		t.Fatal("no goodbye")
	}
}

// A request for status is answered although the interval is far from over.
func TestStream_ReplyRequested(t *testing.T) {
	t.Parallel()
	answered := make(chan struct{})
	cfg := fakeSource(t, "60000", func(w *fakeWalsender) error {
		for range 5 {
			if err := w.keepalive(500, true); err != nil {
				return err
			}
			if err := w.await(func(standbyStatus) bool { return true }); err != nil {
				return err
			}
		}
		close(answered)
		return w.drain()
	})
	paused := startStreamPaused(t, cfg)
	paused.interval = time.Hour
	s := runStream(t, paused)
	select {
	case <-answered:
	case <-time.After(patience):
		t.Fatal("the server's requests were not answered at once")
	}
	s.stop(t)
}

// A server that is idle is asked for a sign of life; one that gives none is dead.
func TestStream_Silent(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	cfg := fakeSource(t, "300", func(w *fakeWalsender) error {
		if err := w.await(func(s standbyStatus) bool { return s.Reply }); err != nil {
			return err
		}
		close(asked)
		return w.drain()
	})
	paused := startStreamPaused(t, cfg)
	paused.silence = 300 * time.Millisecond
	s := runStream(t, paused)
	if err := s.wait(t); !errors.Is(err, ErrSilent) || fault.ClassOf(err) != fault.Retry {
		t.Errorf("run: %v, want ErrSilent, to retry", err)
	}
	<-asked
}

// PostgreSQL 18 only warns of a publication that is missing, and goes on without
// the changes.
func TestStream_Notices(t *testing.T) {
	t.Parallel()
	cfg := fakeSource(t, "60000", func(w *fakeWalsender) error {
		w.Send(&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: "secret"})
		w.Send(&pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"})
		if err := w.data(wireBegin(1000), wireMessage("a"), wireCommit(1000)); err != nil {
			return err
		}
		w.Send(&pgproto3.NoticeResponse{Severity: "WARNING", Code: "55000", Message: `skipped loading publication "bridge"`})
		return errors.Join(w.Flush(), w.drain())
	})
	s := startStream(t, cfg)
	err := s.wait(t)
	var missing *PublicationMissingError
	if !errors.As(err, &missing) || missing.Code != "55000" || fault.ClassOf(err) != fault.Stop {
		t.Errorf("run: %v, want a PublicationMissingError that stops", err)
	}
	// What came before it is there all the same.
	if got := onlyTxs(s.Take(10, 1<<20)); len(got) != 1 || got[0].End != 1010 {
		t.Errorf("%d transactions", len(got))
	}
}

// Keepalives inside a transaction don't come between its slices, and afterwards
// don't move the position back.
func TestStream_KeepaliveInside(t *testing.T) {
	t.Parallel()
	cfg := fakeSource(t, "60000", func(w *fakeWalsender) error {
		return errors.Join(
			w.keepalive(900, false),
			w.data(wireBegin(1000), wireMessage("a"), wireMessage("b")),
			w.keepalive(2000, false),
			w.data(wireMessage("c"), wireCommit(1000)),
			w.keepalive(990, false),
			w.keepalive(1500, false),
			w.drain())
	})
	cfg.SliceRows = 1
	s := startStream(t, cfg)
	items := s.until(t, "the last keepalive", func(items []Item) bool {
		return len(items) > 0 && items[len(items)-1].WALEnd == 1500
	})
	var got []string
	for _, it := range items {
		what := "keepalive"
		if it.Tx != nil {
			what = it.Tx.Changes[0].Content
		}
		got = append(got, fmt.Sprintf("%s %d", what, it.WALEnd))
	}
	want := []string{"keepalive 900", "a 0", "b 0", "c 1010", "keepalive 1500"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
}

// Frames may arrive in pieces with pauses longer than a tick in between: reading
// goes on where it was, and status is sent meanwhile.
func TestStream_Pieces(t *testing.T) {
	t.Parallel()
	cfg := fakeSource(t, "300", func(w *fakeWalsender) error {
		var wire []byte
		for _, p := range [][]byte{wireBegin(1000), wireMessage(strings.Repeat("x", 20000)), wireCommit(1000)} {
			msg := &pgproto3.CopyData{Data: xlogData(p)}
			var err error
			if wire, err = msg.Encode(wire); err != nil {
				return err
			}
		}
		for len(wire) > 0 {
			n := min(len(wire), 3001)
			if _, err := w.conn.Write(wire[:n]); err != nil {
				return err
			}
			wire = wire[n:]
			// Two statuses take longer than a tick.
			for range 2 {
				if err := w.await(func(standbyStatus) bool { return true }); err != nil {
					return err
				}
			}
		}
		return w.drain()
	})
	s := startStream(t, cfg)
	tx := s.txs(t, 1)[0]
	if len(tx.Changes) != 1 || len(tx.Changes[0].Content) != 20000 {
		t.Errorf("changes %d", len(tx.Changes))
	}
}

// Whatever a server sends ends the stream with an error and without a panic.
func TestStream_Broken(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		send  func(*fakeWalsender) error
		class fault.Class
		want  error
	}{
		{"Cut", func(w *fakeWalsender) error {
			_, err := w.conn.Write([]byte{'d', 0, 0, 1, 0, 'w'})
			return errors.Join(err, w.conn.Close())
		}, fault.Retry, nil},
		{"Done", func(w *fakeWalsender) error {
			w.Send(&pgproto3.CopyDone{})
			return w.Flush()
		}, fault.Retry, ErrStreamEnded},
		{"EmptyFrame", func(w *fakeWalsender) error {
			w.Send(&pgproto3.CopyData{})
			return w.Flush()
		}, fault.Stop, nil},
		{"ShortFrame", func(w *fakeWalsender) error {
			w.Send(&pgproto3.CopyData{Data: []byte{'w', 1, 2}})
			return w.Flush()
		}, fault.Stop, nil},
		{"ShortKeepalive", func(w *fakeWalsender) error {
			w.Send(&pgproto3.CopyData{Data: []byte{'k', 1, 2}})
			return w.Flush()
		}, fault.Stop, nil},
		{"UnknownFrame", func(w *fakeWalsender) error {
			w.Send(&pgproto3.CopyData{Data: []byte{'?'}})
			return w.Flush()
		}, fault.Stop, nil},
		{"UnknownMessage", func(w *fakeWalsender) error { return w.data([]byte{'?'}) }, fault.Stop, nil},
		{"Truncated", func(w *fakeWalsender) error { return w.data(wireBegin(1000)[:9]) }, fault.Stop, nil},
		{"OutsideTransaction", func(w *fakeWalsender) error { return w.data(wireMessage("a")) }, fault.Stop, errProtocol},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := fakeSource(t, "60000", func(w *fakeWalsender) error {
				if err := tt.send(w); err != nil {
					return err
				}
				return w.drain()
			})
			err := startStream(t, cfg).wait(t)
			if err == nil || fault.ClassOf(err) != tt.class {
				t.Errorf("run: %v of class %s, want %s", err, fault.ClassOf(err), tt.class)
			}
			if tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("run: %v, want %v", err, tt.want)
			}
		})
	}
}
