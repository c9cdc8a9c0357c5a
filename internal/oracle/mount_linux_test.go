package oracle

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// smallBytes is the size of the small file system.
const smallBytes = 96 << 20

// mountSmall mounts a small file system beside the cluster's data, for the
// cluster's user. It needs the right to mount.
func mountSmall(t *testing.T, c *pgtest.Cluster) (dir string, err error) {
	info, err := os.Stat(c.DataDir())
	if err != nil {
		return "", err
	}
	owner := info.Sys().(*syscall.Stat_t)
	dir = filepath.Join(filepath.Dir(c.DataDir()), "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=700,uid=%d,gid=%d", smallBytes, owner.Uid, owner.Gid)); err != nil {
		return "", fmt.Errorf("mount: %w", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir, nil
}
