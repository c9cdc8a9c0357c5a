package mapping

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A value that goes into a jsonb column is compared with what is there, so the
// bridge must write it the way that jsonb prints it: keys by length and bytes,
// the last of equal ones, one space after a comma and a colon, numbers as
// numeric prints them (jsonb.c, jsonb_util.c, json.c). Otherwise every update
// would look like a change of every such column.

// errNotJSON says that a text is no JSON, or none that jsonb takes: \u0000 and
// lone surrogates are legal in JSON and not in PostgreSQL's texts.
var errNotJSON = errors.New("the text is no JSON that jsonb can hold")

// maxJSONDepth is far below where max_stack_depth stops the server's parser.
const maxJSONDepth = 1000

// canonicalJSON returns JSON text as jsonb prints it.
func canonicalJSON(s string) (string, error) {
	p := jsonParser{in: s, out: make([]byte, 0, len(s)+len(s)/8)}
	if !p.value(0) || !p.end() {
		return "", errNotJSON
	}
	return string(p.out), nil
}

type jsonParser struct {
	in  string
	at  int
	out []byte
	// members are those of the objects that are being read, spare is room to order
	// them in.
	members []member
	spare   []byte
}

func (p *jsonParser) space() {
	for p.at < len(p.in) && p.in[p.at] <= ' ' {
		switch p.in[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

func (p *jsonParser) end() bool {
	p.space()
	return p.at == len(p.in)
}

// take consumes c, after white space, if it is next.
func (p *jsonParser) take(c byte) bool {
	p.space()
	if p.at < len(p.in) && p.in[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *jsonParser) value(depth int) bool {
	p.space()
	if p.at == len(p.in) || depth > maxJSONDepth {
		return false
	}
	switch c := p.in[p.at]; c {
	case '{':
		return p.object(depth)
	case '[':
		return p.array(depth)
	case '"':
		s, ok := p.text()
		if ok {
			p.out = appendJSONText(p.out, s)
		}
		return ok
	case 't', 'f', 'n':
		for _, word := range []string{"true", "false", "null"} {
			if strings.HasPrefix(p.in[p.at:], word) {
				p.at += len(word)
				p.out = append(p.out, word...)
				return true
			}
		}
		return false
	default:
		return p.number()
	}
}

func (p *jsonParser) array(depth int) bool {
	p.at++
	p.out = append(p.out, '[')
	for n := 0; !p.take(']'); n++ {
		if n > 0 {
			if !p.take(',') {
				return false
			}
			p.out = append(p.out, ", "...)
		}
		if !p.value(depth + 1) {
			return false
		}
	}
	p.out = append(p.out, ']')
	return true
}

// member is one key of an object; its text with the key is out[from:to].
type member struct {
	key      string
	from, to int
}

func (p *jsonParser) object(depth int) bool {
	outer := len(p.members)
	ok := p.objectMembers(depth)
	p.out = append(orderMembers(p.out, p.members[outer:], &p.spare), '}')
	p.members = p.members[:outer]
	return ok
}

// objectMembers reads an object up to its end and adds its members to those that
// are there, in the order in which they come.
func (p *jsonParser) objectMembers(depth int) bool {
	if !p.take('{') {
		return false
	}
	p.out = append(p.out, '{')
	for n := 0; !p.take('}'); n++ {
		if n > 0 {
			if !p.take(',') {
				return false
			}
			p.out = append(p.out, ", "...)
		}
		p.space()
		m := member{from: len(p.out)}
		var ok bool
		if m.key, ok = p.text(); !ok || !p.take(':') {
			return false
		}
		p.out = append(appendJSONText(p.out, m.key), ": "...)
		if !p.value(depth + 1) {
			return false
		}
		m.to = len(p.out)
		p.members = append(p.members, m)
	}
	return true
}

// compareKeys is the order of an object's keys in jsonb.
func compareKeys(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// orderMembers brings the members that end out into jsonb's order; of equal keys
// the last one counts. spare is room to do it in.
func orderMembers(out []byte, members []member, spare *[]byte) []byte {
	ordered := true
	for i := 1; i < len(members) && ordered; i++ {
		ordered = compareKeys(members[i-1].key, members[i].key) < 0
	}
	if ordered {
		return out
	}
	start := members[0].from
	old := append((*spare)[:0], out[start:]...)
	*spare, out = old, out[:start]
	slices.SortStableFunc(members, func(a, b member) int { return compareKeys(a.key, b.key) })
	for i, m := range members {
		if i+1 < len(members) && members[i+1].key == m.key {
			continue
		}
		if len(out) > start {
			out = append(out, ", "...)
		}
		out = append(out, old[m.from-start:m.to-start]...)
	}
	return out
}

// text reads a string and returns what it means.
func (p *jsonParser) text() (string, bool) {
	if p.at == len(p.in) || p.in[p.at] != '"' {
		return "", false
	}
	p.at++
	start := p.at
	for ; p.at < len(p.in); p.at++ {
		switch c := p.in[p.at]; {
		case c == '"':
			p.at++
			s := p.in[start : p.at-1]
			return s, utf8.ValidString(s)
		case c == '\\':
			return p.escapedText(start)
		case c < 0x20:
			return "", false
		}
	}
	return "", false
}

// escapedText goes on with a string that began at start and has come to its
// first backslash.
func (p *jsonParser) escapedText(start int) (string, bool) {
	var b strings.Builder
	b.WriteString(p.in[start:p.at])
	for p.at < len(p.in) {
		c := p.in[p.at]
		p.at++
		switch {
		case c == '"':
			return b.String(), utf8.ValidString(b.String())
		case c < 0x20:
			return "", false
		case c != '\\':
			b.WriteByte(c)
			continue
		}
		if p.at == len(p.in) {
			return "", false
		}
		c = p.in[p.at]
		p.at++
		if c == 'u' {
			r, ok := p.unicode()
			if !ok {
				return "", false
			}
			b.WriteRune(r)
			continue
		}
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return "", false
		}
		b.WriteByte("\"\\/\b\f\n\r\t"[i])
	}
	return "", false
}

// unicode reads what follows \u. Zero and lone surrogates are no text.
func (p *jsonParser) unicode() (rune, bool) {
	r, ok := p.hex4()
	if !ok || r == 0 {
		return 0, false
	}
	if !utf16.IsSurrogate(r) {
		return r, true
	}
	if !strings.HasPrefix(p.in[p.at:], `\u`) {
		return 0, false
	}
	p.at += 2
	low, ok := p.hex4()
	if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
		return 0, false
	}
	return r, true
}

func (p *jsonParser) hex4() (rune, bool) {
	if len(p.in)-p.at < 4 {
		return 0, false
	}
	var r rune
	for _, c := range []byte(p.in[p.at : p.at+4]) {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	p.at += 4
	return r, true
}

// appendJSONText writes s as a JSON string the way escape_json does.
func appendJSONText(out []byte, s string) []byte {
	out = append(out, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		out = append(out, s[start:i]...)
		start = i + 1
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case strings.IndexByte("\b\f\n\r\t", c) >= 0:
			out = append(out, '\\', "bfnrt"[strings.IndexByte("\b\f\n\r\t", c)])
		default:
			out = append(out, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(out, s[start:]...), '"')
}
