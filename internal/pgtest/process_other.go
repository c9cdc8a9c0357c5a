//go:build unix && !linux

package pgtest

import "os/exec"

// dieWithParent does nothing where the system has no such thing: a killed test
// leaves its server running.
func dieWithParent(*exec.Cmd) {}

// removeSharedMemory does nothing: a killed server's segment stays until restart.
func removeSharedMemory(string) {}
