package demo

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/mapping"
)

// output collects what a demo shows, while others read it.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// newOptions builds the command and returns what Run needs.
func newOptions(t *testing.T, out *output) Options {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the command and runs two PostgreSQL servers; run without -short")
	}
	binary := filepath.Join(t.TempDir(), "walbridge")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/walbridge").CombinedOutput(); err != nil {
		t.Fatalf("build walbridge: %v\n%s", err, out)
	}
	text, err := configs.Read(configs.Default)
	if err != nil {
		t.Fatal(err)
	}
	f, err := mapping.Parse(configs.Default, text)
	if err != nil {
		t.Fatal(err)
	}
	return Options{For: 8 * time.Second, Rate: 60, Seed: 1, Out: out, Binary: binary, Mapping: f, Log: slog.New(slog.DiscardHandler)}
}

// gone reports whether no process that the output names is left.
func gone(t *testing.T, out string) bool {
	t.Helper()
	for _, m := range regexp.MustCompile(`process (\d+)`).FindAllStringSubmatch(out, -1) {
		pid, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			return false
		}
	}
	return true
}

func TestRun_Equal(t *testing.T) {
	t.Parallel()
	var out output
	if err := Run(t.Context(), newOptions(t, &out)); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{"kill -9", "started again", "caught up", "public.messages", "none twice", "\nequal\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, &out)
		}
	}
	for _, want := range []string{
		`(?m)^bridge  process \d+, open http://127\.0\.0\.1:\d+ while it runs$`,
		`(?m)^wrote   inbound messages \d+, replies \d+, .*assignments \d+, .*ratings \d+, .*deletions \d+`,
		`(?m)^moved   tenant moves [1-9]\d*, which took [1-9]\d* rows along$`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("the output lacks %s:\n%s", want, &out)
		}
	}
	if !gone(t, out.String()) {
		t.Errorf("a bridge is left behind:\n%s", &out)
	}
}

// A target that has been tampered with is not equal, whatever the bridge says.
func TestRun_Differs(t *testing.T) {
	t.Parallel()
	var out output
	opts := newOptions(t, &out)
	done := make(chan error, 1)
	go func() { done <- Run(t.Context(), opts) }()
	var target string
	pgtest.Eventually(t, "a row to spoil", time.Minute, func() bool {
		m := regexp.MustCompile(`target .* at (\S+), empty`).FindStringSubmatch(out.String())
		if m == nil || !strings.Contains(out.String(), "traffic") {
			return false
		}
		target = "postgres://postgres@" + m[1] + "/niochat?sslmode=disable"
		return pgtest.QueryValue(t, target, `SELECT to_regclass('public.csat_feedback') IS NOT NULL`) == "t" &&
			pgtest.QueryValue(t, target, `SELECT count(*) > 0 FROM public.csat_feedback`) == "t"
	})
	// Nothing ever writes this column of an answer again. Some answers may be
	// deleted with their conversations, not all.
	pgtest.Exec(t, target, `UPDATE public.csat_feedback SET rating_value = rating_value + 1`)
	if err := <-done; !errors.Is(err, ErrDiffers) {
		t.Fatalf("Run() = %v, want %v\n%s", err, ErrDiffers, &out)
	}
	if !strings.Contains(out.String(), "column rating_value differ") {
		t.Errorf("the output doesn't name the column:\n%s", &out)
	}
}

// Ctrl-C in the middle ends it and leaves nothing.
func TestRun_Interrupted(t *testing.T) {
	t.Parallel()
	var out output
	opts := newOptions(t, &out)
	opts.For = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, opts) }()
	pgtest.Eventually(t, "traffic", time.Minute, func() bool { return strings.Contains(out.String(), "written") })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run() = %v, want %v", err, context.Canceled)
	}
	if !gone(t, out.String()) {
		t.Errorf("a bridge is left behind:\n%s", &out)
	}
}

// A bridge that can't start is reported with its own words.
func TestRun_BrokenBinary(t *testing.T) {
	t.Parallel()
	var out output
	opts := newOptions(t, &out)
	opts.Binary = "/bin/false"
	if err := Run(t.Context(), opts); err == nil || !strings.Contains(err.Error(), "ended by itself") {
		t.Errorf("Run() = %v, want an error about the bridge's end", err)
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	var log tail
	for range 1000 {
		_, _ = log.Write([]byte("0123456789"))
	}
	_, _ = log.Write([]byte("the end"))
	if got := log.String(); len(got) != tailBytes || !strings.HasSuffix(got, "the end") {
		t.Errorf("got %d bytes that end with %q", len(got), got[max(0, len(got)-10):])
	}
}
