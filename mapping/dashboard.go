package mapping

import (
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/sink"
)

// Dashboard says which tables the views and the alerts for dashboards are made of.
// Alerts are part of the Schema.
type Dashboard struct {
	// Conversations and Feedback are nil unless the file names them.
	Conversations *ConversationMetrics
	Feedback      *FeedbackMetrics
}

// ConversationMetrics are the columns of the conversations' table that views
// count, by position.
type ConversationMetrics struct {
	Table                  *sink.Table
	Status, Created, Ended int
	// Open and Closed are values of Status.
	Open, Closed []string
}

// FeedbackMetrics are the columns of the feedback's table that views count.
type FeedbackMetrics struct {
	Table        *sink.Table
	Rating, Sent int
}

// dashboard is the section of that name. Its columns have NioChat's names unless
// the file gives others.
type dashboard struct {
	at                      pos
	conversations, feedback *dashboardTable
	open, closed            []value
	alerts                  *alerts
}

// dashboardTable is one of its tables, with columns by what they hold.
type dashboardTable struct {
	at      pos
	table   pg.TableName
	columns map[string]nameAt
	given   map[string]bool
}

type alerts struct {
	at    pos
	table pg.TableName
	after time.Duration
}

func (r *reader) dashboard(e entry) *dashboard {
	d := &dashboard{at: e.at}
	r.fields(e.at, e.value, "keys like conversations, feedback and alerts", map[string]func(pos, ast.Node){
		"conversations": func(at pos, n ast.Node) {
			d.conversations = r.dashboardTable(at, n, map[string]string{"status": "status", "created": "created_at", "ended": "ended_at", "since": "open_since"},
				map[string]func(pos, ast.Node){
					"open":   func(at pos, n ast.Node) { d.open = r.values(at, n) },
					"closed": func(at pos, n ast.Node) { d.closed = r.values(at, n) },
				})
			if len(d.open) == 0 || len(d.closed) == 0 {
				r.add(at, "add open: and closed: with values of the status, like [open]", "nothing says which conversations are open and which closed")
			}
		},
		"feedback": func(at pos, n ast.Node) {
			d.feedback = r.dashboardTable(at, n, map[string]string{"rating": "rating_value", "sent": "feedback_sent_at"}, nil)
		},
		"alerts": func(at pos, n ast.Node) { d.alerts = r.alerts(at, n) },
	})
	if d.alerts != nil && d.conversations == nil {
		r.add(d.alerts.at, "add conversations: beside it", "alerts are about conversations, and no table of them is named")
	}
	return d
}

func (r *reader) dashboardTable(at pos, n ast.Node, columns map[string]string, more map[string]func(pos, ast.Node)) *dashboardTable {
	t := &dashboardTable{at: at, columns: map[string]nameAt{}, given: map[string]bool{}}
	keys := map[string]func(pos, ast.Node){
		"table": func(at pos, n ast.Node) { t.at = at; t.table, _ = r.table(at, n) },
	}
	for role, name := range columns {
		t.columns[role] = nameAt{at: at, name: name}
		keys[role] = func(at pos, n ast.Node) {
			if v, ok := r.name(at, n, "a column's name"); ok {
				t.columns[role], t.given[role] = v, true
			}
		}
	}
	for key, read := range more {
		keys[key] = read
	}
	r.fields(at, n, "keys, one of them table", keys)
	if t.at == at {
		r.add(at, "add table: with the target table's name", "no table is named")
	}
	return t
}

func (r *reader) alerts(at pos, n ast.Node) *alerts {
	a := &alerts{at: at, table: pg.TableName{Schema: "public", Name: "conversation_alerts"}, after: time.Hour}
	r.fields(at, n, "keys like after", map[string]func(pos, ast.Node){
		"table": func(at pos, n ast.Node) { a.table, _ = r.table(at, n) },
		"after": func(at pos, n ast.Node) {
			const want = "a time, like 1h or 90m"
			s, ok := r.text(at, n, want)
			if !ok {
				return
			}
			var err error
			if a.after, err = time.ParseDuration(s); err != nil || a.after <= 0 {
				r.add(at, "write "+want, "%q is none", s)
			}
		},
	})
	return a
}

// dashboard compiles the section: its tables must be mapped, and have the columns.
func (c *compiler) dashboard() {
	d := c.f.dashboard
	if d == nil || len(c.list) > 0 {
		return
	}
	out := &Dashboard{}
	if t := d.conversations; t != nil {
		if f := c.dashboardTable(t); f != nil {
			m := &ConversationMetrics{Table: f.table, Open: textsOf(d.open), Closed: textsOf(d.closed)}
			m.Status = f.column("status", "text", "varchar", "bpchar")
			m.Created, m.Ended = f.column("created", "timestamptz"), f.column("ended", "timestamptz")
			out.Conversations = m
			since := -1
			if t.given["since"] || f.has("since") {
				since = f.column("since", "timestamptz")
			}
			c.alerts(d.alerts, m, since)
		}
	}
	if t := d.feedback; t != nil {
		if f := c.dashboardTable(t); f != nil {
			out.Feedback = &FeedbackMetrics{Table: f.table, Rating: f.column("rating", "int2", "int4", "int8", "numeric", "float4", "float8"),
				Sent: f.column("sent", "timestamptz")}
		}
	}
	c.mapping.Dashboard = out
}

func textsOf(values []value) (list []string) {
	for _, v := range values {
		list = append(list, v.text)
	}
	return list
}

// alerts adds them to the schema.
func (c *compiler) alerts(a *alerts, m *ConversationMetrics, since int) {
	if a == nil {
		return
	}
	if len(m.Table.Key) != 1 {
		c.add(a.at, "leave alerts out", "table %s has a key of several columns, and an alert names a conversation by one", m.Table.FullName())
	}
	out := &sink.Alerts{Schema: a.table.Schema, Name: a.table.Name, Of: m.Table, Status: m.Status, Created: m.Created, Since: since,
		Open: m.Open, After: a.after}
	for _, t := range c.f.TargetTables() {
		if t == a.table || t == (pg.TableName{Schema: out.Schema, Name: out.ThresholdTable()}) {
			c.add(a.at, "choose another table", "table %s holds something else", t)
		}
	}
	c.mapping.Schema.Alerts = out
}

// foundTable looks columns of a dashboard's table up, and notes what is missing.
type foundTable struct {
	c     *compiler
	spec  *dashboardTable
	table *sink.Table
}

func (c *compiler) dashboardTable(t *dashboardTable) *foundTable {
	for _, o := range c.order {
		if o.spec != nil && o.spec.target == t.table && o.source.Target != nil {
			return &foundTable{c, t, o.source.Target.Table}
		}
	}
	c.add(t.at, "name one of tables", "table %s is not mapped", t.table)
	return nil
}

func (f *foundTable) index(role string) int {
	return slices.IndexFunc(f.table.Columns, func(c sink.Column) bool { return c.Name == f.spec.columns[role].name })
}

func (f *foundTable) has(role string) bool { return f.index(role) >= 0 }

func (f *foundTable) column(role string, types ...string) int {
	name := f.spec.columns[role]
	i := f.index(role)
	if i < 0 {
		f.c.add(name.at, "map it, or say "+role+": with the column that it is", "table %s has no mapped column %q", f.spec.table, name.name)
		return 0
	}
	typ, _ := strings.CutPrefix(f.table.Columns[i].Type, `"pg_catalog".`)
	if !slices.Contains(types, strings.Trim(typ, `"`)) {
		f.c.add(name.at, "name another column", "column %q of table %s is %s, and takes %s", name.name, f.spec.table, f.table.Columns[i].Type, oneOf(types))
	}
	return i
}
