package oracle

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/verify"
	"github.com/walbridge/walbridge/mapping"
)

// findings collects what is wrong, up to a number that somebody reads.
type findings struct {
	list []string
	more int
}

const maxFindings = 12

func (f *findings) add(format string, args ...any) {
	if len(f.list) == maxFindings {
		f.more++
		return
	}
	f.list = append(f.list, fmt.Sprintf(format, args...))
}

func (f *findings) err() error {
	if len(f.list) == 0 {
		return nil
	}
	text := strings.Join(f.list, "\n")
	if f.more > 0 {
		text += fmt.Sprintf("\n… and %d more", f.more)
	}
	return fmt.Errorf("%d differences:\n%s", len(f.list)+f.more, text)
}

// compare holds the target against the journal.
func (w *world) compare(ctx context.Context) error {
	history, err := readJournal(ctx, w.source, w.plan.spec)
	if err != nil {
		return err
	}
	w.history = history
	m, copied := w.replay(history)
	f := &findings{}
	compiled, err := w.verify(ctx, f)
	if err != nil {
		return err
	}
	if err := w.independent(ctx, f); err != nil {
		return err
	}
	if err := w.counters(ctx, f); err != nil {
		return err
	}
	for _, t := range w.plan.spec.tables {
		if t.target == "" {
			continue
		}
		if err := w.compareTable(ctx, f, m, t, compiled); err != nil {
			return err
		}
	}
	if err := w.compareEntries(ctx, f, m, copied); err != nil {
		return err
	}
	return f.err()
}

// replay takes the model through the history. copied counts the rows that the
// first copy brought, by table and tenant; nil where they can't be known.
func (w *world) replay(history []*transaction) (m *model, copied map[string]int64) {
	m = newModel(w.plan.spec)
	m.sliceRows = w.plan.opts.batchRows
	m.copying = true
	begun, ended := false, false
	begin := func() {
		begun = true
		m.begin()
		if !w.plan.opts.load {
			copied = m.counts()
		}
	}
	for _, t := range history {
		if !begun && t.end > w.started {
			begin()
			m.copying = w.plan.opts.load
		}
		if begun && !ended && t.end > w.copied {
			ended = true
			m.endCopy()
		}
		m.apply(t)
	}
	if !begun {
		begin()
	}
	if !ended {
		m.endCopy()
	}
	return m, copied
}

// begin is the point at which the bridge was made: it knows of nothing that was
// gone by then.
func (m *model) begin() {
	clear(m.entries)
	clear(m.moves)
	clear(m.truncs)
	for _, t := range m.spec.tables {
		m.last[t] = maps.Clone(m.live[t])
		if t.target == "" {
			continue
		}
		rows := map[string]*row{}
		for key, image := range m.live[t] {
			made := m.evaluate(t, image)
			t.initial(made, image)
			if p := t.settle(made); p != nowhere {
				rows[key] = &row{version: version{place: p, image: image, out: made}}
			}
		}
		m.rows[t] = rows
	}
}

// initial sets the observed column as the first copy does.
func (t *table) initial(made, image cdc.Row) {
	for i, o := range t.outputs() {
		if o.observe != "" && slices.Contains(ended, made[t.outAt(o.observe)].Text) {
			made[i] = image[t.at(o.initial)]
		}
	}
}

// endCopy is the point from which on everything is known again, but when rows
// ended that the copy met that way.
func (m *model) endCopy() {
	if !m.copying {
		return
	}
	m.copying = false
	for _, rows := range m.rows {
		for _, r := range rows {
			r.vague = true
		}
	}
}

func (m *model) counts() map[string]int64 {
	n := map[string]int64{}
	for t, rows := range m.rows {
		for _, r := range rows {
			if r.place == inTable && t.entity != "" {
				n[t.name+" "+tenant(r.out).Text]++
			}
		}
	}
	return n
}

// verify asks the bridge's own comparison, which must agree.
func (w *world) verify(ctx context.Context, f *findings) (*mapping.Mapping, error) {
	file, err := mapping.Parse("oracle.yaml", []byte(w.plan.spec.mapping()))
	if err != nil {
		return nil, err
	}
	m, err := verify.Compile(ctx, file, w.compileOptions(), w.source, w.target)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	report, err := verify.Compare(ctx, m, w.source, w.target, verify.Options{Keys: 3})
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if total := report.Total(); !report.Equal() || total.Foreign > 0 {
		f.add("verify:\n%s", report)
	}
	entries, err := verify.Entries(ctx, m, w.target, "")
	if err != nil {
		return nil, fmt.Errorf("verify entries: %w", err)
	}
	if entries != nil && !entries.OK() {
		f.add("verify: %s", entries)
	}
	chain, err := verify.Chain(ctx, m, w.target, "")
	if err != nil {
		return nil, fmt.Errorf("verify the chain: %w", err)
	}
	switch {
	case entries == nil || entries.Head == 0 || !w.plan.spec.audit.chain:
		if chain != nil {
			f.add("a chain that nobody has asked for: %s", chain)
		}
	case chain == nil || !chain.OK() || chain.Linked != entries.Rows:
		f.add("%d entries, and the chain: %v", entries.Rows, chain)
	}
	return m, nil
}

// counters compares what the checkpoint says of the private schema and the log
// with what is there. A wrong count of held rows is no matter of looks: at 0
// nobody looks for rows to release.
func (w *world) counters(ctx context.Context, f *findings) error {
	var held, gotHeld, entries, gotEntries int64
	err := w.target.QueryRow(ctx, `SELECT (SELECT count(*) FROM walbridge.held), held_rows, (SELECT count(*) FROM audit_logs), audit_rows
		FROM walbridge.checkpoint`).Scan(&held, &gotHeld, &entries, &gotEntries)
	if err != nil {
		return err
	}
	if held != gotHeld {
		f.add("the checkpoint counts %d held rows, there are %d", gotHeld, held)
	}
	if entries != gotEntries {
		f.add("the checkpoint counts %d entries, there are %d", gotEntries, entries)
	}
	return nil
}

// tenantSQL is each table's tenant, said once more in SQL.
var tenantSQL = map[string]string{
	"contact":      "SELECT id::text, provedor_id FROM contact",
	"conversation": "SELECT v.id::text, coalesce(i.provedor_id, c.provedor_id) FROM conversation v LEFT JOIN inbox i ON i.id = v.inbox_id LEFT JOIN contact c ON c.id = v.contact_id",
	"message": `SELECT m.id::text, coalesce(i.provedor_id, c.provedor_id) FROM message m JOIN conversation v ON v.id = m.conversation_id
		LEFT JOIN inbox i ON i.id = v.inbox_id LEFT JOIN contact c ON c.id = v.contact_id`,
	"label": `SELECT json_build_array(l.conversation_id::text, l.name)::text, coalesce(i.provedor_id, c.provedor_id) FROM label l JOIN conversation v ON v.id = l.conversation_id
		LEFT JOIN inbox i ON i.id = v.inbox_id LEFT JOIN contact c ON c.id = v.contact_id`,
	"feedback": "SELECT f.id::text, CASE WHEN %t THEN coalesce(f.provedor_id, c.provedor_id) ELSE f.provedor_id END FROM feedback f LEFT JOIN contact c ON c.id = f.contact_id",
	"log":      "SELECT id::text, provedor_id FROM log",
}

// independent compares the tenants of all rows that the source has, from the
// source itself.
func (w *world) independent(ctx context.Context, f *findings) error {
	for _, t := range w.plan.spec.tables {
		if t.target == "" {
			continue
		}
		sql := tenantSQL[t.name]
		if t.name == "feedback" {
			sql = fmt.Sprintf(sql, len(t.tenant) > 1)
		}
		want, err := pairs(ctx, w.source, sql)
		if err != nil {
			return err
		}
		got, err := pairs(ctx, w.target, map[string]string{
			"label":    "SELECT json_build_array(conversation_id::text, name)::text, provedor_id FROM labels",
			"feedback": "SELECT source_id::text, provedor_id FROM feedbacks",
			"log":      "SELECT source_id::text, provedor_id FROM logs",
		}[t.name], "SELECT id::text, provedor_id FROM "+t.target)
		if err != nil {
			return err
		}
		for key, tenant := range want {
			switch {
			case tenant == nil && got[key] != nil:
				f.add("tenants: %s %s has no tenant at the source, but is at the target under %d", t.name, key, *got[key])
			case tenant != nil && got[key] == nil:
				f.add("tenants: %s %s is tenant %d's and not at the target", t.name, key, *tenant)
			case tenant != nil && *got[key] != *tenant:
				f.add("tenants: %s %s is tenant %d's, at the target %d's", t.name, key, *tenant, *got[key])
			}
		}
	}
	return nil
}

// pairs runs the first statement that isn't empty.
func pairs(ctx context.Context, conn *pgx.Conn, sql ...string) (map[string]*int64, error) {
	for _, s := range sql {
		if s == "" {
			continue
		}
		rows, err := conn.Query(ctx, s)
		if err != nil {
			return nil, err
		}
		out := map[string]*int64{}
		for rows.Next() {
			var key string
			var v *int64
			if err := rows.Scan(&key, &v); err != nil {
				return nil, err
			}
			out[strings.ReplaceAll(key, ", ", ",")] = v
		}
		return out, rows.Err()
	}
	return nil, nil
}
