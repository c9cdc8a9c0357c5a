package mapping

import (
	"encoding/binary"
	"hash/maphash"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// pathTexts keeps path values in a bounded number of bytes. There are many of them
// and they are small, so they lie in two texts without a pointer that the garbage
// collector would have to follow: new ones go to the end of young, and once that is
// full it takes old's place. One that is still used when it goes that way is asked
// for again, with others.
type pathTexts struct {
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
const pathEntryBytes = 24

func newPathTexts(bytes int) *pathTexts {
	c := &pathTexts{seed: maphash.MakeSeed(), limit: bytes / 2, ids: map[*sink.Node]uint64{}}
	c.Purge()
	return c
}

// Purge forgets everything.
func (c *pathTexts) Purge() { c.young, c.old = newPathHalf(), newPathHalf() }

func newPathHalf() pathHalf { return pathHalf{at: map[uint64]uint32{}} }

func (c *pathTexts) id(node *sink.Node) uint64 {
	id, ok := c.ids[node]
	if !ok {
		id = uint64(len(c.ids))
		c.ids[node] = id
	}
	return id
}

func (c *pathTexts) hash(id uint64, key sink.Key) uint64 {
	return maphash.String(c.seed, string(key)) ^ id*0x9e3779b97f4a7c15
}

// Add puts the values of k in, in place of others.
func (c *pathTexts) Add(k pathKey, p sink.PathRow) {
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
func (c *pathTexts) Get(k pathKey) (p sink.PathRow, ok bool) {
	e, ok := c.find(k)
	if !ok {
		return p, false
	}
	return e.row(k.node), true
}

// Value returns one of the values of k.
func (c *pathTexts) Value(k pathKey, column int) (v cdc.Value, ok bool) {
	e, ok := c.find(k)
	if !ok {
		return v, false
	}
	for range column {
		e.next()
	}
	return e.next(), true
}

func (c *pathTexts) find(k pathKey) (e pathEntry, ok bool) {
	id := c.id(k.node)
	h := c.hash(id, k.key)
	if at, ok := c.young.at[h]; ok {
		return c.young.read(at, id, k.key)
	}
	at, ok := c.old.at[h]
	if !ok {
		return e, false
	}
	return c.old.read(at, id, k.key)
}

// pathEntry is an entry whose values are still to be read.
type pathEntry struct {
	gone bool
	text string
}

// read reads the entry at a position; it is false for that of another key.
func (b *pathHalf) read(at uint32, id uint64, key sink.Key) (e pathEntry, ok bool) {
	e.text = b.text.String()[at:]
	head := e.number()
	e.gone = head&1 == 1
	return e, e.cut(e.number()) == string(key) && head>>1 == id
}

func (e pathEntry) row(node *sink.Node) sink.PathRow {
	p := sink.PathRow{Gone: e.gone, Values: make(cdc.Row, len(node.Columns))}
	for i := range p.Values {
		p.Values[i] = e.next()
	}
	return p
}

func (e *pathEntry) next() cdc.Value {
	n := e.number()
	if n == 0 {
		return cdc.Value{}
	}
	return cdc.TextValue(e.cut(n - 1))
}

func (e *pathEntry) number() (n uint64) {
	for i := 0; ; i++ {
		c := e.text[i]
		n |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			e.text = e.text[i+1:]
			return n
		}
	}
}

func (e *pathEntry) cut(n uint64) (s string) {
	s, e.text = e.text[:n], e.text[n:]
	return s
}

// Remove forgets the values of k.
func (c *pathTexts) Remove(k pathKey) { c.remove(c.hash(c.id(k.node), k.key)) }

func (c *pathTexts) remove(h uint64) {
	delete(c.young.at, h)
	delete(c.old.at, h)
}
