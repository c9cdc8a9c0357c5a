package replicator

import (
	"context"
	"slices"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/mapping"
	"github.com/walbridge/walbridge/sink"
)

// parentRead are rows that paths pass: those of keys that there are.
type parentRead struct {
	source *mapping.Source
	keys   map[sink.Key]bool
	rows   []mappingRow
}

// readStep reads what a step of a resync asks for.
func (r *pieceReader) readStep(ctx context.Context, p *pieceRead) error {
	st := p.request.step
	s := p.request.table.source
	var err error
	switch {
	case st.exist:
		err = r.readExisting(ctx, p)
	case st.targets != nil:
		err = r.readTargets(ctx, p)
	case p.request.keys != nil:
		err = r.readKeys(ctx, p, p.request.keys)
	case st.view != nil:
		sql, args := st.view.PieceSQL(p.request.after, p.request.limit, st.tenant)
		err = r.readRange(ctx, p, sql, args)
	default:
		sql, args := s.PieceSQL(p.request.after, p.request.limit)
		err = r.readRange(ctx, p, sql, args)
	}
	if err != nil || !st.parents {
		return err
	}
	return r.readParents(ctx, p)
}

// readTargets reads the rows with the step's target keys. Where those don't tell
// the source's, the whole table is gone through.
func (r *pieceReader) readTargets(ctx context.Context, p *pieceRead) error {
	st, s := p.request.step, p.request.table.source
	if keys, ok := sourceKeys(s, st.targets); ok {
		sql, args := s.KeysSQL(keys)
		return r.query(ctx, sql, args, p.add)
	}
	wanted := keySet(st.targets)
	sql, args := s.PieceSQL(nil, 0)
	return r.query(ctx, sql, args, func(values [][]byte) error {
		m := newMappingRow(s, cdc.CopyRow(values))
		key, err := s.TargetKey(m.parts(s))
		if err == nil && wanted[key] {
			err = p.add(values)
		}
		return err
	})
}

// readExisting reads which of the step's keys there are: source keys, or target
// keys as in readTargets.
func (r *pieceReader) readExisting(ctx context.Context, p *pieceRead) error {
	st, s := p.request.step, p.request.table.source
	p.found = map[sink.Key]bool{}
	if st.targets == nil {
		keys, err := splitKeys(s, p.request.keys)
		if err != nil {
			return err
		}
		return r.existing(ctx, p, keys, func(parts []string) (sink.Key, error) { return sink.EncodeKey(parts...), nil })
	}
	keys, _ := sourceKeys(s, st.targets)
	return r.existing(ctx, p, keys, s.TargetKey)
}

func (r *pieceReader) existing(ctx context.Context, p *pieceRead, keys [][]string, name func([]string) (sink.Key, error)) error {
	var wanted map[sink.Key]bool
	if keys == nil {
		wanted = keySet(p.request.step.targets)
	}
	sql, args := p.request.table.source.ExistSQL(keys)
	return r.query(ctx, sql, args, func(values [][]byte) error {
		parts := make([]string, len(values))
		for i := range values {
			parts[i] = string(values[i])
		}
		key, err := name(parts)
		if err == nil && (wanted == nil || wanted[key]) {
			p.found[key] = true
		}
		return err
	})
}

// sourceKeys are the source keys of target keys, if those tell them.
func sourceKeys(s *mapping.Source, targets []sink.Key) (keys [][]string, ok bool) {
	keys = make([][]string, len(targets))
	for i, k := range targets {
		if keys[i], ok = s.SourceKey(k); !ok {
			return nil, false
		}
	}
	return keys, true
}

func keySet(keys []sink.Key) map[sink.Key]bool {
	set := make(map[sink.Key]bool, len(keys))
	for _, k := range keys {
		set[k] = true
	}
	return set
}

// readParents reads the rows that the paths of the piece's rows pass, in the same
// snapshot.
func (r *pieceReader) readParents(ctx context.Context, p *pieceRead) error {
	m := p.request.step.mapping
	parents := map[*mapping.Source]*parentRead{}
	todo := map[*mapping.Source]map[sink.Key]bool{}
	note := func(node *sink.Node, v cdc.Value) {
		if node == nil || v.Kind != cdc.Text {
			return
		}
		s := m.SourceOf(node)
		key := sink.Key(v.Text)
		if parents[s] == nil {
			parents[s] = &parentRead{source: s, keys: map[sink.Key]bool{}}
		}
		if parents[s].keys[key] {
			return
		}
		parents[s].keys[key] = true
		if todo[s] == nil {
			todo[s] = map[sink.Key]bool{}
		}
		todo[s][key] = true
	}
	for _, row := range p.rows {
		p.request.table.source.PathsFrom(row.row, note)
	}
	for len(todo) > 0 {
		for s, keys := range todo {
			delete(todo, s)
			if err := r.readParentRows(ctx, parents[s], keys, note); err != nil {
				return err
			}
		}
	}
	for _, s := range m.Sources {
		if parents[s] != nil {
			p.parents = append(p.parents, *parents[s])
		}
	}
	return nil
}

func (r *pieceReader) readParentRows(ctx context.Context, parent *parentRead, keys map[sink.Key]bool, note func(*sink.Node, cdc.Value)) error {
	s := parent.source
	list := make([]sink.Key, 0, len(keys))
	for k := range keys {
		list = append(list, k)
	}
	slices.Sort(list)
	parts, err := splitKeys(s, list)
	if err != nil {
		return err
	}
	sql, args := s.KeysSQL(parts)
	return r.query(ctx, sql, args, func(values [][]byte) error {
		row := cdc.CopyRow(values)
		parent.rows = append(parent.rows, newMappingRow(s, row))
		for i, next := range s.Node.Next {
			note(next, row[s.NodeInputs[i]])
		}
		return nil
	})
}
