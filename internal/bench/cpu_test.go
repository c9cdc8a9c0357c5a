package bench

import (
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	// The command may hold spaces and parentheses.
	got, err := parseStat([]byte("4711 (postgres: a) S (b) S 42 4711 4711 0 -1 4194304 1 2 3 4 150 25 1000 500 20 0 1 0 99"))
	want := procStat{parent: 42, cpu: 1750 * time.Millisecond, reaped: 15 * time.Second}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "4711 (x) S 1 2", "4711 (x) S p 4711 4711 0 -1 4194304 1 2 3 4 150 25 1000 500 20 0 1 0 99"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("parseStat(%q) returned no error", bad)
		}
	}
}

func TestParsePeak(t *testing.T) {
	t.Parallel()
	got, err := parsePeak("Name:\twalbridge\nVmPeak:\t 1234 kB\nVmHWM:\t   65536 kB\nVmRSS:\t 1 kB\n")
	if want := int64(64 << 20); err != nil || got != want {
		t.Errorf("got %d, %v; want %d", got, err, want)
	}
	for _, bad := range []string{"", "VmHWM:\tmuch kB\n"} {
		if _, err := parsePeak(bad); err == nil {
			t.Errorf("parsePeak(%q) returned no error", bad)
		}
	}
}

func TestParseBusy(t *testing.T) {
	t.Parallel()
	// user nice system idle iowait irq softirq steal guest guest_nice
	got, err := parseBusy("cpu  100 200 300 9999 8888 10 20 30 50 60\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	if want := 6600 * time.Millisecond; err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	for _, bad := range []string{"", "cpu0 1 2 3 4 5 6 7 8 9 10", "cpu 1 2 3", "cpu a b c d e f g h i j"} {
		if _, err := parseBusy(bad); err == nil {
			t.Errorf("parseBusy(%q) returned no error", bad)
		}
	}
}

// Ensure that time is counted once, whether its process is new, has gone on or
// has ended.
func TestServer_Since(t *testing.T) {
	t.Parallel()
	before := server{postmaster: procStat{cpu: 1 * time.Second, reaped: 10 * time.Second}, children: map[int]child{
		1: {5 * time.Second, "postgres: checkpointer"},
		2: {3 * time.Second, "postgres: walsender niochat"}, // ends with 7 s
		3: {1 * time.Second, "postgres: walsender niochat"},
	}}
	after := server{postmaster: procStat{cpu: 2 * time.Second, reaped: 17 * time.Second}, children: map[int]child{
		1: {6 * time.Second, "postgres: checkpointer"},
		3: {4 * time.Second, "postgres: walsender niochat"},
		4: {2 * time.Second, "postgres: walsender niochat"},
		5: {9 * time.Second, "postgres: niochat who looks"},
	}}
	match, other := after.since(before, 5, "walsender")
	if want := 5 * time.Second; match != want {
		t.Errorf("matching processes used %s, want %s", match, want)
	}
	// Checkpointer 1, postmaster 1, and the 4 of the process that ended.
	if want := 6 * time.Second; other != want {
		t.Errorf("other processes used %s, want %s", other, want)
	}
}
