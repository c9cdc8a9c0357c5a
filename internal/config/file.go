package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// mappingKeys are the file's sections that package mapping reads.
var mappingKeys = []string{"tables", "audit_log", "dashboard"}

// fileReader reads one configuration file.
type fileReader struct {
	config   *Config
	name     string
	settings map[string]Setting
	given    map[string]bool
	errs     []error
}

// readFile sets what the file gives and returns those keys. It goes over the
// syntax tree and not through a decoder, because a decoder's errors quote the
// lines around a mistake, and passwords stand in lines.
func (c *Config) readFile(name string, data []byte) (map[string]bool, error) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, syntaxError(name, err)
	}
	r := &fileReader{config: c, name: name, settings: map[string]Setting{}, given: map[string]bool{}}
	for _, s := range Settings() {
		r.settings[s.Key] = s
	}
	var docs []*ast.DocumentNode
	for _, doc := range file.Docs {
		if doc.Body != nil {
			docs = append(docs, doc)
		}
	}
	if len(docs) > 1 {
		return nil, fmt.Errorf("%s: it has several YAML documents; one is read", position(name, docs[1].Body))
	}
	if len(docs) == 1 {
		r.top(docs[0].Body)
	}
	if r.given["tables"] {
		c.Mapping = Mapping{Name: name, Data: data}
	} else {
		for _, key := range mappingKeys {
			if r.given[key] {
				r.errs = append(r.errs, fmt.Errorf("%s: %s has no tables beside it: copy the section tables of the mapping that it belongs to", name, key))
			}
		}
	}
	return r.given, errors.Join(r.errs...)
}

func (r *fileReader) top(node ast.Node) {
	entries, ok := mapEntries(node)
	if !ok {
		r.fail(node, "a configuration is a list of keys: name: walbridge")
		return
	}
	for _, e := range entries {
		key := keyText(e)
		if slices.Contains(mappingKeys, key) {
			r.given[key] = true
			continue
		}
		if _, ok := r.settings[key]; ok {
			r.scalar(key, e)
			continue
		}
		if !r.isSection(key) {
			r.unknown(e, key, "")
			continue
		}
		if e.Value.Type() == ast.NullType {
			continue // an empty section
		}
		inner, ok := mapEntries(e.Value)
		if !ok {
			r.fail(e.Key, "%s is a section: its settings go on lines of their own below it", key)
			continue
		}
		for _, e := range inner {
			full := key + "." + keyText(e)
			if _, ok := r.settings[full]; ok {
				r.scalar(full, e)
			} else {
				r.unknown(e, keyText(e), key+".")
			}
		}
	}
}

// scalar sets one setting.
func (r *fileReader) scalar(key string, e *ast.MappingValueNode) {
	var text string
	switch v := e.Value.(type) {
	case *ast.NullNode:
		return // "url:" with nothing after it is as good as no line
	case *ast.StringNode:
		text = v.Value
	case *ast.LiteralNode:
		text = v.Value.Value
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode:
		text = v.GetToken().Value
	default:
		r.fail(e.Key, "%s must be a plain value", key)
		return
	}
	r.given[key] = true
	r.config.from[key] = position(r.name, e.Value)
	if s := r.settings[key]; text == "" && (s.Secret || s.optional) {
		return
	} else if err := s.set(r.config, text); err != nil {
		r.fail(e.Value, "%s %v", key, err)
	}
}

func (r *fileReader) unknown(e *ast.MappingValueNode, key, section string) {
	words := slices.Clone(mappingKeys)
	if section != "" {
		words = nil
	}
	for full := range r.settings {
		word, ok := strings.CutPrefix(full, section)
		if !ok {
			continue
		}
		if section == "" {
			word, _, _ = strings.Cut(word, ".")
		}
		words = append(words, word)
	}
	slices.Sort(words)
	words = slices.Compact(words)
	if near := nearest(key, words); near != "" {
		r.fail(e.Key, "unknown key %q; did you mean %q?", section+key, section+near)
		return
	}
	where := "the file"
	if section != "" {
		where = strings.TrimSuffix(section, ".")
	}
	r.fail(e.Key, "unknown key %q; %s has %s", section+key, where, strings.Join(words, ", "))
}

func (r *fileReader) isSection(key string) bool {
	for full := range r.settings {
		if strings.HasPrefix(full, key+".") {
			return true
		}
	}
	return false
}

func (r *fileReader) fail(node ast.Node, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("%s: %s", position(r.name, node), fmt.Sprintf(format, args...)))
}

// mapEntries returns the entries of a mapping.
func mapEntries(node ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// keyText returns a key as it is meant, without quotes.
func keyText(e *ast.MappingValueNode) string {
	if s, ok := e.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return e.Key.GetToken().Value
}

// position is file:line:column as editors and terminals understand it.
func position(name string, node ast.Node) string {
	t := node.GetToken()
	if t == nil || t.Position == nil {
		return name
	}
	return fmt.Sprintf("%s:%d:%d", name, t.Position.Line, t.Position.Column)
}

// syntaxError says where the file is no YAML, and shows nothing of the line.
func syntaxError(name string, err error) error {
	var located yaml.Error
	if !errors.As(err, &located) || located.GetToken() == nil {
		return fmt.Errorf("%s: it is no YAML", name)
	}
	p := located.GetToken().Position
	return fmt.Errorf("%s:%d:%d: it is no YAML: %s", name, p.Line, p.Column, located.GetMessage())
}
