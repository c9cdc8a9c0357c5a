package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// findBin returns the directory that holds initdb and postgres.
func findBin(dir string) (string, error) {
	if dir == "" {
		dir = os.Getenv("TEST_POSTGRES_BIN")
	}
	if dir != "" {
		if !hasServer(dir) {
			return "", fmt.Errorf("find PostgreSQL: no initdb and postgres in %s (WithBin or TEST_POSTGRES_BIN)", dir)
		}
		return dir, nil
	}
	for _, dir := range candidates() {
		if hasServer(dir) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("find PostgreSQL: no server installed; run internal/pgtest/install.sh, or set TEST_POSTGRES_BIN to the directory of initdb and postgres")
}

// candidates lists where servers are usually found, best first.
func candidates() []string {
	var dirs []string
	newest := 0
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	for _, dir := range debian {
		major, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err == nil && major > newest && hasServer(dir) {
			newest, dirs = major, []string{dir}
		}
	}
	if out, err := exec.Command("pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	return dirs
}

func hasServer(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

var (
	versionText  = regexp.MustCompile(`PostgreSQL\) (\d+)`)
	versionCache sync.Map // directory → full text of postgres --version
)

// binVersionText is what the server in dir says about itself, which also tells
// two builds of one version apart.
func binVersionText(dir string) (string, error) {
	if v, ok := versionCache.Load(dir); ok {
		return v.(string), nil
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", dir, err)
	}
	text := strings.TrimSpace(string(out))
	versionCache.Store(dir, text)
	return text, nil
}

// binVersion is the major version of the server in dir.
func binVersion(dir string) (int, error) {
	text, err := binVersionText(dir)
	if err != nil {
		return 0, err
	}
	m := versionText.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("ask %s for its version: unexpected answer %q", dir, text)
	}
	return strconv.Atoi(m[1])
}
