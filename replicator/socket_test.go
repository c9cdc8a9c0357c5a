package replicator

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// soon bounds waits for what should happen at once.
const soon = 30 * time.Second

// socketPair returns both ends of a connection; the first one is a dialSocket.
func socketPair(t *testing.T, network string) (client, server net.Conn) {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			t.Error(err)
		}
		accepted <- c
	}()
	client, err = dialSocket(t.Context(), network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server = <-accepted
	t.Cleanup(func() { _ = client.Close(); _ = server.Close() })
	return client, server
}

func TestSocket_Transfer(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			client, server := socketPair(t, network)
			want := make([]byte, 8<<20)
			_, _ = rand.Read(want)
			go func() {
				_, _ = io.Copy(server, server) // echo
				_ = server.Close()
			}()
			done := make(chan error, 1)
			go func() {
				_, err := client.Write(want)
				done <- err
			}()
			got := make([]byte, len(want))
			if _, err := io.ReadFull(client, got); err != nil {
				t.Fatalf("read: %v", err)
			}
			if err := <-done; err != nil {
				t.Fatalf("write: %v", err)
			}
			if !bytes.Equal(got, want) {
				t.Error("what came back differs")
			}
		})
	}
}

func TestSocket_Deadlines(t *testing.T) {
	t.Parallel()
	client, server := socketPair(t, "tcp")
	buf := make([]byte, 1)

	// A deadline in the past, set by another goroutine, ends a blocked read:
	// that is how pgconn makes a context end a call.
	timer := time.AfterFunc(time.Millisecond, func() { _ = client.SetReadDeadline(time.Unix(1, 0)) })
	defer timer.Stop()
	_, err := client.Read(buf)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read: %v, want a deadline", err)
	}
	var ne net.Error
	if !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("%v is no timeout", err)
	}
	//nolint:staticcheck // crypto/tls asks for Temporary and gives up without it.
	if !ne.Temporary() {
		t.Errorf("%v is not temporary", err)
	}

	// The connection is as good as before.
	if err := client.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Read(buf); err != nil || buf[0] != 'x' {
		t.Fatalf("read: %q, %v", buf, err)
	}

	// A peer that doesn't read ends a write at its deadline.
	if err := client.SetWriteDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err = client.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v, want a deadline", err)
	}
}

func TestSocket_Close(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			client, server := socketPair(t, network)
			blocked := make(chan error, 2)
			go func() {
				_, err := client.Read(make([]byte, 1))
				blocked <- err
			}()
			go func() {
				_, err := client.Write(make([]byte, 64<<20))
				blocked <- err
			}()
			if err := client.Close(); err != nil {
				t.Fatalf("close: %v", err)
			}
			for range 2 {
				select {
				case err := <-blocked:
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("blocked call: %v, want net.ErrClosed", err)
					}
				case <-time.After(soon):
					t.Fatal("a call stayed blocked after Close")
				}
			}
			if err := client.Close(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("second close: %v", err)
			}
			if _, err := io.Copy(io.Discard, server); err != nil && network == "unix" {
				t.Errorf("peer: %v, want the end of the file", err)
			}
		})
	}
}

func TestSocket_EOF(t *testing.T) {
	t.Parallel()
	client, server := socketPair(t, "tcp")
	_ = server.Close()
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v, want EOF", err)
	}
}

// bulkConn must call idle only when there is nothing left to hand out.
func TestBulkConn(t *testing.T) {
	t.Parallel()
	client, server := socketPair(t, "tcp")
	var idle int
	bulk := &bulkConn{Conn: client, buf: make([]byte, 8), idle: func() error { idle++; return nil }}
	if _, err := server.Write([]byte("abcdefgh")); err != nil {
		t.Fatal(err)
	}
	var got []byte
	p := make([]byte, 3)
	for len(got) < 8 {
		n, err := bulk.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, p[:n]...)
	}
	if string(got) != "abcdefgh" {
		t.Errorf("read %q", got)
	}
	if idle != 1 {
		t.Errorf("idle was called %d times, want once", idle)
	}
	stop := errors.New("stop")
	bulk.idle = func() error { return stop }
	if _, err := bulk.Read(p); !errors.Is(err, stop) {
		t.Errorf("read: %v, want what idle returned", err)
	}
}
