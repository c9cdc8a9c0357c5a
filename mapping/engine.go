package mapping

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/sink"
)

// Tx is the part of a sink's batch that the mapping uses.
type Tx interface {
	Load(ctx context.Context, q *sink.Query) (*sink.Loaded, error)
	Apply(ctx context.Context, w *sink.Writes) error
	Recompute(ctx context.Context, r *sink.Recompute) ([]sink.Moved, error)
	ReleaseHeld(ctx context.Context, r *sink.Recompute, limit int) ([]sink.HeldRow, error)
	Truncate(ctx context.Context, r *sink.Truncate) ([]sink.Moved, error)
	EraseEntries(ctx context.Context, r *sink.Erase) ([]sink.Erased, error)
}

// Coverage says which rows the stream may write. A row of a range that has not
// been copied yet is left to its piece, which has to know that it was touched.
type Coverage interface {
	// Covers reports whether the row has been copied. It is asked about every row
	// that the transaction xid touched.
	Covers(xid uint32, s *Source, key sink.Key) bool
	// Skipped records that transaction xid touched a row that isn't covered.
	// Truncated says that it touched every row of s instead.
	Skipped(xid uint32, s *Source, key sink.Key, truncated bool)
	// Reread asks for a row to be read from the source, because transaction xid
	// left out a value that the target doesn't have either. It stops being
	// covered; the stream goes on to change what there is of it.
	Reread(xid uint32, s *Source, key sink.Key)
	// Settled takes that back: the row is whole now, or gone. It is covered.
	Settled(s *Source, key sink.Key)
}

// everything is the Coverage of a bridge that has copied all it has to.
type everything struct{}

func (everything) Covers(uint32, *Source, sink.Key) bool      { return true }
func (everything) Skipped(uint32, *Source, sink.Key, bool)    {}
func (everything) Reread(xid uint32, s *Source, key sink.Key) {}
func (everything) Settled(*Source, sink.Key)                  {}

// Options of an Engine.
type Options struct {
	// CachedPaths is how many rows' path values are kept in memory between
	// batches; it bounds memory, about 250 bytes each.
	CachedPaths int
	// RejectLimit is how many rows the target may refuse in one batch before the
	// bridge stops, because then it is not the rows that are wrong.
	RejectLimit int
	// StopOnReject stops at the first one.
	StopOnReject bool
	Log          *slog.Logger
}

// Engine drives a Mapping over the stream, batch by batch. Between batches it
// keeps only caches: of path values that are committed at the target, and of
// relation layouts. It has one owner.
type Engine struct {
	m        *Mapping
	opts     Options
	cache    *pathCache
	bindings map[*cdc.Relation]*binding
	sources  map[string]*Source
	byOID    map[uint32]*Source
	bySource map[*Source]int
	// passing lists, per node and position of its columns, the tables whose
	// derived columns pass that value.
	passing map[*sink.Node][][]*sink.Table
	// byTable finds the source of a target table.
	byTable map[*sink.Table]*Source
	byNode  map[*sink.Node]*Source
}

// pathKey names a source row whose values paths pass.
type pathKey struct {
	node *sink.Node
	key  sink.Key
}

// NewEngine returns an engine for m. Options left zero take their defaults.
func NewEngine(m *Mapping, opts Options) (*Engine, error) {
	if opts.CachedPaths <= 0 {
		opts.CachedPaths = 1 << 15
	}
	if opts.RejectLimit <= 0 {
		opts.RejectLimit = 100
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	cache, err := newPathCache(opts.CachedPaths)
	if err != nil {
		return nil, fmt.Errorf("make path cache: %w", err)
	}
	e := &Engine{
		m: m, opts: opts, cache: cache,
		bindings: map[*cdc.Relation]*binding{},
		sources:  map[string]*Source{},
		byOID:    map[uint32]*Source{},
		bySource: map[*Source]int{},
		passing:  map[*sink.Node][][]*sink.Table{},
		byTable:  map[*sink.Table]*Source{},
		byNode:   map[*sink.Node]*Source{},
	}
	for i, s := range m.Sources {
		e.sources[s.FullName()] = s
		if s.OID != 0 {
			e.byOID[s.OID] = s
		}
		e.bySource[s] = i
		if s.Target != nil {
			e.byTable[s.Target.Table] = s
		}
		if s.Node != nil {
			e.byNode[s.Node] = s
		}
	}
	for _, n := range m.Schema.Nodes {
		e.passing[n] = make([][]*sink.Table, len(n.Columns))
	}
	// In the order of the sources, so that a move reaches parents first.
	for _, s := range m.Sources {
		if s.Target != nil {
			e.notePassing(s.Target.Table)
		}
	}
	return e, nil
}

func (e *Engine) notePassing(t *sink.Table) {
	for _, d := range t.Derived {
		for _, l := range d.From {
			for _, st := range l.Steps {
				list := e.passing[st.Node][st.Column]
				if len(list) == 0 || list[len(list)-1] != t {
					e.passing[st.Node][st.Column] = append(list, t)
				}
			}
		}
	}
}

// Forget drops all cached path values: after a fencing, a rollback whose outcome
// is unknown, or a new session.
func (e *Engine) Forget() { e.cache.Purge() }

// entity is the first half of an action about rows of s.
func (s *Source) entity() string {
	if s.Target != nil && s.Target.Audit != nil {
		return s.Target.Audit.Entity
	}
	// A table that is only followed has no name of its own in the mapping.
	// Django names tables app_model.
	if _, model, ok := strings.Cut(s.Name, "_"); ok {
		return model
	}
	return s.Name
}
