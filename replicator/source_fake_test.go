package replicator

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walbridge/walbridge/internal/cdc"
)

// fakeWalsender accepts one replication connection and, once it is told to
// start, hands it to a script. It can say what a real server says only rarely,
// or only in other versions.
type fakeWalsender struct {
	*pgproto3.Backend
	conn net.Conn
}

// fakeSource returns the URL of a fake server whose wal_sender_timeout is in
// milliseconds. The script's error, unless it is the end of the connection,
// fails the test.
func fakeSource(t *testing.T, timeout string, script func(*fakeWalsender) error) StreamConfig {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = ln.Close(); <-done })
	go func() {
		defer close(done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		w := &fakeWalsender{pgproto3.NewBackend(conn, conn), conn}
		err = w.session(timeout)
		if err == nil {
			err = script(w)
		}
		var ne net.Error
		if err != nil && !strings.Contains(err.Error(), "EOF") && !errors.As(err, &ne) {
			t.Errorf("fake walsender: %v", err)
		}
	}()
	return StreamConfig{URL: "postgres://u@" + ln.Addr().String() + "/d?sslmode=disable",
		Name: "bridge", Slot: "bridge", Publication: "bridge"}
}

// session answers until START_REPLICATION.
func (w *fakeWalsender) session(timeout string) error {
	startup, err := w.ReceiveStartupMessage()
	if err != nil {
		return err
	}
	if s, ok := startup.(*pgproto3.StartupMessage); !ok || s.Parameters["replication"] != "database" || s.Parameters["datestyle"] != "ISO" {
		return fmt.Errorf("startup message %+v", startup)
	}
	w.Send(&pgproto3.AuthenticationOk{})
	w.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: []byte{0, 0, 0, 1}})
	w.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for {
		if err := w.Flush(); err != nil {
			return err
		}
		msg, err := w.Receive()
		if err != nil {
			return err
		}
		query, ok := msg.(*pgproto3.Query)
		switch {
		case !ok:
			return fmt.Errorf("received %T", msg)
		case strings.HasPrefix(query.String, "START_REPLICATION SLOT bridge LOGICAL 0/0 "):
			w.Send(&pgproto3.CopyBothResponse{})
			return w.Flush()
		case strings.Contains(query.String, "wal_sender_timeout"):
			w.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("setting"), DataTypeOID: 25}}})
			w.Send(&pgproto3.DataRow{Values: [][]byte{[]byte(timeout)}})
			w.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
			w.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		default:
			return fmt.Errorf("received query %s", query.String)
		}
	}
}

// data sends pgoutput messages, each in a frame of its own.
func (w *fakeWalsender) data(payloads ...[]byte) error {
	for _, p := range payloads {
		w.Send(&pgproto3.CopyData{Data: xlogData(p)})
	}
	return w.Flush()
}

func (w *fakeWalsender) keepalive(lsn cdc.LSN, reply bool) error {
	data := binary.BigEndian.AppendUint64([]byte{'k'}, uint64(lsn))
	data = append(data, make([]byte, 9)...)
	if reply {
		data[17] = 1
	}
	w.Send(&pgproto3.CopyData{Data: data})
	return w.Flush()
}

// standbyStatus is what the client sends.
type standbyStatus struct {
	Write, Flush, Apply cdc.LSN
	Reply               bool
}

// status waits for the next status; bye is true for a Terminate instead.
func (w *fakeWalsender) status() (s standbyStatus, bye bool, err error) {
	msg, err := w.Receive()
	if err != nil {
		return s, false, err
	}
	switch msg := msg.(type) {
	case *pgproto3.Terminate:
		return s, true, nil
	case *pgproto3.CopyData:
		if len(msg.Data) != 34 || msg.Data[0] != 'r' {
			return s, false, fmt.Errorf("status %x", msg.Data)
		}
		lsn := func(i int) cdc.LSN { return cdc.LSN(binary.BigEndian.Uint64(msg.Data[i:])) }
		return standbyStatus{lsn(1), lsn(9), lsn(17), msg.Data[33] == 1}, false, nil
	}
	return s, false, fmt.Errorf("received %T", msg)
}

// await reads statuses until ok.
func (w *fakeWalsender) await(ok func(standbyStatus) bool) error {
	for {
		s, bye, err := w.status()
		if err != nil || bye || ok(s) {
			return err
		}
	}
}

func xlogData(payload []byte) []byte {
	return append(append([]byte{'w'}, make([]byte, 24)...), payload...)
}

func wireBegin(commit cdc.LSN) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'B'}, uint64(commit))
	return binary.BigEndian.AppendUint32(append(b, make([]byte, 8)...), 7)
}

func wireCommit(commit cdc.LSN) []byte {
	b := binary.BigEndian.AppendUint64([]byte{'C', 0}, uint64(commit))
	b = binary.BigEndian.AppendUint64(b, uint64(commit+10))
	return append(b, make([]byte, 8)...)
}

func wireMessage(content string) []byte {
	b := append([]byte{'M', 1}, make([]byte, 8)...)
	b = append(b, 'p', 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(content)))
	return append(b, content...)
}
