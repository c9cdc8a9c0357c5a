package demo

import "syscall"

// ownGroup keeps the terminal's Ctrl-C away from the child, which is stopped in
// its turn, and has the kernel end it when this process ends in any way.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
