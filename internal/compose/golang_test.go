package compose

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// golangName is the cached image of Go for what go.mod asks for now.
func golangName(debian string) (string, error) {
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		return "", err
	}
	key := sha256.Sum256(append([]byte(debian+"\n"+runtime.Version()+"\n"), sums...))
	return fmt.Sprintf("walbridge-test/golang:%.12x", key), nil
}

// makeGolang makes an image that stands in for golang's in the Dockerfile: this
// machine's Go, the modules of go.mod, and what they compile to, so that each run
// compiles only what has changed. It takes two minutes of one core.
func makeGolang(ctx context.Context, name, debian string) error {
	dir, err := os.MkdirTemp("/var/tmp", "walbridge-golang-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	do := func(env []string, name string, args ...string) (string, error) {
		return docker.command(ctx, env, root, name, args...)
	}
	out, err := do(nil, "go", "env", "GOROOT", "GOMODCACHE")
	if err != nil {
		return err
	}
	goroot, modules, _ := strings.Cut(out, "\n")
	if err := os.Mkdir(filepath.Join(dir, "go"), 0o755); err != nil {
		return err
	}
	for _, part := range []string{"VERSION", "bin", "go.env", "lib", "pkg", "src"} {
		if _, err := do(nil, "cp", "-r", filepath.Join(goroot, part), filepath.Join(dir, "go")); err != nil {
			return err
		}
	}
	// Of all modules that the machine has then, a second download picks those needed.
	if _, err := docker.outside(ctx, root, "go", "mod", "download"); err != nil {
		return err
	}
	few := filepath.Join(dir, "modules")
	if _, err := do([]string{"GOMODCACHE=" + few, "GOPROXY=file://" + modules + "/cache/download", "GOSUMDB=off"}, "go", "mod", "download"); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(few, "cache/download"), filepath.Join(dir, "proxy")); err != nil {
		return err
	}
	if _, err := do([]string{"CGO_ENABLED=0", "GOCACHE=" + filepath.Join(dir, "cache")}, "go", "build", "-trimpath", "-buildvcs=false",
		"-o", os.DevNull, "./cmd/walbridge"); err != nil {
		return err
	}
	// The whole directory would be sent to the engine, else.
	if err := os.RemoveAll(few); err != nil {
		return err
	}
	_, err = docker.run(ctx, "build", "--quiet", "--tag", name, "--build-arg", "BASE="+debian, "--file", "testdata/golang/Dockerfile", dir)
	return err
}
