package replicator

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// blockingConn is a socket whose reads and writes block in the kernel instead of
// parking the goroutine in Go's poller. The walsender sends every message by
// itself, and waking a goroutine over epoll for each of them cost a third of the
// whole bridge's throughput on small transactions.
//
// A blocked call can't be interrupted by a timer, so the kernel returns from it
// every socketTick and deadlines are compared then: they may fire that much
// late. Close wakes blocked calls at once by shutting the socket down.
//
// Reads and writes may run side by side, but only one of each at a time.
type blockingConn struct {
	fd            int
	local, remote net.Addr
	// Deadlines in Unix nanoseconds, 0 for none.
	readBy, writeBy atomic.Int64
	closed          atomic.Bool
	// use is read-locked around each system call: the number of a closed
	// descriptor is given to somebody else's file.
	use sync.RWMutex
	// quick counts the reads in a row that came soon after one another and
	// brought little; lastRead is when the last one returned.
	quick    int
	lastRead time.Time
}

// Under load a reader that is faster than the walsender is woken for every single
// message, and waking it is what the walsender then spends its time on. After
// paceAfter such reads, each within paceWithin of the one before, a read first
// pauses, so that it brings what many sends have left. On 100,000 small
// transactions that took the time and the reader's work to less than a half.
// Single transactions are not delayed.
const (
	paceAfter  = 16
	paceWithin = 2 * time.Millisecond
	pacePause  = 250 * time.Microsecond
)

// tcpUserTimeout is TCP_USER_TIMEOUT of tcp(7), which package syscall lacks.
const tcpUserTimeout = 0x12

// blocking takes a TCP or Unix socket out of Go's poller. Other connections are
// returned as they are. It consumes conn also when it fails.
func blocking(conn net.Conn) (net.Conn, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return conn, nil
	}
	fd, err := duplicate(sc)
	// Closing the original takes it out of the poller; the duplicate keeps the
	// connection.
	closeErr := conn.Close()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(closeErr, prepareSocket(fd, conn)); err != nil {
		_ = syscall.Close(fd)
		return nil, err
	}
	return &blockingConn{fd: fd, local: conn.LocalAddr(), remote: conn.RemoteAddr()}, nil
}

func duplicate(sc syscall.Conn) (int, error) {
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("duplicate socket: %w", err)
	}
	var (
		fd    uintptr
		errno syscall.Errno
	)
	err = raw.Control(func(old uintptr) {
		fd, _, errno = syscall.Syscall(syscall.SYS_FCNTL, old, syscall.F_DUPFD_CLOEXEC, 0)
	})
	if err == nil && errno != 0 {
		err = errno
	}
	if err != nil {
		return -1, fmt.Errorf("duplicate socket: %w", err)
	}
	return int(fd), nil
}

func prepareSocket(fd int, conn net.Conn) error {
	tick := syscall.NsecToTimeval(int64(socketTick))
	err := errors.Join(
		syscall.SetNonblock(fd, false),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &tick),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &tick),
	)
	if _, tcp := conn.(*net.TCPConn); tcp {
		err = errors.Join(err, syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, tcpUserTimeout, int(socketUserTimeout/time.Millisecond)))
	}
	if err != nil {
		return fmt.Errorf("prepare socket: %w", err)
	}
	return nil
}

// Read implements net.Conn. A deadline that has passed is os.ErrDeadlineExceeded,
// which counts as temporary: crypto/tls goes on reading after it.
func (c *blockingConn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.quick >= paceAfter {
		// Not time.Sleep: the runtime's timers are too coarse.
		pause := syscall.NsecToTimespec(int64(pacePause))
		_ = syscall.Nanosleep(&pause, nil)
	}
	for {
		n, err := c.call(&c.readBy, syscall.Read, p)
		switch {
		case err == errAgain:
		case err != nil:
			return 0, c.opError("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			c.pace(n == len(p))
			return n, nil
		}
	}
}

func (c *blockingConn) pace(full bool) {
	now := time.Now()
	if full || now.Sub(c.lastRead) > paceWithin {
		c.quick = 0
	} else {
		c.quick++
	}
	c.lastRead = now
}

// Write implements net.Conn.
func (c *blockingConn) Write(p []byte) (int, error) {
	var done int
	for done < len(p) {
		n, err := c.call(&c.writeBy, syscall.Write, p[done:])
		if err != nil && err != errAgain {
			return done, c.opError("write", err)
		}
		done += n
	}
	return done, nil
}

// errAgain says that a call returned without result and its deadline has not
// passed.
var errAgain = errors.New("try again")

// call does one system call. Data that is there is returned even if the deadline
// has passed meanwhile.
func (c *blockingConn) call(by *atomic.Int64, do func(int, []byte) (int, error), p []byte) (int, error) {
	c.use.RLock()
	defer c.use.RUnlock()
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if expired(by) {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := do(c.fd, p)
	if err == nil {
		if n == 0 && c.closed.Load() {
			return 0, net.ErrClosed
		}
		return n, nil
	}
	switch {
	case c.closed.Load():
		return 0, net.ErrClosed
	case err == syscall.EAGAIN && expired(by):
		return 0, os.ErrDeadlineExceeded
	case err == syscall.EAGAIN, err == syscall.EINTR:
		return 0, errAgain
	}
	return 0, err
}

func expired(by *atomic.Int64) bool {
	at := by.Load()
	return at != 0 && time.Now().UnixNano() >= at
}

func (c *blockingConn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: c.remote.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// Close implements net.Conn. Blocked calls return net.ErrClosed at once.
func (c *blockingConn) Close() error {
	if c.closed.Swap(true) {
		return net.ErrClosed
	}
	// Fails with ENOTCONN when the peer has gone, which is no matter.
	_ = syscall.Shutdown(c.fd, syscall.SHUT_RDWR)
	c.use.Lock()
	defer c.use.Unlock()
	return syscall.Close(c.fd)
}

// LocalAddr implements net.Conn.
func (c *blockingConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *blockingConn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *blockingConn) SetDeadline(t time.Time) error {
	c.readBy.Store(unixNano(t))
	c.writeBy.Store(unixNano(t))
	return nil
}

// SetReadDeadline implements net.Conn.
func (c *blockingConn) SetReadDeadline(t time.Time) error {
	c.readBy.Store(unixNano(t))
	return nil
}

// SetWriteDeadline implements net.Conn.
func (c *blockingConn) SetWriteDeadline(t time.Time) error {
	c.writeBy.Store(unixNano(t))
	return nil
}

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
