package mapping

import (
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/walbridge/walbridge/internal/cdc"
)

const columnForms = "name, target: source_column, target: path.with.dots, target: [a, b.c] or target: {…}"

func (r *reader) columns(at pos, n ast.Node) []*column {
	list := []*column{}
	seen := map[string]int{}
	for i, e := range r.elements(at, n, false, "a list of columns, like [id, name, {contact_id: conversation.contact_id}]") {
		c := r.column(at.item(i, e), e)
		if c == nil {
			continue
		}
		if line, twice := seen[c.name]; twice {
			r.add(c.at, "keep one of them", "column %q is there twice, first on line %d", c.name, line)
			continue
		}
		seen[c.name] = c.at.line
		list = append(list, c)
	}
	return list
}

// column reads one element of columns: a name, or a mapping with one key.
func (r *reader) column(at pos, n ast.Node) *column {
	if s, ok := text(n); ok {
		p, ok := r.path(at, s)
		if !ok {
			return nil
		}
		if len(p.relations) > 0 {
			r.add(at, "write for instance "+strings.Join(append(p.relations, p.column), "_")+": "+s,
				"the path %s has no target column", s)
			return nil
		}
		return &column{at: at, name: p.column, form: formPaths, paths: []path{p}}
	}
	if _, ok := n.(ast.MapNode); !ok {
		r.notText(at, n, "a column: "+columnForms)
		return nil
	}
	list, ok := r.entries(at, n, "a column: "+columnForms)
	if !ok {
		return nil
	}
	if len(list) != 1 {
		r.add(at, "begin each column with a dash of its own", "a column has one key, its name at the target; this one has %d", len(list))
		return nil
	}
	e := list[0]
	if err := checkName(e.key); err != nil {
		r.add(e.at, "name the target column", "%s", err)
		return nil
	}
	c := &column{at: e.at, name: e.key}
	if _, ok := e.value.(ast.MapNode); ok {
		r.columnForm(c, e.value)
		return c
	}
	c.form = formPaths
	c.paths = r.pathList(e.at, e.value)
	return c
}

// columnForm reads the mapping form of a column: one of the forms, and a type.
func (r *reader) columnForm(c *column, n ast.Node) {
	set := func(f form) bool {
		if c.form != "" && c.form != f {
			r.add(c.at, "keep one of them", "a column can't be both %s and %s", c.form, f)
			return false
		}
		c.form = f
		return true
	}
	convert := func(f form) func(pos, ast.Node) {
		return func(at pos, n ast.Node) {
			if set(f) {
				c.args = r.pathList(at, n)
			}
		}
	}
	var initialAt, whenAt pos
	r.fields(c.at, n, columnForms, map[string]func(pos, ast.Node){
		"from": func(at pos, n ast.Node) {
			if set(formPaths) {
				c.paths = r.pathList(at, n)
			}
		},
		"const": func(at pos, n ast.Node) {
			if set(formConst) {
				r.constant(c, at, n)
			}
		},
		"uuid": convert(formUUID),
		"json": convert(formJSON),
		"hash": convert(formHash),
		"json_object": func(at pos, n ast.Node) {
			if set(formJSONObject) {
				r.jsonObject(c, at, n)
			}
		},
		"observe": func(at pos, n ast.Node) {
			if set(formObserve) {
				c.observe.column, _ = r.name(at, n, "the column to watch")
			}
		},
		"when": func(at pos, n ast.Node) { whenAt, c.observe.when = at, r.values(at, n) },
		"initial": func(at pos, n ast.Node) {
			initialAt, c.observe.initial = at, r.initials(at, n)
		},
		"type": func(at pos, n ast.Node) { c.typ = r.typeName(at, n) },
	})
	r.observeParts(c, whenAt, initialAt)
	if c.form == formJSON && len(c.args) > 1 {
		r.add(c.at, "use json_object for several", "json takes one column")
	}
	if c.form == formHash && len(c.args) > 1 {
		r.add(c.at, "hash each in a column of its own", "hash takes one column")
	}
	if c.form == "" { // only a type: the source column of the same name
		c.form = formPaths
		c.paths = []path{{at: c.at, text: c.name, column: c.name}}
	}
}

// observeParts checks that observe and what belongs to it come together.
func (r *reader) observeParts(c *column, whenAt, initialAt pos) {
	switch {
	case c.form == formObserve && whenAt == (pos{}):
		r.add(c.at, "add when: with the values that set the time", "an observed column needs the values to watch for")
	case c.form != formObserve && whenAt != (pos{}):
		r.add(whenAt, "add observe: with the column to watch", "when belongs to observe")
	case c.form != formObserve && initialAt != (pos{}):
		r.add(initialAt, "add observe: with the column to watch", "initial belongs to observe")
	}
}

func (r *reader) constant(c *column, at pos, n ast.Node) {
	v, ok := scalar(n)
	if !ok {
		r.wrong(at, n, "a text, a number or true or false")
		return
	}
	if strings.ContainsRune(v.text, 0) {
		r.add(at, "remove it", "the value contains a NUL byte, which no value of PostgreSQL can")
	}
	c.value = cdc.TextValue(v.text)
	c.constType = typeName{at: at, schema: "pg_catalog", name: map[valueKind]string{
		stringValue: "text", integerValue: "int8", numberValue: "numeric", boolValue: "bool",
	}[v.kind]}
}

// jsonObject reads [column, {key: column}, …].
func (r *reader) jsonObject(c *column, at pos, n ast.Node) {
	const want = "columns, like [details, {rating: csat_rating}]"
	for i, e := range r.elements(at, n, false, want) {
		at := at.item(i, e)
		key, value := "", e
		if _, ok := e.(ast.MapNode); ok {
			list, ok := r.entries(at, e, want)
			if !ok {
				continue
			}
			if len(list) != 1 {
				r.add(at, "begin each with a dash of its own", "a member has one key; this one has %d", len(list))
				continue
			}
			at, key, value = list[0].at, list[0].key, list[0].value
			if key == "" || strings.ContainsRune(key, 0) {
				r.add(at, "name the member", "a key of a JSON object in PostgreSQL can't be this")
				continue
			}
		}
		s, ok := r.text(at, value, want)
		if !ok {
			continue
		}
		p, ok := r.path(at, s)
		if !ok {
			continue
		}
		if key == "" {
			key = p.column
		}
		if slices.Contains(c.keys, key) {
			r.add(at, "keep one of them", "the object has the key %q twice", key)
			continue
		}
		c.args, c.keys = append(c.args, p), append(c.keys, key)
	}
}

// typeNames are the names that SQL has for types beside those of pg_type.
var typeNames = map[string]string{
	"bigint": "int8", "integer": "int4", "int": "int4", "smallint": "int2",
	"boolean": "bool", "decimal": "numeric", "double precision": "float8", "real": "float4",
	"character varying": "varchar", "timestamp with time zone": "timestamptz",
	"timestamp without time zone": "timestamp", "time without time zone": "time",
	"time with time zone": "timetz", "bit varying": "varbit",
}

// builtinTypes are the names of pg_type that may be written without a schema.
var builtinTypes = []string{
	"int2", "int4", "int8", "bool", "text", "varchar", "numeric", "float4", "float8", "uuid", "json", "jsonb",
	"timestamptz", "timestamp", "date", "time", "timetz", "interval", "bytea", "inet", "cidr", "macaddr",
	"macaddr8", "bit", "varbit", "xml", "money", "point", "tsvector", "int4range", "int8range", "numrange",
	"tsrange", "tstzrange", "daterange", "hstore", "citext",
}

// typeName reads a type without a modifier: text, bigint, public.mood, text[].
func (r *reader) typeName(at pos, n ast.Node) *typeName {
	const want = "a type without a length, like text, bigint or public.mood"
	s, ok := r.text(at, n, want)
	if !ok {
		return nil
	}
	name, array := strings.CutSuffix(strings.TrimSpace(s), "[]")
	if strings.ContainsAny(name, "()") {
		r.add(at, "write "+want, "the type %q has a modifier; the bridge never cuts or rounds a value", s)
		return nil
	}
	if full, ok := typeNames[strings.ToLower(name)]; ok {
		name = full
	}
	if lower := strings.ToLower(name); slices.Contains(builtinTypes, lower) {
		name = "pg_catalog." + lower
	}
	parts, err := splitName(name)
	if err == nil && len(parts) != 2 {
		known := slices.Concat(builtinTypes, keysOfNames(typeNames))
		fix := "write " + want
		if k := nearest(name, known); k != "" {
			fix = "did you mean " + k + "? Other types need their schema, like public.mood"
		}
		r.add(at, fix, "unknown type %q", s)
		return nil
	}
	if err != nil {
		r.add(at, "write "+want, "%s", err)
		return nil
	}
	if array {
		parts[1] = "_" + parts[1]
	}
	return &typeName{at: at, schema: parts[0], name: parts[1]}
}

func keysOfNames(m map[string]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// verbForm is what the second half of an action looks like. The first half is
// alike, so an action of the bridge always has one dot, and an application's
// own names (conversation_closed_agent) never do.
var verbForm = regexp.MustCompile(`^[a-z_]+$`)

// ownVerbs are the verbs that the bridge gives to changes without a transition.
var ownVerbs = []string{
	"created", "updated", "deleted", "restored", "truncated", "moved", "copied", "repaired", "resynced",
	"skipped", "forgotten", "gap", "held", "released",
}

func (r *reader) audit(at pos, n ast.Node) tableAudit {
	a := tableAudit{at: at}
	if b, ok := n.(*ast.BoolNode); ok {
		a.off = !b.Value
		return a
	}
	r.fields(at, n, "false, or keys like entity and transitions", map[string]func(pos, ast.Node){
		"entity": func(at pos, n ast.Node) {
			if s, ok := r.text(at, n, "a word, like conversation"); ok {
				a.entity = s
				r.word(at, s, "entity")
			}
		},
		"user": func(at pos, n ast.Node) {
			if v, ok := r.name(at, n, "the column of this table that holds the acting user"); ok {
				a.user = &v
			}
		},
		"hide": func(at pos, n ast.Node) { a.hide = r.names(at, n, "columns of this table, like [content]") },
		"transitions": func(at pos, n ast.Node) {
			const want = "a list of transitions, like [closed: {column: status, to: [closed]}]"
			for i, e := range r.elements(at, n, false, want) {
				list, ok := r.entries(at.item(i, e), e, want)
				if !ok {
					continue
				}
				if len(list) != 1 {
					r.add(at.item(i, e), "begin each transition with a dash of its own", "a transition has one key, its verb; this one has %d", len(list))
					continue
				}
				a.transitions = append(a.transitions, r.transition(list[0]))
			}
		},
	})
	return a
}

func (r *reader) word(at pos, s, what string) {
	if !verbForm.MatchString(s) {
		r.add(at, "use lower-case letters a to z and underscores", "the %s %q can't be half of an action", what, s)
	}
}

func (r *reader) transition(e entry) transition {
	t := transition{at: e.at, verb: e.key}
	r.word(e.at, e.key, "verb")
	if slices.Contains(ownVerbs, e.key) {
		r.add(e.at, "choose another verb", "the verb %q is the bridge's own name for something else", e.key)
	}
	r.fields(e.at, e.value, "conditions, like {column: status, to: [closed]}", map[string]func(pos, ast.Node){
		"on": func(at pos, n ast.Node) { t.onInsert = r.choice(at, n, "update", "insert") == "insert" },
		"column": func(at pos, n ast.Node) {
			if v, ok := r.name(at, n, "a column of this table"); ok {
				t.column = &v
			}
		},
		"from":     func(at pos, n ast.Node) { t.from = r.values(at, n) },
		"to":       func(at pos, n ast.Node) { t.to = r.values(at, n) },
		"not_null": func(at pos, n ast.Node) { t.notNull = r.boolean(at, n) },
		"keys": func(at pos, n ast.Node) {
			for i, k := range r.elements(at, n, true, "keys of a JSON object, like [assigned_user, transfer_*]") {
				if s, ok := r.text(at.item(i, k), k, "a key of a JSON object"); ok {
					t.keys = append(t.keys, s)
				}
			}
		},
	})
	return t
}
