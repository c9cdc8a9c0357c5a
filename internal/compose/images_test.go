package compose

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// root is the top of the tree.
const root = "../.."

// packages is what the image of Debian holds beside its base system: the servers
// and the application. Its text is a part of the cache's key.
const packages = "postgresql-15,python3-django,python3-psycopg2,prometheus"

// images are what the stack runs on. All but debian and golang are removed with the
// test.
type images struct{ debian, golang, postgres, app, bridge, next, prometheus string }

// imagesOfRun begins the names of images that don't outlive the run.
var imagesOfRun = fmt.Sprintf("walbridge-test-%d", os.Getpid())

// theImages makes them once for all tests: the first bridge by the whole Dockerfile,
// the next one of a program that is there.
var theImages = sync.OnceValues(func() (images, error) {
	ctx := context.Background()
	run := imagesOfRun
	n := images{
		debian:   fmt.Sprintf("walbridge-test/debian:%.12x", sha256.Sum256([]byte(packages))),
		postgres: run + "/postgres", app: run + "/app", bridge: run + "/bridge:1", next: run + "/bridge:2",
		prometheus: run + "/prometheus",
	}
	if err := cached(ctx, n.debian, makeDebian); err != nil {
		return n, err
	}
	var err error
	if n.golang, err = golangName(n.debian); err != nil {
		return n, err
	}
	if err := cached(ctx, n.golang, func(ctx context.Context, name string) error { return makeGolang(ctx, name, n.debian) }); err != nil {
		return n, err
	}
	for _, b := range []struct{ image, base, dir string }{
		{n.postgres, "BASE=" + n.debian, "testdata/postgres"},
		{n.prometheus, "BASE=" + n.debian, "testdata/prometheus"},
		{n.app, "PYTHON_IMAGE=" + n.debian, filepath.Join(root, "internal/django")},
	} {
		if _, err := docker.run(ctx, "build", "--quiet", "--tag", b.image, "--build-arg", b.base, b.dir); err != nil {
			return n, err
		}
	}
	// A stage without a name of its own would outlive the run.
	for _, b := range []struct{ image, target string }{{run + "/stage:prebuilt", "prebuilt"}, {run + "/stage:build", "build"}, {n.bridge, ""}} {
		if _, err := docker.run(ctx, "build", "--quiet", "--tag", b.image, "--target", b.target, "--build-arg", "GO_IMAGE="+n.golang,
			"--build-arg", "VERSION=v1", "--build-arg", "COMMIT=0123456789ab", root); err != nil {
			return n, err
		}
	}
	return n, makeBridge(ctx, n.next, "v2")
})

// cached makes an image that outlives the run, unless it is there. It takes the
// place of those that were made for other contents.
func cached(ctx context.Context, name string, make func(ctx context.Context, name string) error) error {
	if _, err := docker.run(ctx, "image", "inspect", name); err == nil {
		return nil
	}
	repository, _, _ := strings.Cut(name, ":")
	old, err := docker.run(ctx, "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference="+repository)
	if err != nil {
		return err
	}
	if err := make(ctx, name); err != nil {
		return err
	}
	if old == "" {
		return nil
	}
	_, err = docker.run(ctx, append([]string{"image", "rm", "--force"}, strings.Fields(old)...)...)
	return err
}

// makeDebian makes the image that PostgreSQL and the application run on, in a
// minute or two.
func makeDebian(ctx context.Context, name string) error {
	dir, err := os.MkdirTemp("/var/tmp", "walbridge-debian-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	system := filepath.Join(dir, "root")
	if out, err := docker.outside(ctx, "", "debootstrap", "--variant=minbase", "--include="+packages, "bookworm", system); err != nil {
		return fmt.Errorf("%w%s", err, out[max(0, len(out)-4000):])
	}
	archive := filepath.Join(dir, "root.tar")
	args := []string{"-C", system, "-cf", archive}
	for _, waste := range []string{"./var/cache/apt", "./var/lib/apt/lists", "./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./proc", "./sys", "./dev"} {
		args = append(args, "--exclude="+waste)
	}
	if out, err := exec.CommandContext(ctx, "tar", append(args, ".")...).CombinedOutput(); err != nil {
		return fmt.Errorf("pack %s: %w\n%s", system, err, out)
	}
	_, err = docker.run(ctx, "import", archive, name)
	return err
}

// makeBridge builds the program and its image as "make build" and the Dockerfile's
// short way do, from a context that is as it were in another checkout.
func makeBridge(ctx context.Context, name, version string) error {
	dir, err := os.MkdirTemp("", "walbridge-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, file := range []string{"Dockerfile", "LICENSE"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o644); err != nil {
			return err
		}
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version="+version,
		"-o", filepath.Join(dir, "bin/walbridge"), "./cmd/walbridge")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build walbridge: %w\n%s", err, out)
	}
	_, err = docker.run(ctx, "build", "--quiet", "--target", "prebuilt", "--tag", name, dir)
	return err
}

// requireImages skips a test without an engine, and fails it without images.
func requireImages(t *testing.T) images {
	t.Helper()
	require(t)
	n, err := theImages()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// removeImages takes away what theImages has made, less the cache, and from an engine
// of the tests' own what a build that failed has left.
func (e *engine) removeImages() error {
	ids, err := e.run(context.Background(), "image", "ls", "--quiet", "--filter", "reference="+imagesOfRun+"/*")
	if err == nil && ids != "" {
		_, err = e.run(context.Background(), append([]string{"image", "rm", "--force"}, strings.Fields(ids)...)...)
	}
	if e.own {
		_, pruneErr := e.run(context.Background(), "image", "prune", "--force")
		err = errors.Join(err, pruneErr)
	}
	return err
}
