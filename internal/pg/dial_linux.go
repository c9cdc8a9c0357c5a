package pg

import (
	"strings"
	"syscall"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of linux/tcp.h: how many milliseconds sent
// data may stay unacknowledged. Keepalives don't run while data is under way, so
// without it a write into a dead link blocks for a quarter of an hour.
const (
	tcpUserTimeout = 0x12
	userTimeoutMs  = 30_000
)

func setUserTimeout(network, _ string, c syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	// A kernel without the option works as it always did.
	return c.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, userTimeoutMs)
	})
}
