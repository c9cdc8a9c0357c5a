package mapping

import (
	"encoding/binary"
	"hash/maphash"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// pathCache keeps path values in a bounded number of bytes. There are many of them
// and they are small, so they lie in two texts without a pointer that the garbage
// collector would have to follow: new ones go to the end of young, and once that is
// full it takes old's place. What is found in old comes to young again.
type pathCache struct {
	seed       maphash.Seed
	limit      int // bytes of each half
	ids        map[*sink.Node]uint64
	young, old pathHalf
}

// pathHalf finds entries by the hash of node and key. A hash is in one half at
// most, so that no entry outlives a younger one; of two keys with one hash the
// younger stays.
type pathHalf struct {
	at   map[uint64]uint32
	text strings.Builder
}

// pathEntryBytes is about what an entry takes beside its text.
const pathEntryBytes = 32

func newPathCache(bytes int) *pathCache {
	c := &pathCache{seed: maphash.MakeSeed(), limit: bytes / 2, ids: map[*sink.Node]uint64{}}
	c.Purge()
	return c
}

// Purge forgets everything.
func (c *pathCache) Purge() { c.young, c.old = newPathHalf(), newPathHalf() }

func newPathHalf() pathHalf { return pathHalf{at: map[uint64]uint32{}} }

func (c *pathCache) id(node *sink.Node) uint64 {
	id, ok := c.ids[node]
	if !ok {
		id = uint64(len(c.ids))
		c.ids[node] = id
	}
	return id
}

func (c *pathCache) hash(id uint64, key sink.Key) uint64 {
	return maphash.String(c.seed, string(key)) ^ id*0x9e3779b97f4a7c15
}

// Add puts the values of k in, in place of others.
func (c *pathCache) Add(k pathKey, p sink.PathRow) {
	id := c.id(k.node)
	h := c.hash(id, k.key)
	c.remove(h)
	n := len(k.key) + 3*binary.MaxVarintLen64
	for i := range p.Values {
		n += len(p.Values[i].Text) + binary.MaxVarintLen64
	}
	if n > c.limit/4 {
		return
	}
	if c.young.text.Len()+n+len(c.young.at)*pathEntryBytes > c.limit {
		c.young, c.old = newPathHalf(), c.young
	}
	var few [64]byte
	buf := few[:0]
	text := &c.young.text
	c.young.at[h] = uint32(text.Len())
	buf = binary.AppendUvarint(buf, id<<1|gone(p.Gone))
	buf = binary.AppendUvarint(buf, uint64(len(k.key)))
	buf = append(buf, k.key...)
	for i := range p.Values {
		v := &p.Values[i]
		if v.Kind != cdc.Text {
			buf = append(buf, 0)
			continue
		}
		buf = binary.AppendUvarint(buf, uint64(len(v.Text))+1)
		buf = append(buf, v.Text...)
	}
	text.Write(buf)
}

func gone(yes bool) uint64 {
	if yes {
		return 1
	}
	return 0
}

// Get returns the values of k. Their texts are parts of the cache's.
func (c *pathCache) Get(k pathKey) (sink.PathRow, bool) {
	id := c.id(k.node)
	h := c.hash(id, k.key)
	if at, ok := c.young.at[h]; ok {
		return c.young.read(at, id, k)
	}
	at, ok := c.old.at[h]
	if !ok {
		return sink.PathRow{}, false
	}
	p, ok := c.old.read(at, id, k)
	if ok {
		c.Add(k, p)
	}
	return p, ok
}

// read reads the entry at a position; it is false for that of another key.
func (b *pathHalf) read(at uint32, id uint64, k pathKey) (p sink.PathRow, ok bool) {
	text := b.text.String()[at:]
	next := func() uint64 {
		var n uint64
		for shift := 0; ; shift += 7 {
			c := text[0]
			text = text[1:]
			n |= uint64(c&0x7f) << shift
			if c < 0x80 {
				return n
			}
		}
	}
	cut := func(n uint64) (s string) {
		s, text = text[:n], text[n:]
		return s
	}
	head := next()
	if cut(next()) != string(k.key) || head>>1 != id {
		return p, false
	}
	p.Gone = head&1 == 1
	p.Values = make(cdc.Row, len(k.node.Columns))
	for i := range p.Values {
		if n := next(); n > 0 {
			p.Values[i] = cdc.TextValue(cut(n - 1))
		}
	}
	return p, true
}

// Remove forgets the values of k.
func (c *pathCache) Remove(k pathKey) { c.remove(c.hash(c.id(k.node), k.key)) }

func (c *pathCache) remove(h uint64) {
	delete(c.young.at, h)
	delete(c.old.at, h)
}
