//go:build !linux

package pg

import "syscall"

// setUserTimeout does nothing where the socket option doesn't exist; keepalives
// and the bridge's own timeouts remain.
func setUserTimeout(string, string, syscall.RawConn) error { return nil }
