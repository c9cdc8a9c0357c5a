package oracle

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// spec describes the application's tables and what the target is to have of
// them. The mapping file is written from it, and the model evaluates it.
type spec struct {
	tables []*table // parents first
	byName map[string]*table
	audit  auditSpec
}

// auditSpec is what decides which entries there are and what they show.
type auditSpec struct {
	unchanged bool
	values    string // changed, all or none
	maxValue  int
	chain     bool
}

// table is a source table, and the target table that is made of it.
type table struct {
	name    string
	columns []string
	key     []string
	// numeric says that all key columns are integers, which entries carry as
	// numbers.
	numeric map[string]bool

	target     string // empty for one that paths only pass
	out        []out
	tenant     []string // paths
	keep, drop bool
	entity     string // empty without entries
	user       string // target column with the acting user
	hide       []string
	verbs      []verb
	// externals are columns whose large values are stored out of line.
	externals []string
	identity  string // default, full or index
}

// out is a target column.
type out struct {
	name string
	// path is a column of the row, or one that is reached over foreign keys.
	path string
	// uuid makes a UUID of the source's key.
	uuid bool
	// observe is the column whose coming to one of ended sets this one.
	observe string
	initial string
}

// verb is a named transition of an update (or of an insert).
type verb struct {
	name     string
	insert   bool
	column   string
	from, to []string
	notNull  bool
	keys     []string
}

var ended = []string{"closed", "resolved", "ended"}

// sourceSQL makes the application's tables. Foreign keys are deferred, as
// Django makes them. Table noise is not mapped.
const sourceSQL = `
CREATE TABLE inbox (id bigint PRIMARY KEY, name text NOT NULL, provedor_id bigint);
CREATE TABLE contact (id bigint PRIMARY KEY, name text NOT NULL, phone text, avatar text, provedor_id bigint);
CREATE TABLE conversation (id bigint PRIMARY KEY, status text NOT NULL, assignee_id bigint, note text, attrs jsonb NOT NULL,
	updated_at timestamptz NOT NULL, extra int,
	contact_id bigint REFERENCES contact DEFERRABLE INITIALLY DEFERRED,
	inbox_id bigint REFERENCES inbox DEFERRABLE INITIALLY DEFERRED);
CREATE INDEX ON conversation (contact_id);
CREATE INDEX ON conversation (inbox_id);
CREATE TABLE message (id bigint PRIMARY KEY, content text, is_from_customer boolean NOT NULL, file text, extra text,
	conversation_id bigint NOT NULL REFERENCES conversation DEFERRABLE INITIALLY DEFERRED);
CREATE INDEX ON message (conversation_id);
CREATE TABLE label (conversation_id bigint NOT NULL REFERENCES conversation DEFERRABLE INITIALLY DEFERRED,
	name text NOT NULL, note text, PRIMARY KEY (conversation_id, name));
CREATE TABLE feedback (id bigint PRIMARY KEY, rating int NOT NULL, comment text, provedor_id bigint,
	contact_id bigint REFERENCES contact DEFERRABLE INITIALLY DEFERRED);
CREATE INDEX ON feedback (contact_id);
CREATE TABLE log (id bigint PRIMARY KEY, action text NOT NULL, details text, user_id bigint, provedor_id bigint);
CREATE TABLE noise (id bigint PRIMARY KEY, v text);
CREATE UNIQUE INDEX contact_identity ON contact (id, name);
CREATE UNIQUE INDEX conversation_identity ON conversation (status, id);
CREATE UNIQUE INDEX message_identity ON message (id, conversation_id);
CREATE UNIQUE INDEX label_identity ON label (name, conversation_id);
CREATE UNIQUE INDEX feedback_identity ON feedback (id, rating);
CREATE UNIQUE INDEX log_identity ON log (id, action);
CREATE UNIQUE INDEX inbox_identity ON inbox (id, name);
`

func newSpec() *spec {
	s := &spec{byName: map[string]*table{}}
	s.tables = []*table{
		{name: "inbox", columns: []string{"id", "name", "provedor_id"}, key: []string{"id"}, entity: "inbox"},
		{name: "contact", columns: []string{"id", "name", "phone", "avatar", "provedor_id"}, key: []string{"id"},
			target: "contacts", tenant: []string{"provedor_id"}, entity: "contact", hide: []string{"phone"},
			out:       []out{{name: "id", path: "id"}, {name: "name", path: "name"}, {name: "phone", path: "phone"}, {name: "avatar", path: "avatar"}},
			externals: []string{"avatar"}},
		{name: "conversation", columns: []string{"id", "status", "assignee_id", "note", "attrs", "updated_at", "extra", "contact_id", "inbox_id"}, key: []string{"id"},
			target: "conversations", tenant: []string{"inbox.provedor_id", "contact.provedor_id"}, entity: "conversation",
			out: []out{{name: "id", path: "id"}, {name: "contact_id", path: "contact_id"}, {name: "inbox_id", path: "inbox_id"},
				{name: "status", path: "status"}, {name: "assignee_id", path: "assignee_id"}, {name: "note", path: "note"},
				{name: "ended_at", observe: "status", initial: "updated_at"}, {name: "attrs", path: "attrs"}},
			verbs: []verb{
				{name: "closed", column: "status", to: ended},
				{name: "reopened", column: "status", from: ended},
				{name: "assigned", column: "assignee_id", notNull: true},
				{name: "transferred", column: "attrs", keys: []string{"assigned_user", "transfer_*"}},
			},
			externals: []string{"note"}},
		{name: "message", columns: []string{"id", "content", "is_from_customer", "file", "extra", "conversation_id"}, key: []string{"id"},
			target: "messages", tenant: []string{"conversation.inbox.provedor_id", "conversation.contact.provedor_id"}, entity: "message",
			out: []out{{name: "id", path: "id"}, {name: "conversation_id", path: "conversation_id"}, {name: "contact_id", path: "conversation.contact_id"},
				{name: "content", path: "content"}, {name: "is_from_customer", path: "is_from_customer"}, {name: "file", path: "file"}},
			externals: []string{"content", "file", "extra"}},
		{name: "label", columns: []string{"conversation_id", "name", "note"}, key: []string{"conversation_id", "name"},
			target: "labels", tenant: []string{"conversation.inbox.provedor_id", "conversation.contact.provedor_id"}, entity: "label",
			out:       []out{{name: "conversation_id", path: "conversation_id"}, {name: "name", path: "name"}, {name: "note", path: "note"}},
			externals: []string{"note"}},
		{name: "feedback", columns: []string{"id", "rating", "comment", "provedor_id", "contact_id"}, key: []string{"id"},
			target: "feedbacks", tenant: []string{"provedor_id"}, entity: "csat",
			out: []out{{name: "id", uuid: true}, {name: "source_id", path: "id"}, {name: "contact_id", path: "contact_id"},
				{name: "contact_avatar", path: "contact.avatar"}, {name: "own_provedor", path: "provedor_id"},
				{name: "rating", path: "rating"}, {name: "comment", path: "comment"}},
			verbs:     []verb{{name: "rated", insert: true}},
			externals: []string{"comment"}},
		{name: "log", columns: []string{"id", "action", "details", "user_id", "provedor_id"}, key: []string{"id"},
			target: "logs", tenant: []string{"provedor_id"}, drop: true, entity: "log", user: "user_id",
			out: []out{{name: "id", uuid: true}, {name: "source_id", path: "id"}, {name: "action", path: "action"},
				{name: "details", path: "details"}, {name: "user_id", path: "user_id"}},
			externals: []string{"details"}},
	}
	for _, t := range s.tables {
		s.byName[t.name] = t
		t.identity = "default"
		t.numeric = map[string]bool{"id": true, "conversation_id": true}
	}
	return s
}

// outputs are the target columns of t, the tenant's at the end.
func (t *table) outputs() []out {
	return append(slices.Clone(t.out), out{name: "provedor_id"})
}

// at is the position of a source column.
func (t *table) at(column string) int { return slices.Index(t.columns, column) }

// outAt is the position of a target column.
func (t *table) outAt(column string) int {
	return slices.IndexFunc(t.outputs(), func(o out) bool { return o.name == column })
}

// variantSQL brings identities and storage in line with the spec.
func (s *spec) variantSQL() []string {
	var list []string
	for _, t := range s.tables {
		switch t.identity {
		case "full":
			list = append(list, "ALTER TABLE "+t.name+" REPLICA IDENTITY FULL")
		case "index":
			list = append(list, "ALTER TABLE "+t.name+" REPLICA IDENTITY USING INDEX "+t.name+"_identity")
		}
		for _, c := range t.externals {
			list = append(list, "ALTER TABLE "+t.name+" ALTER "+c+" SET STORAGE EXTERNAL")
		}
	}
	return list
}

// journalSQL makes the journal and a trigger that keeps it. The trigger's name
// sorts first, so that it fires before those of the foreign keys.
func (s *spec) journalSQL() string {
	var b strings.Builder
	b.WriteString(`CREATE TABLE journal (seq bigserial PRIMARY KEY, xid text NOT NULL, rel text NOT NULL, op text NOT NULL, old text[], new text[]);
`)
	for _, t := range s.tables {
		image := func(side string) string {
			list := make([]string, len(t.columns))
			for i, c := range t.columns {
				// Not a cast, which makes true of t.
				list[i] = fmt.Sprintf("CASE WHEN %[1]s.%[2]s IS NOT NULL THEN concat(%[1]s.%[2]s) END", side, c)
			}
			return "ARRAY[" + strings.Join(list, ", ") + "]"
		}
		fmt.Fprintf(&b, `
CREATE FUNCTION journal_%[1]s() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO journal (xid, rel, op, old, new) VALUES (pg_current_xact_id()::text, '%[1]s', left(TG_OP, 1),
		CASE WHEN TG_OP IN ('UPDATE', 'DELETE') THEN %[2]s END, CASE WHEN TG_OP IN ('INSERT', 'UPDATE') THEN %[3]s END);
	RETURN NULL;
END $$;
CREATE TRIGGER "AAA_journal" AFTER INSERT OR UPDATE OR DELETE ON %[1]s FOR EACH ROW EXECUTE FUNCTION journal_%[1]s();
CREATE FUNCTION journal_truncate_%[1]s() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO journal (xid, rel, op) VALUES (pg_current_xact_id()::text, '%[1]s', 'T');
	RETURN NULL;
END $$;
CREATE TRIGGER "AAA_truncate" AFTER TRUNCATE ON %[1]s FOR EACH STATEMENT EXECUTE FUNCTION journal_truncate_%[1]s();
`, t.name, image("OLD"), image("NEW"))
	}
	return b.String()
}

// mapping writes the mapping file.
func (s *spec) mapping() string {
	var b strings.Builder
	b.WriteString("audit_log:\n  table: audit_logs\ntables:\n")
	for _, t := range s.tables {
		if t.target == "" {
			continue
		}
		fmt.Fprintf(&b, "  %s:\n    from: %s\n    tenant: [%s]\n    columns:\n", t.target, t.name, strings.Join(t.tenant, ", "))
		for _, o := range t.out {
			switch {
			case o.uuid:
				fmt.Fprintf(&b, "      - %s: {uuid: [%s]}\n", o.name, strings.Join(t.key, ", "))
			case o.observe != "":
				fmt.Fprintf(&b, "      - %s: {observe: %s, when: [%s], initial: [%s]}\n", o.name, o.observe, strings.Join(ended, ", "), o.initial)
			case o.path == o.name:
				fmt.Fprintf(&b, "      - %s\n", o.name)
			default:
				fmt.Fprintf(&b, "      - %s: %s\n", o.name, o.path)
			}
		}
		if t.keep {
			b.WriteString("    on_delete: keep\n")
		}
		if t.drop {
			b.WriteString("    without_tenant: drop\n")
		}
		t.writeAudit(&b)
	}
	return b.String()
}

func (t *table) writeAudit(b *strings.Builder) {
	if t.entity == "" {
		b.WriteString("    audit: false\n")
		return
	}
	fmt.Fprintf(b, "    audit:\n      entity: %s\n", t.entity)
	if t.user != "" {
		fmt.Fprintf(b, "      user: %s\n", t.user)
	}
	if len(t.hide) > 0 {
		fmt.Fprintf(b, "      hide: [%s]\n", strings.Join(t.hide, ", "))
	}
	if len(t.verbs) == 0 {
		return
	}
	b.WriteString("      transitions:\n")
	for _, v := range t.verbs {
		attrs := map[string]string{}
		if v.insert {
			attrs["on"] = "insert"
		}
		if v.column != "" {
			attrs["column"] = v.column
		}
		if len(v.from) > 0 {
			attrs["from"] = "[" + strings.Join(v.from, ", ") + "]"
		}
		if len(v.to) > 0 {
			attrs["to"] = "[" + strings.Join(v.to, ", ") + "]"
		}
		if v.notNull {
			attrs["not_null"] = "true"
		}
		if len(v.keys) > 0 {
			attrs["keys"] = `["` + strings.Join(v.keys, `", "`) + `"]`
		}
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(attrs)) {
			parts = append(parts, k+": "+attrs[k])
		}
		fmt.Fprintf(b, "        - %s: {%s}\n", v.name, strings.Join(parts, ", "))
	}
}
