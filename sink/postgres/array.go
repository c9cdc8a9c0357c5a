package postgres

import (
	"errors"
	"strings"

	"github.com/walbridge/walbridge/internal/cdc"
)

// array builds the text form of a one-dimensional array (PostgreSQL
// documentation, arrays-io). Every element is quoted, so that an empty text, the
// text NULL and blanks at the ends stay what they are.
type array struct{ b []byte }

func newArray(capacity int) *array {
	return &array{b: append(make([]byte, 0, capacity), '{')}
}

func (a *array) add(s string) {
	b := append(a.b, '"')
	start := 0
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, s[start:i]...)
			b = append(b, '\\')
			start = i
		}
	}
	b = append(b, s[start:]...)
	a.b = append(b, '"', ',')
}

// quotedSize is what s takes in an array. Growing a buffer for a value of many
// megabytes would hold it twice.
func quotedSize(s string) int {
	n := len(s) + len(`"",`)
	if len(s) > 1024 {
		n += strings.Count(s, `"`) + strings.Count(s, `\`)
	}
	return n
}

func (a *array) addNull() { a.b = append(a.b, "NULL,"...) }

func (a *array) addBool(v bool) {
	if v {
		a.b = append(a.b, "t,"...)
		return
	}
	a.b = append(a.b, "f,"...)
}

// errUnchanged: a marker for a value that nobody knows must never be written;
// the mapping fills it in from what it has loaded.
var errUnchanged = errors.New("a value that was not sent can't be written")

func (a *array) addValue(v cdc.Value) error {
	switch v.Kind {
	case cdc.Text:
		a.add(v.Text)
	case cdc.Null:
		a.addNull()
	default:
		return errUnchanged
	}
	return nil
}

// done returns the array's text. Nothing may be added after it.
func (a *array) done() []byte {
	if n := len(a.b); a.b[n-1] == ',' {
		a.b[n-1] = '}'
		return a.b
	}
	return append(a.b, '}')
}

func textArray(texts []string) []byte {
	n := 2
	for _, s := range texts {
		n += quotedSize(s)
	}
	a := newArray(n)
	for _, s := range texts {
		a.add(s)
	}
	return a.done()
}

// rowArray is the text of one array that holds a row's values.
func rowArray(row cdc.Row) ([]byte, error) {
	n := 2
	for _, v := range row {
		n += quotedSize(v.Text) + 2 // NULL is longer than nothing
	}
	a := newArray(n)
	for _, v := range row {
		if err := a.addValue(v); err != nil {
			return nil, err
		}
	}
	return a.done(), nil
}

var errArray = errors.New("the server returned no one-dimensional array")

// parseArray reads the text form of a one-dimensional array of texts.
func parseArray(b []byte) (cdc.Row, error) {
	if len(b) < 2 || b[0] != '{' || b[len(b)-1] != '}' {
		return nil, errArray
	}
	b = b[1 : len(b)-1]
	var row cdc.Row
	for len(b) > 0 {
		var v cdc.Value
		if b[0] == '"' {
			text, rest, err := parseQuoted(b[1:])
			if err != nil {
				return nil, err
			}
			v, b = cdc.TextValue(text), rest
		} else {
			end := 0
			for end < len(b) && b[end] != ',' {
				end++
			}
			// Unquoted, the text NULL can only be the null value.
			if text := string(b[:end]); text != "NULL" {
				v = cdc.TextValue(text)
			}
			b = b[end:]
		}
		row = append(row, v)
		if len(b) > 0 {
			if b[0] != ',' || len(b) == 1 {
				return nil, errArray
			}
			b = b[1:]
		}
	}
	return row, nil
}

// parseQuoted reads a quoted element whose opening quote has been taken.
func parseQuoted(b []byte) (text string, rest []byte, err error) {
	var unescaped []byte
	escapes := false
	start := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			unescaped = append(unescaped, b[start:i]...)
			escapes = true
			i++
			start = i // the escaped character stands for itself
		case '"':
			if !escapes {
				return string(b[:i]), b[i+1:], nil
			}
			return string(append(unescaped, b[start:i]...)), b[i+1:], nil
		}
	}
	return "", nil, errArray
}
