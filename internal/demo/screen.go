package demo

import (
	"fmt"
	"io"
	"os"
	"time"
)

// screen shows lines, and numbers that change: in place on a terminal, as lines
// of their own now and then elsewhere.
type screen struct {
	w        io.Writer
	terminal bool
	// every is how often numbers are worth showing.
	every time.Duration
	// open says that numbers are on the current line.
	open bool
}

func newScreen(w io.Writer) *screen {
	s := &screen{w: w, every: 5 * time.Second}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			s.terminal, s.every = true, 500*time.Millisecond
		}
	}
	return s
}

// say shows a line that stays. What the reader of a pipe doesn't take is lost.
func (s *screen) say(format string, args ...any) {
	s.finish()
	fmt.Fprintf(s.w, format+"\n", args...)
}

// number shows the numbers of this moment.
func (s *screen) number(format string, args ...any) {
	if !s.terminal {
		s.say(format, args...)
		return
	}
	// Back to the start of the line, and what is left of the old one goes.
	fmt.Fprintf(s.w, "\r"+format+"\x1b[K", args...)
	s.open = true
}

// finish ends a line of numbers.
func (s *screen) finish() {
	if s.open {
		fmt.Fprintln(s.w)
		s.open = false
	}
}
