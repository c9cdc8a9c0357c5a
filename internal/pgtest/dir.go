package pgtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

const (
	// clusterPrefix starts the name of every temporary cluster directory.
	clusterPrefix = "c-"
	// lockSuffix makes the name of a directory's lock file.
	lockSuffix = ".lock"
)

// baseDir is the directory that holds templates and temporary clusters. It is
// not testing's: that one is closed to the user that runs the server for root,
// and too long for a socket.
func baseDir() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("walbridge-pgtest-%d", os.Getuid()))
	if err := mkdirOpen(dir); err != nil && !os.IsExist(err) {
		return "", fmt.Errorf("make directory for clusters: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", fmt.Errorf("make directory for clusters: %w", err)
	}
	// Anybody can make a directory of this name in /tmp, and whoever owns it
	// could put programs' data under our feet.
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Getuid() || info.Mode().Perm()&0o022 != 0 {
		return "", fmt.Errorf("make directory for clusters: %s is not ours alone; remove it or set TMPDIR", dir)
	}
	return dir, nil
}

// lockedTempDir makes a cluster directory and holds its lock file, which the
// system releases when this process ends, however it ends. The directory comes
// after the lock: sweepDir may remove any directory whose lock is free.
func lockedTempDir(base string) (string, *os.File, error) {
	f, err := os.CreateTemp(base, clusterPrefix+"*"+lockSuffix)
	if err != nil {
		return "", nil, fmt.Errorf("make cluster directory: %w", err)
	}
	dir := strings.TrimSuffix(f.Name(), lockSuffix)
	if err := errors.Join(flock(f, syscall.LOCK_EX), mkdirOpen(dir)); err != nil {
		_ = f.Close()
		return "", nil, fmt.Errorf("make cluster directory: %w", err)
	}
	return dir, f, nil
}

// mkdirOpen makes a directory that every user may enter, whatever the umask.
func mkdirOpen(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// lockFile opens path and waits for its lock. Closing the file releases it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := flock(f, syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// flock takes the lock of f. Waiting for one is broken off by the signals that
// the Go runtime uses, so it is taken up again.
func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); err != syscall.EINTR {
			return err
		}
	}
}

var sweep sync.Once

// sweepOnce removes the directories of processes that were killed before they
// could. Failing to is not the caller's business.
func sweepOnce(base string) {
	sweep.Do(func() {
		entries, _ := os.ReadDir(base)
		for _, e := range entries {
			if e.IsDir() && strings.HasPrefix(e.Name(), clusterPrefix) {
				sweepDir(filepath.Join(base, e.Name()))
			}
		}
	})
}

func sweepDir(dir string) {
	f, err := os.OpenFile(dir+lockSuffix, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if flock(f, syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return
	}
	removeSharedMemory(filepath.Join(dir, "data", "postmaster.pid"))
	_ = os.RemoveAll(dir)
	_ = os.Remove(dir + lockSuffix)
}
