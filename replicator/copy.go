package replicator

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// copyState knows what has been copied of each source table, and which rows the
// stream has touched that a snapshot may not show. The apply goroutine owns it.
//
// A piece is read in a snapshot and applied at its marker, a logical message that
// was written right after the snapshot was taken. All that the snapshot sees is
// in the WAL before the marker; what is there too without being seen is in
// touched, and those keys are read once more.
type copyState struct {
	tables []*tableCopy // in the order of the mapping: parents first
	by     map[*mapping.Source]*tableCopy
	// open is how many tables have rows that aren't covered.
	open    int
	touched []touch
	// tracking: rows that are covered count as touched, too, because they are being
	// compared.
	tracking bool
	// lost: touches have been forgotten, so that only a snapshot counts that sees
	// all that has been applied by now.
	lost bool
	// pace is how fast the copy is.
	pace pace
	// changed are tables whose progress must be stored with the next commit.
	changed map[*tableCopy]bool
	rereads rereads
	// storing is the table whose progress a piece of this batch stores.
	storing *tableCopy
}

// tableCopy is the progress of one table.
type tableCopy struct {
	source  *mapping.Source
	p       sink.CopyProgress
	upto    []string
	pending map[sink.Key]bool
	// estimate of the rows at the source, 0 if unknown.
	estimate int64
	// fresh: the target had no rows where this session began to copy the table.
	fresh bool
	// highest is the highest key that the bridge has met, where keys are one whole
	// number; raised says that it isn't stored yet.
	highest int64
	raised  bool
}

// touch is a row that a transaction of the stream touched while it wasn't
// covered; all is the whole table (TRUNCATE).
type touch struct {
	xid    uint32
	source *mapping.Source
	key    sink.Key
	all    bool
}

func newCopyState(m *mapping.Mapping, stored []sink.CopyProgress) (*copyState, error) {
	c := &copyState{by: map[*mapping.Source]*tableCopy{}, changed: map[*tableCopy]bool{}, rereads: rereads{}}
	progress := map[string]sink.CopyProgress{}
	for _, p := range stored {
		progress[p.Source] = p
	}
	for _, s := range m.Sources {
		t := &tableCopy{source: s, p: progress[s.FullName()], pending: map[sink.Key]bool{}}
		t.p.Source = s.FullName()
		if t.p.Upto != "" {
			if err := json.Unmarshal([]byte(t.p.Upto), &t.upto); err != nil {
				return nil, fmt.Errorf("copy progress of %s at the target is unreadable: %w", t.p.Source, err)
			}
		}
		for _, k := range t.p.Pending {
			t.pending[k] = true
		}
		if t.numbered() && t.p.Done && t.upto != nil {
			t.highest, _ = strconv.ParseInt(t.upto[0], 10, 64) // 0 is as good as unknown
		}
		c.tables = append(c.tables, t)
		c.by[s] = t
	}
	c.count()
	return c, nil
}

func (c *copyState) count() {
	c.open = 0
	for _, t := range c.tables {
		if !t.p.Done || len(t.pending) > 0 {
			c.open++
		}
	}
}

// active reports whether anything is left to copy.
func (c *copyState) active() bool { return c.open > 0 }

// Covers implements mapping.Coverage.
func (c *copyState) Covers(xid uint32, s *mapping.Source, key sink.Key) bool {
	t := c.by[s]
	t.meet(key)
	covered := c.open == 0 && len(c.rereads) == 0 || !c.isPending(t, key) && (t.p.Done || t.reached(key))
	if covered && c.tracking {
		c.touch(touch{xid: xid, source: s, key: key})
	}
	return covered
}

// maxTouched bounds the touches that are remembered, at about 100 bytes each.
const maxTouched = 100_000

// touch remembers a row that a snapshot may not show as it is. When there are too
// many, all are forgotten, and the next piece is read when everything that runs
// now has ended.
func (c *copyState) touch(t touch) {
	if c.lost {
		return
	}
	if len(c.touched) >= maxTouched {
		c.touched, c.lost = nil, true
		return
	}
	c.touched = append(c.touched, t)
}

// track begins to remember touches of all rows.
func (c *copyState) track() {
	if !c.tracking {
		c.tracking, c.lost = true, true
	}
}

// untrack forgets them. What the first copy has to know of is found out by waiting.
func (c *copyState) untrack() { c.tracking, c.touched, c.lost = false, nil, true }

// numbered reports whether the table's keys are single whole numbers.
func (t *tableCopy) numbered() bool { return len(t.source.Key) == 1 && t.source.Key[0].Integer }

// meet notes the highest key.
func (t *tableCopy) meet(key sink.Key) {
	if !t.numbered() {
		return
	}
	if n, err := strconv.ParseInt(string(key), 10, 64); err == nil && n > t.highest {
		t.highest, t.raised = n, true
	}
}

// wrote reports whether the bridge may have written a row with this key: one up to
// the highest that it has met. Of keys that aren't numbers it knows nothing.
func (t *tableCopy) wrote(parts []string) (may, known bool) {
	if !t.numbered() || parts == nil {
		return false, false
	}
	n, err := strconv.ParseInt(parts[0], 10, 64)
	return err == nil && n > 0 && n <= t.highest, true
}

// reached reports whether key is in the part that has been read.
func (t *tableCopy) reached(key sink.Key) bool { return inRange(t.source, key, t.upto) }

// Skipped implements mapping.Coverage.
func (c *copyState) Skipped(xid uint32, s *mapping.Source, key sink.Key, truncated bool) {
	if t := c.by[s]; truncated {
		if !c.tracking && t.p.Done && len(t.pending) == 0 && len(c.rereads[t]) == 0 {
			return
		}
		c.emptied(t)
	}
	c.touch(touch{xid: xid, source: s, key: key, all: truncated})
}

// unsettled splits the touches by what snap sees: keys of s that it may show as
// they were before, whether the whole table is concerned, and it forgets those
// that every later snapshot sees too.
func (c *copyState) unsettled(s *mapping.Source, snap snapshot) (keys map[sink.Key]bool, all bool) {
	keys = map[sink.Key]bool{}
	kept := c.touched[:0]
	for _, t := range c.touched {
		if snap.sees(t.xid) {
			continue
		}
		kept = append(kept, t)
		if t.source == s {
			all = all || t.all
			keys[t.key] = true
		}
	}
	clear(c.touched[len(kept):])
	c.touched = kept
	return keys, all
}

// next says what to read next, or nil. Rows that were left behind go before the
// next table, because its rows may hang on them.
func (c *copyState) next(limit int) *pieceRequest {
	for _, t := range c.tables {
		if !t.p.Done {
			return &pieceRequest{table: t, after: t.upto, limit: limit}
		}
		if len(t.pending) > 0 {
			return &pieceRequest{table: t, keys: t.somePending()}
		}
	}
	return nil
}

// maxReread bounds the keys of one piece that reads rows again.
const maxReread = 1000

func (t *tableCopy) somePending() []sink.Key {
	keys := make([]sink.Key, 0, min(len(t.pending), maxReread))
	for k := range t.pending {
		if keys = append(keys, k); len(keys) == maxReread {
			break
		}
	}
	slices.Sort(keys)
	return keys
}

// taken is what is about to be stored of a table's progress.
type taken struct {
	rows     []mappingRow
	progress sink.CopyProgress
	upto     []string
	pending  map[sink.Key]bool
	finish   bool
}

// take settles a piece against the touches: which of its rows count, and what
// the progress is after it. Nothing of c changes until keep.
func (c *copyState) take(p *pieceRead) (*taken, bool) {
	t := p.request.table
	stale, all := c.unsettled(t.source, p.snap)
	if all || c.lost {
		return nil, false // emptied since: read the whole piece again
	}
	k := &taken{progress: t.p, upto: t.upto, pending: c.pendingOf(t)}
	k.progress.Tenants = maps.Clone(t.p.Tenants) // a try that fails must not count
	if p.request.keys != nil {
		for _, key := range p.request.keys {
			if !stale[key] {
				delete(k.pending, key)
			}
		}
	} else {
		if last := p.last(); last != nil {
			k.upto = last
		}
		k.finish = p.end && !t.p.Done
		k.progress.Done = t.p.Done || p.end
		for key := range stale {
			if k.progress.Done || inRange(t.source, key, k.upto) {
				k.pending[key] = true
			}
		}
	}
	if n := len(p.rows); n > 0 {
		t.meet(p.rows[n-1].key) // they are in order
	}
	if k.rows = p.rows; len(stale) > 0 || p.request.keys != nil {
		k.rows = nil
		for _, r := range p.rows {
			if !stale[r.key] && (p.request.keys == nil || c.isPending(t, r.key)) {
				k.rows = append(k.rows, r)
			}
		}
	}
	k.progress.Upto = encodeParts(k.upto)
	k.progress.Pending = sortedPending(k.pending)
	c.storing = t
	return k, true
}

// keep takes stored progress over, after the target has committed it.
func (c *copyState) keep(t *tableCopy, k *taken) {
	t.p, t.upto, t.pending = k.progress, k.upto, k.pending
	c.count()
}

func inRange(s *mapping.Source, key sink.Key, upto []string) bool {
	if upto == nil {
		return false
	}
	parts, err := key.Split(len(s.Key))
	return err == nil && s.CompareKeys(parts, upto) <= 0
}

func encodeParts(parts []string) string {
	if parts == nil {
		return ""
	}
	b, err := json.Marshal(parts)
	if err != nil {
		panic(fmt.Sprintf("replicator: texts can't be marshalled: %v", err)) // strings always can
	}
	return string(b)
}

func sortedPending(pending map[sink.Key]bool) []sink.Key {
	keys := make([]sink.Key, 0, len(pending))
	for k := range pending {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
