//go:build !linux

package demo

import "syscall"

// ownGroup keeps the terminal's Ctrl-C away from the child, which is stopped in
// its turn.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
