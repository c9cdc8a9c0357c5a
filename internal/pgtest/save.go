package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Save keeps a copy of a stopped server's data directory under name. It and
// Restore do what a snapshot of a disk does: system identifier, timeline and
// slots are those of the original.
func (c *Cluster) Save(name string) error {
	return c.replaceDir(c.savePath(name), c.DataDir())
}

// Restore puts a stopped server back to the state that Save kept under name.
func (c *Cluster) Restore(name string) error {
	return c.replaceDir(c.DataDir(), c.savePath(name))
}

func (c *Cluster) savePath(name string) string { return filepath.Join(c.dir, "save-"+name) }

func (c *Cluster) replaceDir(to, from string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc != nil {
		return errors.New("copy data directory: stop the server first")
	}
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("copy data directory: %w", err)
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy data directory: %w: %s", err, out)
	}
	return nil
}
