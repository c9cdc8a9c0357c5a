package pgtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// PoolMode is how long a client of a pooler keeps a server connection.
type PoolMode string

const (
	// Session: for as long as it is connected.
	Session PoolMode = "session"
	// Transaction: for one transaction. The next one finds another connection,
	// with none of the settings of the one before.
	Transaction PoolMode = "transaction"
)

// Pooler is a PgBouncer in front of a cluster.
type Pooler struct {
	addr string
}

// URL is raw with the pooler's address in place of the server's.
func (p *Pooler) URL(raw string) string { return withHost(raw, p.addr) }

// StartPooler starts a PgBouncer that lives as long as the test. In transaction
// mode two connections take turns and forget their settings after each
// transaction, so that whatever relies on a session is found out.
//
// A test on a machine without PgBouncer fails: the make targets install it.
func StartPooler(tb TB, c *Cluster, mode PoolMode) *Pooler {
	tb.Helper()
	bin, err := findPooler()
	if err != nil {
		tb.Fatalf("start pooler: %v", err)
	}
	port, err := freePort()
	if err != nil {
		tb.Fatalf("start pooler: %v", err)
	}
	ini := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d user=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
`, c.Port(), Superuser, port, mode)
	if mode == Transaction {
		ini += "default_pool_size = 2\nmin_pool_size = 2\nserver_round_robin = 1\nserver_reset_query = DISCARD ALL\nserver_reset_query_always = 1\n"
	}
	dir := filepath.Join(c.dir, "pooler"+strconv.Itoa(port))
	err = os.Mkdir(dir, 0o755)
	file := filepath.Join(dir, "pgbouncer.ini")
	if err == nil {
		err = os.WriteFile(file, []byte(ini), 0o644)
	}
	if err != nil {
		tb.Fatalf("start pooler: %v", err)
	}
	cmd := exec.Command(bin, file)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := asServer(cmd, dir); err != nil {
		tb.Fatalf("start pooler: %v", err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatalf("start pooler: %v", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	p := &Pooler{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	Eventually(tb, "the pooler", startWait, func() error {
		select {
		case <-ended:
			tb.Fatalf("the pooler has ended: %s", log.String())
		default:
		}
		conn, err := net.DialTimeout("tcp", p.addr, time.Second)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return p
}

// findPooler looks beyond the PATH, which lacks sbin for ordinary users.
func findPooler() (string, error) {
	for _, name := range []string{"pgbouncer", "/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no pgbouncer; run internal/pgtest/install.sh")
}
