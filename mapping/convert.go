package mapping

import (
	"strings"

	"github.com/google/uuid"
	"github.com/walbridge/walbridge/internal/cdc"
	"github.com/walbridge/walbridge/internal/pg"
)

// uuidSpace is the name space of the bridge's UUIDs. It must never change: the
// ids of rows at every target are made of it.
var uuidSpace = uuid.MustParse("5f0c9ae2-6c1f-5d0a-9b6e-3f1d2a7c8e41")

// convertUUID makes a UUIDv5 of the source table and the values, so that a row
// has the same id whenever and however often it is written.
func convertUUID(table pg.TableName) Convert {
	return func(in []cdc.Value) (cdc.Value, error) {
		name := appendJSONText([]byte{'['}, table.Schema)
		name = appendJSONText(append(name, ','), table.Name)
		for _, v := range in {
			if v.IsNull() {
				return cdc.Value{}, nil
			}
			name = appendJSONText(append(name, ','), v.Text)
		}
		return cdc.TextValue(uuid.NewSHA1(uuidSpace, append(name, ']')).String()), nil
	}
}

// convertJSONB writes the first value that is not null, which is JSON, as jsonb
// prints it. It is for columns of type json that become jsonb.
func convertJSONB(in []cdc.Value) (cdc.Value, error) {
	for _, v := range in {
		if !v.IsNull() {
			s, err := canonicalJSON(v.Text)
			return cdc.TextValue(s), err
		}
	}
	return cdc.Value{}, nil
}

// convertJSON makes JSON of a text: JSON stays what it is, anything else becomes
// a JSON string. So nothing that an application writes into a text column can
// stop the bridge.
func convertJSON(in []cdc.Value) (cdc.Value, error) {
	if in[0].IsNull() {
		return cdc.Value{}, nil
	}
	s, err := canonicalJSON(in[0].Text)
	if err != nil {
		s = jsonText(in[0].Text)
	}
	return cdc.TextValue(s), nil
}

// jsonText is s as a JSON string.
func jsonText(s string) string {
	return string(appendJSONText(nil, s))
}

// convertJSONObject makes an object of several columns; null ones are left out.
// Columns of JSON and texts that hold an object or an array become that,
// integers numbers, booleans true and false, and everything else strings: a
// text that happens to be a number (a phone, a document) stays a text.
func convertJSONObject(keys []string, types []*pg.Type) Convert {
	return func(in []cdc.Value) (cdc.Value, error) {
		out := []byte{'{'}
		var members []member
		for i, v := range in {
			if v.IsNull() {
				continue
			}
			if len(members) > 0 {
				out = append(out, ", "...)
			}
			m := member{key: keys[i], from: len(out)}
			out = append(appendJSONText(out, m.key), ": "...)
			out = append(out, memberJSON(types[i], v.Text)...)
			m.to = len(out)
			members = append(members, m)
		}
		return cdc.TextValue(string(append(orderMembers(out, members, new([]byte)), '}'))), nil
	}
}

func memberJSON(t *pg.Type, s string) string {
	switch {
	case isInteger(t):
		return s
	case isBuiltin(base(t), "bool"):
		if s == "t" {
			return "true"
		}
		return "false"
	case isJSON(t), strings.HasPrefix(strings.TrimLeft(s, " \t\r\n"), "{"), strings.HasPrefix(strings.TrimLeft(s, " \t\r\n"), "["):
		if c, err := canonicalJSON(s); err == nil {
			return c
		}
	}
	return jsonText(s)
}
