package bench

import (
	"bytes"
	"sync"
	"time"
)

// logWatch keeps the end of the bridge's log, and when it said that it streams. A
// nil one has nothing to say.
type logWatch struct {
	since time.Time
	mu    sync.Mutex
	buf   []byte
	began time.Duration
}

const logBytes = 16 << 10

// streamingText is in the log when all is prepared.
var streamingText = []byte("streaming from the source")

func (l *logWatch) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.began == 0 && bytes.Contains(p, streamingText) {
		l.began = time.Since(l.since)
	}
	l.buf = append(l.buf, p...)
	if len(l.buf) > logBytes {
		l.buf = append(l.buf[:0], l.buf[len(l.buf)-logBytes:]...)
	}
	return len(p), nil
}

func (l *logWatch) String() string {
	if l == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}

// streaming is how long it took to begin with the stream, in seconds.
func (l *logWatch) streaming() float64 {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.began.Seconds()
}
