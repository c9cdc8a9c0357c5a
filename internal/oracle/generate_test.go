package oracle

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator makes random statements. It knows nothing of what is in the tables:
// ids come from small ranges, so that statements meet, and those that need a
// parent pick one in SQL. The same seed makes the same statements.
type generator struct {
	r *rand.Rand
	// large is how many rows a large statement writes, 0 for none.
	large int
	// big is how many times 32 bytes a large value has.
	big int
	n   int // for values that differ
}

const (
	inboxes, contacts, conversations, messages, feedbacks, logs = 4, 6, 10, 24, 8, 8
	tenants                                                     = 3
)

func (g *generator) id(n int) int { return 1 + g.r.IntN(n) }

func (g *generator) chance(percent int) bool { return g.r.IntN(100) < percent }

func (g *generator) tenant() string {
	if g.chance(20) {
		return "NULL"
	}
	return fmt.Sprint(g.id(tenants))
}

func pick[T any](g *generator, list ...T) T { return list[g.r.IntN(len(list))] }

// text is a value that is short, odd or large.
func (g *generator) text() string {
	g.n++
	switch g.r.IntN(12) {
	case 0:
		return "NULL"
	case 1:
		return "''"
	case 2:
		return pick(g, `'\N'`, `'null'`, `' '`, `'{"a": "b\\c"}'`, `E'tab\tnew\nline "quoted"'`, `'ç😀'`)
	case 3, 4, 5:
		return fmt.Sprintf("repeat(md5('%d'), %d)", g.n, g.big)
	case 6:
		return fmt.Sprintf("repeat(md5('%d'), %d)", g.n, 4*g.big)
	}
	return fmt.Sprintf("'v%d'", g.n)
}

// some is an existing row's id, or null where there is none.
func (g *generator) some(table string) string {
	g.n++
	return fmt.Sprintf("(SELECT id FROM %s ORDER BY md5(id || 'x%d') LIMIT 1)", table, g.n)
}

func (g *generator) ref(table string) string {
	if g.chance(15) {
		return "NULL"
	}
	return g.some(table)
}

func (g *generator) status() string {
	return pick(g, "'open'", "'open'", "'pending'", "'closed'", "'resolved'", "'ended'")
}

func (g *generator) attrs() string {
	g.n++
	return pick(g, `'{}'`, fmt.Sprintf(`'{"assigned_user": %d}'`, g.n), fmt.Sprintf(`'{"transfer_to": {"b": %d, "a": 1.0}}'`, g.n), `'{"x": [1, 2]}'`)
}

// operation is what one call of the application does: a few statements.
type operation func(g *generator) []string

// operations, by how often they come.
var operations = []struct {
	weight int
	make   operation
}{
	{4, (*generator).insertInbox}, {4, (*generator).insertContact}, {8, (*generator).insertConversation},
	{10, (*generator).insertMessage}, {5, (*generator).insertLabel}, {4, (*generator).insertFeedback}, {4, (*generator).insertLog},
	{6, (*generator).moveInbox}, {6, (*generator).moveContact}, {6, (*generator).moveConversation},
	{8, (*generator).updateConversation}, {8, (*generator).updateMessage}, {3, (*generator).updateContact},
	{3, (*generator).updateInbox}, {3, (*generator).updateFeedback}, {4, (*generator).updateLog}, {3, (*generator).updateLabel},
	{4, (*generator).save}, {3, (*generator).upsert}, {2, (*generator).updateMany},
	{5, (*generator).deleteRow}, {4, (*generator).cascade}, {2, (*generator).replace}, {3, (*generator).flash},
	{3, (*generator).childFirst}, {5, (*generator).changeKey}, {1, (*generator).truncate},
	{2, (*generator).noise}, {3, (*generator).message}, {1, (*generator).bulk},
}

func (g *generator) operation() []string {
	total := 0
	for _, o := range operations {
		total += o.weight
	}
	n := g.r.IntN(total)
	for _, o := range operations {
		if n -= o.weight; n < 0 {
			return o.make(g)
		}
	}
	return nil
}

func (g *generator) insertInbox() []string {
	return list("INSERT INTO inbox VALUES (%d, 'n%d', %s) ON CONFLICT DO NOTHING", g.id(inboxes), g.id(9), g.tenant())
}

func (g *generator) insertContact() []string {
	return list("INSERT INTO contact VALUES (%d, 'n%d', '55', %s, %s) ON CONFLICT DO NOTHING", g.id(contacts), g.id(9), g.text(), g.tenant())
}

func (g *generator) insertConversation() []string {
	return list("INSERT INTO conversation VALUES (%d, %s, %s, %s, %s, now(), 0, %s, %s) ON CONFLICT DO NOTHING",
		g.id(conversations), g.status(), pick(g, "NULL", "7"), g.text(), g.attrs(), g.ref("contact"), g.ref("inbox"))
}

func (g *generator) insertMessage() []string {
	return list("INSERT INTO message SELECT %d, %s, %s, %s, %s, id FROM conversation ORDER BY md5(id || 'm%d') LIMIT 1 ON CONFLICT DO NOTHING",
		g.id(messages), g.text(), pick(g, "true", "false"), g.text(), g.text(), g.r.IntN(1000))
}

func (g *generator) insertLabel() []string {
	return list("INSERT INTO label SELECT id, '%s', %s FROM conversation ORDER BY md5(id || 'l%d') LIMIT 1 ON CONFLICT DO NOTHING",
		pick(g, "a", "b", `c "1"`), g.text(), g.r.IntN(1000))
}

func (g *generator) insertFeedback() []string {
	return list("INSERT INTO feedback VALUES (%d, %d, %s, %s, %s) ON CONFLICT DO NOTHING", g.id(feedbacks), g.id(5), g.text(), g.tenant(), g.ref("contact"))
}

func (g *generator) insertLog() []string {
	return list("INSERT INTO log VALUES (%d, 'a%d', %s, %s, %s) ON CONFLICT DO NOTHING", g.id(logs), g.id(3), g.text(), pick(g, "NULL", "3"), g.tenant())
}

func (g *generator) moveInbox() []string {
	return list("UPDATE inbox SET provedor_id = %s WHERE id = %d", g.tenant(), g.id(inboxes))
}

func (g *generator) moveContact() []string {
	return list("UPDATE contact SET provedor_id = %s WHERE id = %d", g.tenant(), g.id(contacts))
}

func (g *generator) moveConversation() []string {
	id := g.id(conversations)
	return pick(g,
		list("UPDATE conversation SET inbox_id = %s WHERE id = %d", g.ref("inbox"), id),
		list("UPDATE conversation SET contact_id = %s WHERE id = %d", g.ref("contact"), id),
		list("UPDATE conversation SET contact_id = %s, inbox_id = %s WHERE id = %d", g.ref("contact"), g.ref("inbox"), id))
}

func (g *generator) updateConversation() []string {
	set := pick(g, "status = "+g.status(), "status = "+g.status(), "assignee_id = "+pick(g, "NULL", "7", "8"), "note = "+g.text(),
		"attrs = "+g.attrs(), "extra = extra + 1", "updated_at = now()")
	return list("UPDATE conversation SET %s WHERE id = %d", set, g.id(conversations))
}

func (g *generator) updateMessage() []string {
	set := pick(g, "content = "+g.text(), "file = "+g.text(), "extra = "+g.text(), "is_from_customer = NOT is_from_customer",
		"conversation_id = coalesce("+g.some("conversation")+", conversation_id)")
	return list("UPDATE message SET %s WHERE id = %d", set, g.id(messages))
}

func (g *generator) updateContact() []string {
	set := pick(g, "name = 'x"+fmt.Sprint(g.id(9))+"'", "avatar = "+g.text(), "phone = '66'")
	return list("UPDATE contact SET %s WHERE id = %d", set, g.id(contacts))
}

func (g *generator) updateInbox() []string {
	return list("UPDATE inbox SET name = 'x%d' WHERE id = %d", g.id(9), g.id(inboxes))
}

func (g *generator) updateFeedback() []string {
	set := pick(g, "rating = rating % 5 + 1", "comment = "+g.text(), "provedor_id = "+g.tenant(), "contact_id = "+g.ref("contact"))
	return list("UPDATE feedback SET %s WHERE id = %d", set, g.id(feedbacks))
}

func (g *generator) updateLog() []string {
	set := pick(g, "details = "+g.text(), "provedor_id = "+g.tenant(), "user_id = 4", "action = 'b'")
	return list("UPDATE log SET %s WHERE id = %d", set, g.id(logs))
}

func (g *generator) updateLabel() []string {
	return list("UPDATE label SET note = %s WHERE name = '%s' AND conversation_id = %d", g.text(), pick(g, "a", "b"), g.id(conversations))
}

// save writes all columns of a row as they are, as Django's save() does, with
// one that may be another.
func (g *generator) save() []string {
	return pick(g,
		list("UPDATE inbox SET name = name, provedor_id = provedor_id WHERE id = %d", g.id(inboxes)),
		list("UPDATE contact SET name = name, phone = phone, avatar = avatar, provedor_id = %s WHERE id = %d", pick(g, "provedor_id", g.tenant()), g.id(contacts)),
		list("UPDATE conversation SET status = status, note = note, attrs = attrs, contact_id = contact_id, inbox_id = %s WHERE id = %d",
			pick(g, "inbox_id", g.ref("inbox")), g.id(conversations)),
		list("UPDATE message SET content = content, file = file, extra = extra, conversation_id = conversation_id WHERE id = %d", g.id(messages)),
		list("UPDATE message SET content = content || '' WHERE id = %d", g.id(messages)))
}

func (g *generator) upsert() []string {
	return pick(g,
		list("INSERT INTO contact VALUES (%d, 'u', '55', %s, %s) ON CONFLICT (id) DO UPDATE SET avatar = excluded.avatar, provedor_id = excluded.provedor_id",
			g.id(contacts), g.text(), g.tenant()),
		list("INSERT INTO inbox VALUES (%d, 'u', %s) ON CONFLICT (id) DO UPDATE SET provedor_id = excluded.provedor_id", g.id(inboxes), g.tenant()),
		list("INSERT INTO log VALUES (%d, 'u', 'short', 5, %s) ON CONFLICT (id) DO UPDATE SET provedor_id = excluded.provedor_id", g.id(logs), g.tenant()))
}

func (g *generator) updateMany() []string {
	return pick(g,
		list("UPDATE message SET file = file || 'x' WHERE id %% %d = 0", 2+g.r.IntN(3)),
		list("UPDATE conversation SET status = %s WHERE id %% 2 = %d", g.status(), g.r.IntN(2)),
		list("UPDATE contact SET provedor_id = %s WHERE id > %d", g.tenant(), g.id(contacts)),
		list("UPDATE inbox SET provedor_id = CASE provedor_id WHEN 1 THEN 2 WHEN 2 THEN 1 ELSE %s END", g.tenant()))
}

func (g *generator) deleteRow() []string {
	return pick(g,
		list("DELETE FROM message WHERE id = %d", g.id(messages)),
		list("DELETE FROM message WHERE id = %d", g.id(messages)),
		list("DELETE FROM label WHERE conversation_id = %d", g.id(conversations)),
		list("DELETE FROM feedback WHERE id = %d", g.id(feedbacks)),
		list("DELETE FROM log WHERE id = %d", g.id(logs)),
		list("DELETE FROM message WHERE conversation_id = %d", g.id(conversations)))
}

// cascade deletes a parent with its children, these first as Django does, or
// last, which the deferred foreign keys allow too.
func (g *generator) cascade() []string {
	var parts []string
	conv := func(where string) {
		in := "(SELECT id FROM conversation WHERE " + where + ")"
		parts = append(parts, "DELETE FROM message WHERE conversation_id IN "+in, "DELETE FROM label WHERE conversation_id IN "+in,
			"DELETE FROM conversation WHERE "+where)
	}
	switch g.r.IntN(6) {
	case 0:
		id := g.id(inboxes)
		conv(fmt.Sprintf("inbox_id = %d", id))
		parts = append(parts, fmt.Sprintf("DELETE FROM inbox WHERE id = %d", id))
	case 1:
		id := g.id(contacts)
		conv(fmt.Sprintf("contact_id = %d", id))
		parts = append(parts, fmt.Sprintf("DELETE FROM feedback WHERE contact_id = %d", id), fmt.Sprintf("DELETE FROM contact WHERE id = %d", id))
	case 2: // SET NULL in place of the cascade
		id := g.id(inboxes)
		parts = list("UPDATE conversation SET inbox_id = NULL WHERE inbox_id = %d", id)
		parts = append(parts, fmt.Sprintf("DELETE FROM inbox WHERE id = %d", id))
	case 3: // the parent first
		id := g.id(conversations)
		parts = []string{fmt.Sprintf("DELETE FROM conversation WHERE id = %d", id), fmt.Sprintf("DELETE FROM label WHERE conversation_id = %d", id),
			fmt.Sprintf("DELETE FROM message WHERE conversation_id = %d", id)}
	default:
		conv(fmt.Sprintf("id = %d", g.id(conversations)))
	}
	return parts
}

// replace deletes a row and makes it anew under its old id.
func (g *generator) replace() []string {
	switch g.r.IntN(4) {
	case 0:
		id := g.id(messages)
		return append(list("DELETE FROM message WHERE id = %d", id),
			fmt.Sprintf("INSERT INTO message SELECT %d, %s, true, NULL, NULL, %s WHERE EXISTS (SELECT FROM conversation)", id, g.text(), g.some("conversation")))
	case 1:
		id := g.id(contacts)
		return append(list("DELETE FROM contact WHERE id = %d", id),
			fmt.Sprintf("INSERT INTO contact VALUES (%d, 'again', '77', %s, %s)", id, g.text(), g.tenant()))
	case 2:
		id := g.id(inboxes)
		return append(list("DELETE FROM inbox WHERE id = %d", id), fmt.Sprintf("INSERT INTO inbox VALUES (%d, 'again', %s)", id, g.tenant()))
	}
	id := g.id(logs)
	return append(list("DELETE FROM log WHERE id = %d", id), fmt.Sprintf("INSERT INTO log VALUES (%d, 'again', %s, 2, %s)", id, g.text(), g.tenant()))
}

// flash makes a row that is gone again before the transaction ends.
func (g *generator) flash() []string {
	switch g.r.IntN(3) {
	case 0:
		id := g.id(logs)
		return append(list("INSERT INTO log VALUES (%d, 'flash', NULL, NULL, %s) ON CONFLICT DO NOTHING", id, g.tenant()),
			fmt.Sprintf("DELETE FROM log WHERE id = %d", id))
	case 1:
		id := 40 + g.id(3)
		return []string{fmt.Sprintf("INSERT INTO message SELECT %d, 'flash', true, NULL, NULL, id FROM conversation ORDER BY id LIMIT 1", id),
			fmt.Sprintf("UPDATE message SET content = %s WHERE id = %d", g.text(), id), fmt.Sprintf("DELETE FROM message WHERE id = %d", id)}
	}
	id := 40 + g.id(3)
	return []string{fmt.Sprintf("INSERT INTO inbox VALUES (%d, 'flash', %s)", id, g.tenant()), fmt.Sprintf("DELETE FROM inbox WHERE id = %d", id)}
}

// childFirst makes a message, its conversation and what that hangs on, in this
// order.
func (g *generator) childFirst() []string {
	conv, contact, inbox := g.id(conversations), g.id(contacts), g.id(inboxes)
	return []string{
		fmt.Sprintf("INSERT INTO message VALUES (%d, %s, true, NULL, NULL, %d) ON CONFLICT DO NOTHING", g.id(messages), g.text(), conv),
		fmt.Sprintf("INSERT INTO label VALUES (%d, 'a', NULL) ON CONFLICT DO NOTHING", conv),
		fmt.Sprintf("INSERT INTO conversation VALUES (%d, 'open', NULL, NULL, '{}', now(), 0, %d, %d) ON CONFLICT DO NOTHING", conv, contact, inbox),
		fmt.Sprintf("INSERT INTO contact VALUES (%d, 'late', NULL, NULL, %s) ON CONFLICT DO NOTHING", contact, g.tenant()),
		fmt.Sprintf("INSERT INTO inbox VALUES (%d, 'late', %s) ON CONFLICT DO NOTHING", inbox, g.tenant()),
	}
}

// changeKey gives a row another id, with its children where it has any.
func (g *generator) changeKey() []string {
	free := func(table string, from, to int, set string) string {
		return fmt.Sprintf("UPDATE %s SET id = %d%s WHERE id = %d AND NOT EXISTS (SELECT FROM %[1]s WHERE id = %[2]d)", table, to, set, from)
	}
	follow := func(table, column string, from, to int, parent string) string {
		return fmt.Sprintf("UPDATE %s SET %s = %d WHERE %[2]s = %[4]d AND EXISTS (SELECT FROM %s WHERE id = %[3]d) AND NOT EXISTS (SELECT FROM %[5]s WHERE id = %[4]d)",
			table, column, to, from, parent)
	}
	switch g.r.IntN(8) {
	case 0, 1:
		return []string{free("message", g.id(messages), g.id(messages), pick(g, "", "", ", content = "+g.text(),
			", conversation_id = coalesce("+g.some("conversation")+", conversation_id)"))}
	case 2:
		return []string{free("log", g.id(logs), g.id(logs), pick(g, "", ", provedor_id = "+g.tenant()))}
	case 3:
		return []string{free("feedback", g.id(feedbacks), g.id(feedbacks), pick(g, "", ", provedor_id = "+g.tenant()))}
	case 4:
		return list("UPDATE label SET name = '%s' WHERE conversation_id = %d AND name = 'a'", pick(g, "d", "e"), g.id(conversations))
	case 5:
		return list("UPDATE label SET conversation_id = %s WHERE conversation_id = %d AND name = '%s'", g.some("conversation"), g.id(conversations), pick(g, "a", "b"))
	case 6:
		from, to := g.id(conversations), g.id(conversations)
		return []string{free("conversation", from, to, pick(g, "", ", note = "+g.text())),
			follow("message", "conversation_id", from, to, "conversation"), follow("label", "conversation_id", from, to, "conversation")}
	}
	from, to := g.id(contacts), g.id(contacts)
	return []string{free("contact", from, to, pick(g, "", ", provedor_id = "+g.tenant())),
		follow("conversation", "contact_id", from, to, "contact"), follow("feedback", "contact_id", from, to, "contact")}
}

func (g *generator) truncate() []string {
	return list("TRUNCATE %s", pick(g, "message", "message", "label", "message, label", "conversation CASCADE", "log", "log, noise", "feedback RESTART IDENTITY",
		"contact CASCADE", "inbox CASCADE"))
}

// noise changes a table that nobody follows.
func (g *generator) noise() []string {
	return list("INSERT INTO noise VALUES (%d, 'x') ON CONFLICT (id) DO UPDATE SET v = noise.v || 'x'", g.id(3))
}

func (g *generator) message() []string {
	content := pick(g, `{"user_id": 7}`, `{"user_id": 8}`, `{"user_id": "9"}`, `{"user_id": null}`, `{"user_id": "x"}`, `{"user_id": [1]}`, `not json`, ``, `[7]`)
	return list("SELECT pg_logical_emit_message(true, '%s', '%s')", pick(g, "walbridge", "walbridge", "other"), content)
}

// bulk writes many rows with one statement.
func (g *generator) bulk() []string {
	if g.large == 0 {
		return g.updateMessage()
	}
	return pick(g,
		list("INSERT INTO message SELECT 100 + i, 'bulk', true, NULL, NULL, c.id FROM generate_series(1, %d) AS i, (SELECT id FROM conversation ORDER BY md5(id || 'b%d') LIMIT 1) AS c ON CONFLICT DO NOTHING",
			g.large, g.r.IntN(1000)),
		list("UPDATE message SET content = 'b%d' WHERE id > 100", g.r.IntN(1000)),
		list("UPDATE message SET conversation_id = coalesce(%s, conversation_id) WHERE id > 100", g.some("conversation")),
		list("DELETE FROM message WHERE id > 100"))
}

func list(format string, args ...any) []string { return []string{fmt.Sprintf(format, args...)} }

// transaction makes the statements between BEGIN and its end, savepoints
// included.
func (g *generator) transaction() []string {
	var sql []string
	for n := 1 + g.r.IntN(4); n > 0; n-- {
		switch g.r.IntN(12) {
		case 0:
			sql = append(sql, "SAVEPOINT s")
			sql = append(sql, g.operation()...)
			sql = append(sql, "ROLLBACK TO s")
		case 1:
			sql = append(sql, "SAVEPOINT s")
			sql = append(sql, g.operation()...)
			sql = append(sql, "SAVEPOINT s2")
			sql = append(sql, g.operation()...)
			sql = append(sql, pick(g, "ROLLBACK TO s2", "RELEASE s2"), pick(g, "RELEASE s", "ROLLBACK TO s"))
		default:
			sql = append(sql, g.operation()...)
		}
	}
	return sql
}

func oneLine(sql []string) string { return strings.Join(sql, "; ") }
