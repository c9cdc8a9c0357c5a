package pgtest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// fillDataDir makes dataDir a copy of the template that fits cfg, with a system
// identifier of its own.
func fillDataDir(ctx context.Context, bin, dataDir string, cfg *config) error {
	template, err := templateDir(ctx, bin, cfg)
	if err != nil {
		return err
	}
	if out, err := exec.CommandContext(ctx, "cp", "-a", template, dataDir).CombinedOutput(); err != nil {
		return fmt.Errorf("copy data directory: %w: %s", err, out)
	}
	return renewSystemID(dataDir)
}

// templateMu keeps goroutines apart, the lock file processes.
var templateMu sync.Mutex

// templateDir returns a data directory fresh from initdb, made at most once per
// build, encoding and arguments on this machine.
func templateDir(ctx context.Context, bin string, cfg *config) (string, error) {
	base, err := baseDir()
	if err != nil {
		return "", err
	}
	version, err := binVersionText(bin)
	if err != nil {
		return "", err
	}
	locale := "C"
	if cfg.encoding == "UTF8" && runtime.GOOS == "linux" {
		locale = "C.UTF-8"
	}
	args := append([]string{
		"--username=" + Superuser, "--auth=trust", "--encoding=" + cfg.encoding, "--locale=" + locale, "--no-sync",
	}, cfg.initdbArgs...)
	sum := sha256.Sum256([]byte(strings.Join(append(args, bin, version), "\x00")))
	dir := filepath.Join(base, "template-"+hex.EncodeToString(sum[:8]))

	templateMu.Lock()
	defer templateMu.Unlock()
	lock, err := lockFile(dir + lockSuffix)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	// A directory under the temporary name is what an interrupted initdb left.
	tmp := dir + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return "", fmt.Errorf("remove unfinished template: %w", err)
	}
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return "", fmt.Errorf("make template: %w", err)
	}
	if err := chown(tmp); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), append(args, "--pgdata="+tmp)...)
	if err := asServer(cmd, base); err != nil {
		return "", err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("run initdb from %s (the server's user must be able to enter that directory): %w: %s", bin, err, out)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", fmt.Errorf("keep template: %w", err)
	}
	return dir, nil
}

// renewSystemID gives a data directory fresh from initdb a system identifier of
// its own. Without it two clusters of one test would pass for the same server.
//
// The identifier is the first field of global/pg_control, which ends in a CRC-32C
// (ControlFileData), and stands in the long header of every WAL segment
// (XLogLongPageHeaderData), which recovery compares with it.
func renewSystemID(dataDir string) error {
	id := rand.Uint64() >> 1
	path := filepath.Join(dataDir, "global", "pg_control")
	control, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("renew system identifier: %w", err)
	}
	castagnoli := crc32.MakeTable(crc32.Castagnoli)
	end := 0
	for i := 8; i+4 <= len(control) && i < 1024; i += 4 {
		if crc32.Checksum(control[:i], castagnoli) == binary.NativeEndian.Uint32(control[i:]) {
			end = i
			break
		}
	}
	if end == 0 {
		return errors.New("renew system identifier: no checksum found in pg_control")
	}
	binary.NativeEndian.PutUint64(control, id)
	binary.NativeEndian.PutUint32(control[end:], crc32.Checksum(control[:end], castagnoli))
	if err := os.WriteFile(path, control, 0o600); err != nil {
		return fmt.Errorf("renew system identifier: %w", err)
	}
	segments, err := filepath.Glob(filepath.Join(dataDir, "pg_wal", "00000001????????????????"))
	if err != nil || len(segments) == 0 {
		return fmt.Errorf("renew system identifier: no WAL segments: %v", err)
	}
	for _, segment := range segments {
		if err := patchSegment(segment, id); err != nil {
			return fmt.Errorf("renew system identifier: %w", err)
		}
	}
	return nil
}

// patchSegment writes id into the long header of a WAL segment, which follows
// the 24 bytes of the short one.
func patchSegment(path string, id uint64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], id)
	_, err = f.WriteAt(b[:], 24)
	return errors.Join(err, f.Close())
}
