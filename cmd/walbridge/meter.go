package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"
)

// repaintEvery is how often a terminal's line is written anew, logEvery how often
// progress is logged where nobody sits at one.
const (
	repaintEvery = 100 * time.Millisecond
	logEvery     = 10 * time.Second
)

// wipe takes the line away that the cursor of a terminal is in.
const wipe = "\r\x1b[K"

// meter shows the progress of long work on stderr: on a terminal as one line that is
// written over and over, elsewhere in the log, if there is one.
type meter struct {
	out      *os.File
	log      *slog.Logger
	terminal bool
	// first is when work was first seen, with the rows that were done by then: a
	// rate from an earlier life would be none.
	first     time.Time
	firstRows int64
	said      time.Time
	shown     bool
}

func newMeter(out *os.File, log *slog.Logger) *meter {
	return &meter{out: out, log: log, terminal: isTerminal(out)}
}

// show says that done of about total rows are done, 0 if nobody knows how many
// there are.
func (m *meter) show(what string, done, total int64) {
	now := time.Now()
	if m.first.IsZero() {
		m.first, m.firstRows = now, done
	}
	rate, left := pace(done-m.firstRows, total-done, now.Sub(m.first))
	switch {
	case m.terminal && now.Sub(m.said) >= repaintEvery:
		m.said, m.shown = now, true
		_, _ = fmt.Fprintf(m.out, "%s%s", wipe, meterLine(what, done, total, rate, left))
	case !m.terminal && m.log != nil && now.Sub(m.said) >= logEvery:
		m.said = now
		m.log.Info("bridge at work", "table", what, "rows", done, "total", total, "rows_per_second", int64(rate), "left", left)
	}
}

// clear takes the line away, before anything else is printed.
func (m *meter) clear() {
	if m.shown {
		_, _ = fmt.Fprint(m.out, wipe)
		m.shown = false
	}
}

// pace is the rate in rows a second, and the time that rest will take, 0 if nobody
// can tell.
func pace(done, rest int64, took time.Duration) (rate float64, left time.Duration) {
	if took < time.Second || done <= 0 {
		return 0, 0
	}
	rate = float64(done) / took.Seconds()
	if rest > 0 {
		left = time.Duration(float64(rest) / rate * float64(time.Second)).Round(time.Second)
	}
	return rate, left
}

func meterLine(what string, done, total int64, rate float64, left time.Duration) string {
	line := fmt.Sprintf("%s: %d rows", what, done)
	if total > 0 {
		line = fmt.Sprintf("%s: %d of about %d rows (%d%%)", what, done, max(total, done), 100*done/max(total, done))
	}
	if rate > 0 {
		line += fmt.Sprintf(", %d rows/s", int64(rate))
	}
	if left > 0 {
		line += ", " + left.String() + " left"
	}
	return line
}
