package mapping

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// The statements here let the source digest a view as a sink.Reader digests its
// table, so that two equal parts are found equal without a row being carried.

// Ranges reports whether the same range of keys means the same rows at the source
// and in the target table: its key is the source's, column by column, and ordered
// alike (sink.Range).
func (v *View) Ranges() bool {
	t := v.s.Target
	if len(t.Table.Key) != len(v.s.Key) {
		return false
	}
	for i, at := range t.Table.Key {
		c, k := &t.Columns[at], &v.s.Key[i]
		if c.Convert != nil || len(c.Own) != 1 || c.Own[0] != i {
			return false
		}
		uuid := t.Table.Columns[at].Type == `"pg_catalog"."uuid"`
		byValue := t.Table.Columns[at].ByValue()
		switch k.order() {
		case byInteger:
			if !byValue || uuid {
				return false
			}
		case byUUID:
			if !uuid {
				return false
			}
		default:
			if byValue {
				return false
			}
		}
	}
	return true
}

// Parts returns what a row of the target is hashed of, so that it has the hash
// that HashesSQL gives the source's. It is false where a column is made by a
// conversion, which only Go knows.
func (v *View) Parts() (parts []sink.Part, ok bool) {
	for i, value := range v.values {
		part := sink.Part{Column: i}
		switch o := value.col.Observed; {
		case value.col.Convert != nil:
			return nil, false
		case o == nil:
		default:
			part.Presence = true
			if o.Initial == "" { // it may be null there, too
				part.Unless, part.Values = o.Column, slices.Sorted(maps.Keys(o.When))
			}
		}
		parts = append(parts, part)
	}
	return parts, true
}

// hash is a row's hash, of the values that Parts names in the target's row.
func (v *View) hash() string {
	parts := make([]string, len(v.values))
	for i, value := range v.values {
		switch o := value.col.Observed; {
		case o == nil:
			parts[i] = v.value(value)
		case o.Initial == "":
			parts[i] = "CASE WHEN " + v.within(o) + " THEN NULL ELSE false END"
		default:
			parts[i] = "COALESCE(" + v.within(o) + ", false)"
		}
	}
	return "pg_catalog.hashtextextended(ROW(" + strings.Join(parts, ", ") + `)::pg_catalog.text COLLATE pg_catalog."C", 0)`
}

// within is the condition that an observed column's watched column has one of its
// values.
func (v *View) within(o *Observed) string {
	return outputOf(v.columns[v.values[o.Column].from[0]]) + " IN (" + literals(o.When) + ")"
}

// value is a column that no conversion makes.
func (v *View) value(value viewValue) string {
	switch {
	case value.col.Const != nil && value.col.Const.IsNull(), value.col.Const == nil && len(value.from) == 0:
		return "NULL"
	case value.col.Const != nil:
		return pg.QuoteLiteral(value.col.Const.Text)
	case len(value.from) == 1:
		return v.columns[value.from[0]]
	}
	list := make([]string, len(value.from))
	for i, f := range value.from {
		list[i] = outputOf(v.columns[f])
	}
	return "COALESCE(" + strings.Join(list, ", ") + ")"
}

// outputOf is a value as its type's output function writes it.
func outputOf(sql string) string {
	return "CASE WHEN " + sql + " IS NOT NULL THEN pg_catalog.concat(" + sql + ") END"
}

// SumsSQL returns the statement that digests a range by tenant: tenant, number of
// rows, sum of their hashes. Limit has no effect.
func (v *View) SumsSQL(r ViewRange) (sql string, args []string) {
	r.Limit = 0
	list := v.tenant + ", pg_catalog.count(*), COALESCE(pg_catalog.sum(" + v.hash() + "), 0)"
	sql, args = v.selectRange(list, r, false)
	return sql + " GROUP BY 1", args
}

// HashesSQL returns the statement that reads tenant and hash of the rows of a
// range, and their key behind them, in key order.
func (v *View) HashesSQL(r ViewRange) (sql string, args []string) {
	list := []string{v.tenant, v.hash()}
	for i := range v.s.Key {
		list = append(list, "s."+pg.Quote(v.s.Key[i].Name))
	}
	return v.selectRange(strings.Join(list, ", "), r, true)
}

// BoundSQL returns the statement that reads the key that is skip rows behind the
// one after the key after; nil is the start.
func (s *Source) BoundSQL(after []string, skip int) (sql string, args []string) {
	var p params
	list := make([]string, len(s.Key))
	for i := range s.Key {
		list[i] = "s." + pg.Quote(s.Key[i].Name)
	}
	sql = "SELECT " + strings.Join(list, ", ") + s.from()
	if after != nil {
		sql += " WHERE " + s.beyond(&p, ">", after)
	}
	return sql + " ORDER BY " + s.orderBy() + " OFFSET " + strconv.Itoa(skip) + " LIMIT 1", p
}

// NodeSQL returns the statement that reads the source's rows as paths pass them:
// the key, the values of Node.Columns, and the version of the row (ViewRange). It
// takes keys, or a bound and a limit.
func (s *Source) NodeSQL(r ViewRange) (sql string, args []string) {
	var p params
	var list []string
	for i := range s.Key {
		list = append(list, "s."+pg.Quote(s.Key[i].Name))
	}
	for _, name := range s.Node.Columns {
		list = append(list, "s."+pg.Quote(name))
	}
	sql = "SELECT " + strings.Join(list, ", ") + ", s.xmin" + s.from()
	if r.Keys != nil {
		return sql + s.among(&p, r.Keys), p
	}
	if r.After != nil {
		sql += " WHERE " + s.beyond(&p, ">", r.After)
	}
	return sql + " ORDER BY " + s.orderBy() + " LIMIT " + strconv.Itoa(r.Limit), p
}

// KeySQL returns the statement that reads the primary keys of a source table, of
// all rows or of those with the given keys, in no order.
func (s *Source) KeySQL(keys ...[]string) (sql string, args []string) {
	var p params
	list := make([]string, len(s.Key))
	for i := range s.Key {
		list[i] = "s." + pg.Quote(s.Key[i].Name)
	}
	sql = "SELECT " + strings.Join(list, ", ") + s.from()
	if len(keys) > 0 {
		sql += s.among(&p, keys)
	}
	return sql, p
}

// Key returns the target's key of a source row, from its primary key.
func (t *Target) Key(key cdc.Row) (sink.Key, error) { return t.targetKey(key) }
