package sink

import (
	"encoding/json"
	"fmt"

	"github.com/walbridge/walbridge/internal/cdc"
)

// Key identifies a row: the text of its key column, or for several columns
// their texts as EncodeKey joins them.
type Key string

// EncodeKey joins the texts of a key. One column stays as it is, which is what
// nearly every Django table has; several become a JSON array, because no
// character is safe as a separator. The array is byte for byte what PostgreSQL's
// array_to_json makes of the texts (escape_json), so that SQL can name rows, too.
func EncodeKey(parts ...string) Key {
	if len(parts) == 1 {
		return Key(parts[0])
	}
	b := make([]byte, 0, 64)
	b = append(b, '[')
	for i, p := range parts {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = appendJSON(b, p)
		b = append(b, '"')
	}
	return Key(append(b, ']'))
}

// appendJSON escapes s as escape_json does: no more than JSON demands.
func appendJSON(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\b':
			b = append(b, '\\', 'b')
		case c == '\f':
			b = append(b, '\\', 'f')
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

// Split returns the texts that EncodeKey joined. n is the number of key columns.
func (k Key) Split(n int) ([]string, error) {
	if n == 1 {
		return []string{string(k)}, nil
	}
	var parts []string
	if err := json.Unmarshal([]byte(k), &parts); err != nil {
		return nil, fmt.Errorf("key is no array of texts: %w", err)
	}
	if len(parts) != n {
		return nil, fmt.Errorf("key has %d parts, the table's has %d", len(parts), n)
	}
	return parts, nil
}

// KeyOf returns the key of a row that has all of t's columns.
func (t *Table) KeyOf(row cdc.Row) Key {
	if len(t.Key) == 1 {
		return Key(row[t.Key[0]].Text)
	}
	parts := make([]string, len(t.Key))
	for i, c := range t.Key {
		parts[i] = row[c].Text
	}
	return EncodeKey(parts...)
}

// FullName returns the table's name for messages, schema-qualified and unquoted.
func (t *Table) FullName() string { return t.Schema + "." + t.Name }
