package propose

import (
	"cmp"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
)

// maxSteps is how many foreign keys a path passes at most; maxPaths how many ways
// a table gets. Beyond that nobody could say whose row it is.
const (
	maxSteps = 4
	maxPaths = 3
)

// ways knows the paths from tables to the tenant's column.
type ways struct {
	tables map[pg.TableName]*pg.Table
	tenant string
}

// newWays takes the tables that paths may pass. Those with credentials are not
// among them: a table on a path is published.
func newWays(tables []*pg.Table, tenant string) *ways {
	w := &ways{tables: map[pg.TableName]*pg.Table{}, tenant: tenant}
	for _, t := range tables {
		w.tables[t.TableName] = t
	}
	return w
}

// way is one path. It is certain when nothing on it can be null.
type way struct {
	steps   []string
	certain bool
}

// from returns the paths of t: the shortest first, and further ones for as long as
// those before them can come to nothing.
func (w *ways) from(t *pg.Table) []string {
	var paths []string
	for _, way := range w.find(t, nil, true) {
		paths = append(paths, quotePath(way, w.tenant))
		if way.certain || len(paths) == maxPaths {
			break
		}
	}
	return paths
}

// find returns all ways without a circle, in the order of their quality.
func (w *ways) find(t *pg.Table, passed []*pg.Table, certain bool) []way {
	if c := t.Column(w.tenant); c != nil {
		return []way{{certain: certain && c.NotNull}}
	}
	if len(passed) == maxSteps {
		return nil
	}
	passed = append(slices.Clone(passed), t)
	var found []way
	for _, fk := range t.ForeignKeys {
		next := w.tables[fk.Ref]
		if next == nil || slices.Contains(passed, next) || !followable(t, next, fk) {
			continue
		}
		c := t.Column(fk.Column)
		for _, rest := range w.find(next, passed, certain && c.NotNull) {
			found = append(found, way{steps: append([]string{relationName(t, fk.Column)}, rest.steps...), certain: rest.certain})
		}
	}
	slices.SortStableFunc(found, func(a, b way) int {
		if a.certain != b.certain && len(a.steps) == len(b.steps) {
			if a.certain {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(len(a.steps), len(b.steps)), slices.Compare(a.steps, b.steps))
	})
	return slices.CompactFunc(found, func(a, b way) bool { return slices.Equal(a.steps, b.steps) })
}

// followable reports that a path can pass a foreign key: it is the column's only
// one, and leads to a primary key of one column.
func followable(t, next *pg.Table, fk pg.ForeignKey) bool {
	for _, other := range t.ForeignKeys {
		if other.Column == fk.Column && other.Ref != fk.Ref {
			return false
		}
	}
	return slices.Equal(next.PrimaryKey, []string{fk.RefColumn})
}

// relationName is a column's name as a path spells it: as Django names the field.
func relationName(t *pg.Table, column string) string {
	name, ok := strings.CutSuffix(column, "_id")
	if !ok || name == "" || t.Column(name+"_id_id") != nil {
		return column
	}
	return name
}

// ownerOf is the table that the tenant column's foreign keys lead to, if they
// agree.
func ownerOf(tables []*pg.Table, tenant string) (owner pg.TableName) {
	for _, t := range tables {
		for _, fk := range t.ForeignKeys {
			if fk.Column != tenant {
				continue
			}
			if owner.Name != "" && owner != fk.Ref {
				return pg.TableName{}
			}
			owner = fk.Ref
		}
	}
	return owner
}
