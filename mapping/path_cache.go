package mapping

import (
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// pathCache keeps path values that are committed at the target: those that the
// stream was the last to ask for, and those that a copy has written. A key is in one
// of the two at most.
type pathCache struct {
	recent *lru.Cache[pathKey, sink.PathRow]
	copied *pathTexts
}

// copiedBytes is how much memory path values of a copy may take. A row's take about
// 50 bytes there, and 250 in recent.
const copiedBytes = 8 << 20

// newPathCache makes a cache that keeps the last n rows that the stream asks for.
func newPathCache(n int) (*pathCache, error) {
	recent, err := lru.New[pathKey, sink.PathRow](n)
	return &pathCache{recent: recent, copied: newPathTexts(copiedBytes)}, err
}

// Purge forgets everything.
func (c *pathCache) Purge() {
	c.recent.Purge()
	c.copied.Purge()
}

// Add puts the values of k in, in place of others. The texts are copied: a value is
// a part of the message that it came with, and would keep the whole row in memory.
func (c *pathCache) Add(k pathKey, p sink.PathRow) {
	c.copied.Remove(k)
	vals := make(cdc.Row, len(p.Values))
	for i, v := range p.Values {
		vals[i] = cdc.Value{Kind: v.Kind, Text: strings.Clone(v.Text)}
	}
	c.recent.Add(pathKey{k.node, sink.Key(strings.Clone(string(k.key)))}, sink.PathRow{Values: vals, Gone: p.Gone})
}

// AddCopied is Add for the many that a copy brings.
func (c *pathCache) AddCopied(k pathKey, p sink.PathRow) {
	c.recent.Remove(k)
	c.copied.Add(k, p)
}

// Get returns the values of k.
func (c *pathCache) Get(k pathKey) (p sink.PathRow, ok bool) {
	if p, ok = c.recent.Get(k); ok {
		return p, true
	}
	return c.copied.Get(k)
}

// Value returns one of the values of k.
func (c *pathCache) Value(k pathKey, column int) (v cdc.Value, ok bool) {
	if p, ok := c.recent.Get(k); ok {
		return p.Values[column], true
	}
	return c.copied.Value(k, column)
}

// Remove forgets the values of k.
func (c *pathCache) Remove(k pathKey) {
	c.recent.Remove(k)
	c.copied.Remove(k)
}
