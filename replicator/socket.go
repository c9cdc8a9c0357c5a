package replicator

import (
	"context"
	"net"
	"time"
)

const (
	// socketTick is how long a read of the replication connection blocks at
	// most. Status, a new confirmed position and a cancelled context wait for
	// no longer than that.
	socketTick = 50 * time.Millisecond
	// socketBuffer lets one system call bring many frames: the walsender sends
	// each message by itself.
	socketBuffer = 256 << 10
	// socketUserTimeout is how long the kernel waits for an acknowledgement of
	// what was sent. Status is sent every few seconds, so a path that has gone
	// silent shows within this time.
	socketUserTimeout = 30 * time.Second
)

// dialSocket connects to the source with a socket that is read outside Go's
// network poller where that is possible, see blockingConn.
func dialSocket(ctx context.Context, network, addr string) (net.Conn, error) {
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4,
	}}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return blocking(conn)
}

// bulkConn reads its connection in large pieces. It lies below TLS, so there is
// one place where the receiver may block: before each system call that reads,
// when everything received so far has been handled, it calls idle. An error of
// idle ends the read.
type bulkConn struct {
	net.Conn
	idle func() error

	buf    []byte
	rp, wp int
}

func (c *bulkConn) Read(p []byte) (int, error) {
	if c.rp < c.wp {
		n := copy(p, c.buf[c.rp:c.wp])
		c.rp += n
		return n, nil
	}
	if c.idle != nil {
		if err := c.idle(); err != nil {
			return 0, err
		}
	}
	if len(p) >= len(c.buf) {
		// The rest of a large row: it need not pass the buffer.
		return c.Conn.Read(p)
	}
	n, err := c.Conn.Read(c.buf)
	if n <= 0 {
		return 0, err
	}
	c.rp, c.wp = copy(p, c.buf[:n]), n
	return c.rp, nil
}
