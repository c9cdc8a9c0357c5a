package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// userHz is the unit of /proc's times, the same on every Linux (proc(5),
// sysconf(_SC_CLK_TCK)).
const userHz = 100

func ticks(n int64) time.Duration { return time.Duration(n) * time.Second / userHz }

// procStat is what /proc/<pid>/stat says about a process.
type procStat struct {
	parent int
	// cpu is its own time, reaped that of its children which have ended.
	cpu, reaped time.Duration
}

func readProc(pid int) (procStat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, fmt.Errorf("read CPU time: %w", err)
	}
	return parseStat(b)
}

// parseStat reads the fields after the command, which is in parentheses and may
// hold anything.
func parseStat(b []byte) (procStat, error) {
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 15 {
		return procStat{}, errors.New("read CPU time: /proc/<pid>/stat is too short")
	}
	var n [5]int64
	for i, field := range []int{1, 11, 12, 13, 14} { // ppid utime stime cutime cstime
		var err error
		if n[i], err = strconv.ParseInt(string(f[field]), 10, 64); err != nil {
			return procStat{}, fmt.Errorf("read CPU time: %w", err)
		}
	}
	return procStat{parent: int(n[0]), cpu: ticks(n[1] + n[2]), reaped: ticks(n[3] + n[4])}, nil
}

// server is the CPU time of a cluster's processes at one moment.
type server struct {
	postmaster procStat
	children   map[int]child
}

type child struct {
	cpu   time.Duration
	title string
}

// readServer reads it. A process that ends meanwhile is either among the children
// or in the postmaster's sum, or, between the two readings, in neither: then all
// is read again.
func readServer(postmaster int) (server, error) {
	for attempt := 1; ; attempt++ {
		s := server{children: map[int]child{}}
		var err error
		if s.postmaster, err = readProc(postmaster); err != nil {
			return s, err
		}
		if err := s.readChildren(postmaster); err != nil {
			return s, err
		}
		after, err := readProc(postmaster)
		if err != nil {
			return s, err
		}
		if after.reaped == s.postmaster.reaped || attempt == maxAttempts {
			return s, nil
		}
	}
}

// maxAttempts bounds the readings of a server whose processes end all the time.
const maxAttempts = 10

func (s server) readChildren(postmaster int) error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		p, err := readProc(pid)
		if err != nil || p.parent != postmaster {
			continue // it has ended, or isn't ours
		}
		title, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue
		}
		s.children[pid] = child{cpu: p.cpu, title: strings.Trim(string(title), "\x00 ")}
	}
	return nil
}

// since splits the CPU time between two readings into that of the processes
// whose title has one of words in it, and all other; the process except is left out.
func (s server) since(before server, except int, words ...string) (match, other time.Duration) {
	for pid, c := range s.children {
		if pid == except {
			continue
		}
		used := c.cpu - before.children[pid].cpu
		if containsAny(c.title, words) {
			match += used
		} else {
			other += used
		}
	}
	// Who has ended in between is counted by the postmaster, with what it had
	// used before.
	other += s.postmaster.cpu - before.postmaster.cpu + s.postmaster.reaped - before.postmaster.reaped
	for pid, c := range before.children {
		if _, alive := s.children[pid]; !alive {
			other -= c.cpu
		}
	}
	return match, max(other, 0)
}

func containsAny(s string, words []string) bool {
	for _, w := range words {
		if strings.Contains(s, w) {
			return true
		}
	}
	return false
}

// peakMemory is the largest resident memory that a process has had, in bytes.
func peakMemory(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read resident memory: %w", err)
	}
	return parsePeak(string(b))
}

func parsePeak(status string) (int64, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read resident memory: %w", err)
			}
			return kb << 10, nil
		}
	}
	return 0, errors.New("read resident memory: no VmHWM")
}

// busyTime is how long the machine's processors have worked since it started.
func busyTime() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if errors.Is(err, fs.ErrNotExist) {
		return 0, errors.New("the benchmark reads CPU times from /proc: it needs Linux")
	}
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return parseBusy(string(b))
}

// parseBusy sums user, nice, system, irq, softirq and steal of the first line;
// guest times are part of user (proc(5)).
func parseBusy(stat string) (time.Duration, error) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, errors.New("read CPU time: /proc/stat has no line for all processors")
	}
	var sum int64
	for _, i := range []int{1, 2, 3, 6, 7, 8} {
		n, err := strconv.ParseInt(f[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time: %w", err)
		}
		sum += n
	}
	return ticks(sum), nil
}
