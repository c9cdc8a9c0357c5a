package mapping

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink"
)

// maxGenerations bounds how far dependents are followed: rows that refer to each
// other in a longer line are not a hierarchy, but a list.
const maxGenerations = 32

// ForgetPage is a few rows of one source table whose personal data is to go.
type ForgetPage struct {
	Source *Source
	// Keys are source keys.
	Keys []sink.Key
	// EvenIfPresent goes on where the source still has a row, as far as the stream
	// has said.
	EvenIfPresent bool
	// Dependents says that the rows which depend on these are forgotten, too, so
	// that nobody needs their path values any more.
	Dependents bool
	// LSN is the point of the stream, Request the one that asks for it, at its Time.
	LSN     cdc.LSN
	Request int64
	Time    time.Time
}

// ForgetCounts says what has been erased.
type ForgetCounts struct {
	// Rows were in their table, Held in walbridge.held.
	Rows int64 `json:"rows"`
	Held int64 `json:"held"`
	// Paths are rows of which path values were kept.
	Paths int64 `json:"paths"`
	// Entries have lost their values, Waiting ones had not been written yet.
	Entries int64 `json:"entries"`
	Waiting int64 `json:"waiting"`
}

// Add sums counts.
func (n *ForgetCounts) Add(o *ForgetCounts) {
	n.Rows += o.Rows
	n.Held += o.Held
	n.Paths += o.Paths
	n.Entries += o.Entries
	n.Waiting += o.Waiting
}

// Forgettable says why rows of s can't be forgotten, or nil. A key that is neither
// a number nor a UUID may be personal data itself, and names the row in requests
// and entries; one that the target's key doesn't tell can't be found there.
func (s *Source) Forgettable() error {
	for _, k := range s.Key {
		if !k.Integer && k.Type != oidUUID {
			return fault.Errorf(fault.Stop, "remove its rows by hand", "the key of %s has a column, %s, that is neither an integer nor a UUID", s.FullName(), k.Name)
		}
	}
	if s.Target != nil && !s.KeysTell() {
		return fault.Errorf(fault.Stop, "remove its rows by hand", "the key of %s doesn't tell that of %s, which it is made of", s.Target.Table.FullName(), s.FullName())
	}
	return nil
}

// Dependents finds rows that depend on the one with the source key, over the paths
// of the mapping: some of those on which nothing depends any more, at most limit.
// It returns no keys when there are none.
func (b *Batch) Dependents(ctx context.Context, s *Source, key sink.Key, limit int) (of *Source, keys []sink.Key, err error) {
	seen := map[*Source]map[sink.Key]bool{s: {key: true}}
	at := []sink.Key{key}
	for range maxGenerations {
		child, found, err := b.children(ctx, s, at, limit, seen)
		if err != nil || len(found) == 0 {
			return of, keys, err
		}
		if err := child.Forgettable(); err != nil {
			return nil, nil, err
		}
		s, of, at, keys = child, child, found, found
	}
	return nil, nil, fault.Errorf(fault.Stop, "", "rows of %s depend on each other over more than %d generations", s.FullName(), maxGenerations)
}

// children are rows of one source table that refer to the rows of s with these
// keys and aren't among those seen.
func (b *Batch) children(ctx context.Context, s *Source, keys []sink.Key, limit int, seen map[*Source]map[sink.Key]bool) (*Source, []sink.Key, error) {
	if s.Node == nil {
		return nil, nil, nil
	}
	for _, child := range b.e.m.Sources {
		for _, q := range child.references(s.Node) {
			q.Keys, q.Limit = keys, limit+len(seen[child])
			got, err := b.tx.Load(ctx, &sink.Query{Dependents: &q})
			if err != nil {
				return nil, nil, fmt.Errorf("find rows that depend on %s: %w", s.FullName(), err)
			}
			found, err := child.unseen(got.Dependents, q.Table != nil, seen)
			if err != nil {
				return nil, nil, err
			}
			if len(found) > 0 {
				return child, found[:min(len(found), limit)], nil
			}
		}
	}
	return nil, nil, nil
}

// references are the columns of s by which its rows refer to those of a node.
func (s *Source) references(node *sink.Node) []sink.DependentQuery {
	var list []sink.DependentQuery
	if s.Target != nil {
		seen := map[int]bool{}
		for _, d := range s.Target.Table.Derived {
			for _, l := range d.From {
				if len(l.Steps) > 0 && l.Steps[0].Node == node && !seen[l.Column] {
					seen[l.Column] = true
					list = append(list, sink.DependentQuery{Table: s.Target.Table, Column: l.Column})
				}
			}
		}
	}
	if s.Node != nil {
		for i, next := range s.Node.Next {
			if next == node {
				list = append(list, sink.DependentQuery{Node: s.Node, Column: i})
			}
		}
	}
	return list
}

// unseen makes source keys of what a query has found, and leaves those out that
// have been seen.
func (s *Source) unseen(found []sink.Key, ofTarget bool, seen map[*Source]map[sink.Key]bool) ([]sink.Key, error) {
	if seen[s] == nil {
		seen[s] = map[sink.Key]bool{}
	}
	var fresh []sink.Key
	for _, k := range found {
		if ofTarget {
			parts, ok := s.SourceKey(k)
			if !ok {
				return nil, s.Forgettable()
			}
			k = sink.EncodeKey(parts...)
		}
		if !seen[s][k] {
			seen[s][k] = true
			fresh = append(fresh, k)
		}
	}
	return fresh, nil
}

// Present reports whether the source has a row of the page, as far as the stream
// has said: what the source says now may be ahead of it, and a change on its way
// would bring back what has been forgotten.
func (b *Batch) Present(ctx context.Context, p *ForgetPage) (bool, error) {
	states, paths, err := b.forgetLoad(ctx, p)
	if err != nil {
		return false, err
	}
	for _, st := range states {
		if st.now.place != nowhere && !st.now.deleted {
			return true, nil
		}
	}
	for _, k := range paths {
		if st := b.paths[k]; st.present && !st.now.Gone {
			return true, nil
		}
	}
	return false, nil
}

// forgetLoad asks for what the target has of the page's rows.
func (b *Batch) forgetLoad(ctx context.Context, p *ForgetPage) ([]*rowState, []pathKey, error) {
	s := p.Source
	for _, k := range p.Keys {
		if _, err := s.keyObject(k); err != nil {
			return nil, nil, err
		}
	}
	var states []*rowState
	if s.Target != nil {
		targets := make([]sink.Key, len(p.Keys))
		for i, k := range p.Keys {
			parts, err := k.Split(len(s.Key))
			if err == nil {
				targets[i], err = s.TargetKey(parts)
			}
			if err != nil {
				return nil, nil, fmt.Errorf("key of %s: %w", s.FullName(), err)
			}
		}
		if err := b.load(ctx, &sink.Query{Rows: map[*sink.Table][]sink.Key{s.Target.Table: targets}}); err != nil {
			return nil, nil, err
		}
		for _, k := range targets {
			states = append(states, b.rows[s][k])
		}
	}
	var paths []pathKey
	if s.Node != nil {
		for _, k := range p.Keys {
			b.distrust(pathKey{s.Node, k})
			paths = append(paths, pathKey{s.Node, k})
		}
		if err := b.load(ctx, &sink.Query{Paths: map[*sink.Node][]sink.Key{s.Node: p.Keys}}); err != nil {
			return nil, nil, err
		}
	}
	return states, paths, nil
}

// Forget erases the rows of a page: from their table and from walbridge.held, with
// the entries that waited there; their deletion marks; their path values; the
// values in the entries about them. It returns the tenants concerned.
func (b *Batch) Forget(ctx context.Context, p *ForgetPage) (n ForgetCounts, tenants []string, err error) {
	states, paths, err := b.forgetLoad(ctx, p)
	if err != nil {
		return n, nil, err
	}
	note := func(tenant string) {
		if !slices.Contains(tenants, tenant) {
			tenants = append(tenants, tenant)
		}
	}
	for _, st := range states {
		if tenant := st.now.tenant(p.Source.Target.Table); tenant.Kind == cdc.Text {
			note(tenant.Text)
		}
		b.forgetRow(st, &n)
	}
	for _, k := range p.Keys {
		b.cov.Settled(p.Source, k)
	}
	if err := b.forgetPaths(ctx, p, paths, &n); err != nil {
		return n, nil, err
	}
	if b.e.m.Audit == nil {
		return n, tenants, nil
	}
	erase := &sink.Erase{Source: p.Source.detailsName()}
	for _, k := range p.Keys {
		object, err := p.Source.keyObject(k)
		if err != nil {
			return n, nil, err
		}
		erase.Keys = append(erase.Keys, string(object))
	}
	erased, err := b.tx.EraseEntries(ctx, erase)
	if err != nil {
		return n, nil, err
	}
	for _, e := range erased {
		note(e.Tenant)
		n.Entries += int64(len(e.Numbers))
	}
	b.emptied(p, erased)
	return n, tenants, nil
}

func (b *Batch) forgetRow(st *rowState, n *ForgetCounts) {
	switch st.now.place {
	case inTable:
		n.Rows++
	case inHeld:
		n.Held++
	}
	n.Waiting += int64(len(st.waiting))
	b.Counters.Dropped += int64(len(st.waiting))
	st.waiting = nil
	st.now = version{row: st.now.row}
	if !st.touched {
		st.touched = true
		b.touched = append(b.touched, st)
	}
}

// forgetPaths removes path values. Where rows that depend on them stay, what names
// their tenant and what leads on stays, too; everything else becomes null, here
// and in the columns that carry it.
func (b *Batch) forgetPaths(ctx context.Context, p *ForgetPage, paths []pathKey, n *ForgetCounts) error {
	var trimmed []sink.Key
	for _, k := range paths {
		st := b.paths[k]
		if !st.present {
			continue
		}
		n.Paths++
		if p.Dependents && !p.EvenIfPresent {
			b.soil(k, st)
			st.now, st.present, st.forget = sink.PathRow{}, false, true
			continue
		}
		now := sink.PathRow{Values: slices.Clone(st.now.Values), Gone: st.now.Gone}
		for i := range now.Values {
			if k.node.Next[i] == nil && !b.leadsToTenant(k.node, i) {
				now.Values[i] = cdc.Value{}
			}
		}
		b.setPath(k, st, now)
		trimmed = append(trimmed, k.key)
	}
	if len(trimmed) == 0 {
		return nil
	}
	if err := b.Flush(ctx); err != nil {
		return err
	}
	for _, s := range b.e.m.Sources {
		if s.Target == nil || !b.carriesMore(s.Target.Table, p.Source.Node) {
			continue
		}
		moved, err := b.tx.Recompute(ctx, &sink.Recompute{Table: s.Target.Table, Node: p.Source.Node, Keys: trimmed, LSN: p.LSN})
		if err != nil {
			return err
		}
		for _, m := range moved {
			if m.To.IsNull() {
				b.Counters.Held += m.Rows
			}
			b.Counters.Rows += m.Rows
			b.Tally.moved(s, &m)
		}
		delete(b.rows, s)
	}
	return nil
}

// leadsToTenant reports whether a path to a tenant passes or ends in the node's
// column.
func (b *Batch) leadsToTenant(node *sink.Node, column int) bool {
	return slices.ContainsFunc(b.e.passing[node][column], func(t *sink.Table) bool {
		return slices.ContainsFunc(t.Derived, func(d sink.Derived) bool {
			return d.Column == t.Tenant && slices.ContainsFunc(d.From, func(l sink.Lookup) bool {
				return slices.Contains(l.Steps, sink.Step{Node: node, Column: column})
			})
		})
	})
}

// carriesMore reports whether rows of t carry values of the node beside what leads
// to their tenant.
func (b *Batch) carriesMore(t *sink.Table, node *sink.Node) bool {
	for i := range node.Columns {
		if node.Next[i] == nil && !b.leadsToTenant(node, i) && slices.Contains(b.e.passing[node][i], t) {
			return true
		}
	}
	return false
}

// ForgetEntries makes the entry of a row that has been forgotten, one for each
// tenant that is known to be concerned. request and at are the request and its
// moment, n what has been erased with the row.
func (b *Batch) ForgetEntries(s *Source, key sink.Key, tenants []string, n *ForgetCounts, request int64, lsn cdc.LSN, at time.Time) error {
	if b.e.m.Audit == nil {
		return nil
	}
	object, err := s.keyObject(key)
	if err != nil {
		return err
	}
	buf := append(append(appendTable(nil, s), `,"key":`...), object...)
	buf = appendLSN(append(buf, `,"op":"forget","lsn":`...), lsn)
	buf = strconv.AppendInt(append(buf, `,"request":`...), request, 10)
	buf = strconv.AppendInt(append(buf, `,"rows":`...), n.Rows+n.Held, 10)
	buf = strconv.AppendInt(append(buf, `,"entries":`...), n.Entries, 10)
	for _, tenant := range tenants {
		d := draft{Action: s.entity() + ".forgotten", Time: at, Rest: buf}
		name := fmt.Appendf(nil, "request/%d/%s/%s/%s", request, s.FullName(), key, tenant)
		b.number(b.nameID(name), &d, tenant)
	}
	return nil
}

// detailsName is the table's name as details have it.
func (s *Source) detailsName() string {
	if s.Schema == "public" {
		return s.Name
	}
	return s.FullName()
}

// keyObject is the key as details have it.
func (s *Source) keyObject(key sink.Key) ([]byte, error) {
	parts, err := key.Split(len(s.Key))
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", s.FullName(), err)
	}
	buf := []byte{'{'}
	for i, k := range s.Key {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(appendString(buf, k.Name), ':')
		if !k.Integer {
			buf = appendString(buf, parts[i])
			continue
		}
		number, err := strconv.ParseInt(parts[i], 10, 64)
		if err != nil || strconv.FormatInt(number, 10) != parts[i] {
			return nil, fault.Errorf(fault.Stop, "", "the key of %s is an integer, and what was given is none", s.FullName())
		}
		buf = append(buf, parts[i]...)
	}
	return append(buf, '}'), nil
}
