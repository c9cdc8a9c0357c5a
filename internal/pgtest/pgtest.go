// Package pgtest runs throwaway PostgreSQL clusters for tests, for the demo and
// for the benchmark.
//
// A cluster is a postgres process that is a direct child of this one and dies
// with it, in a directory of its own, listening on a free loopback port. Data
// directories are copied from a template that initdb filled once, so a start
// takes a fraction of a second.
//
// The package doesn't import testing: the bridge's own commands link it.
package pgtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// Superuser is the bootstrap role of every cluster.
const Superuser = "postgres"

const (
	// startWait and stopWait bound how long a server may take on a machine that
	// is busy with other tests. Reaching them is an error, not a slow test.
	startWait = 2 * time.Minute
	stopWait  = 2 * time.Minute
	// poll is the pause between two looks at a condition.
	poll = 5 * time.Millisecond
	// maxSocketPath is what fits into sockaddr_un on every system.
	maxSocketPath = 100
)

// Cluster is one PostgreSQL server with its data directory. Its methods may be
// called from several goroutines.
type Cluster struct {
	bin     string
	version int
	port    int
	// dir holds the data directory, the server log and the socket.
	dir string
	// owned says that New made dir and Close removes all of it.
	owned bool
	lock  *os.File

	mu   sync.Mutex
	proc *process
}

// New makes a cluster below dir and starts it. An empty dir stands for a
// temporary one, which Close removes; a dir that is given is made if it's missing,
// must be one that the server's user may enter, and loses only what New put there.
func New(ctx context.Context, dir string, opts ...Option) (*Cluster, error) {
	cfg := newConfig(opts)
	bin, err := findBin(cfg.bin)
	if err != nil {
		return nil, err
	}
	version, err := binVersion(bin)
	if err != nil {
		return nil, err
	}
	c := &Cluster{bin: bin, version: version, dir: dir}
	if err := c.prepareDir(); err != nil {
		return nil, err
	}
	if err := c.prepare(ctx, cfg); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// prepareDir makes the cluster's directory, with a lock that tells a later
// sweep that it is in use.
func (c *Cluster) prepareDir() error {
	if c.dir != "" {
		abs, err := filepath.Abs(c.dir)
		if err != nil {
			return fmt.Errorf("find cluster directory: %w", err)
		}
		c.dir = abs
		if err := mkdirOpen(abs); err != nil && !os.IsExist(err) {
			return fmt.Errorf("make cluster directory: %w", err)
		}
		return nil
	}
	base, err := baseDir()
	if err != nil {
		return err
	}
	sweepOnce(base)
	c.dir, c.lock, err = lockedTempDir(base)
	c.owned = true
	return err
}

// prepare fills the data directory and starts the server on a free port. Between
// choosing a port and binding it another process may take it, hence the attempts.
func (c *Cluster) prepare(ctx context.Context, cfg *config) error {
	if err := fillDataDir(ctx, c.bin, c.DataDir(), cfg); err != nil {
		return err
	}
	if err := os.Mkdir(c.socketDir(), 0o700); err != nil && !os.IsExist(err) {
		return fmt.Errorf("make socket directory: %w", err)
	}
	if err := chown(c.socketDir()); err != nil {
		return err
	}
	var err error
	for range 8 {
		if c.port, err = freePort(); err != nil {
			return err
		}
		if err = c.writeConfig(cfg); err != nil {
			return err
		}
		if err = c.Start(); err == nil {
			return nil
		}
		if !strings.Contains(c.Log(), "could not create any TCP/IP sockets") {
			return err
		}
		if err := os.Truncate(c.logPath(), 0); err != nil {
			return fmt.Errorf("empty server log: %w", err)
		}
	}
	return err
}

// writeConfig writes the settings and the access rules. Later lines win, so the
// caller's settings come last.
func (c *Cluster) writeConfig(cfg *config) error {
	socket := c.socketDir()
	if len(socket) > maxSocketPath {
		socket = ""
	}
	var b strings.Builder
	set := func(k, v string) {
		fmt.Fprintf(&b, "%s = '%s'\n", k, strings.ReplaceAll(v, "'", "''"))
	}
	set("listen_addresses", "127.0.0.1")
	set("port", strconv.Itoa(c.port))
	set("unix_socket_directories", socket)
	// Enough of a statement in pg_stat_activity to explain it.
	set("track_activity_query_size", "32768")
	for _, s := range cfg.settings {
		set(s.key, s.value)
	}
	if err := c.writeFile("postgresql.conf", b.String()); err != nil {
		return err
	}
	hba := strings.Join(cfg.hba, "\n") + `
local all         all              trust
local replication all              trust
host  all         all 127.0.0.1/32 trust
host  replication all 127.0.0.1/32 trust
`
	return c.writeFile("pg_hba.conf", hba)
}

func (c *Cluster) writeFile(name, content string) error {
	path := filepath.Join(c.DataDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return chown(path)
}

// Close stops the server at once and removes what New made. A second call does
// nothing.
func (c *Cluster) Close() error {
	err := c.Stop(Immediate)
	removeSharedMemory(filepath.Join(c.DataDir(), "postmaster.pid"))
	remove := []string{c.dir, c.dir + lockSuffix}
	if !c.owned {
		saved, _ := filepath.Glob(c.savePath("*"))
		remove = append(saved, c.DataDir(), c.socketDir(), c.logPath())
	}
	for _, path := range remove {
		if e := os.RemoveAll(path); err == nil && e != nil {
			err = fmt.Errorf("remove cluster: %w", e)
		}
	}
	if c.lock != nil {
		_ = c.lock.Close()
	}
	return err
}

// Bin is the directory of the server's programs.
func (c *Cluster) Bin() string { return c.bin }

// Version is the server's major version.
func (c *Cluster) Version() int { return c.version }

// Port is the server's TCP port. It stays the same over restarts.
func (c *Cluster) Port() int { return c.port }

// Addr is the server's TCP address as host:port.
func (c *Cluster) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

// DataDir is the server's data directory.
func (c *Cluster) DataDir() string { return filepath.Join(c.dir, "data") }

// URL is a connection string for db as the superuser.
func (c *Cluster) URL(db string) string { return c.URLAs(Superuser, "", db) }

// URLAs is a connection string for db as user. The server trusts loopback
// connections, so the password matters only under WithHBA.
func (c *Cluster) URLAs(user, password, db string) string {
	u := url.URL{Scheme: "postgres", Host: c.Addr(), Path: "/" + db, User: url.User(user), RawQuery: "sslmode=disable"}
	if password != "" {
		u.User = url.UserPassword(user, password)
	}
	return u.String()
}

// SocketURL is a connection string for db as the superuser over the server's
// Unix socket, or "" where the path of the directory is too long for one.
func (c *Cluster) SocketURL(db string) string {
	if len(c.socketDir()) > maxSocketPath {
		return ""
	}
	q := url.Values{"host": {c.socketDir()}, "port": {strconv.Itoa(c.port)}}
	return (&url.URL{Scheme: "postgres", User: url.User(Superuser), Path: "/" + db, RawQuery: q.Encode()}).String()
}

// CreateDB makes a database.
func (c *Cluster) CreateDB(ctx context.Context, name string) error {
	conn, err := pgx.Connect(ctx, c.URL("postgres"))
	if err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// Log is what the server has logged so far.
func (c *Cluster) Log() string {
	b, _ := os.ReadFile(c.logPath())
	return string(b)
}

func (c *Cluster) logPath() string   { return filepath.Join(c.dir, "server.log") }
func (c *Cluster) socketDir() string { return filepath.Join(c.dir, "sock") }

// FreeAddress is a loopback address that nobody listens on, see freePort.
func FreeAddress() (string, error) {
	port, err := freePort()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// freePort picks a port below the range that systems give to outgoing
// connections, so that no client takes it while the server is down.
func freePort() (int, error) {
	for range 100 {
		port := 15000 + rand.IntN(17000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("find a free port between 15000 and 32000: none in 100 attempts")
}
