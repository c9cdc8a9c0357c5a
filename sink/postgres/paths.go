package postgres

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// reach is one way on which rows pass a node: from their own column start over
// the steps before it.
type reach struct {
	start  int
	before []sink.Step
}

// reaches lists the ways on which rows of table pass node, each once, whatever
// lies behind the node.
func reaches(table *sink.Table, node *sink.Node) []reach {
	var all []reach
	seen := make(map[string]bool)
	for _, d := range table.Derived {
		for _, l := range d.From {
			way := strconv.Itoa(l.Column)
			for i, step := range l.Steps {
				if step.Node == node && !seen[way] {
					seen[way] = true
					all = append(all, reach{start: l.Column, before: l.Steps[:i]})
				}
				way += "/" + step.Node.Name + ":" + strconv.Itoa(step.Column)
			}
		}
	}
	return all
}

// pathValues is walbridge.path_values, restricted to one node. The restriction is
// made of literals, which the partial indexes can be matched with.
func (s *Sink) pathValues(node *sink.Node, alias string) (table, where string) {
	return "walbridge.path_values AS " + alias,
		fmt.Sprintf("%s.bridge = %s AND %[1]s.source = %[3]s", alias, pg.QuoteLiteral(s.name), pg.QuoteLiteral(node.Name))
}

func val(alias string, i int) string { return fmt.Sprintf("%s.vals[%d]", alias, i+1) }

// walk is the way back from a node to the rows that pass it: r0 joined with r1 …
// in from and where, first the condition on the node's keys. key is the
// expression of the node's key, and start that of the row's own value, as text;
// both are empty when the row's own value is the key.
func (s *Sink) walk(r reach, isKey func(expr string) string) (from, where []string, key, start string) {
	for i, step := range r.before {
		alias := "r" + strconv.Itoa(i)
		table, cond := s.pathValues(step.Node, alias)
		from = append(from, table)
		where = append(where, cond)
		if i > 0 {
			prev := r.before[i-1]
			where = append(where, val("r"+strconv.Itoa(i-1), prev.Column)+" = "+alias+".key")
		}
	}
	if n := len(r.before); n > 0 {
		start = "r0.key"
		key = val("r"+strconv.Itoa(n-1), r.before[n-1].Column)
		where = append(where, isKey(key))
	}
	return from, where, key, start
}

// heldOver is FROM and WHERE of the rows of table, aliased h, that are held for
// want of a tenant and pass a node over r.
func (s *Sink) heldOver(table *sink.Table, r reach, isKey func(expr string) string) string {
	from, where, _, start := s.walk(r, isKey)
	own := val("h", r.start)
	if start == "" {
		where = append(where, isKey(own))
	} else {
		where = append(where, own+" = "+start)
	}
	from = append([]string{"walbridge.held AS h"}, from...)
	where = append(where, s.heldHere(table))
	return "FROM " + strings.Join(from, ", ") + " WHERE " + strings.Join(where, " AND ")
}

func (s *Sink) heldHere(table *sink.Table) string {
	return fmt.Sprintf(`h.bridge = %s AND h."table" = %s AND h.reason = 'tenant'`,
		pg.QuoteLiteral(s.name), pg.QuoteLiteral(table.FullName()))
}

// lookups renders derived columns as they are by the path values now.
type lookups struct {
	s     *Sink
	table *sink.Table
	// start is a row's own value as text.
	start func(column int) string
	// joins are the left joins; lookups with the same beginning share them.
	joins strings.Builder
	alias map[string]string
}

func (s *Sink) lookups(table *sink.Table, start func(column int) string) *lookups {
	return &lookups{s: s, table: table, start: start, alias: make(map[string]string)}
}

// text is a derived column's value as text, null if no lookup finds one.
func (l *lookups) text(d sink.Derived) string {
	parts := make([]string, len(d.From))
	for i, from := range d.From {
		parts[i] = l.follow(from)
	}
	switch len(parts) {
	case 0:
		return "NULL::text"
	case 1:
		return parts[0]
	}
	return "coalesce(" + strings.Join(parts, ", ") + ")"
}

// typed is the value in the column's type.
func (l *lookups) typed(d sink.Derived) string {
	return "(" + l.text(d) + ")::" + l.table.Columns[d.Column].Type
}

func (l *lookups) follow(from sink.Lookup) string {
	value := l.start(from.Column)
	way := strconv.Itoa(from.Column)
	for _, step := range from.Steps {
		way += "/" + step.Node.Name
		alias := l.alias[way]
		if alias == "" {
			alias = "p" + strconv.Itoa(len(l.alias))
			l.alias[way] = alias
			table, where := l.s.pathValues(step.Node, alias)
			fmt.Fprintf(&l.joins, " LEFT JOIN %s ON %s AND %s.key = (%s) COLLATE \"C\"", table, where, alias, value)
		}
		value = val(alias, step.Column)
		way += ":" + strconv.Itoa(step.Column)
	}
	return value
}

// derivedAt returns the derived column at position i of the table.
func derivedAt(table *sink.Table, i int) (sink.Derived, bool) {
	for _, d := range table.Derived {
		if d.Column == i {
			return d, true
		}
	}
	return sink.Derived{}, false
}
