package replicator

import (
	"maps"
	"strconv"

	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// rereads are the keys that a batch has found to need reading (true), or not to
// need it any more (false). They count within the batch, and are taken over when
// the target has it: a batch that is applied again must meet the state from before.
type rereads map[*tableCopy]map[sink.Key]bool

// begin starts a batch.
func (c *copyState) begin() {
	clear(c.rereads)
	c.storing = nil
}

func (c *copyState) ask(t *tableCopy, key sink.Key, read bool) {
	if c.rereads[t] == nil {
		c.rereads[t] = map[sink.Key]bool{}
	}
	c.rereads[t][key] = read
	c.changed[t] = true
}

// isPending reports whether a row that was left behind has to be read.
func (c *copyState) isPending(t *tableCopy, key sink.Key) bool {
	if read, ok := c.rereads[t][key]; ok {
		return read
	}
	return t.pending[key]
}

// pendingOf is the keys of t that have to be read, with those of this batch.
func (c *copyState) pendingOf(t *tableCopy) map[sink.Key]bool {
	all := maps.Clone(t.pending)
	for key, read := range c.rereads[t] {
		if read {
			all[key] = true
		} else {
			delete(all, key)
		}
	}
	return all
}

// Reread implements mapping.Coverage.
func (c *copyState) Reread(xid uint32, s *mapping.Source, key sink.Key) {
	c.ask(c.by[s], key, true)
	c.touch(touch{xid: xid, source: s, key: key})
}

// Settled implements mapping.Coverage.
func (c *copyState) Settled(s *mapping.Source, key sink.Key) {
	if t := c.by[s]; c.isPending(t, key) {
		c.ask(t, key, false)
	}
}

// emptied notes a TRUNCATE: of a table that has been copied nothing is left to
// read.
func (c *copyState) emptied(t *tableCopy) {
	if !t.p.Done {
		return
	}
	for key := range c.pendingOf(t) {
		c.ask(t, key, false)
	}
}

// progressDue returns the progress of tables that the stream has changed. With a
// heartbeat, which comes every now and then, the highest keys are stored, too.
func (c *copyState) progressDue(heartbeat bool) []sink.CopyProgress {
	for _, t := range c.tables {
		if heartbeat && t.raised && t.p.Done && t != c.storing {
			t.upto = []string{strconv.FormatInt(t.highest, 10)}
			t.p.Upto = encodeParts(t.upto)
			t.raised = false
			c.changed[t] = true
		}
	}
	var due []sink.CopyProgress
	for t := range c.changed {
		if t == c.storing {
			continue
		}
		p := t.p
		p.Pending = sortedPending(c.pendingOf(t))
		due = append(due, p)
	}
	return due
}

func (c *copyState) progressStored() {
	for t := range c.rereads {
		t.pending = c.pendingOf(t)
		t.p.Pending = sortedPending(t.pending)
	}
	clear(c.changed)
	c.begin()
	c.count()
}
