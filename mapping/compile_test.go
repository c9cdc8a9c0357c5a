package mapping

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/pg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
)

func TestCompile_Errors(t *testing.T) {
	const archive = "testdata/compile.txtar"
	a, err := txtar.ParseFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	c := cluster(t)
	for _, f := range a.Files {
		if f.Name == "source.sql" || f.Name == "target.sql" {
			pgtest.Exec(t, pgtest.CreateDB(t, c, "compile_"+f.Name[:6]), string(f.Data))
		}
	}
	src, dst := connect(t, c, "compile_source"), connect(t, c, "compile_target")
	errorCases(t, archive, func(t *testing.T, name string, data []byte) error {
		f := mustParse(t, name, data)
		m, err := Compile(f, mustReadCatalog(t, src, f.SourceTables()), mustReadCatalog(t, dst, f.TargetTables()), CompileOptions{})
		if err == nil {
			runSelects(t, src, m)
		}
		return err
	})
}

// runSelects runs every kind of generated statement.
func runSelects(t *testing.T, src *pgx.Conn, m *Mapping) {
	t.Helper()
	for _, s := range m.Sources {
		key := make([]string, len(s.Key))
		for i := range s.Key {
			if key[i] = "1"; !s.Key[i].Integer {
				key[i] = "2024-01-01"
			}
		}
		sql, args := s.PieceSQL(key, 2)
		query(t, src, sql, args)
		sql, args = s.KeysSQL([][]string{key, key})
		query(t, src, sql, args)
		if v := m.View(s); v != nil {
			tenant := "7"
			sql, args = v.SQL(ViewRange{After: key, Upto: key, Limit: 2, Keys: [][]string{key}, Tenant: &tenant})
			query(t, src, sql, args)
		}
	}
}

// TestCompile_Presets compares what the presets compile to with golden files.
func TestCompile_Presets(t *testing.T) {
	c := cluster(t)
	niochat := newDatabase(t, c, "preset_niochat", "niochat.sql")
	guide := newDatabase(t, c, "preset_guide", "guide.sql")
	clinic := newDatabase(t, c, "preset_clinic", "clinic.sql")
	m := compilePreset(t, "niochat.yaml", niochat, guide)
	golden(t, "testdata/niochat.mapping", dump(m))
	if len(m.Warnings) > 0 {
		t.Errorf("the preset warns about the guide's own tables: %q", m.Warnings)
	}
	golden(t, "testdata/clinic.mapping", dump(compilePreset(t, "clinic.yaml", clinic, nil)))

	// Without the target's tables, the same mapping makes them.
	if fresh := compilePreset(t, "niochat.yaml", niochat, nil); dump(fresh) != dump(m) {
		t.Errorf("the preset makes other tables than the guide's:\n%s", cmp.Diff(dump(m), dump(fresh)))
	}
	pt := compilePreset(t, "niochat-pt.yaml", niochat, nil)
	renamed := strings.NewReplacer("public.messages", "public.mensagens", "public.audit_logs", "public.auditoria")
	if diff := cmp.Diff(renamed.Replace(dump(m)), dump(pt)); diff != "" {
		t.Errorf("niochat-pt.yaml differs by more than two names (-niochat +pt):\n%s", diff)
	}
}

// dump writes a mapping out for people.
func dump(m *Mapping) string {
	var b strings.Builder
	for _, s := range m.Sources {
		fmt.Fprintf(&b, "source %s key", s.FullName())
		for _, k := range s.Key {
			fmt.Fprintf(&b, " %s", k.Name)
		}
		b.WriteString("\n")
		for _, in := range s.Inputs {
			fmt.Fprintf(&b, "  input %s %s", in.Name, in.TypeName)
			if in.Carrier >= 0 {
				fmt.Fprintf(&b, " carried by %s", s.Target.Table.Columns[in.Carrier].Name)
			}
			b.WriteString("\n")
		}
		if s.Node != nil {
			for i, c := range s.Node.Columns {
				fmt.Fprintf(&b, "  path value %s from input %s", c, s.Inputs[s.NodeInputs[i]].Name)
				if s.Node.Next[i] != nil {
					fmt.Fprintf(&b, " to %s", s.Node.Next[i].Name)
				}
				b.WriteString("\n")
			}
		}
		if s.Target != nil {
			dumpTarget(&b, s)
		}
	}
	if e := m.Schema.Entries; e != nil {
		fmt.Fprintf(&b, "entries to %s.%s (%s, %s, %s, %s, %s, %s)\n", e.Schema, e.Name, e.ID, e.Tenant, e.User, e.Action, e.Details, e.Time)
	}
	fmt.Fprintf(&b, "reads %v\n", m.Reads)
	if d := m.Dashboard; d != nil {
		fmt.Fprintf(&b, "conversations of %s open %v closed %v\n", d.Conversations.Table.FullName(), d.Conversations.Open, d.Conversations.Closed)
		fmt.Fprintf(&b, "feedback of %s\n", d.Feedback.Table.FullName())
	}
	if a := m.Schema.Alerts; a != nil {
		fmt.Fprintf(&b, "alerts of %s to %s.%s after %s by %s, else %s\n", a.Of.FullName(), a.Schema, a.Name, a.After, a.Of.Columns[a.Since].Name, a.Of.Columns[a.Created].Name)
	}
	return b.String()
}

func dumpTarget(b *strings.Builder, s *Source) {
	t := s.Target.Table
	fmt.Fprintf(b, "  target %s on_delete=%d without_tenant=%d tenant=%s\n", t.FullName(), s.Target.OnDelete, s.Target.WithoutTenant, t.Columns[t.Tenant].Name)
	names := func(list []int) (out []string) {
		for _, i := range list {
			out = append(out, t.Columns[i].Name)
		}
		return out
	}
	for i, c := range t.Columns {
		col := s.Target.Columns[i]
		fmt.Fprintf(b, "    column %s %s", c.Name, c.Type)
		if c.NotNull {
			b.WriteString(" not null")
		}
		switch {
		case col.Const != nil:
			fmt.Fprintf(b, " = %q", col.Const.Text)
		case col.Observed != nil:
			fmt.Fprintf(b, " observes %s for %v, first %s", names([]int{col.Observed.Column})[0], slices.Sorted(maps.Keys(col.Observed.When)), col.Observed.Initial)
		case col.ConvertName != "":
			fmt.Fprintf(b, " = %s of %d", col.ConvertName, len(col.Own))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(b, "    key %v\n", names(t.Key))
	for _, d := range t.Derived {
		for _, l := range d.From {
			fmt.Fprintf(b, "    derived %s from %s", t.Columns[d.Column].Name, t.Columns[l.Column].Name)
			for _, st := range l.Steps {
				fmt.Fprintf(b, " > %s %s", st.Node.Name, st.Node.Columns[st.Column])
			}
			b.WriteString("\n")
		}
	}
	for _, i := range t.Indexes {
		fmt.Fprintf(b, "    index %v\n", names(i))
	}
	if s.Target.Realtime {
		b.WriteString("    realtime\n")
	}
	if a := s.Target.Audit; a != nil {
		fmt.Fprintf(b, "    audit %s user=%d hidden=%v\n", a.Entity, a.User, slices.Sorted(maps.Keys(a.Hidden)))
		for _, tr := range a.Transitions {
			fmt.Fprintf(b, "      %+v\n", tr)
		}
	}
}

// TestCompile_Warnings compiles onto tables that will refuse some rows.
func TestCompile_Warnings(t *testing.T) {
	c := cluster(t)
	src := newDatabase(t, c, "warnings_source", "niochat.sql")
	pgtest.Exec(t, pgtest.CreateDB(t, c, "warnings_target"),
		"CREATE TABLE contacts (id bigint PRIMARY KEY, provedor_id bigint NOT NULL, name text NOT NULL, email text NOT NULL)")
	dst := connect(t, c, "warnings_target")
	m := compilePreset(t, "niochat.yaml", src, dst)
	if len(m.Warnings) != 1 || !strings.Contains(m.Warnings[0], `column "email" of target table public.contacts is NOT NULL`) {
		t.Errorf("got warnings %q, want one about email", m.Warnings)
	}
}

// TestCompile_Options: the command line's policy goes before the file's.
func TestCompile_Options(t *testing.T) {
	src := newDatabase(t, cluster(t), "options", "niochat.sql")
	data, err := configs.Read("niochat.yaml")
	if err != nil {
		t.Fatal(err)
	}
	f := mustParse(t, "niochat.yaml", data)
	remove := Delete
	m, err := Compile(f, mustReadCatalog(t, src, f.SourceTables()), nil, CompileOptions{OnDelete: &remove, NoAudit: true, Audit: Audit{MaxValue: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if m.Audit != nil || m.Schema.Entries != nil {
		t.Error("NoAudit left an audit")
	}
	for _, s := range m.Sources {
		if s.Target != nil && (s.Target.OnDelete != Delete || s.Target.Audit != nil) {
			t.Errorf("%s: policy %d, audit %v", s.FullName(), s.Target.OnDelete, s.Target.Audit)
		}
	}
	m, err = Compile(f, mustReadCatalog(t, src, f.SourceTables()), nil, CompileOptions{Audit: Audit{Values: AuditAll, MaxValue: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if m.Audit == nil || *m.Audit != (Audit{Values: AuditAll, MaxValue: 1}) {
		t.Errorf("got audit %+v", m.Audit)
	}
}

// TestCompile_Fingerprint changes the preset in ways that alter what the tables
// hold, and in ways that don't.
func TestCompile_Fingerprint(t *testing.T) {
	src := newDatabase(t, cluster(t), "fingerprint", "niochat.sql")
	preset, err := configs.Read("niochat.yaml")
	if err != nil {
		t.Fatal(err)
	}
	print := func(data []byte, opts CompileOptions) string {
		f := mustParse(t, "niochat.yaml", data)
		m, err := Compile(f, mustReadCatalog(t, src, f.SourceTables()), nil, opts)
		if err != nil {
			t.Fatal(err)
		}
		return m.Schema.Fingerprint
	}
	was := print(preset, CompileOptions{})
	keep := Keep
	if got := print(preset, CompileOptions{OnDelete: &keep, NoAudit: true}); got != was {
		t.Error("options changed the fingerprint")
	}
	for _, tt := range []struct {
		old, new string
		changes  bool
	}{
		{"# Where entries go.", "# Another comment,\n# on two lines.", false},
		{"on_delete: keep", "on_delete: delete", false},
		{"audit: {entity: message}", "audit: false", false},
		{"      - [provedor_id, phone]", "      - [phone]", false},
		{"table: audit_logs", "table: entries", false},
		{"      - file_size\n", "      - file_size: {type: text}\n", false},
		{"[inbox.provedor_id, contact.provedor_id]", "[contact.provedor_id, inbox.provedor_id]", true},
		{"      - file_size\n", "", true},
		{"      - file_name\n", "      - file_name: external_id\n", true},
		{"contact_id: conversation.contact_id", "contact_id: {const: 1}", true},
		{"when: [closed, resolved, ended]", "when: [closed]", true},
		{"conversation_ended_at, updated_at]", "conversation_ended_at]", true},
		{"without_tenant: drop", "without_tenant: hold", true},
		{"contact_name, conversation_id,", "contact_name,", true},
		{"  contacts:\n", "  people:\n", true},
	} {
		data := bytes.Replace(preset, []byte(tt.old), []byte(tt.new), 1)
		if bytes.Equal(data, preset) {
			t.Fatalf("the preset has no %q", tt.old)
		}
		if got := print(data, CompileOptions{}) != was; got != tt.changes {
			t.Errorf("%q for %q changes the fingerprint: %v, want %v", tt.new, tt.old, got, tt.changes)
		}
	}
}

// TestCompile_Explicit follows a path without foreign keys.
func TestCompile_Explicit(t *testing.T) {
	t.Parallel()
	column := func(name, typ string, oid uint32) pg.Column {
		t := *builtin(typ)
		t.OID = oid
		return pg.Column{Name: name, Type: t}
	}
	table := func(name string, columns ...pg.Column) *pg.Table {
		return &pg.Table{
			TableName: pg.TableName{Schema: "public", Name: name}, Kind: "r", Persistence: "p", Identity: "d",
			PrimaryKey: []string{"id"}, Columns: append([]pg.Column{column("id", "int8", 20)}, columns...),
		}
	}
	catalog := &pg.Catalog{Tables: map[pg.TableName]*pg.Table{}}
	for _, tab := range []*pg.Table{
		table("note", column("topic", "int8", 20)),
		table("subject", column("area_id", "int4", 23)),
		table("area", column("org", "text", 25)),
	} {
		catalog.Tables[tab.TableName] = tab
	}
	f := mustParse(t, "m.yaml", []byte(`
tables:
  notes:
    from: note
    tenant: topic.area.org
    columns: [id, topic]
    paths:
      topic: {column: topic, table: subject}
      topic.area: {column: area_id, table: area}
`))
	m, err := Compile(f, catalog, nil, CompileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	notes := m.Sources[len(m.Sources)-1].Target.Table
	if got, want := notes.Columns[notes.Tenant].Type, `"pg_catalog"."text"`; got != want {
		t.Errorf("tenant type %s, want %s", got, want)
	}
	var got []string
	for _, st := range notes.Derived[0].From[0].Steps {
		got = append(got, st.Node.Name+" "+st.Node.Columns[st.Column])
	}
	if diff := cmp.Diff([]string{"public.subject area_id", "public.area org"}, got); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if next := notes.Derived[0].From[0].Steps[0].Node.Next; len(next) != 1 || next[0] != notes.Derived[0].From[0].Steps[1].Node {
		t.Error("the first node doesn't lead to the second")
	}
	if got := slices.IndexFunc(m.Schema.Nodes, func(n *sink.Node) bool { return n.Name == "public.area" }); got != 0 {
		t.Errorf("the farthest node is at %d, want it first", got)
	}
}
