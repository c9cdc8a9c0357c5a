package replicator

import (
	"slices"
	"sync"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
)

// Item is one step of the stream, in stream order.
type Item struct {
	// Tx is a transaction or a slice of one; nil for a keepalive and for a
	// transaction without changes, which only move the position.
	Tx *cdc.Transaction
	// WALEnd is the position that is reached once this item and all before it
	// are durable: what a checkpoint stores and what may be confirmed. It is
	// zero for a slice that isn't the last of its transaction.
	WALEnd cdc.LSN
}

// queue passes items from the receiver to the apply goroutine. It is bounded in
// bytes, and softly: what was decoded already is always taken in, because the
// receiver must never block where it can't send status.
//
// Keepalives travel through it like data. A keepalive that overtook a
// transaction would confirm it before it is durable.
type queue struct {
	limit int
	ready chan struct{} // holds a token while there may be something to take
	room  chan struct{} // holds a token after something was taken

	mu    sync.Mutex
	items []Item
	bytes int
}

func newQueue(limit int) *queue {
	return &queue{limit: limit, ready: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// push appends items. A keepalive that follows another one replaces it.
func (q *queue) push(items []Item) {
	if len(items) == 0 {
		return
	}
	q.mu.Lock()
	for _, it := range items {
		if it.Tx == nil && len(q.items) > 0 && q.items[len(q.items)-1].Tx == nil {
			q.items[len(q.items)-1] = it
			continue
		}
		q.items = append(q.items, it)
		q.bytes += it.bytes()
	}
	q.mu.Unlock()
	signal(q.ready)
}

// full reports that the receiver should stop reading.
func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes >= q.limit
}

// take removes and returns items in order until one more would go beyond maxRows
// changes or maxBytes, but at least one if there is one. A slice of a larger
// transaction comes alone.
func (q *queue) take(maxRows, maxBytes int) []Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	var n, rows, bytes int
	for _, it := range q.items {
		if n > 0 && (it.sliced() || rows+it.rows() > maxRows || bytes+it.bytes() > maxBytes) {
			break
		}
		n++
		rows += it.rows()
		bytes += it.bytes()
		if it.sliced() {
			break
		}
	}
	if n == 0 {
		return nil
	}
	taken := slices.Clone(q.items[:n])
	// The array may live on for long; what was taken must not live with it.
	clear(q.items[:n])
	q.items = q.items[n:]
	q.bytes -= bytes
	if len(q.items) > 0 {
		signal(q.ready)
	}
	signal(q.room)
	return taken
}

func (q *queue) depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes
}

// oldest returns the commit time of the first transaction that waits, or zero.
func (q *queue) oldest() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		if it.Tx != nil {
			return it.Tx.Time
		}
	}
	return time.Time{}
}

// signal leaves a token in ch unless there is one.
func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// itemBytes is what an item costs beside the changes of its transaction.
const itemBytes = 128

func (it Item) bytes() int {
	if it.Tx == nil {
		return itemBytes
	}
	return itemBytes + it.Tx.Bytes
}

func (it Item) rows() int {
	if it.Tx == nil {
		return 0
	}
	return len(it.Tx.Changes)
}

func (it Item) sliced() bool { return it.Tx != nil && !(it.Tx.First && it.Tx.Last) }
