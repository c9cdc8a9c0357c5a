//go:build !linux

package replicator

import "net"

// blocking returns conn as it is: only Linux reads outside Go's poller.
func blocking(conn net.Conn) (net.Conn, error) { return conn, nil }
