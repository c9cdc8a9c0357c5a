package mapping

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// reader turns YAML nodes into the types of a File. It reads the tree and not
// structs, because every error has to name its line and none may hide another.
type reader struct {
	problems
}

// entry is one key of a YAML mapping with its value.
type entry struct {
	at    pos
	key   string
	value ast.Node
}

// parseYAML returns the only document of a file.
func (r *reader) parseYAML(data []byte) (ast.Node, bool) {
	// Repeated keys are found in entries, which goes on after them.
	doc, err := parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		line := 1
		what := strings.TrimSpace(err.Error())
		if e := yaml.Error(nil); errors.As(err, &e) {
			what = e.GetMessage()
			if t := e.GetToken(); t != nil && t.Position != nil {
				line = t.Position.Line
			}
		}
		r.add(pos{line: line}, "correct the YAML", "this is no valid YAML: %s", what)
		return nil, false
	}
	docs := slices.DeleteFunc(doc.Docs, func(d *ast.DocumentNode) bool { return d.Body == nil })
	switch len(docs) {
	case 0:
		r.add(pos{line: 1}, "write at least the section tables", "the file is empty")
		return nil, false
	case 1:
		return docs[0].Body, true
	}
	r.add(pos{line: lineOf(docs[1].Body)}, "keep one", "the file holds %d YAML documents", len(docs))
	return nil, false
}

func lineOf(n ast.Node) int {
	if n == nil {
		return 1
	}
	if m, ok := n.(ast.MapNode); ok {
		if i := m.MapRange(); i.Next() && i.Key() != nil {
			return lineOf(i.Key())
		}
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 1
}

// child is the place of a key below a place.
func (p pos) child(key string, n ast.Node) pos {
	if key == "" || strings.ContainsFunc(key, func(c rune) bool { return c == '.' || c == '[' || !strconv.IsPrint(c) }) {
		key = strconv.Quote(key)
	}
	if p.path != "" {
		key = p.path + "." + key
	}
	return pos{line: lineOf(n), path: key}
}

// item is the place of an element below a place.
func (p pos) item(i int, n ast.Node) pos {
	return pos{line: lineOf(n), path: fmt.Sprintf("%s[%d]", p.path, i)}
}

// kindOf names what a node is, for messages.
func kindOf(n ast.Node) string {
	switch n := n.(type) {
	case nil, *ast.NullNode:
		return "nothing"
	case *ast.StringNode, *ast.LiteralNode:
		return "a text"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "a boolean"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping of keys"
	case *ast.SequenceNode:
		return "a list"
	case *ast.AnchorNode, *ast.AliasNode, *ast.MergeKeyNode:
		return "an anchor or alias"
	case *ast.TagNode:
		return "a tag"
	default:
		return n.Type().String()
	}
}

// wrong says that a node is not what was expected.
func (r *reader) wrong(at pos, n ast.Node, want string) {
	switch n.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		r.add(at, "write the value out", "%s is not read here", kindOf(n))
	default:
		r.add(at, "write "+want, "this is %s", kindOf(n))
	}
}

// entries reads a mapping. want is what was expected, for the message.
func (r *reader) entries(at pos, n ast.Node, want string) ([]entry, bool) {
	m, ok := n.(ast.MapNode)
	if _, alias := n.(*ast.AliasNode); !ok || alias {
		r.wrong(at, n, want)
		return nil, false
	}
	if _, anchor := n.(*ast.AnchorNode); anchor {
		r.wrong(at, n, want)
		return nil, false
	}
	var list []entry
	seen := map[string]int{}
	for i := m.MapRange(); i.Next(); {
		key, ok := keyText(i.Key())
		if !ok {
			r.wrong(pos{line: lineOf(i.Key()), path: at.path}, i.Key(), "a plain key")
			continue
		}
		e := entry{at: at.child(key, i.Key()), key: key, value: i.Value()}
		if line, twice := seen[key]; twice {
			r.add(e.at, "keep one of them", "the key %q is there twice, first on line %d", key, line)
			continue
		}
		seen[key] = e.at.line
		list = append(list, e)
	}
	return list, true
}

// keyText returns a key as it is written, whatever YAML would make of it: a
// column may be called null or 2024.
func keyText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// fields reads a mapping with known keys, each by its function.
func (r *reader) fields(at pos, n ast.Node, want string, known map[string]func(pos, ast.Node)) bool {
	list, ok := r.entries(at, n, want)
	if !ok {
		return false
	}
	for _, e := range list {
		if read, ok := known[e.key]; ok {
			read(e.at, e.value)
			continue
		}
		r.unknown(e, keysOf(known))
	}
	return true
}

func keysOf(known map[string]func(pos, ast.Node)) []string {
	var keys []string
	for k := range known {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// unknown says that a key isn't one of those that belong there.
func (r *reader) unknown(e entry, known []string) {
	fix := "use " + oneOf(known)
	if k := nearest(e.key, known); k != "" {
		fix = "did you mean " + k + "?"
	}
	r.add(e.at, fix, "unknown key %q", e.key)
}

// elements reads a list; a single value that is no list counts as a list of one
// if single is set.
func (r *reader) elements(at pos, n ast.Node, single bool, want string) []ast.Node {
	if s, ok := n.(*ast.SequenceNode); ok {
		if len(s.Values) == 0 {
			r.add(at, "write "+want, "the list is empty")
		}
		return s.Values
	}
	if _, scalar := text(n); scalar && single {
		return []ast.Node{n}
	}
	r.wrong(at, n, want)
	return nil
}

// text returns a node that is text. Names that YAML reads as something else
// (null, true, 2024) must be quoted, so that nobody has to know which.
func text(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

// text reads a text.
func (r *reader) text(at pos, n ast.Node, want string) (string, bool) {
	s, ok := text(n)
	if !ok {
		r.notText(at, n, want)
	}
	return s, ok
}

// notText says that a node is no text, and how to name what YAML reads otherwise.
func (r *reader) notText(at pos, n ast.Node, want string) {
	if _, scalar := scalar(n); scalar || n == nil || n.Type() == ast.NullType {
		want += "; a name that YAML reads otherwise goes in quotes"
	}
	r.wrong(at, n, want)
}

// name reads a single name, quoted or not.
func (r *reader) name(at pos, n ast.Node, want string) (nameAt, bool) {
	s, ok := r.text(at, n, want)
	if !ok {
		return nameAt{}, false
	}
	parts, err := splitName(s)
	if err == nil && len(parts) != 1 {
		err = fmt.Errorf("%q has %d parts", s, len(parts))
	}
	if err != nil {
		r.add(at, "write "+want+"; a name with a dot goes in double quotes", "%s", err)
		return nameAt{}, false
	}
	return nameAt{at: at, name: parts[0]}, true
}

// names reads a list of names, or one.
func (r *reader) names(at pos, n ast.Node, want string) []nameAt {
	var list []nameAt
	for i, e := range r.elements(at, n, true, want) {
		if v, ok := r.name(at.item(i, e), e, want); ok {
			list = append(list, v)
		}
	}
	return list
}

// choice reads one of a few words.
func (r *reader) choice(at pos, n ast.Node, words ...string) string {
	s, ok := text(n)
	if !ok || !slices.Contains(words, s) {
		r.add(at, "write "+oneOf(words), "this is neither of the words that belong here")
		return words[0]
	}
	return s
}

// boolean reads true or false.
func (r *reader) boolean(at pos, n ast.Node) bool {
	b, ok := n.(*ast.BoolNode)
	if !ok {
		r.wrong(at, n, "true or false")
		return false
	}
	return b.Value
}

// values reads a list of scalars, or one.
func (r *reader) values(at pos, n ast.Node) []value {
	const want = "a list of values, like [open, closed]"
	list := []ast.Node{n}
	if s, ok := n.(*ast.SequenceNode); ok {
		if list = s.Values; len(list) == 0 {
			r.add(at, "write "+want, "the list is empty")
		}
	}
	var out []value
	for i, e := range list {
		v, ok := scalar(e)
		if !ok {
			r.wrong(at.item(i, e), e, want)
			continue
		}
		if strings.ContainsRune(v.text, 0) {
			r.add(at.item(i, e), "remove it", "a value contains a NUL byte, which no value of PostgreSQL can")
			continue
		}
		v.at = at.item(i, e)
		out = append(out, v)
	}
	return out
}

// scalar reads a value as PostgreSQL would print it.
func scalar(n ast.Node) (value, bool) {
	if s, ok := text(n); ok {
		return value{kind: stringValue, text: s}, true
	}
	switch n := n.(type) {
	case *ast.BoolNode:
		if n.Value {
			return value{kind: boolValue, text: "t"}, true
		}
		return value{kind: boolValue, text: "f"}, true
	case *ast.IntegerNode:
		return value{kind: integerValue, text: fmt.Sprint(n.Value)}, true
	case *ast.FloatNode:
		return value{kind: numberValue, text: n.GetToken().Value}, true
	}
	return value{}, false
}
