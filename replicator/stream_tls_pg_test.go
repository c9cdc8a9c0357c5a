//go:build unix

package replicator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// TLS lies above the blocking socket, which must look to it like any other: it
// gives up on a connection whose deadlines are not temporary errors.
func TestStream_TLS(t *testing.T) {
	t.Parallel()
	src := newOwnSource(t, pgtest.WithSetting("wal_sender_timeout", "1s"))
	ca := enableTLS(t, src)
	cfg := src.config()
	cfg.URL = strings.SplitN(src.url, "?", 2)[0] + "?sslmode=verify-full&sslrootcert=" + ca
	s := startStream(t, cfg)
	pgtest.Eventually(t, "the walsender", patience, func() bool { return src.slot(t).Active })
	if got := pgtest.QueryValue(t, src.url, "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_replication USING (pid)"); got != "t" {
		t.Fatalf("ssl=%s", got)
	}
	pid := src.slot(t).ActivePID

	// Idle for longer than many ticks, with statuses in between, then data.
	var first, now float64
	reply := func(into *float64) {
		if err := src.conn.QueryRow(t.Context(), "SELECT coalesce(extract(epoch FROM reply_time), 0)::float8 FROM pg_stat_replication").Scan(into); err != nil {
			t.Fatalf("the walsender is gone: %v", err)
		}
	}
	pgtest.Eventually(t, "a status", patience, func() bool { reply(&first); return first > 0 })
	pgtest.Eventually(t, "more statuses", patience, func() bool { reply(&now); return now > first+2 })
	src.exec(t, "INSERT INTO public.item SELECT i, repeat('x', 1000) FROM generate_series(1, 20000) i")
	src.exec(t, "INSERT INTO public.item VALUES (0, repeat('y', 5000000))")
	rows := 0
	items := s.until(t, "all rows", func(items []Item) bool {
		rows = 0
		for _, tx := range onlyTxs(items) {
			rows += len(tx.Changes)
		}
		return rows >= 20001
	})
	last := items[len(items)-1].WALEnd
	s.Confirm(last)
	pgtest.Eventually(t, "the slot has moved", patience, func() bool { return src.slot(t).Confirmed >= last })
	if got := src.slot(t).ActivePID; got != pid {
		t.Errorf("walsender %d, want still %d", got, pid)
	}
	s.stop(t)
	pgtest.Eventually(t, "the slot is free", patience, func() bool { return !src.slot(t).Active })
}

// enableTLS gives the source a certificate for its address and returns the file
// that vouches for it.
func enableTLS(t *testing.T, src *testSource) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(path, kind string, der []byte) {
		t.Helper()
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := src.cluster.DataDir()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"server.crt": der, "server.key": keyDER} {
		kind := map[string]string{"server.crt": "CERTIFICATE", "server.key": "PRIVATE KEY"}[name]
		write(filepath.Join(dir, name), kind, b)
		// The server runs as the owner of its directory.
		owner := info.Sys().(*syscall.Stat_t)
		if err := os.Chown(filepath.Join(dir, name), int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	ca := filepath.Join(t.TempDir(), "ca.crt")
	write(ca, "CERTIFICATE", der)
	src.exec(t, "ALTER SYSTEM SET ssl = on")
	src.exec(t, "SELECT pg_reload_conf()")
	pgtest.Eventually(t, "TLS is on", patience, func() bool { return pgtest.QueryValue(t, src.url, "SHOW ssl") == "on" })
	return ca
}
